package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/sshd"
	"github.com/soe-agent/soe-agent/internal/sshdtext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// ask checks a new content with the file's reader, if that can be asked, and checks whether anybody
// would be locked out.
func (k *Kind) ask(ctx context.Context, known policy.KeyFile, name string, a aim) error {
	var err error
	switch {
	case known.Path == "":
		err = k.askLines(ctx, name, a)
	case known.Path == policy.SSHDConfig:
		err = k.askSSHD(ctx, a)
	case known.Path == policy.LoginDefs:
		if err = errors.Join(daysFit(a.content), k.methodIsKnown(ctx, a)); err == nil {
			err = k.askReports(ctx, known, a)
		}
	case known.Format == keyed.Chrony:
		_, err = k.shown(ctx, known, []string{"chronyd", "-p", "-f", known.Path}, a)
	case known.Shows != nil && a.spec != nil:
		err = k.askShows(ctx, known, a)
	}
	if errors.Is(err, system.ErrNotInstalled) {
		return nil // the reader is not installed
	}
	return err
}

// askShows checks that a reader shows the policy's keys with their values.
func (k *Kind) askShows(ctx context.Context, known policy.KeyFile, a aim) error {
	out, err := k.shown(ctx, known, known.Shows, a)
	if err != nil {
		return err
	}
	lines := strings.Split(string(out.Stdout), "\n")
	for key, value := range a.spec.Keys {
		if !slices.Contains(lines, key+"="+value) {
			return public.Error(fmt.Errorf("%s would not take the key %s: it does not show it as %q", known.Reader, key, value))
		}
	}
	return nil
}

// askReports checks that a reader does not report one of the policy's keys as unknown.
func (k *Kind) askReports(ctx context.Context, known policy.KeyFile, a aim) error {
	out, err := k.shown(ctx, known, known.Reports, a)
	if err != nil || a.spec == nil {
		return err
	}
	for key := range a.spec.Keys {
		if strings.Contains(string(out.Stderr), "'"+key+"'") {
			return public.Error(fmt.Errorf("%s would not take the key %s: it does not know it", known.Reader, key))
		}
	}
	return nil
}

func (k *Kind) shown(ctx context.Context, known policy.KeyFile, argv []string, a aim) (system.Output, error) {
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: argv, ReadOnly: true, Staged: system.Staged{known.Path: a.content}})
	if err == nil && out.ExitCode != 0 {
		err = fmt.Errorf("%s would not take it: %s", known.Reader, out.LastLine())
	}
	return out, err
}

// daysFit refuses values with which passwords expire before anybody may change them.
func daysFit(content []byte) error {
	f := keyed.Parse(keyed.Words, string(content))
	days := map[string]int{}
	for _, key := range []string{"PASS_MIN_DAYS", "PASS_MAX_DAYS"} {
		for _, value := range f.Values(key) {
			if n, err := strconv.Atoi(value); err == nil {
				days[key] = n
			}
		}
	}
	least, most := days["PASS_MIN_DAYS"], days["PASS_MAX_DAYS"]
	if _, limited := days["PASS_MAX_DAYS"]; limited && most >= 0 && least >= most {
		return public.Error(fmt.Errorf("PASS_MIN_DAYS would be %d and PASS_MAX_DAYS %d: nobody could change a password before it expires", least, most))
	}
	return nil
}

// methodIsKnown refuses an encryption method that the tools of this machine do not have: they would
// use a weaker one, or make passwords that let nobody in.
func (k *Kind) methodIsKnown(ctx context.Context, a aim) error {
	const key = "ENCRYPT_METHOD"
	if a.spec == nil || a.spec.Keys[key] == "" {
		return nil
	}
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: []string{"chpasswd", "--help"}, ReadOnly: true})
	if err != nil {
		return err
	}
	said := strings.FieldsFunc(string(out.Stdout)+string(out.Stderr), func(r rune) bool { return strings.ContainsRune(" \t\n()", r) })
	if method := a.spec.Keys[key]; !slices.Contains(said, method) {
		return public.Error(fmt.Errorf("chpasswd of this machine does not know the method %s", method))
	}
	return nil
}

// askSSHD checks whether sshd accepts a content, and whom it would still let in.
func (k *Kind) askSSHD(ctx context.Context, a aim) error {
	if why, err := sshd.Misuses(k.system, system.Staged{sshd.Main: a.content}); err != nil {
		return fmt.Errorf("cannot tell what sshd would show: %w", err)
	} else if why != "" {
		return public.Error(errors.New(why))
	}
	if err := sshd.Test(ctx, k.system, system.Staged{sshd.Main: a.content}); err != nil {
		return err
	}
	change := sshd.Change{After: system.Staged{sshd.Main: a.content}}
	f := keyed.Parse(keyed.SSHD, string(a.content))
	if values := f.Values("PermitRootLogin"); len(values) > 0 {
		change.Root = values[0] // the policy's, or the restored one
	}
	mark := k.Mark()
	why, err := sshd.LocksOut(ctx, k.system, change)
	switch {
	case err != nil:
		return fmt.Errorf("cannot prove that nobody is locked out: %w", err)
	case k.Since(mark) != nil:
		return fmt.Errorf("cannot prove that nobody is locked out: %w", k.Since(mark))
	case why != "":
		return errors.New("it would lock somebody out: " + why)
	}
	return nil
}

