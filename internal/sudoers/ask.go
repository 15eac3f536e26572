package sudoers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// An Answer is what sudo and visudo, as they are installed, make of the files.
type Answer struct {
	// Works says whether sudo reads the files and answers. What it passes over with a
	// warning does no harm, whatever visudo says of it.
	Works bool
	// Said is what sudo said where it does not work.
	Said string
	// Faults are what visudo finds, in its order. Before 1.9 it ends with the first that
	// it cannot read on from.
	Faults []Fault
}

// A Fault is one thing that visudo finds wrong.
type Fault struct {
	File string // "" when visudo does not say
	Line int    // in which, or right before which, it is; 0 when visudo does not say
	Text string
}

func (f Fault) String() string {
	switch {
	case f.File == "":
		return f.Text
	case f.Line == 0:
		return fmt.Sprintf("%s: %s", f.File, f.Text)
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// Patience is how long sudo may take to answer. It asks the sources of nsswitch.conf
// one after the other, and a directory that does not answer holds it up.
const Patience = 5 * time.Second

// Ask has sudo and visudo read what they would read if changes were made: a file with
// that content, or none where it is nil. Nothing is written anywhere. The error wraps
// system.ErrNotInstalled when one of them is not there, and
// context.DeadlineExceeded when sudo did not answer in time.
func Ask(ctx context.Context, s *system.System, changes map[string][]byte) (Answer, error) {
	var answer Answer
	run := func(argv ...string) (system.Output, error) {
		return s.Runner.Run(ctx, system.Command{Argv: argv, ReadOnly: true, Staged: changes, Timeout: Patience})
	}
	checked, err := run("visudo", "-c", "-f", Main)
	if err != nil {
		return answer, fmt.Errorf("cannot check the sudoers files: %w", err)
	}
	if checked.ExitCode != 0 {
		answer.Faults = faults(string(checked.Stderr) + "\n" + string(checked.Stdout))
		if len(answer.Faults) == 0 {
			answer.Faults = []Fault{{Text: checked.LastLine()}}
		}
	}
	listed, err := run("sudo", "-n", "-l", "-U", "root")
	if err != nil {
		return answer, fmt.Errorf("cannot ask sudo what it makes of the sudoers files: %w", err)
	}
	answer.Works = listHeading.Match(listed.Stdout) || listRefusal.Match(listed.Stdout)
	if !answer.Works {
		answer.Said = strings.Trim(listed.LastLine(), "> <")
		if len(listed.Stderr) > 0 {
			answer.Said = firstLine(string(listed.Stderr))
		}
	}
	return answer, nil
}

func firstLine(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.Trim(first, "> <")
}

// How visudo says it: before 1.9
//
//	>>> /etc/sudoers.d/x: syntax error near line 3 <<<
//	visudo: /etc/sudoers.d/x:3 unknown defaults entry "y"
//
// and since then
//
//	/etc/sudoers.d/x:3:9: syntax error
//	visudo: /etc/sudoers.d/x:3:9: unknown defaults entry "y"
//
// and of an include that is not there, in both,
//
//	visudo: /nowhere: No such file or directory
//
// after which the old one names the file that includes it, with line 0.
var (
	faultNear  = regexp.MustCompile(`^>>> (/.*): (.*) near line (\d+) <<<$`)
	faultAt    = regexp.MustCompile(`^(?:visudo: )?(/[^:]*):(\d+)(?::\d+)?:? (.*)$`)
	faultOf    = regexp.MustCompile(`^visudo: (?:unable to (?:stat|open) )?(/.*): (.*)$`)
	faultAfter = regexp.MustCompile(`^parse error in (/.*) near line (\d+)$`)
)

func faults(said string) (found []Fault) {
	for text := range strings.SplitSeq(said, "\n") {
		switch {
		case strings.HasPrefix(text, "Warning:"):
		case faultNear.MatchString(text):
			m := faultNear.FindStringSubmatch(text)
			found = append(found, Fault{File: m[1], Line: number(m[3]), Text: m[2]})
		case faultAt.MatchString(text):
			m := faultAt.FindStringSubmatch(text)
			found = append(found, Fault{File: m[1], Line: number(m[2]), Text: m[3]})
		case faultOf.MatchString(text):
			m := faultOf.FindStringSubmatch(text)
			found = append(found, Fault{File: m[1], Text: m[2]})
		case faultAfter.MatchString(text):
			m := faultAfter.FindStringSubmatch(text)
			// It repeats where the first one is, unless that was in a file which it includes.
			if last := len(found) - 1; number(m[2]) == 0 && last >= 0 {
				found = append(found, Fault{File: m[1], Text: "it includes " + found[last].String()})
			}
		}
	}
	return found
}

func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

// ErrInvalid is wrapped by the error of Validate when sudo would not work, or visudo
// finds fault with what is to change.
var ErrInvalid = errors.New("visudo refuses it")

// An InvalidError says what is wrong with the sudoers files, and where.
type InvalidError struct{ Fault Fault }

func (e *InvalidError) Error() string { return ErrInvalid.Error() + ": " + e.Fault.String() }

// Unwrap makes it ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// Validate says whether changes may be made: visudo finds no fault with the files that
// change, and sudo works afterwards. Faults of other files are theirs. The error is
// an InvalidError when they may not.
func Validate(ctx context.Context, s *system.System, changes map[string][]byte) error {
	answer, err := Ask(ctx, s, changes)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, fault := range answer.Faults {
		if _, changed := changes[fault.File]; changed || (err != nil && fault.Fatal()) {
			return &InvalidError{fault}
		}
	}
	switch {
	case err != nil || answer.Works: // sudo waits for another source, and visudo is content
		return nil
	case len(answer.Faults) > 0:
		return &InvalidError{answer.Faults[0]}
	}
	return &InvalidError{Fault{Text: answer.Said}}
}

// Fatal says whether a sudo that does not recover from errors refuses everybody for it.
func (f Fault) Fatal() bool {
	return !strings.Contains(f.Text, "defaults entry") && !strings.Contains(f.Text, "option \"") && !strings.Contains(f.Text, "values for \"") &&
		!strings.Contains(f.Text, "no value specified")
}
