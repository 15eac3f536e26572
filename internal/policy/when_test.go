package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/target"
)

// when makes a fragment conditional.
func when(f Fragment, fact string, values ...string) Fragment {
	f.When = target.Conditions{fact: values}
	return f
}

func TestConditionsLayersAndPersonasMerge(t *testing.T) {
	rhel, debian, nothing := target.Facts{"os.family": "rhel"}, target.Facts{"os.family": "debian"}, target.Facts(nil)
	for _, test := range []struct {
		name      string
		facts     target.Facts
		fragments []Fragment
		want      string // the version of git; "": it is not named
		undecided bool
		err       string
	}{
		{"one for this machine sets it", rhel, []Fragment{when(says(Remote, "r", "1"), "os.family", "rhel")}, "1", false, ""},
		{"one for others does not", debian, []Fragment{when(says(Remote, "r", "1"), "os.family", "rhel")}, "", false, ""},
		{"while it cannot be told it is left as it is", nothing, []Fragment{when(says(Remote, "r", "1"), "os.family", "rhel")}, "1", true, ""},
		{"it has the rank of its layer and persona", rhel, []Fragment{when(says(Remote, "r", "1"), "os.family", "rhel"), says(Remote, "d", "2", "developer")}, "2", false, ""},
		{"and replaces what is lower", rhel, []Fragment{when(says(Remote, "r", "1", "developer"), "os.family", "rhel"), says(Remote, "d", "2", "base")}, "1", false, ""},
		{"one for others replaces nothing", debian, []Fragment{when(says(Local, "l", "1"), "os.family", "rhel"), says(Seed, "s", "2")}, "2", false, ""},
		{"while it cannot be told what is lower does not come in its place", nothing, []Fragment{when(says(Local, "l", "1"), "os.family", "rhel"), says(Seed, "s", "2")}, "1", true, ""},
		{"what is higher is certain all the same", nothing, []Fragment{when(says(Seed, "s", "1"), "os.family", "rhel"), says(Local, "l", "2")}, "2", false, ""},
		{"of one rank the doubtful one counts", nothing, []Fragment{says(Remote, "a", "1"), when(says(Remote, "b", "2"), "os.family", "rhel")}, "2", true, ""},
		{"two of one rank that never hold together", rhel, []Fragment{when(says(Remote, "a", "1"), "os.family", "rhel"), when(says(Remote, "b", "2"), "os.family", "debian")}, "1", false, ""},
		{"two of one rank that both hold and differ", rhel, []Fragment{when(says(Remote, "a", "1"), "os.family", "rhel"), says(Remote, "b", "2")}, "", false, "set differently"},
		{"other personas' fragments do not count", rhel, []Fragment{when(says(Remote, "r", "1", "finance"), "os.family", "rhel")}, "", false, ""},
		{"nor in doubt", nothing, []Fragment{when(says(Remote, "r", "1", "finance"), "os.family", "rhel")}, "", false, ""},
	} {
		p, err := Merge(test.fragments, []string{"base", "developer"}, test.facts)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		r, named := p.Lookup("package/git")
		got := ""
		if named {
			got = string(r.Spec.(Package).Ensure)
		}
		if got != test.want || (r.Undecided != "") != test.undecided {
			t.Errorf("%s: git is %q, undecided %q", test.name, got, r.Undecided)
		}
		if enforced := len(Of[Package](p)) == 1; enforced != (named && !test.undecided) {
			t.Errorf("%s: enforced %t", test.name, enforced)
		}
		if len(p.Doubts) == 0 && test.undecided {
			t.Errorf("%s: no doubt is said", test.name)
		}
	}
}

func TestAFragmentWhoseConditionsCannotBeToldIsADoubtOfWhichOnlyRootReadsTheName(t *testing.T) {
	p, err := Merge([]Fragment{when(says(Local, "secret.toml", "1"), "desktop", "mate")}, []string{"base"}, target.Facts{"os.family": "rhel"})
	if err != nil {
		t.Fatal(err)
	}
	want := []public.Line{{
		Whole: "cannot tell whether a fragment is for this machine (secret.toml): desktop is not known",
		Open:  "cannot tell whether a fragment is for this machine: desktop is not known",
	}}
	if diff := cmp.Diff(want, p.Doubts); diff != "" {
		t.Error(diff)
	}
}