// A verdict is sshd's answer. It holds while everything that sshd reads stays the same.
type verdict struct {
	of  [sha256.Size]byte
	why string
}

// isInEffect records what keeps the keys of a file out of effect although the file is right.
func (k *Kind) isInEffect(ctx context.Context, name string, spec policy.File, differs bool, r *converge.Resource) {
	known, _ := policy.LookupKeyFile(name)
	if name == policy.SSHDConfig && k.misusesFile(spec, r) {
		return
	}
	overruled := k.overruled
	switch {
	case len(spec.Keys) == 0:
		return
	case !k.system.Running() && name == policy.SSHDConfig:
		overruled = func(context.Context, string, policy.File) (string, error) {
			return sshd.OverruledByText(k.system, spec.Keys)
		}
	case !k.system.Running():
		return
	case known.Format == keyed.Chrony:
		overruled = k.overruledChrony
	case name != policy.SSHDConfig:
		return
	}
	mark := k.Mark()
	why, err := overruled(ctx, name, spec)
	if err == nil {
		err = k.Since(mark)
	}
	switch {
	case errors.Is(err, system.ErrNotInstalled):
		r.Note(known.Reader + " is not installed, so that nobody reads it")
	case errors.Is(err, sshd.ErrNeverStarted):
		r.Note(err.Error())
	case err != nil:
		r.SetUnknownErr(public.Because("cannot tell whether it is in effect", err))
	case why != "" && differs:
		r.SetFailed("not in effect: " + why).ReasonIsPublic()
	case why != "":
		r.SetFailed("not in effect: " + why)
	}
}

// misusesFile records, and reports, that a key of sshd names a file that has become one which it must not show.
func (k *Kind) misusesFile(spec policy.File, r *converge.Resource) bool {
	for _, key := range slices.Sorted(maps.Keys(spec.Keys)) {
		why, err := sshd.Misused(k.system, key, sshdtext.Words(spec.Keys[key])...)
		switch {
		case err != nil:
			r.SetUnknownErr(public.Because("cannot tell what sshd shows", err))
			return true
		case why != "":
			r.SetFailed(why).ReasonIsPublic()
			return true
		}
	}
	return false
}

// overruledChrony returns which key chronyd, after reading all its files, does not show with the
// wanted value, or "".
func (k *Kind) overruledChrony(ctx context.Context, name string, spec policy.File) (string, error) {
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: []string{"chronyd", "-p", "-f", name}, ReadOnly: true})
	if err != nil {
		return "", err
	}
	if out.ExitCode != 0 {
		return "", fmt.Errorf("chronyd would not take it: %s", out.LastLine())
	}
	f := keyed.Parse(keyed.Chrony, string(out.Stdout))
	for _, key := range slices.Sorted(maps.Keys(spec.Keys)) {
		if got := f.Values(key); !slices.Equal(got, []string{spec.Keys[key]}) {
			return fmt.Sprintf("chronyd -p says of %s %q and not %q: another file that it includes says otherwise", key, got, spec.Keys[key]), nil
		}
	}
	return "", nil
}

func (k *Kind) overruled(ctx context.Context, _ string, spec policy.File) (string, error) {
	inputs, err := sshd.Inputs(ctx, k.system)
	if err != nil {
		return "", err
	}
	of := sha256.Sum256(fmt.Appendf(inputs, "%q", spec.Keys))
	if last := k.sshd.Load(); last != nil && last.of == of {
		return last.why, nil
	}
	why, err := sshd.Overruled(ctx, k.system, spec.Keys)
	if err == nil {
		k.sshd.Store(&verdict{of, why})
	}
	return why, err
}

// takeEffect makes the reader of a changed file read it again, unless it already has.
func (k *Kind) takeEffect(ctx context.Context, l *look, name string) error {
	if !l.awaiting[name] {
		return nil
	}
	known, _ := policy.LookupKeyFile(name)
	readAgain := sshd.Reload
	if known.Format == keyed.Chrony {
		readAgain = restartChrony
	}
	if err := readAgain(ctx, k.system); err != nil {
		return fmt.Errorf("it is written, and %s has not read it again: %w", known.Reader, err)
	}
	delete(l.awaiting, name)
	return k.writeNames(awaiting, l.awaiting)
}

// restartChrony restarts chronyd so that it reads its file again, if it is running or has failed: it may
// have failed because of the file. No session depends on it.
func restartChrony(ctx context.Context, s *system.System) error {
	for _, unit := range []string{"chronyd.service", "chrony.service"} {
		state, err := s.Units.Unit(ctx, unit)
		if err != nil {
			return err
		}
		if state.ActiveState == "active" || state.ActiveState == "failed" {
			return sessionguard.Restart(ctx, s, unit, sessionguard.Consent{})
		}
	}
	return nil
}
