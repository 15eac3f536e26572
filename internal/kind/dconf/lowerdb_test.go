package dconf

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// TestALockOfADatabaseBelowIsNotTakenForOurs in test/e2e tests this with the real dconf.
func TestOfSeveralDatabasesThatLockAKeyTheLowestIsJudged(t *testing.T) {
	const locked, free = policy.ID("dconf/org/example/background/opacity"), policy.ID("dconf/org/example/background/picture-options")
	database, body, locks := example(t)
	other := bytes.Replace(database, []byte("\x32\x00\x00\x00\x00i"), []byte("\x33\x00\x00\x00\x00i"), 1) // this sets opacity to 51
	if bytes.Equal(other, database) {
		t.Fatal("the value was not found")
	}
	for _, c := range []struct {
		name    string
		profile string
		site    []byte
		want    converge.State
	}{
		{"none is below", "user-db:user\nsystem-db:soe\n", other, converge.Compliant},
		{"it is below and has the same value", "user-db:user\nsystem-db:soe\nsystem-db:site\n", database, converge.Compliant},
		{"it has another value", "user-db:user\nsystem-db:soe\nsystem-db:site\n", other, converge.Failed},
		{"something else is between", "user-db:user\nsystem-db:soe\nservice-db:x\nsystem-db:local # none\nsystem-db:site\n", other, converge.Failed},
		{"it is a file elsewhere", "user-db:user\nsystem-db:soe\nfile-db:/etc/dconf/db/site\n", other, converge.Failed},
		{"it is no database", "user-db:user\nsystem-db:soe\nfile-db:/etc/passwd\n", other, converge.Compliant},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := newImage(t, examplePolicy)
			i.write(t, keyfilePath, withSeal(body, sealOf(body, locks, database)))
			i.write(t, locksPath, locks)
			i.write(t, databaseFile, database)
			i.write(t, databasesDir+"/site", c.site)
			i.write(t, "/etc/passwd", []byte("root:x:0:0::/root:/bin/sh\n"))
			i.write(t, profilePath, []byte(c.profile))
			found := i.check(t)
			if r := found[locked]; r.State != c.want || (c.want == converge.Failed && !strings.Contains(r.Reason, "/etc/dconf/db/site locks it too")) {
				t.Errorf("%s: %s", r.State, r.Reason)
			}
			if r := found[free]; r.State != converge.Compliant { // it is not locked there
				t.Errorf("%s: %s", r.State, r.Reason)
			}
		})
	}
}

func TestALockScreenThatTheSamePolicyDisablesIsNotCalledCompliant(t *testing.T) {
	const (
		lock     = "[dconf.\"org/mate/screensaver\"]\nlock-enabled = true\n"
		disabled = "[dconf.\"org/mate/desktop/lockdown\"]\ndisable-lock-screen = "
	)
	for toml, want := range map[string]converge.State{
		lock: converge.Compliant, lock + disabled + "false": converge.Compliant,
		lock + disabled + "true": converge.Failed, lock + disabled + "{ gvariant = \" true \" }": converge.Failed,
	} {
		i := newImage(t, toml)
		values := settings{"/org/mate/screensaver/lock-enabled": {"true", true}, "/org/mate/desktop/lockdown/disable-lock-screen": {"true", true}}
		body, locks := values.keyfile(), values.locks()
		database := compiled(values)
		i.write(t, keyfilePath, withSeal(body, sealOf(body, locks, database)))
		i.write(t, locksPath, locks)
		i.write(t, databaseFile, database)
		i.write(t, profilePath, []byte("user-db:user\nsystem-db:soe\n"))
		r := i.check(t)["dconf/org/mate/screensaver/lock-enabled"]
		if r.State != want || (want == converge.Failed && !strings.Contains(r.Reason, "the screen is never locked")) {
			t.Errorf("%s: %s: %s", toml, r.State, r.Reason)
		}
	}
}

func TestALockScreenThatTheSamePolicyDisablesIsFoundByLint(t *testing.T) {
	compiled, err := os.ReadFile("gvdb/testdata/gschemas.compiled")
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]int{"true": 1, "false": 0} {
		i := newImage(t, "[dconf.\"org/gnome/desktop/screensaver\"]\nlock-enabled = { gvariant = \"true\" }\n"+
			"[dconf.\"org/gnome/desktop/lockdown\"]\ndisable-lock-screen = { gvariant = \""+value+"\" }\n")
		problems, err := Lint(i.kind.policy, compiled)
		if err != nil || len(problems) != want || want == 1 && !strings.Contains(problems[0].Message, "the screen is never locked") {
			t.Errorf("%s: %v, %v", value, problems, err)
		}
	}
}
