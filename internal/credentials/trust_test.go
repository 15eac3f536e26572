package credentials_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/credentials"
)

func (m *machine) chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(filepath.Join(m.root, name), mode); err != nil {
		t.Fatal(err)
	}
}

func TestRootUsesNoFileThatSomebodyElseCouldHaveWritten(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, m *machine)
		says   string
	}{
		"a file for all":             {func(t *testing.T, m *machine) { m.chmod(t, shared, 0o666) }, "/root/.aws/credentials: others may change it: its mode is 0666; do chmod 0644"},
		"a file for a group":         {func(t *testing.T, m *machine) { m.chmod(t, shared, 0o660) }, "its mode is 0660; do chmod 0640"},
		"a user's file":              {func(_ *testing.T, m *machine) { m.disk.owners[shared] = 1000 }, "belongs to user 1000"},
		"an identity for all":        {func(t *testing.T, m *machine) { m.chmod(t, identity, 0o606) }, identity},
		"a directory for all":        {func(t *testing.T, m *machine) { m.chmod(t, "/root/.aws", 0o777) }, "/root/.aws: "},
		"a directory for a group":    {func(t *testing.T, m *machine) { m.chmod(t, "/var/lib/amazon", 0o775) }, "/var/lib/amazon: "},
		"a directory like /tmp":      {func(t *testing.T, m *machine) { m.chmod(t, "/root", os.ModeSticky|0o777) }, "/root: "},
		"a user's directory":         {func(_ *testing.T, m *machine) { m.disk.owners["/var/lib/amazon"] = 1000 }, "/var/lib/amazon: "},
		"a link into a user's home":  {func(t *testing.T, m *machine) { m.link(t, "/home/ann/keys"); m.disk.owners["/home/ann"] = 1000 }, "/home/ann: "},
		"a link to a directory's up": {func(t *testing.T, m *machine) { m.link(t, "../../home/ann/keys"); m.chmod(t, "/home", 0o777) }, "/home: "},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.put(t, "/home/ann/keys", keys("default", "2"))
			m.activate(t, "1", m.clock.Now().Add(time.Hour))
			p := m.provider(t, credentials.Config{})
			gives(t, p, "1")
			test.change(t, m)
			for range 2 { // those that it has already do not cover it up
				_, err := p.Retrieve(t.Context())
				if discreet(t, err); !errors.Is(err, credentials.ErrUnsafe) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%v; want %q in it", err, test.says)
				}
			}
		})
	}
}

// link makes the shared file a link.
func (m *machine) link(t *testing.T, target string) {
	t.Helper()
	os.Remove(filepath.Join(m.root, shared))
	if err := os.Symlink(target, filepath.Join(m.root, shared)); err != nil {
		t.Fatal(err)
	}
}

func TestLinksAreFollowedAsLongAsNobodyElseCanTurnThem(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", m.clock.Now().Add(time.Hour))
	m.put(t, "/srv/keys/now", keys("default", "2"))
	if err := os.Symlink("srv", filepath.Join(m.root, "data")); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/srv/keys/now", "/data/keys/now", "../../data/keys/./now", "../../../../../data//keys/../keys/now"} {
		m.link(t, target)
		gives(t, m.provider(t, credentials.Config{}), "2")
	}
	for _, target := range []string{"/root/.aws/credentials", "/srv/keys/now/x", "/none"} {
		m.link(t, target)
		_, err := m.provider(t, credentials.Config{}).Retrieve(t.Context())
		if discreet(t, err); !errors.Is(err, credentials.ErrNoCredentials) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestWhoIsNotRootMayUseTheirOwnFilesAndNobodyElses(t *testing.T) {
	m := newMachine(t)
	m.uid = 1000
	m.env["HOME"] = "/home/ann"
	m.put(t, "/home/ann/.aws/credentials", keys("default", "1"))
	m.disk.owners["/home/ann"] = 1000
	m.chmod(t, "/home/ann/.aws", 0o775) // by a umask of 002, with a group of one's own
	p := m.provider(t, credentials.Config{Source: "profile"})
	gives(t, p, "1")
	m.disk.owners["/home/ann/.aws/credentials"] = 1001
	delete(m.disk.owners, "/home/ann")
	_, err := p.Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrUnsafe) {
		t.Error(err)
	}
	m.disk.owners = map[string]int{"/home/ann": 1000}
	m.chmod(t, "/home/ann/.aws", 0o777)
	_, err = p.Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrUnsafe) {
		t.Error(err)
	}
}
