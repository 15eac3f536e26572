package sudo

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// counting is a polkit that counts what it is asked.
type counting struct {
	standIn
	asked *int
}

func (c counting) Actions(ctx context.Context) ([]system.Action, error) {
	*c.asked++
	return c.standIn.Actions(ctx)
}

func (c counting) Authorized(ctx context.Context, questions []system.Question) ([]bool, error) {
	*c.asked += len(questions)
	return c.standIn.Authorized(ctx, questions)
}

// ahead is a clock that is ahead of the files' times.
type ahead struct {
	system.Clock
	by *time.Duration
}

func (a ahead) Now() time.Time { return a.Clock.Now().Add(*a.by) }

func TestPolkitIsAskedOnlyWhenSomethingHasChangedByWhichItsAnswerMayBeAnother(t *testing.T) {
	root := machine(t, map[string]string{
		"/proc/1/stat": stat(1), "/proc/77/stat": stat(77),
		rulesDir + "/50-x.rules": "polkit.addRule(function(a, s) { if (a.id == \"org.example.print\") return polkit.Result.YES; });\n",
	})
	s := kindtest.Open(t, system.Options{Root: root})
	s.Root = "/"
	runner := people()
	runner.files = s.FS
	asked, by := 0, time.Duration(0)
	s.Runner, s.Sessions, s.Authority, s.Clock = runner, sickSessions{}, counting{standIn{root: root}, &asked}, ahead{hasty{s.Clock}, &by}
	p := &policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: []string{"%admins"}}}}}
	engine := kindtest.Engine(p, New(p, s), kindtest.Ledger(t, root), s.Clock)
	look := func() int {
		t.Helper()
		asked, by = 0, by+time.Minute
		if r := engine.Pass(t.Context()).Resources[1]; !r.State.InLine() {
			t.Fatalf("it is %s: %s", r.State, r.Reason)
		}
		return asked
	}
	if look() == 0 {
		t.Error("it is not asked to begin with")
	}
	look() // at what the repair has written
	for range 3 {
		if n := look(); n != 0 {
			t.Errorf("where nothing has changed it is asked %d questions", n)
		}
	}
	for name, content := range map[string]string{
		rulesDir + "/60-y.rules":                    "// nothing\n",
		"/usr/local/share/polkit-1/rules.d/y.rules": "// nothing\n",
		"/run/polkit-1/actions/x.policy":            "<x/>\n",
		"/etc/group":                                "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\nempty:x:501:bob\n",
		"/etc/passwd":                               "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/bash\n",
	} {
		file := filepath.Join(root, name)
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		kindtest.Put(t, root, name, content)
		if look() == 0 {
			t.Errorf("it is not asked when %s has changed", name)
		}
		if n := look(); n != 0 {
			t.Errorf("after the change of %s it is asked %d questions again", name, n)
		}
	}
	if by += trusted; look() == 0 {
		t.Error("it is not asked when that was long ago: groups of the directory are in no file")
	}
}
