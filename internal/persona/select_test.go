package persona_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/persona"
	"github.com/soe-agent/soe-agent/internal/system"
)

// directory is an id and getent on a machine that is joined to a directory.
type directory struct {
	answers map[string]string // by command line
	asked   []string
	hangs   bool
}

func (d *directory) Run(ctx context.Context, c system.Command) (system.Output, error) {
	if !c.ReadOnly {
		return system.Output{}, errors.New("a command that is not said to be harmless")
	}
	if d.hangs {
		<-ctx.Done()
		return system.Output{}, ctx.Err()
	}
	line := strings.Join(c.Argv, " ")
	d.asked = append(d.asked, line)
	out, ok := d.answers[line]
	switch {
	case strings.HasSuffix(out, "!"): // some keys were not found
		return system.Output{ExitCode: 2, Stdout: []byte(strings.TrimSuffix(out, "!"))}, nil
	case ok:
		return system.Output{Stdout: []byte(out)}, nil
	case c.Argv[0] == "id":
		return system.Output{ExitCode: 1, Stderr: []byte("id: no such user")}, nil
	}
	return system.Output{ExitCode: 2}, nil
}

type loggedIn []uint32

func (l loggedIn) List(context.Context) (sessions []system.Session, err error) {
	for _, uid := range l {
		sessions = append(sessions, system.Session{UID: uid, State: "active"})
	}
	return sessions, nil
}

const (
	adminsOfTheImage = "root:x:0:0:root:/root:/bin/bash\nec2-user:x:1000:1000::/home/ec2-user:/bin/bash\n"
	localGroups      = "root:x:0:\nec2-user:x:1000:\ndevelopers:x:5000:EXAMPLE\\jane doe\n"
)

// joined returns a directory with one user and the groups.
func joined() *directory {
	return &directory{answers: map[string]string{
		"getent passwd -- 20001":                 `EXAMPLE\jane doe:*:20001:20000:Doe, Jane:/home/jane doe:/bin/bash` + "\n",
		"getent group -- EXAMPLE\\Finance Users": `EXAMPLE\finance users:x:20010:` + "\n",
		"getent group -- EXAMPLE\\Developers":    `EXAMPLE\developers:x:20011:` + "\n",
		"getent group -- developers":             "developers:x:5000:EXAMPLE\\jane doe\n",
		"getent group -- wheel":                  "wheel:x:10:\n",
		"id -G -- EXAMPLE\\jane doe":             "20000 20010 5000\n",
		"id -G -- ec2-user":                      "1000 10\n",
		"getent group -- 5000 20000 20010":       "developers:x:5000:\nEXAMPLE\\domain users:x:20000:\nEXAMPLE\\finance users:x:20010:\n",
		"getent group -- 1000":                   "ec2-user:x:1000:\n",
	}}
}

