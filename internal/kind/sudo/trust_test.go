package sudo

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

// asking counts how often sudo is asked what somebody may do. Of its directory is dora.
type asking struct {
	system.Runner
	times *atomic.Int64 // several are asked about at once
}

func (a asking) Run(ctx context.Context, c system.Command) (system.Output, error) {
	if c.Argv[0] == "sudo" {
		a.times.Add(1)
	}
	switch last := c.Argv[len(c.Argv)-1]; {
	case last == "5001":
		return system.Output{Stdout: []byte("dora:x:5001:5001::/home/dora:/bin/sh\n")}, nil
	case last == "dora" && c.Argv[0] == "id":
		return system.Output{Stdout: []byte("dora\x00")}, nil
	}
	return a.Runner.Run(ctx, c)
}

// whoIsIn are the sessions that there are.
type whoIsIn struct{ sessions *[]system.Session }

func (w whoIsIn) List(context.Context) ([]system.Session, error) { return *w.sessions, nil }

func TestWhatSudoSaysIsBelievedForTenMinutesAndOnlyOfTheSameFilesAndPeople(t *testing.T) {
	m := sickScene("", "[sudo]\nallow = [\"%admins\"]\n", nil).Build(t, nil)
	k := m.Kind.(*Kind)
	var times atomic.Int64
	by := time.Duration(0)
	bob := system.Session{ID: "1", UID: 1000, User: "bob", Leader: 77, State: "active"}
	sessions := []system.Session{bob}
	k.system.Runner, k.directory.Runner = asking{k.system.Runner, &times}, asking{k.directory.Runner, &times}
	k.system.Sessions, k.system.Clock = whoIsIn{&sessions}, ahead{k.system.Clock, &by}
	engine := kindtest.Engine(k.policy, k, kindtest.Ledger(t, m.Root), k.system.Clock)
	look := func(after time.Duration) int64 {
		t.Helper()
		times.Store(0)
		by += after
		if r := engine.Pass(t.Context()).Resources[0]; !r.State.InLine() {
			t.Fatalf("it is %s: %s %v", r.State, r.Reason, r.Diff)
		}
		return times.Load()
	}
	look(0)
	for range 2 { // the first looks at what the repair has written
		look(time.Second)
	}
	if n := look(trusted / 2); n != 0 {
		t.Errorf("where nothing has changed it is asked %d times", n)
	}
	if look(trusted/2) == 0 {
		t.Error("it is not asked once that was ten minutes ago: groups of the directory are in no file")
	}
	if n := look(trusted - time.Second); n != 0 {
		t.Errorf("a second before they are over it is asked %d times", n)
	}
	if look(time.Second) == 0 {
		t.Error("it is not asked when they are over again")
	}
	if err := os.WriteFile(m.Root+sudoers.Dir+"/50-x", []byte("# nothing\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	if look(time.Second) == 0 {
		t.Error("it is not asked when a file has changed")
	}
	if n := look(time.Second); n != 0 {
		t.Errorf("then it is asked %d times again", n)
	}
	sessions = append(sessions, system.Session{ID: "2", UID: 5001, User: "dora", Leader: 78, State: "active"})
	if look(time.Second) == 0 {
		t.Error("it is not asked when somebody has logged in")
	}
	if n := look(time.Second); n != 0 {
		t.Errorf("of the same people it is asked %d times again", n)
	}
}

func TestWhatIsWrongOrMayHaveChangedUnseenIsAskedAboutEachTime(t *testing.T) {
	for what, files := range map[string]map[string]string{
		"something is wrong":               {"/etc/sudo.conf": "Plugin other_policy other.so\n"},
		"what decides may be in any place": {"/etc/sudoers": mainFile + "@include /etc/sudoers.local\n", "/etc/sudoers.local": "# nothing\n"},
	} {
		m := sickScene("", "[sudo]\nallow = [\"%admins\"]\n", files).Build(t, nil)
		k := m.Kind.(*Kind)
		var times atomic.Int64
		k.system.Runner, k.directory.Runner = asking{k.system.Runner, &times}, asking{k.directory.Runner, &times}
		var state converge.State
		for range 4 {
			times.Store(0)
			state = m.Engine.Pass(t.Context()).Resources[0].State
			if times.Load() == 0 {
				t.Errorf("%s: it is %s, and sudo is not asked", what, state)
			}
		}
		if wrong := what == "something is wrong"; (state == converge.Failed) != wrong {
			t.Errorf("%s: it is %s", what, state)
		}
	}
}
