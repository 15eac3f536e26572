package dropin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// A checker returns what is wrong with a file before it is installed.
type checker func(context.Context, candidate) error

// A candidate is the new content of a file.
type candidate struct {
	system  *system.System
	name    string
	content []byte            // nil if the file is to be removed
	beside  map[string][]byte // for a part of a unit: the other files that the policy wants in its directory
	secret  bool              // it, or a file that it is checked with, has a secret: what a program says of it is not passed on
	allow   []string          // of the policy's [sudo]; none: it has none
	named   func(name string) bool
}

// stageDir is where a file is placed for programs that cannot check their standard input.
const stageDir = own.RunDir + "/check"

// staged writes content where a program can read it, runs the program, and returns its output. found
// is false if the program is not installed; then nothing reads the file either.
func (c candidate) staged(ctx context.Context, base string, content []byte, argv ...string) (out system.Output, found bool, err error) {
	name := path.Join(stageDir, base)
	if err := c.system.FS.MkdirAll(stageDir, 0o700); err != nil {
		return out, false, err
	}
	if err := c.system.FS.WriteFile(name, content, system.Attr{Mode: 0o600}); err != nil {
		return out, false, err
	}
	out, err = c.system.Runner.Run(ctx, system.Command{Argv: append(argv, name), ReadOnly: true})
	removed := c.system.FS.Remove(name)
	if errors.Is(err, system.ErrNotInstalled) {
		return out, false, removed
	}
	return out, true, errors.Join(err, removed)
}

// quoted returns what a program said of the candidate, without the names of the staged files. Of one with a
// secret it may quote that, or a part of it, in any form.
func (c candidate) quoted(said string) string {
	if c.secret {
		return "what it says may hold a secret, and is not shown"
	}
	return strings.ReplaceAll(said, stageDir+"/", "")
}

var shebang = regexp.MustCompile(`^#! ?/(usr/)?bin/(env )?(ba)?sh\b`)

// withoutMark refuses a byte order mark, for readers that would take it as part of the first word and
// silently ignore the first line.
func withoutMark(c candidate) error {
	if bytes.HasPrefix(c.content, []byte("\ufeff")) {
		return errors.New("it begins with a byte order mark, which its reader takes for a part of the first word")
	}
	return nil
}

// checkShell checks the syntax of a script for a shell.
func checkShell(ctx context.Context, c candidate) error {
	if err := withoutMark(c); err != nil {
		return err
	}
	if c.content == nil || (!strings.HasSuffix(c.name, ".sh") && !shebang.Match(c.content)) {
		return nil
	}
	for _, shell := range []string{"bash", "sh"} {
		out, err := c.system.Runner.Run(ctx, system.Command{Argv: []string{shell, "-n"}, Stdin: c.content, ReadOnly: true})
		switch {
		case errors.Is(err, system.ErrNotInstalled):
			continue
		case err != nil:
			return err
		case out.ExitCode != 0:
			return fmt.Errorf("it is not a script that a shell can read: %s", c.quoted(out.LastLine()))
		}
		return nil
	}
	return nil
}

// eachLine calls wrong for each line with content, and returns the first finding. The line itself is
// not shown: it may hold a secret.
func eachLine(content []byte, comments string, wrong func(line string) string) error {
	number := 0
	for line := range strings.SplitSeq(string(content), "\n") {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.ContainsRune(comments, rune(line[0])) {
			continue
		}
		if why := wrong(line); why != "" {
			return fmt.Errorf("line %d: %s", number, why)
		}
	}
	return nil
}

var (
	cronVariable = regexp.MustCompile(`^["']?[A-Za-z_][A-Za-z0-9_]*["']?\s*=`)
	cronTime     = regexp.MustCompile(`^[0-9A-Za-z*/,~-]+$`)
	cronNickname = regexp.MustCompile(`^@(reboot|yearly|annually|monthly|weekly|daily|midnight|hourly)$`)
)

var debianName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// checkJobName follows Debian's cron(8), which ignores file names that cronie accepts.
func checkJobName(c candidate) error {
	_, err := c.system.FS.Stat("/etc/debian_version")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.content == nil || err != nil || debianName.MatchString(path.Base(c.name)) {
		return nil
	}
	return errors.New("cron of this system passes over names with other than letters, digits, - and _")
}

func checkJob(ctx context.Context, c candidate) error {
	if err := checkJobName(c); err != nil {
		return err
	}
	return checkShell(ctx, c)
}