func machine(t testing.TB, d *directory, sessions ...uint32) *system.System {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{"passwd": adminsOfTheImage, "group": localGroups} {
		file := filepath.Join(root, "etc", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	s.Runner, s.Sessions = d, loggedIn(sessions)
	return s
}

func rule(name, when string) string {
	return "[[persona]]\nname = \"" + name + "\"\nwhen = " + when + "\n"
}

func workspace() facts.Facts {
	return facts.Facts{Hostname: "A-1BCDEF", OSID: "amzn", OSVersion: "2", Region: "eu-west-1", ManagedNode: "mi-1"}
}

func tags(context.Context) (map[string]string, error) {
	return map[string]string{"Persona": "developer", "Owner": "", "Ring": "7"}, nil
}

func TestTheFirstRuleWhoseConditionsAllHoldAddsItsPersona(t *testing.T) {
	for _, test := range []struct{ name, rules, want string }{
		{"no rule", "", "base: always"},
		{"a tag", rule("developer", `{ tag.Persona = "developer" }`), "base: always|developer: tag Persona is developer"},
		{"another tag", rule("developer", `{ tag.Persona = "Developer" }`), "base: always"},
		{"a tag that is not there", rule("developer", `{ tag.persona = ["developer", ""] }`), "base: always"},
		{"a tag without a value", rule("developer", `{ tag.Owner = "" }`), "base: always|developer: tag Owner is "},
		{"one of several values", rule("canary", `{ tag.Ring = ["0", "7"] }`), "base: always|canary: tag Ring is 7"},
		{"a host name, in any capitals", rule("desk", `{ hostname = ["R-*", "a-1?cd*"] }`), "base: always|desk: host name A-1BCDEF is as in a-1?cd*"},
		{"a part of a host name", rule("desk", `{ hostname = "A-1" }`), "base: always"},
		{"a fact", rule("amazon", `{ fact."os.id" = ["rocky", "amzn"] }`), "base: always|amazon: fact os.id is amzn"},
		{"a fact, exactly", rule("amazon", `{ fact."os.id" = "AMZN" }`), "base: always"},
		{"a group of the directory", rule("finance", `{ group = 'EXAMPLE\Finance Users' }`), `base: always|finance: EXAMPLE\jane doe is in the group EXAMPLE\Finance Users`},
		{"a group of the machine", rule("developer", `{ group = "developers" }`), `base: always|developer: EXAMPLE\jane doe is in the group developers`},
		{"one of several groups", rule("staff", `{ group = ['EXAMPLE\Developers', 'EXAMPLE\Nobody', 'developers'] }`), `base: always|staff: EXAMPLE\jane doe is in the group developers`},
		{"another group", rule("developer", `{ group = 'EXAMPLE\Developers' }`), "base: always"},
		{"a group that is nowhere", rule("developer", `{ group = 'OTHER\Developers' }`), "base: always"},
		{
			"the first of two that hold",
			rule("finance", `{ group = 'EXAMPLE\Finance Users' }`) + rule("developer", `{ tag.Persona = "developer" }`),
			`base: always|finance: EXAMPLE\jane doe is in the group EXAMPLE\Finance Users`,
		},
		{
			"all conditions",
			rule("finance", `{ tag.Ring = "7", group = 'EXAMPLE\Finance Users', hostname = "A-*", fact."os.id" = "amzn", fact.region = "eu-west-1" }`),
			`base: always|finance: host name A-1BCDEF is as in A-*, fact os.id is amzn, fact region is eu-west-1, tag Ring is 7, EXAMPLE\jane doe is in the group EXAMPLE\Finance Users`,
		},
		{
			"not quite all",
			rule("finance", `{ group = 'EXAMPLE\Finance Users', tag.Ring = "8" }`) + rule("developer", `{ tag.Persona = "developer" }`),
			"base: always|developer: tag Persona is developer",
		},
		{"one that it always has", rule("base", `{ tag.Persona = "developer" }`), "base: always"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := persona.Choice{Always: []string{"base"}, Rules: rules(t, test.rules)}.Select(t.Context(), persona.Subject{
				System: machine(t, joined(), 20001), Facts: workspace(), Tags: tags,
			})
			if diff := cmp.Diff(strings.Split(test.want, "|"), got.Why); diff != "" || len(got.Unknown) > 0 {
				t.Errorf("unknown %q (-want +got):\n%s", got.Unknown, diff)
			}
			for i, name := range got.Personas {
				if !strings.HasPrefix(got.Why[i], name+": ") {
					t.Errorf("%s is there since %q", name, got.Why[i])
				}
			}
		})
	}
}

func TestNobodyIsAskedMoreThanItTakes(t *testing.T) {
	for _, test := range []struct {
		name, rules string
		tags        int
		asked       []string
	}{
		{"neither tags nor groups", rule("a", `{ hostname = "B-*" }`) + rule("b", `{ fact."os.id" = "rocky" }`), 0, nil},
		{"settled by what is at hand", rule("a", `{ hostname = "B-*", tag.Persona = "developer", group = "wheel" }`), 0, nil},
		{"a rule that comes after the one that holds", rule("a", `{ hostname = "A-*" }`) + rule("b", `{ tag.Persona = "x", group = "wheel" }`), 0, nil},
		{"tags in two rules", rule("a", `{ tag.Persona = "x" }`) + rule("b", `{ tag.Ring = "x", tag.Owner = "y" }`), 1, nil},
		{
			"groups in two rules", rule("a", `{ group = "wheel" }`) + rule("b", `{ group = "developers" }`), 0,
			[]string{"getent passwd -- 20001", `id -G -- EXAMPLE\jane doe`, "getent group -- wheel", "getent group -- developers"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, times := joined(), 0
			persona.Choice{Always: []string{"base"}, Rules: rules(t, test.rules)}.Select(t.Context(), persona.Subject{
				System: machine(t, d, 20001), Facts: workspace(),
				Tags: func(ctx context.Context) (map[string]string, error) { times++; return tags(ctx) },
			})
			if diff := cmp.Diff(test.asked, d.asked); diff != "" || times != test.tags {
				t.Errorf("tags were asked for %d times; of the directory (-want +got):\n%s", times, diff)
			}
		})
	}
}

// What cannot be determined now may have been known yesterday, and nobody must lose a program
// because of that.
func TestWhatCannotBeToldIsNotTakenForFalse(t *testing.T) {
	finance, developer := rule("finance", `{ group = 'EXAMPLE\Finance Users' }`), rule("developer", `{ tag.Persona = "developer" }`)
	noTags := func(context.Context) (map[string]string, error) { return nil, errors.New("access denied") }
	fresh := facts.Facts{Hostname: "ip-10-0-1-2", OSID: "amzn"}
	silent := &directory{}
	partly := joined()
	delete(partly.answers, `getent group -- EXAMPLE\Finance Users`)
	partly.answers["getent group -- 5000 20000 20010"] = "developers:x:5000:\n!"
	const nobodyYet = `group EXAMPLE\Finance Users: its user has no home here yet and is not logged in`

	for _, test := range []struct {
		name, rules string
		subject     persona.Subject
		previous    string
		want        string // personas besides base
		unknown     string // one for each undetermined rule
	}{
		{"tags denied at first", developer, persona.Subject{Tags: noTags}, "", "", "developer applies: tag Persona: access denied"},
		{"tags denied now", developer, persona.Subject{Tags: noTags}, "base developer", "developer", "developer applies: tag Persona: access denied"},
		{"tags denied, and a later rule holds", developer + rule("desk", `{ hostname = "A-*" }`), persona.Subject{Tags: noTags}, "base", "", "developer applies: tag Persona: access denied"},
		{"tags denied, and a later rule held", developer + rule("desk", `{ hostname = "A-*" }`), persona.Subject{Tags: noTags}, "base desk", "desk", "developer applies: tag Persona: access denied"},
		{"tags denied, and an earlier rule holds", rule("desk", `{ hostname = "A-*" }`) + developer, persona.Subject{Tags: noTags}, "base developer", "desk", ""},
		{"tags denied, and the rule that gave it holds no more", developer + rule("desk", `{ hostname = "B-*" }`), persona.Subject{Tags: noTags}, "base desk", "", "developer applies: tag Persona: access denied"},
		{"tags denied, and something else does not hold", rule("developer", `{ tag.Persona = "developer", fact."os.id" = "rocky" }`), persona.Subject{Tags: noTags}, "base developer", "", ""},
		{"tags denied, and another rule gives the same", developer + rule("developer", `{ hostname = "A-*" }`), persona.Subject{Tags: noTags}, "", "developer", ""},
		{"tags denied, and two rules in doubt give the same", developer + rule("developer", `{ tag.Ring = "1" }`), persona.Subject{Tags: noTags}, "", "", "developer applies: tag Persona: access denied|developer applies: tag Ring: access denied"},
		{"not yet named", rule("desk", `{ hostname = "A-*" }`), persona.Subject{Facts: fresh}, "base desk", "desk", "desk applies: host name: the machine has none of its own yet"},
		{"named by its address for good", rule("desk", `{ hostname = "ip-10-*" }`), persona.Subject{Facts: fresh}, "", "desk", ""},
		{"not yet activated", rule("eu", `{ fact.region = "eu-west-1" }`), persona.Subject{Facts: fresh}, "", "", "eu applies: fact region is not known yet"},
		{"no user yet", finance, persona.Subject{System: machine(t, joined())}, "base finance", "finance", "finance applies: " + nobodyYet},
		{"none but the image's administrator", finance, persona.Subject{System: machine(t, joined(), 1000)}, "base finance", "finance", "finance applies: " + nobodyYet},
		{"none but the image's administrator, and a group of the machine", rule("developer", `{ group = "developers" }`), persona.Subject{System: machine(t, joined(), 1000)}, "base developer", "", ""},
		{"not yet joined", finance, persona.Subject{System: machine(t, silent)}, "", "", "finance applies: " + nobodyYet},
		{"the directory knows nobody", finance, persona.Subject{System: machine(t, silent, 20001)}, "base finance", "finance", "finance applies: cannot tell who has the uid 20001: getent finds nobody"},
		{"the directory knows one and not the other", finance, persona.Subject{System: machine(t, joined(), 20001, 20002)}, "", "finance", ""},
		{"the directory does not know its groups", finance, persona.Subject{System: machine(t, partly, 20001)}, "base finance", "finance", `finance applies: group EXAMPLE\Finance Users: getent finds neither it nor a name for the group 20000 of the desktop's user`},
		{"everything at once", developer + finance, persona.Subject{Tags: noTags, System: machine(t, joined())}, "base finance", "finance", "developer applies: tag Persona: access denied|finance applies: " + nobodyYet},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.subject
			s.Previous = strings.Fields(test.previous)
			if s.System == nil {
				s.System = machine(t, joined(), 20001)
			}
			if s.Facts.Hostname == "" {
				s.Facts = workspace()
			}
			if s.Tags == nil {
				s.Tags = tags
			}
			got := persona.Choice{Always: []string{"base"}, Rules: rules(t, test.rules)}.Select(t.Context(), s)
			if diff := cmp.Diff(strings.Fields("base "+test.want), got.Personas); diff != "" {
				t.Errorf("personas (-want +got):\n%s", diff)
			}
			var unknown []string
			for _, doubt := range got.Unknown {
				unknown = append(unknown, strings.TrimPrefix(doubt, "cannot tell whether persona "))
			}
			if diff := cmp.Diff(test.unknown, strings.Join(unknown, "|")); diff != "" {
				t.Errorf("unknown (-want +got):\n%s", diff)
			}
		})
	}
}