func TestAPolicyIsAnotherOneOnceAFactBecomesKnownOrChanges(t *testing.T) {
	fragments := []Fragment{when(says(Remote, "r", "1"), "os.family", "rhel"), mustParse(t, "d", "schema = 1\n[dconf.\"org/mate/screensaver\"]\nlock-enabled = true\n")}
	digests := map[string]string{}
	for name, facts := range map[string]target.Facts{
		"nothing is known": nil, "a family": {"os.family": "rhel"}, "another": {"os.family": "debian"},
		"the desktop": {"os.family": "rhel", "desktop": "gnome"},
	} {
		p, err := Merge(fragments, []string{"base"}, facts)
		if err != nil {
			t.Fatal(err)
		}
		for other, digest := range digests {
			if digest == p.Digest() {
				t.Errorf("%s is the same policy as: %s", name, other)
			}
		}
		digests[name] = p.Digest()
	}
}

func TestWhatOnlyFragmentsForOtherMachinesNameIsLeft(t *testing.T) {
	f := mustParse(t, "el.toml", "schema = 1\n[when]\nfact.\"os.family\" = \"rhel\"\n[packages]\nvim = \"present\"\ngit = \"present\"\n[users.app]\nuid = 5000\n")
	p, err := Merge([]Fragment{f, says(Remote, "all", "1")}, []string{"base"}, target.Facts{"os.family": "debian"})
	if err != nil {
		t.Fatal(err)
	}
	left := map[ID]string{}
	for id, elsewhere := range p.Left {
		left[id] = elsewhere.Why + ", " + elsewhere.Origin.String()
	}
	if diff := cmp.Diff(map[ID]string{"package/vim": "os.family is debian, el.toml:5 (seed)", "user/app": "os.family is debian, el.toml:7 (seed)"}, left); diff != "" {
		t.Error(diff)
	}
}

const conditionalRules = `schema = 1
[[rules]]
match = ["package/*"]
severity = "low"
controls = ["a:1"]
when = { fact."os.family" = "rhel" }
[[rules]]
match = ["package/git"]
mode = "audit"
until = 2030-01-01
reason = "later"
when = { fact."os.family" = "rhel" }
`

func TestARuleForOtherMachinesSaysNothingAndADoubtfulOneLeavesAlone(t *testing.T) {
	for _, test := range []struct {
		facts    target.Facts
		severity Severity
		audit    bool
		waived   bool
	}{
		{target.Facts{"os.family": "rhel"}, Low, true, true},
		{target.Facts{"os.family": "debian"}, Medium, false, false},
		{nil, Medium, true, false},
	} {
		p, err := Merge([]Fragment{mustParse(t, "f", conditionalRules), says(Seed, "s", "1")}, []string{"base"}, test.facts)
		if err != nil {
			t.Fatal(err)
		}
		ruling := p.Ruling("package/git", time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC))
		if ruling.Severity != test.severity || ruling.Audit != test.audit || ruling.Waived != test.waived {
			t.Errorf("%v: %+v", test.facts, ruling)
		}
	}
}

func TestOnlyFactsThatAreKnownMakeAResourceNotApplicable(t *testing.T) {
	f := mustParse(t, "f", `schema = 1
[pcoip]
enable_audio = true
[dconf."org/mate/screensaver"]
lock-enabled = true
[dconf."org/gnome/shell"]
development-tools = false
[dconf."org/gnome/desktop/screensaver"]
lock-enabled = true
[repositories.tools]
baseurl = "https://example.com/"
gpgkey = "https://example.com/key"
fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567"
[packages]
vim = "present"
`)
	ids := []ID{"pcoip/enable_audio", "dconf/org/mate/screensaver/lock-enabled", "dconf/org/gnome/shell/development-tools", "dconf/org/gnome/desktop/screensaver/lock-enabled", "repository/tools", "package/vim"}
	for _, test := range []struct {
		facts target.Facts
		none  string // one letter for each of the above: n if it is not applicable
	}{
		{nil, "------"},
		{target.Facts{"streaming": "dcv"}, "n-----"},
		{target.Facts{"streaming": "none"}, "n-----"},
		{target.Facts{"streaming": "both"}, "------"},
		{target.Facts{"streaming": "pcoip"}, "------"},
		{target.Facts{"desktop": "gnome"}, "-n----"},
		{target.Facts{"desktop": "mate"}, "--n---"},
		{target.Facts{"desktop": "both"}, "------"},
		{target.Facts{"desktop": "none"}, "------"},
		{target.Facts{"package-manager": "apt"}, "----n-"},
		{target.Facts{"package-manager": "dnf"}, "------"},
		{target.Facts{"os.family": "debian"}, "------"},
	} {
		p, err := Merge([]Fragment{f}, []string{"base"}, test.facts)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, id := range ids {
			r, _ := p.Lookup(id)
			letter := "-"
			if r.NotApplicable != "" {
				letter = "n"
			}
			if r.Enforceable() != (letter == "-") {
				t.Errorf("%v: %s is enforced: %t", test.facts, id, r.Enforceable())
			}
			got += letter
		}
		if got != test.none {
			t.Errorf("%v: %s, not %s", test.facts, got, test.none)
		}
	}
}

