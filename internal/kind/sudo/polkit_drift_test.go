package sudo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

// haunted lets bob be root by what is in no file.
type haunted struct{ standIn }

func (h haunted) Authorized(ctx context.Context, questions []system.Question) ([]bool, error) {
	answers, err := h.standIn.Authorized(ctx, questions)
	for i, q := range questions {
		answers[i] = answers[i] || q.UID == 1000 && q.Action == execAction
	}
	return answers, err
}

func TestEachThingByWhichPolkitLetsOthersBeRootIsDriftByItself(t *testing.T) {
	const (
		allOfIt = "polkit.addRule(function(a, s) { if (a.id == \"" + execAction + "\") return polkit.Result.YES; });\n"
		pkla    = "/etc/polkit-1/localauthority/50-local.d/x.pkla"
	)
	over := string(rules([]string{"root", "%admins"}, []string{execAction}, nil))
	inLine := map[string]string{
		"/proc/1/stat": stat(1), "/proc/77/stat": stat(77), rulesPath: string(rules([]string{"root", "%admins"}, nil, nil)),
		authority: string(authorities([]string{"root", "%admins"})), authorityDir + "/51-x.conf": "", vendorRules + "/50-default.rules": "// nothing\n",
		"/usr/share/polkit-1/actions/x.policy": "", "/etc/polkit-1/localauthority/50-local.d/a.pkla": "",
	}
	for what, test := range map[string]struct {
		files  map[string]string
		spoil  func(root string) error
		ghost  bool
		aspect string // that alone has drifted; "": nothing has
	}{
		"nothing":                              {},
		"a rule":                               {files: map[string]string{rulesDir + "/50-x.rules": allOfIt}, aspect: rulesDir + "/50-x.rules"},
		"a rule of the site":                   {files: map[string]string{"/usr/local/share/polkit-1/rules.d/50-x.rules": allOfIt}, aspect: "/usr/local/share/polkit-1/rules.d/50-x.rules"},
		"a rule of a package":                  {files: map[string]string{vendorRules + "/50-x.rules": allOfIt}, aspect: "rights"},
		"an action":                            {files: map[string]string{"/usr/share/polkit-1/actions/open.policy": "/usr/bin/bash\n"}, aspect: "rights"},
		"a rule that names administrators":     {files: map[string]string{rulesDir + "/00-0.rules": "polkit.addAdminRule(f);\n"}, aspect: rulesDir + "/00-0.rules"},
		"an authority behind the agent's":      {files: map[string]string{authorityDir + "/99-z.conf": "[Configuration]\nAdminIdentities=unix-user:bob\n"}, aspect: authorityDir + "/99-z.conf"},
		"an entry":                             {files: map[string]string{pkla: "[x]\nIdentity=unix-user:bob\nAction=*\nResultActive=yes\n"}, aspect: pkla},
		"an entry for the allowed":             {files: map[string]string{pkla: "[x]\nIdentity=unix-group:admins\nAction=*\nResultActive=yes\n"}},
		"the agent's own file of its old name": {files: map[string]string{formerRules: "// " + polkitHeader}, aspect: formerRules},
		"somebody else's file of that name":    {files: map[string]string{formerRules: "// mine\n"}},
		"the agent's rule is another":          {files: map[string]string{rulesPath: "polkit.addAdminRule(f);\n"}, aspect: rulesPath},
		"the agent's authority is another":     {files: map[string]string{authority: "[Configuration]\nAdminIdentities=unix-user:bob\n"}, aspect: authority},
		"the agent's rule is gone":             {spoil: func(root string) error { return os.Remove(root + rulesPath) }, aspect: rulesPath},
		"the agent's rule is somebody's":       {spoil: func(root string) error { return os.Chown(root+rulesPath, 1000, 0) }, aspect: "mode of " + rulesPath},
		"polkit cannot read it":                {spoil: func(root string) error { return os.Chmod(root+rulesPath, 0o600) }, aspect: "mode of " + rulesPath},
		"what is in no file":                   {ghost: true, aspect: "rights"},
		"that, though it is taken back":        {ghost: true, files: map[string]string{rulesPath: over, entriesPath: string(entries([]string{execAction}))}, aspect: "polkit.service"},
	} {
		root := machine(t, inLine)
		for name, content := range test.files {
			kindtest.Put(t, root, name, content)
		}
		for _, own := range []string{rulesPath, authority} {
			if err := os.Chmod(root+own, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if test.spoil != nil {
			if err := test.spoil(root); err != nil {
				t.Fatal(err)
			}
		}
		var polkit system.Authority = standIn{root: root}
		if test.ghost {
			polkit = haunted{standIn{root: root}}
		}
		found := kindtest.Check(t, inService(t, root, polkit))
		r := found[1]
		var aspects []string
		for _, d := range r.Diff {
			// Whoever may write the agent's file is said twice.
			if !strings.HasPrefix(d.Aspect, "owner and mode of ") {
				aspects = append(aspects, d.Aspect)
			}
		}
		want, state := []string{test.aspect}, converge.Drifted
		if test.aspect == "" {
			want, state = nil, converge.Compliant
		}
		if r.ID != polkitID || r.State != state || !slices.Equal(aspects, want) {
			t.Errorf("%s: %s is %s: %s %v", what, r.ID, r.State, r.Reason, r.Diff)
		}
	}
}

func TestWhatPolkitLetsOthersDoAndNobodyCanTakeAwayIsSaid(t *testing.T) {
	files := map[string]string{"/proc/1/stat": stat(1), "/proc/77/stat": stat(77), rulesPath: string(rules([]string{"root", "%admins"}, []string{execAction}, nil))}
	root := machine(t, files)
	if err := os.Chmod(root+rulesPath, 0o644); err != nil {
		t.Fatal(err)
	}
	k := inService(t, root, haunted{standIn{root: root}})
	k.polkitAnew = ":1.7" // by the agent, and it does so still
	if found, err := k.Check(t.Context()); err != nil || found[1].State != converge.Failed || !strings.Contains(found[1].Reason, "polkit lets bob do "+execAction) {
		t.Errorf("%v: %+v", err, found[1])
	}
	if err := errors.Join(os.Remove(root+rulesPath), os.Symlink("/dev/null", root+rulesPath)); err != nil {
		t.Fatal(err)
	}
	if found, err := k.Check(t.Context()); err != nil || found[1].State != converge.Failed || !strings.Contains(found[1].Reason, "not a regular file") {
		t.Errorf("%v: %+v", err, found[1])
	}
}

func TestWhatTheAgentsFilesTakeBackIsReadFromThemAndNothingElse(t *testing.T) {
	allow := []string{"root", "%admins"}
	for what, test := range map[string]struct {
		rules, entries string
		want           []string
	}{
		"nothing":             {},
		"their own rule":      {string(rules(allow, []string{"org.b", execAction + " /usr/bin/perl", "org.a"}, nil)), "", []string{"org.a", "org.b", execAction + " /usr/bin/perl"}},
		"an entry":            {"", string(entries([]string{"org.b", "org.a /bin/sh"})), []string{"org.a", "org.b"}},
		"both, each once":     {string(rules(allow, []string{"org.a"}, nil)), string(entries([]string{"org.a", "org.c"})), []string{"org.a", "org.c"}},
		"what is no action":   {"var over = [\"org.a\", \"x y\", \"a\\\"); f(\", \"org.b /bin/\\\\\"];\n", "Action=org.c;*;org d;\n", []string{"org.a", "org.c"}},
		"what cannot be read": {"var over = [org.a];\nvar over = [\"org.b\"\n", "Actions=org.c\n", nil},
	} {
		root := machine(t, map[string]string{rulesPath: test.rules, entriesPath: test.entries})
		over := inService(t, root, standIn{root: root}).overruled()
		slices.Sort(test.want)
		if !slices.Equal(over, test.want) {
			t.Errorf("%s: it is %q, want %q", what, over, test.want)
		}
	}
}

func TestAServiceWithAShellIsSomebodyToPolkitAndOneWithoutKeepsItsRights(t *testing.T) {
	root := machine(t, map[string]string{"/etc/passwd": "root:x:0:0::/root:/bin/bash\nalice:x:1001:1001::/home/alice:/bin/sh\nstopped:x:1005:1005::/:/usr/sbin/nologin\n" +
		"daemon:x:2:2::/:/usr/sbin/nologin\nfalse:x:101:101::/:/bin/false\nbackup:x:102:102::/:/bin/bash\nempty:x:103:103::/:\nlast:x:999:999::/:/bin/sh\ndcv:x:990:990::/:/bin/sh\n"})
	k := inService(t, root, standIn{root: root})
	if got, want := k.services(), []string{"daemon", "false"}; !slices.Equal(got, want) {
		t.Errorf("%v keep their rights, want %v", got, want)
	}
	var asked []string
	for _, a := range k.askedAbout(nil) {
		asked = append(asked, a.Name)
	}
	if want := []string{"backup", "empty", "last"}; !slices.Equal(asked, want) {
		t.Errorf("polkit is asked about %v, want %v", asked, want)
	}
}

// falteringAuthority answers until it fails.
type falteringAuthority struct {
	standIn
	err error
}

func (f *falteringAuthority) Authorized(ctx context.Context, questions []system.Question) ([]bool, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.standIn.Authorized(ctx, questions)
}

// A repair for which polkit does not answer is not one that something else undoes.
func TestARepairForWhichPolkitDoesNotAnswerSaysSo(t *testing.T) {
	root := machine(t, map[string]string{
		"/proc/1/stat": stat(1), "/proc/77/stat": stat(77), rulesPath: string(rules([]string{"root", "%admins"}, nil, nil)),
		rulesDir + "/50-x.rules": "polkit.addRule(function(a, s) { if (a.id == \"" + execAction + "\") return polkit.Result.YES; });\n",
	})
	if err := os.Chmod(root+rulesPath, 0o644); err != nil {
		t.Fatal(err)
	}
	polkit := &falteringAuthority{standIn: standIn{root: root}}
	k := inService(t, root, polkit)
	found := kindtest.Check(t, k)
	if found[1].State != converge.Drifted {
		t.Fatalf("%+v", found[1])
	}
	polkit.err = errors.New("no answer")
	outcomes := k.Repair(t.Context(), found[1:2])
	if len(outcomes) != 1 || outcomes[0].Err == nil || !strings.Contains(outcomes[0].Err.Error(), "cannot tell what polkit allows: ") {
		t.Errorf("%+v", outcomes)
	}
}

// A pausingAuthority answers nobody until a rule has been given up, as polkit 121 and 122 do now and
// then for a rule that has long returned.
type pausingAuthority struct {
	standIn
	pause *time.Duration
}

func (p pausingAuthority) Authorized(ctx context.Context, questions []system.Question) ([]bool, error) {
	select {
	case <-time.After(*p.pause):
		*p.pause = 0
		return p.standIn.Authorized(ctx, questions)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestARepairThatNoOtherFollowsOutlastsThePauseOfPolkitAfterALostWakeUp(t *testing.T) {
	root := machine(t, map[string]string{
		"/proc/1/stat": stat(1), "/proc/77/stat": stat(77), rulesPath: string(rules([]string{"root", "%admins"}, nil, nil)),
		rulesDir + "/50-x.rules": "polkit.addRule(function(a, s) { if (a.id == \"" + execAction + "\") return polkit.Result.YES; });\n",
	})
	if err := os.Chmod(root+rulesPath, 0o644); err != nil {
		t.Fatal(err)
	}
	var pause time.Duration
	k := inService(t, root, pausingAuthority{standIn{root: root}, &pause})
	found := kindtest.Check(t, k)
	for _, test := range []struct {
		pause   time.Duration // polkit gives a rule 15 s
		once    bool
		message string
	}{
		{time.Minute, true, "cannot tell what polkit allows: no answer came within 20s"},
		{15 * time.Second, false, "cannot tell what polkit allows: no answer came within 3s"}, // what has been granted since waits
		{15 * time.Second, true, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			pause = test.pause
			ctx := t.Context()
			if test.once {
				ctx = converge.OnlyPass(ctx)
			}
			outcomes := k.Repair(ctx, found[1:2])
			if test.message == "" && len(outcomes) > 0 {
				t.Errorf("after a pause of %s: %v", test.pause, outcomes[0].Err)
			}
			if test.message != "" && (len(outcomes) != 1 || !strings.Contains(fmt.Sprint(outcomes[0].Err), test.message)) {
				t.Errorf("after a pause of %s: %+v", test.pause, outcomes)
			}
		})
	}
}