func TestADirectoryThatHangsIsNotWaitedFor(t *testing.T) {
	s := machine(t, &directory{hangs: true}, 20001)
	two := rules(t, rule("a", `{ group = 'EXAMPLE\A' }`)+rule("b", `{ group = 'EXAMPLE\B' }`))
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got := persona.Choice{Rules: two}.Select(t.Context(), persona.Subject{System: s, Facts: workspace(), Tags: tags, Previous: []string{"b"}})
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("it took %s", took)
		}
		if diff := cmp.Diff([]string{"b"}, got.Personas); diff != "" || len(got.Unknown) != 2 {
			t.Errorf("%q (-want +got):\n%s", got.Unknown, diff)
		}
	})
}

func FuzzAnAcceptedRuleGivesAtMostItsPersona(f *testing.F) {
	f.Add("[[persona]]\nname = \"developer\"\nwhen = { tag.Persona = \"developer\" }")
	f.Add("[[persona]]\nname = \"a\"\nwhen = { hostname = [\"[a-\", \"A-*\"], fact.locale = \"C\" }\n[[persona]]\nname = \"b\"\nwhen.group = 'x y'")
	f.Add("persona = [{ name = \"a\", when.tag.\"\" = [] }]")
	s := machine(f, joined(), 20001)
	f.Fuzz(func(t *testing.T, text string) {
		var c config
		if _, err := toml.Decode(text, &c); err != nil || persona.Validate(c.Rules) != nil {
			return
		}
		s.Runner = joined()
		got := persona.Choice{Always: []string{"base"}, Rules: c.Rules}.Select(t.Context(), persona.Subject{System: s, Facts: workspace(), Tags: tags})
		if len(got.Personas) == 0 || len(got.Personas) > 2 || got.Personas[0] != "base" || len(got.Why) != len(got.Personas) {
			t.Errorf("%q: %+v", text, got)
		}
	})
}

