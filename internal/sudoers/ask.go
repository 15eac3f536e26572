package sudoers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A Fault is one problem that visudo reports.
type Fault struct {
	File string // "" if visudo does not name it
	Line int    // the line with the fault or the one before it; 0 if visudo does not name it
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

// AnswerTimeout is how long sudo may take to answer. It queries the sources of nsswitch.conf one
// after the other, and a directory that does not answer delays it.
const AnswerTimeout = 5 * time.Second

// Works runs the installed sudo on the sudoers files as they would be after the changes: each file
// with that content, or missing if the content is nil. Nothing is written. It returns "" if sudo
// can list what a user may do, and otherwise the message that sudo prints instead. Lines that sudo
// ignores with a warning do no harm, whatever visudo says about them. The error wraps
// system.ErrNotInstalled if sudo is not installed, and context.DeadlineExceeded if it did not
// answer in time.
func Works(ctx context.Context, s *system.System, changes map[string][]byte) (said string, err error) {
	listed, err := s.Runner.Run(ctx, system.Command{
		Argv: []string{"sudo", "-n", "-l", "-U", "root"}, ReadOnly: true, Staged: changes, Timeout: AnswerTimeout, Terminal: true,
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot ask sudo what it makes of the sudoers files: %w", err)
	case listHeading.Match(listed.Stdout) || listRefusal.Match(listed.Stdout):
		return "", nil
	case len(listed.Stderr) > 0:
		return firstLine(string(listed.Stderr)), nil
	}
	return listed.LastLine(), nil
}

// Faults returns the problems that visudo reports for the files as they would be after the changes,
// in visudo's order. Before 1.9 visudo stops at the first one that it cannot recover from. The
// error wraps system.ErrNotInstalled if visudo is not installed.
func Faults(ctx context.Context, s *system.System, changes map[string][]byte) ([]Fault, error) {
	checked, err := s.Runner.Run(ctx, system.Command{Argv: []string{"visudo", "-c", "-f", Main}, ReadOnly: true, Staged: changes})
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot check the sudoers files: %w", err)
	case checked.ExitCode == 0:
		return nil, nil
	}
	found := faults(string(checked.Stderr) + "\n" + string(checked.Stdout))
	if len(found) == 0 {
		found = []Fault{{Text: checked.LastLine()}}
	}
	return found, nil
}

func firstLine(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.Trim(first, "> <")
}

// The formats of visudo's messages: before 1.9
//
//	>>> /etc/sudoers.d/x: syntax error near line 3 <<<
//	visudo: /etc/sudoers.d/x:3 unknown defaults entry "y"
//
// and since then
//
//	/etc/sudoers.d/x:3:9: syntax error
//	visudo: /etc/sudoers.d/x:3:9: unknown defaults entry "y"
//
// For a missing include, both versions print
//
//	visudo: /nowhere: No such file or directory
//
// after which the old one names the including file with line 0.
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
			// This line repeats the position of the first fault, unless that was in a file which
			// this one includes.
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

// ErrInvalid is wrapped by the error of Validate if sudo would not work after the change, or visudo
// reports a fault in a changed file.
var ErrInvalid = errors.New("visudo refuses it")

// An InvalidError says what is wrong with the sudoers files, and where. It wraps ErrInvalid.
type InvalidError struct{ Fault Fault }

func (e *InvalidError) Error() string { return ErrInvalid.Error() + ": " + e.Fault.String() }

// Unwrap returns ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// Validate returns nil if the changes may be made: visudo reports no fault in the changed files,
// and sudo works afterwards. Faults in other files do not count. Otherwise the error is an
// InvalidError.
func Validate(ctx context.Context, s *system.System, changes map[string][]byte) error {
	found, err := Faults(ctx, s, changes)
	if err != nil {
		return err
	}
	for _, fault := range found {
		if _, changed := changes[fault.File]; changed {
			return &InvalidError{fault}
		}
	}
	said, err := Works(ctx, s, changes)
	switch {
	case errors.Is(err, context.DeadlineExceeded): // sudo waits for another source, so visudo decides
		if i := slices.IndexFunc(found, Fault.Fatal); i >= 0 {
			return &InvalidError{found[i]}
		}
		return nil
	case err != nil || said == "":
		return err
	case len(found) > 0:
		return &InvalidError{found[0]}
	}
	return &InvalidError{Fault{Text: said}}
}

// Fatal reports whether a sudo that does not recover from errors refuses everybody because of this
// fault.
func (f Fault) Fatal() bool {
	return !strings.Contains(f.Text, "defaults entry") && !strings.Contains(f.Text, "option \"") && !strings.Contains(f.Text, "values for \"") &&
		!strings.Contains(f.Text, "no value specified")
}
