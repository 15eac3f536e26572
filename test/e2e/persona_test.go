package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/persona"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/box"
)

// Names as a directory has them, with the machine's own id(1) and getent(1).
func TestThePersonaFollowsTheGroupsOfTheDesktopUser(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "rm", "-r", "/etc/sudoers.d") // nobody says whose desktop it is
	d.MustExec(t, "sh", "-ec", `
		rm -r /home/*
		printf '%s\n' 'EXAMPLE\jane doe:x:20001:20000:Doe, Jane #1:/home/jane doe:/bin/bash' >>/etc/passwd
		printf '%s\n' 'EXAMPLE\Domain Users:x:20000:' 'EXAMPLE\Finance Users:x:20010:someone else,EXAMPLE\jane doe' 'EXAMPLE\Linux #1:x:20011:' >>/etc/group
		mkdir -m 0700 '/home/jane doe'
		chown 20001:20000 '/home/jane doe'`)
	machine, err := system.Open(system.Options{Root: d.Root, Gate: system.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string, groups ...string) persona.Rule {
		return persona.Rule{Name: name, When: persona.Conditions{Group: groups}}
	}
	selected := func(previous []string, rules ...persona.Rule) persona.Selection {
		t.Helper()
		f, err := facts.Gather(t.Context(), machine)
		if err != nil {
			t.Fatal(err)
		}
		return persona.Choice{Always: []string{"base"}, Rules: rules}.Select(t.Context(), persona.Subject{System: machine, Facts: f, Previous: previous})
	}
	for group, is := range map[string]bool{
		`EXAMPLE\Finance Users`: true, `EXAMPLE\Domain Users`: true, `EXAMPLE\Linux #1`: false, "sudo": false, "root": false,
	} {
		want := []string{"base"}
		if is {
			want = append(want, "finance")
		}
		s := selected(nil, in("finance", group))
		if diff := cmp.Diff(want, s.Personas); diff != "" || len(s.Unknown) > 0 {
			t.Errorf("%s: unknown %q (-want +got):\n%s", group, s.Unknown, diff)
		}
	}
	rules := []persona.Rule{in("linux", `EXAMPLE\Linux #1`), in("finance", `EXAMPLE\Nobody Here`, `EXAMPLE\Finance Users`), in("users", `EXAMPLE\Domain Users`)}
	s := selected(nil, rules...)
	if diff := cmp.Diff([]string{"base: always", `finance: EXAMPLE\jane doe is in the group EXAMPLE\Finance Users`}, s.Why); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// So it is for the agent.
	d.MustWriteFile(t, agent.ConfigFile, box.File{Content: "[[persona]]\nname = \"finance\"\nwhen = { group = 'EXAMPLE\\Finance Users' }\n"})
	d.MustWriteFile(t, policyDir+"/60-finance.toml", box.File{Content: `schema = 1
personas = ["finance"]
[dropins."/etc/profile.d/finance.sh"]
content = "# of finance\n"
`})
	const everybodys = "[dropins.\"/etc/profile.d/base.sh\"]\ncontent = \"# of everybody\\n\"\n"
	d.apply(t, everybodys).wants(t, map[policy.ID]converge.State{
		"dropin/etc/profile.d/base.sh": converge.Corrected, "dropin/etc/profile.d/finance.sh": converge.Corrected,
	})

	// The directory stops to answer, as it does each morning for a while.
	d.MustExec(t, "sh", "-ec", `sed -i '/jane doe/d' /etc/passwd; sed -i '/^EXAMPLE/d' /etc/group`)
	s = selected(s.Personas, rules...)
	if diff := cmp.Diff([]string{"base", "finance"}, s.Personas); diff != "" || len(s.Unknown) != len(rules) {
		t.Errorf("unknown %q (-want +got):\n%s", s.Unknown, diff)
	}
	d.apply(t, everybodys).wants(t, map[policy.ID]converge.State{"dropin/etc/profile.d/base.sh": converge.Compliant})
	d.MustExec(t, "test", "-e", "/etc/profile.d/finance.sh")
	// And her volume is not mounted either.
	d.MustExec(t, "rmdir", "/home/jane doe")
	s = selected(s.Personas, rules...)
	if diff := cmp.Diff([]string{"base", "finance"}, s.Personas); diff != "" || len(s.Unknown) != len(rules) {
		t.Errorf("unknown %q (-want +got):\n%s", s.Unknown, diff)
	}
	d.apply(t, everybodys).wants(t, map[policy.ID]converge.State{"dropin/etc/profile.d/base.sh": converge.Compliant})
	d.MustExec(t, "test", "-e", "/etc/profile.d/finance.sh")
	// Until it is known that nobody of finance sits there.
	d.MustExec(t, "sh", "-ec", `printf '%s\n' 'john:x:20002:20000::/home/john:/bin/bash' >>/etc/passwd
		printf '%s\n' 'EXAMPLE\Domain Users:x:20000:' 'EXAMPLE\Finance Users:x:20010:' >>/etc/group
		mkdir /home/john; chown 20002:20000 /home/john`)
	d.apply(t, everybodys)
	d.MustExec(t, "test", "!", "-e", "/etc/profile.d/finance.sh")
}