func TestWithEveryRuleEachThatHoldsGivesItsPersona(t *testing.T) {
	noTags := func(context.Context) (map[string]string, error) { return nil, errors.New("access denied") }
	desk, eu, developer := rule("desk", `{ hostname = "A-*" }`), rule("eu", `{ fact.region = "eu-west-1" }`), rule("developer", `{ tag.Persona = "developer" }`)
	for _, test := range []struct {
		name, rules, previous, want string
		unknown                     int
		tags                        func(context.Context) (map[string]string, error)
	}{
		{"all that hold, in their order", eu + rule("us", `{ fact.region = "us-east-1" }`) + desk + developer, "", "base eu desk developer", 0, tags},
		{"one in doubt holds up no other", developer + desk, "", "base desk", 1, noTags},
		{"one in doubt gives what it gave", developer + desk, "base developer", "base developer desk", 1, noTags},
		{"one in doubt that another rule gives is no doubt", developer + rule("developer", `{ hostname = "A-*" }`), "", "base developer", 0, noTags},
		{"none", rule("us", `{ fact.region = "us-east-1" }`), "base us", "base", 0, tags},
	} {
		got := persona.Choice{Always: []string{"base"}, Rules: rules(t, test.rules), Every: true}.Select(t.Context(), persona.Subject{
			System: machine(t, joined(), 20001), Facts: workspace(), Tags: test.tags, Previous: strings.Fields(test.previous),
		})
		if strings.Join(got.Personas, " ") != test.want || len(got.Unknown) != test.unknown {
			t.Errorf("%s: %q, unknown %q", test.name, got.Personas, got.Unknown)
		}
	}
}