func TestATopicIsForAmazonLinuxAloneAndThePackageIsKept(t *testing.T) {
	f := mustParse(t, "f", "schema = 1\n[packages.vim]\ntopic = \"vim\"\n")
	for family, want := range map[string]string{"amzn": "vim", "": "vim", "rhel": ""} {
		p, err := Merge([]Fragment{f}, []string{"base"}, target.Facts{"os.family": family})
		if err != nil {
			t.Fatal(err)
		}
		if all := Of[Package](p); len(all) != 1 || all[0].Spec.Topic != want {
			t.Errorf("family %q: %+v", family, all)
		}
	}
}

func TestNothingIsFetchedForWhatIsNotForTheMachine(t *testing.T) {
	f := mustParse(t, "f", "schema = 1\n[dropins.\"/etc/a.conf.d/a\"]\ncontent = \"{{resolve:ssm:/a}}\"\n[dconf.\"org/mate/screensaver\"]\npicture-filename = \"{{resolve:ssm:/b}}\"\n")
	for _, facts := range []target.Facts{{"desktop": "gnome"}, nil} {
		p, err := Merge([]Fragment{f, when(says(Local, "l", "{{resolve:ssm:/c}}"), "arch", "aarch64")}, []string{"base"}, facts)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range p.References() {
			names = append(names, r.Name)
		}
		want := "/b /a"
		if facts != nil {
			want = "/a"
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%v: %s", facts, got)
		}
		expanded := p.Expand(func(Reference) (string, bool) { return "x", true })
		if r, _ := expanded.Lookup("dconf/org/mate/screensaver/picture-filename"); facts != nil && (r.NotApplicable == "" || len(r.Missing) > 0) {
			t.Errorf("%+v", r)
		}
	}
}

func TestConditionsThatCannotBeAreRefusedWithTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		`when = { fact."os.family" = "ubuntu" }`:      `f:2: cannot use when.fact."os.family": no machine has "ubuntu"; it is one of amzn, rhel, debian, other`,
		`when = { fact."os.famly" = "rhel" }`:         `f:2: cannot use when.fact."os.famly": no such fact is known; did you mean "os.family"?`,
		`when = { fact.os.family = "rhel" }`:          `f:2: cannot use when.fact.os: a name with a dot in it is written in quotes: "os.family"`,
		`when = { fact.desktop = [] }`:                `f:2: cannot use when.fact.desktop: it names no value, so it never holds`,
		`when = { fact.desktop = 3 }`:                 `f:2: cannot use when.fact.desktop: it wants a string, or an array of strings and not the number 3`,
		`when = { tag.Persona = "a" }`:                `f:2: cannot use when.tag: conditions here are of facts alone; who gets what by tag, group or name is a persona's, in agent.toml`,
		`when = {}`:                                   `f:2: cannot use when: it has no conditions, such as { fact."os.family" = ["rhel"] }`,
		`when = "rhel"`:                               `f:2: cannot use when: it wants a table and not the string "rhel"`,
		"[[rules]]\nmatch = [\"sudo/*\"]\nwhen = { }": `f:4: cannot use rules.when: it has no conditions, such as { fact."os.family" = ["rhel"] }`,
	} {
		_, err := Parse(Source{Name: "f", Text: "schema = 1\n" + text + "\n"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
	for _, text := range []string{"when = { fact.desktop = \"mate\" }", "[when]\nfact.desktop = [\"mate\", \"gnome\"]", "[when.fact]\n\"os.version\" = \"8\""} {
		if f, err := Parse(Source{Name: "f", Text: "schema = 1\n" + text + "\n"}); err != nil || len(f.When) != 1 {
			t.Errorf("%s: %v, %v", text, f.When, err)
		}
	}
}
