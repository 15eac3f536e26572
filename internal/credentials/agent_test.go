package credentials_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/credentials"
)

func TestWhatAnActivatedAgentLeavesIsGivenUntilItExpires(t *testing.T) {
	m := newMachine(t)
	p := m.provider(t, credentials.Config{})
	m.activate(t, "1", m.clock.Now().Add(40*time.Minute))
	c := gives(t, p, "1")
	if c.Source != "amazon-ssm-agent" || c.SessionToken == "" || !c.CanExpire {
		t.Errorf("%s, token %q, can expire: %v", c.Source, c.SessionToken, c.CanExpire)
	}
	if left := c.Expires.Sub(m.clock.Now()); left != 15*time.Minute {
		t.Errorf("a cache around it would keep them for %s", left)
	}
	m.clock.pass(35 * time.Minute)
	if left := gives(t, p, "1").Expires.Sub(m.clock.Now()); left != 5*time.Minute {
		t.Errorf("they hold for %s", left)
	}
	m.clock.pass(5 * time.Minute)
	_, err := p.Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrExpired) {
		t.Error(err)
	}
	m.activate(t, "2", m.clock.Now().Add(time.Hour))
	gives(t, p, "2")
}

func TestEachStateOfTheAgentHasAnErrorOfItsOwn(t *testing.T) {
	const young, old = time.Second, time.Hour
	cut := func(text string, n int) string { return text[:len(text)-n] }
	for name, test := range map[string]struct {
		change func(t *testing.T, m *machine)
		want   error
		says   string
	}{
		"not activated": {func(_ *testing.T, m *machine) { os.RemoveAll(filepath.Join(m.root, "var")) }, credentials.ErrNotActivated, registration},
		"activated, and the agent has not come round to it": {
			func(_ *testing.T, m *machine) { os.Remove(filepath.Join(m.root, identity)) }, credentials.ErrNoCredentials, "does it run?",
		},
		"the agent does not share": {func(t *testing.T, m *machine) { m.put(t, identity, identityOf("", m.clock.Now().Add(time.Hour))) }, credentials.ErrNoCredentials, "ShareCreds"},
		"expired":                  {func(t *testing.T, m *machine) { m.put(t, identity, identityOf(shared, m.clock.Now())) }, credentials.ErrExpired, "at 20"},
		"no shared file":           {func(_ *testing.T, m *machine) { os.Remove(filepath.Join(m.root, shared)) }, credentials.ErrNoCredentials, shared},
		"the shared file is a directory": {
			func(_ *testing.T, m *machine) {
				os.Remove(filepath.Join(m.root, shared))
				os.Mkdir(filepath.Join(m.root, shared), 0o700)
			}, credentials.ErrNoCredentials, "not a regular file",
		},
		"the identity is empty": {func(t *testing.T, m *machine) { m.put(t, identity, ""); m.age(t, identity, young) }, credentials.ErrHalfWritten, identity},
		"the identity is cut": {func(t *testing.T, m *machine) {
			m.put(t, identity, cut(identityOf(shared, m.clock.Now().Add(time.Hour)), 5))
			m.age(t, identity, young)
		}, credentials.ErrHalfWritten, identity},
		"the identity stays cut":   {func(t *testing.T, m *machine) { m.put(t, identity, "{"); m.age(t, identity, old) }, credentials.ErrNoCredentials, identity},
		"the shared file is empty": {func(t *testing.T, m *machine) { m.put(t, shared, ""); m.age(t, shared, young) }, credentials.ErrHalfWritten, "lacks some in [default]"},
		"the shared file has no token yet": {func(t *testing.T, m *machine) {
			m.put(t, shared, strings.Split(keys("default", "2"), "aws_session")[0])
			m.age(t, shared, young)
		}, credentials.ErrHalfWritten, "lacks some in [default]"},
		"the shared file has half a token": {func(t *testing.T, m *machine) {
			m.put(t, shared, cut(keys("default", "2"), 4))
			m.age(t, shared, young)
		}, credentials.ErrHalfWritten, "ends within a line"},
		"the shared file stays without":      {func(t *testing.T, m *machine) { m.put(t, shared, "[other]\n"); m.age(t, shared, old) }, credentials.ErrNoCredentials, "lacks some in [default]"},
		"the shared file is from the future": {func(t *testing.T, m *machine) { m.put(t, shared, "[other]\n"); m.age(t, shared, -old) }, credentials.ErrNoCredentials, "lacks some in [default]"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.activate(t, "1", m.clock.Now().Add(time.Hour))
			test.change(t, m)
			_, err := m.provider(t, credentials.Config{}).Retrieve(t.Context())
			if discreet(t, err); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v; want %v, and %q in it", err, test.want, test.says)
			}
		})
	}
}

func TestTheAgentsFileMayEndWithoutALineEndIfThatIsHowItIs(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", m.clock.Now().Add(time.Hour))
	m.put(t, shared, strings.TrimSpace(keys("default", "2")))
	gives(t, m.provider(t, credentials.Config{}), "2")
}