// checkCron follows crontab(5): without a final line break the last line is lost, and in cron.d the
// sixth field is the user.
func checkCron(_ context.Context, c candidate) error {
	if err := checkJobName(c); err != nil {
		return err
	}
	if len(c.content) > 0 && !bytes.HasSuffix(c.content, []byte("\n")) {
		return errors.New("it does not end with a line break, and cron would pass over its last line")
	}
	return eachLine(c.content, "#", func(line string) string {
		fields := strings.Fields(line)
		times := 5
		if cronNickname.MatchString(fields[0]) {
			times = 1
		}
		switch {
		case cronVariable.MatchString(line):
			return ""
		case len(fields) < times+2:
			return "a job needs the time, a user and a command"
		case times == 5 && slices.ContainsFunc(fields[:5], func(f string) bool { return !cronTime.MatchString(f) }):
			return "its first five fields are not times"
		}
		return ""
	})
}

// checkLimits follows limits.conf(5).
func checkLimits(_ context.Context, c candidate) error {
	if err := withoutMark(c); err != nil {
		return err
	}
	return eachLine(c.content, "#", func(line string) string {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[1] == "-":
			return ""
		case len(fields) != 4:
			return "a limit needs a domain, a type, an item and a value"
		case !slices.Contains([]string{"soft", "hard", "-"}, fields[1]):
			return "the type of a limit is soft, hard or -"
		}
		return ""
	})
}

// checkUnitSyntax follows systemd.syntax(7).
func checkUnitSyntax(_ context.Context, c candidate) error {
	section, continued := false, false
	return eachLine(c.content, "#;", func(line string) string {
		inside := continued
		continued = strings.HasSuffix(line, `\`)
		switch {
		case inside:
			return ""
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			section = true
			return ""
		case !section:
			return "it stands before the first [Section]"
		case !strings.Contains(line, "="):
			return "it is neither a [Section] nor an assignment"
		}
		return ""
	})
}

// refusedUnit are systemd's messages about a unit that it will not load. It ignores what it does not
// know; the agent leaves that to the policy's author.
var refusedUnit = regexp.MustCompile(`(?i)lacks|refusing|bad.setting|not valid|invalid section|missing '='|more than one ExecStart`)

// checkUnit runs systemd's verification of a whole unit. Its exit code is unreliable, and always 0 in
// systemd 219.
func checkUnit(ctx context.Context, c candidate) error {
	if err := checkUnitSyntax(ctx, c); err != nil || c.content == nil || !c.system.Running() {
		return err
	}
	base := path.Base(c.name)
	out, found, err := c.staged(ctx, base, c.content, "systemd-analyze", "verify")
	if err != nil || !found {
		return err
	}
	for line := range strings.SplitSeq(string(out.Stderr)+string(out.Stdout), "\n") {
		if strings.Contains(line, base) && refusedUnit.MatchString(line) {
			return fmt.Errorf("systemd would not load it: %s", c.quoted(line))
		}
	}
	return nil
}

// checkUnitPart verifies a unit together with a file of its ".d" directory, and with the other files
// that the policy wants there. A unit that systemd would refuse does not start at the next boot.
func checkUnitPart(ctx context.Context, c candidate) error {
	if err := checkUnitSyntax(ctx, c); err != nil || c.content == nil || !c.system.Running() {
		return err
	}
	unit := unitOf(c.name)
	if kind := path.Ext(unit); kind == "" || unitfiles.IsTemplate(unit) || strings.HasSuffix(strings.TrimSuffix(unit, kind), "-") {
		return nil // the file is for several units
	}
	refuses := func(content []byte) (string, error) {
		staged := system.Staged{c.name: content}
		for name, other := range c.beside {
			staged[name] = other
		}
		out, err := c.system.Runner.Run(ctx, system.Command{Argv: []string{"systemd-analyze", "verify", unit}, ReadOnly: true, Staged: staged})
		if errors.Is(err, system.ErrNotInstalled) {
			return "", nil
		}
		for line := range strings.SplitSeq(string(out.Stderr)+string(out.Stdout), "\n") {
			if strings.Contains(line, unit) && refusedUnit.MatchString(line) {
				return line, err
			}
		}
		return "", err
	}
	wrong, err := refuses(c.content)
	if err != nil || wrong == "" {
		return err
	}
	if before, err := refuses(nil); err != nil || before != "" {
		return err // another file is to blame, or it cannot be told
	}
	return fmt.Errorf("systemd would not load %s with it: %s", unit, c.quoted(wrong))
}
