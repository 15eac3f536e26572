package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/sudo"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

// An Undoing is one thing that is undone, or would be.
type Undoing struct {
	What string `json:"what"`           // as in "remove /etc/modprobe.d/soe.conf"
	Left string `json:"left,omitempty"` // why it is not done, or not yet
}

// Undo returns what a purge would undo: everything that exists because of the agent, by the ledger.
// Accounts stay, because files belong to them; so do the states of services, and packages that were
// there before.
func (m *Machine) Undo(ctx context.Context) ([]Undoing, error) {
	files, err := m.filesToGiveBack()
	if err != nil {
		return nil, err
	}
	var all []Undoing
	for _, name := range files {
		what, err := m.release(name)
		if err != nil {
			return nil, err
		}
		if what != "" {
			all = append(all, Undoing{What: what})
		}
	}
	opened := m.kindsOf(&policy.Policy{}, func(kind) bool { return true })
	said := func(id policy.ID) bool { // under the name of its file
		return slices.ContainsFunc(opened, func(k converge.Kind) bool {
			return k.Name() == id.Kind() && slices.Contains(files, fileOf(id, k))
		})
	}
	for _, r := range m.Engine(&policy.Policy{}).Check(ctx).Resources {
		if r.State != converge.Compliant && !said(r.ID) {
			all = append(all, Undoing{What: "give up " + string(r.ID), Left: r.Reason})
		}
	}
	return all, nil
}

// Purge gives the machine back. It makes a pass under a policy that wants nothing, restores the files that are
// left, and deletes the agent's state unless something is left to be done.
func (m *Machine) Purge(ctx context.Context) ([]Undoing, error) {
	files, err := m.filesToGiveBack() // before the pass removes what the agent made
	if err != nil {
		return nil, err
	}
	var all []Undoing
	left := false
	for _, r := range m.Engine(&policy.Policy{}).Pass(ctx).Resources {
		u := Undoing{What: "give up " + string(r.ID)}
		if !r.State.InLine() {
			u.Left, left = r.Reason, true
		}
		if r.State != converge.Compliant {
			all = append(all, u)
		}
	}
	for _, name := range files {
		what, err := m.release(name)
		if err != nil {
			return all, err
		}
		u := Undoing{What: what}
		if u.What == "" {
			continue
		}
		if err := m.giveBack(ctx, name); err != nil {
			u.Left, left = err.Error(), true
		}
		all = append(all, u)
	}
	if err := m.Ledger.Flush(); err != nil || left || ctx.Err() != nil {
		return all, errors.Join(err, ctx.Err())
	}
	return all, errors.Join(empty(m.System.FS, StateDir+"/backups", ""), empty(m.System.FS, HistoryDir, ""), empty(m.System.FS, StateDir, ""))
}

// filesToGiveBack returns the files that the ledger knows, and files of the agent's in /etc/sudoers.d that
// somebody has renamed.
func (m *Machine) filesToGiveBack() ([]string, error) {
	files, err := m.Ledger.Files()
	if err != nil {
		return nil, err
	}
	marked, err := sudo.Marked(m.System.FS)
	for _, name := range marked {
		if !slices.Contains(files, name) {
			files = append(files, name)
		}
	}
	return files, err
}

// release describes what giving back a file would do; "" if there is nothing to do.
func (m *Machine) release(name string) (string, error) {
	original, kept, err := m.Ledger.Original(name)
	if err != nil {
		return "", err
	}
	_, err = m.System.FS.Stat(name)
	gone := errors.Is(err, fs.ErrNotExist)
	switch {
	case strings.HasPrefix(name, "/run/"): // it is gone after the next boot
		return "", nil
	case sudo.Reads(name):
		return m.releaseSudoers(name, original, kept, gone)
	case kept && (original.Link != "" || !original.Info.IsDir() || !gone):
		return "give back " + name, nil
	case !kept && !gone && m.Ledger.Made(name):
		return "remove " + name, nil
	}
	return "", nil
}

// giveBack restores what was at a path before the agent, or removes what is there.
func (m *Machine) giveBack(ctx context.Context, name string) error {
	files := m.System.FS
	if sudo.Reads(name) {
		return m.giveBackSudoers(ctx, name)
	}
	return m.Ledger.Release(name, func(original system.Original) error {
		if original.Link != "" {
			return files.Symlink(original.Link, name)
		}
		if original.Info.IsDir() {
			return files.SetAttr(name, original.Info.Attr)
		}
		if !original.Info.IsRegular() {
			return fmt.Errorf("cannot give back %s: it was neither a file nor a link", name)
		}
		return files.WriteFile(name, original.Content, original.Info.Attr)
	}, func() error { return files.Remove(name) })
}

// releaseSudoers is release for the files that sudo reads. The agent's own files are removed, and lines
// that the agent has commented out are active again. /etc/sudoers itself stays as it is, because
// somebody put a grant there that could not be denied elsewhere. A file that is gone stays gone.
func (m *Machine) releaseSudoers(name string, original system.Original, kept, gone bool) (string, error) {
	switch {
	case gone || name == sudoers.Main:
		return "", nil
	case sudo.Owns(name):
		return "remove " + name, nil
	}
	content, err := m.System.FS.ReadFile(name)
	if err == nil && (kept && original.Link != "" || !bytes.Equal(content, sudo.Revert(content))) {
		return "give back " + name, nil
	}
	return "", err
}

// giveBackSudoers is giveBack for them. It checks first that sudo would accept the result.
func (m *Machine) giveBackSudoers(ctx context.Context, name string) error {
	if sudo.Owns(name) {
		return m.System.FS.Remove(name)
	}
	content, info, err := m.System.FS.Inspect(name)
	if err != nil {
		return err
	}
	reverted := sudo.Revert(content)
	if err := sudoers.Validate(ctx, m.System, map[string][]byte{name: reverted}); err != nil && !errors.Is(err, system.ErrNotInstalled) {
		return fmt.Errorf("cannot give back %s: sudo would not take it: %w", name, err)
	}
	original, kept, err := m.Ledger.Original(name)
	if err != nil {
		return err
	}
	if kept && original.Link != "" {
		return m.System.FS.Symlink(original.Link, name)
	}
	return m.System.FS.WriteFile(name, reverted, info.Attr)
}