func TestTheAgentsProfileIsTheOneThatItNames(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", m.clock.Now().Add(time.Hour))
	m.put(t, shared, keys("default", "1")+"\n"+keys("soe", "2"))
	m.put(t, identity, strings.Replace(identityOf(shared, m.clock.Now().Add(time.Hour)), `"ShareProfile":""`, `"ShareProfile":"soe"`, 1))
	gives(t, m.provider(t, credentials.Config{}), "2")
}

func TestWithoutAnExpiryTrustIsShort(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", time.Time{})
	p := m.provider(t, credentials.Config{})
	for range 5 {
		if c := gives(t, p, "1"); !c.CanExpire || c.Expires.Sub(m.clock.Now()) > 15*time.Minute {
			t.Errorf("they expire at %s", c.Expires)
		}
		m.clock.pass(14 * time.Minute)
	}
}

func TestAChangedFileIsSeenByTheNextRequest(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, m *machine, which string){
		"written in place": func(t *testing.T, m *machine, which string) { m.put(t, shared, keys("default", which)) },
		"replaced, with the time of the old": func(t *testing.T, m *machine, which string) {
			before, err := os.Stat(filepath.Join(m.root, shared))
			if err != nil {
				t.Fatal(err)
			}
			m.put(t, shared+".new", keys("default", which))
			m.age(t, shared+".new", m.clock.Now().Sub(before.ModTime()))
			if err := os.Rename(filepath.Join(m.root, shared+".new"), filepath.Join(m.root, shared)); err != nil {
				t.Fatal(err)
			}
		},
		"grown, with the time of the old": func(t *testing.T, m *machine, which string) {
			before, err := os.Stat(filepath.Join(m.root, shared))
			if err != nil {
				t.Fatal(err)
			}
			m.put(t, shared, keys("default", which)+strings.Repeat("\n", len(before.Name())+m.puts))
			m.age(t, shared, m.clock.Now().Sub(before.ModTime()))
		},
		"elsewhere": func(t *testing.T, m *machine, which string) {
			m.put(t, "/etc/keys-"+which, keys("default", which))
			m.put(t, identity, identityOf("/etc/keys-"+which, m.clock.Now().Add(time.Hour)))
		},
		"behind another link": func(t *testing.T, m *machine, which string) {
			m.put(t, "/etc/keys-"+which, keys("default", which))
			os.Remove(filepath.Join(m.root, shared))
			if err := os.Symlink("../../etc/keys-"+which, filepath.Join(m.root, shared)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.activate(t, "0", m.clock.Now().Add(time.Hour))
			p := m.provider(t, credentials.Config{})
			gives(t, p, "0")
			for i := range 3 {
				which := fmt.Sprint(i + 1)
				change(t, m, which)
				gives(t, p, which)
			}
		})
	}
}

func TestNothingIsReadAgainWhileNothingChanges(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", m.clock.Now().Add(time.Hour))
	p := m.provider(t, credentials.Config{})
	gives(t, p, "1")
	before := m.disk.reads.Load()
	for range 100 {
		gives(t, p, "1")
	}
	if reads := m.disk.reads.Load() - before; reads > 0 {
		t.Errorf("%d files were read", reads)
	}
	p.Forget()
	gives(t, p, "1")
	if m.disk.reads.Load() == before {
		t.Error("what was to be forgotten was not read again")
	}
}

func TestTheLastGoodOnesBridgeAFileThatLacksAKeyUntilTheyExpire(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", m.clock.Now().Add(time.Hour))
	p := m.provider(t, credentials.Config{})
	gives(t, p, "1")
	m.put(t, shared, "[default]\naws_access_key_id = ASIA2\n")
	m.age(t, shared, 0)
	gives(t, p, "1")
	m.clock.pass(59 * time.Minute)
	gives(t, p, "1")
	m.clock.pass(time.Minute)
	_, err := p.Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrNoCredentials) {
		t.Error(err)
	}
	m.activate(t, "2", m.clock.Now().Add(time.Hour))
	gives(t, p, "2")
}

func TestCredentialsThatWereForgottenBridgeNothing(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", m.clock.Now().Add(time.Hour))
	p := m.provider(t, credentials.Config{})
	gives(t, p, "1")
	m.put(t, shared, "")
	m.age(t, shared, 0)
	p.Forget()
	_, err := p.Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrHalfWritten) {
		t.Error(err)
	}
}

func TestAMachineThatIsActivatedNoMoreSaysSoAtOnce(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", m.clock.Now().Add(time.Hour))
	p := m.provider(t, credentials.Config{})
	gives(t, p, "1")
	os.RemoveAll(filepath.Join(m.root, "var/lib/amazon"))
	_, err := p.Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrNotActivated) {
		t.Error(err)
	}
}
