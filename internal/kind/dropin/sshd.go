package dropin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/sshd"
	"github.com/soe-agent/soe-agent/internal/system"
)

const sshdMain = "/etc/ssh/sshd_config"

var sshdMatch = regexp.MustCompile(`(?i)^\s*Match[\s=]`)

// A verdict is what sshd said of a file, as long as all that it reads stays the same.
type verdict struct {
	of  [sha256.Size]byte
	why string
}

// overruledSSHD says which settings of a file are not in effect, or "": sshd goes by the
// first that it reads of each. It is asked (sshd -T) what holds, and what would if the
// file came first; what a file says for some only (Match) is left out.
func (k *Kind) overruledSSHD(ctx context.Context, name, content string) (string, error) {
	w := configuration{candidate{system: k.system, name: name}, sshdMain, sshdInclude, nil}
	names, err := w.parts(nil)
	if err != nil {
		return "", err
	}
	whole, err := w.joined(nil, names)
	if err != nil {
		return "", err
	}
	of := sha256.Sum256([]byte(name + "\x00" + content + "\x00" + string(whole)))
	if last, known := k.sshd.Load(name); known && last.(verdict).of == of { //nolint:forcetypeassert // nothing else is in it
		return last.(verdict).why, nil //nolint:forcetypeassert // as above
	}
	var first strings.Builder // what another file of the policy says before is meant so
	others := slices.DeleteFunc(slices.Clone(names), k.namesHere)
	for _, ours := range names {
		if slices.Contains(others, ours) {
			continue
		}
		part, err := k.system.FS.ReadFile(ours)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		first.WriteString(untilMatch(string(part)) + "\n")
	}
	rest, err := w.joined(nil, others)
	if err != nil {
		return "", err
	}
	holds, told, err := sshdSays(ctx, k.system, whole)
	if err != nil || !told {
		return "", err
	}
	meant, told, err := sshdSays(ctx, k.system, append([]byte(first.String()), rest...))
	if err != nil || !told {
		return "", err
	}
	var differ []string
	for _, line := range meant {
		if !slices.Contains(holds, line) {
			differ = append(differ, line)
		}
	}
	why := ""
	if len(differ) > 0 {
		why = fmt.Sprintf("sshd -T does not say %q: another file that it reads before says otherwise, as %s does or one in %s", differ[0], sshdMain, path.Dir(name))
	}
	k.sshd.Store(name, verdict{of, why})
	return why, nil
}

// locksNobodyOut has sshd say whom it would let in with the file, or without it. One that is not
// there, or was never started, lets nobody in.
func (c candidate) locksNobodyOut(ctx context.Context) error {
	f := keyed.Parse(keyed.SSHD, string(c.content))
	change := sshd.Change{After: system.Staged{c.name: c.content}}
	if values := f.Values("PermitRootLogin"); len(values) > 0 {
		change.Root = values[0]
	}
	why, err := sshd.LocksOut(ctx, c.system, change)
	switch {
	case errors.Is(err, system.ErrNotInstalled), errors.Is(err, sshd.ErrNeverStarted):
		return nil
	case err != nil:
		return fmt.Errorf("cannot prove that nobody is locked out: %w", err)
	case why != "":
		return errors.New("it would lock somebody out: " + why)
	}
	return nil
}

// untilMatch is what a file says for everybody.
func untilMatch(content string) string {
	lines := strings.Split(content, "\n")
	if i := slices.IndexFunc(lines, sshdMatch.MatchString); i >= 0 {
		lines = lines[:i]
	}
	return strings.Join(lines, "\n")
}

// sshdSays are the settings, each a line, that a configuration comes to. An sshd that
// refuses it tells none.
func sshdSays(ctx context.Context, s *system.System, configuration []byte) (lines []string, told bool, err error) {
	out, err := s.Runner.Run(ctx, system.Command{Argv: []string{"sshd", "-T", "-f", "/dev/stdin"}, Stdin: configuration, ReadOnly: true})
	if errors.Is(err, system.ErrNotInstalled) {
		return nil, false, nil
	}
	if err != nil || out.ExitCode != 0 {
		return nil, false, err
	}
	for line := range bytes.Lines(out.Stdout) {
		lines = append(lines, strings.TrimSpace(string(line)))
	}
	return lines, true, nil
}
