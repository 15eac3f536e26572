package dropin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"

	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sshd"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A verdict is what sshd said of a file, as long as all that it reads stays the same.
type verdict struct {
	of  [sha256.Size]byte
	why string
}

// overruledSSHD says which settings of a file are not in effect, or "": sshd goes by the first that it
// reads of each, and by a Match. It is asked (sshd -T) what holds, and what would if the files of the
// policy came first.
func (k *Kind) overruledSSHD(ctx context.Context, name string) (string, error) {
	ours, err := k.oursOfSSHD()
	if err != nil {
		return "", err
	}
	inputs, err := sshd.Inputs(ctx, k.system)
	if err != nil {
		return "", err
	}
	of := sha256.Sum256(fmt.Appendf(inputs, "%q", name))
	if last, known := k.sshd.Load(name); known && last.(verdict).of == of { //nolint:forcetypeassert // nothing else is in it
		return last.(verdict).why, nil //nolint:forcetypeassert // as above
	}
	why, err := sshd.OverruledPart(ctx, k.system, name, ours)
	switch {
	case errors.Is(err, system.ErrNotInstalled), errors.Is(err, fs.ErrNotExist):
		return "", nil // who reads it, and whether it is included, is looked at before
	case err != nil:
		return "", err
	}
	k.sshd.Store(name, verdict{of, why})
	return why, nil
}

// oursOfSSHD are the files for sshd that the policy names, as they are.
func (k *Kind) oursOfSSHD() (map[string][]byte, error) {
	ours := map[string][]byte{}
	for _, want := range k.wants() {
		name := fileOf(want.ID)
		if path.Dir(name) != sshdDir || want.Spec.Ensure == policy.Absent {
			continue
		}
		content, err := k.system.FS.ReadFile(name)
		switch {
		case err == nil:
			ours[name] = content
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return ours, nil
}

func checkSSHD(ctx context.Context, c candidate) error {
	if why, err := sshd.Misuses(c.system, system.Staged{c.name: c.content}); err != nil {
		return fmt.Errorf("cannot tell what sshd would show: %w", err)
	} else if why != "" {
		return errors.New(why)
	}
	if err := c.checkIn(ctx, sshdTree{c}); err != nil {
		return err
	}
	return c.locksNobodyOut(ctx)
}

// sshdTree is the configuration of sshd.
type sshdTree struct{ candidate }

func (w sshdTree) with(ctx context.Context, changes map[string][]byte) error {
	err := sshd.Test(ctx, w.system, changes)
	if w.cannotBeAsked(err) {
		return nil
	}
	return err
}

// alone has sshd check the file without all others.
func (w sshdTree) alone(ctx context.Context, content []byte) error {
	return w.with(ctx, map[string][]byte{sshd.Main: content})
}

// faultySSHD is where sshd says that the fault is.
var faultySSHD = regexp.MustCompile(`(/[^\s:]+):? line \d+`)

func (w sshdTree) culprit(_ context.Context, _ map[string][]byte, err error) string {
	if match := faultySSHD.FindStringSubmatch(err.Error()); match != nil {
		return match[1]
	}
	return sshd.Main
}

// cannotBeAsked says whether there is nobody whom sshd could keep out: it is not installed, or in an image
// where it was never started. One that is there and cannot be run is another matter.
func (c candidate) cannotBeAsked(err error) bool {
	return errors.Is(err, system.ErrNotInstalled) || errors.Is(err, sshd.ErrNeverStarted) && !c.system.Running()
}

// locksNobodyOut has sshd say whom it would let in with the file, or without it.
func (c candidate) locksNobodyOut(ctx context.Context) error {
	f := keyed.Parse(keyed.SSHD, string(c.content))
	change := sshd.Change{After: system.Staged{c.name: c.content}}
	if values := f.Values("PermitRootLogin"); len(values) > 0 {
		change.Root = values[0]
	}
	why, err := sshd.LocksOut(ctx, c.system, change)
	switch {
	case c.cannotBeAsked(err):
		return nil
	case err != nil:
		return fmt.Errorf("cannot prove that nobody is locked out: %w", err)
	case why != "":
		return errors.New("it would lock somebody out: " + why)
	}
	return nil
}
