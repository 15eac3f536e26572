package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bearer returns a section's example with evidence in the first table of a resource.
func bearer(t *testing.T, s section) (text string, may bool) {
	t.Helper()
	each := s.form.each
	if each != nil && each.each != nil {
		each = each.each
	}
	if each == nil || each.table() == nil {
		return "", false
	}
	const words = `controls = ["x:1", "x:2"], severity = "critical"`
	switch s.name {
	case "packages":
		return "[packages]\ngit = { ensure = \"latest\", " + words + " }\n", true
	case "dconf":
		return "[dconf.\"org/x\"]\na = { value = 1, " + words + " }\n", true
	}
	header, rest, _ := strings.Cut(s.example, "\n")
	return header + "\n" + strings.ReplaceAll(words, "], ", "]\n") + "\n" + rest, true
}

func TestEachResourceWithATableOfItsOwnSaysWhatDemandsItAndHowMuchItMatters(t *testing.T) {
	schema, bearing := schemaValidator(t), 0
	for _, s := range sections() {
		text, may := bearer(t, s)
		if !may {
			continue
		}
		bearing++
		t.Run(s.name, func(t *testing.T) {
			text = "schema = 1\n" + text
			f := mustParse(t, "f.toml", text)
			if err := valid(t, schema, text); err != nil {
				t.Errorf("an editor refuses it: %v", err)
			}
			i := slices.IndexFunc(f.Settings, func(s Setting) bool { return !s.Evidence.nothing() })
			if i < 0 {
				t.Fatalf("nothing is said of anything:\n%s", text)
			}
			p := mustMerge(t, nil, f)
			want := Ruling{Severity: Critical, Controls: []string{"x:1", "x:2"}, Pending: patience}
			if diff := cmp.Diff(want, p.Ruling(f.Settings[i].ID, time.Now())); diff != "" {
				t.Errorf("%s (-want +got):\n%s", f.Settings[i].ID, diff)
			}
			readAgain(t, p)
		})
	}
	if bearing < 9 {
		t.Errorf("only %d sections can", bearing)
	}
}

func TestWhatAResourceSaysOfItselfCountsBehindTheRulesOfItsRankAndBeforeThoseOfAHigherOne(t *testing.T) {
	parse := func(layer Layer, text string) Fragment {
		f, err := Parse(Source{Name: layer.String(), Layer: layer, Text: "schema = 1\n" + text})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	own := parse(Remote, "[packages]\ngit = { ensure = \"latest\", severity = \"high\", controls = [\"a:1\"] }\n[[rules]]\nmatch = [\"package/*\"]\nseverity = \"low\"\ncontrols = [\"b:1\"]\n")
	lower := parse(Seed, "[[rules]]\nmatch = [\"package/git\"]\nseverity = \"informational\"\n")
	higher := parse(Local, "[[rules]]\nmatch = [\"package/*\"]\nseverity = \"critical\"\n")
	replaced := parse(Local, "[packages]\ngit = \"absent\"\n")
	again := parse(Remote, "[packages]\ngit = { ensure = \"latest\", controls = [\"c:1\", \"a:1\"] }\n")
	for name, test := range map[string]struct {
		fragments []Fragment
		severity  Severity
		controls  []string
	}{
		"its own word is nearer than a pattern's": {[]Fragment{own, lower}, High, []string{"b:1", "a:1"}},
		"a higher rank says otherwise":            {[]Fragment{own, higher}, Critical, []string{"b:1", "a:1"}},
		"what replaces it says its own":           {[]Fragment{own, replaced}, Low, []string{"b:1"}},
		"two of one rank demand it":               {[]Fragment{own, again}, High, []string{"b:1", "a:1", "c:1"}},
		"of another order":                        {[]Fragment{again, own}, High, []string{"b:1", "c:1", "a:1"}},
	} {
		ruling := mustMerge(t, nil, test.fragments...).Ruling("package/git", time.Now())
		if ruling.Severity != test.severity || !slices.Equal(ruling.Controls, test.controls) {
			t.Errorf("%s: %s %q", name, ruling.Severity, ruling.Controls)
		}
	}
}

func TestTwoSeveritiesOfOneResourceAtOneRankAreAConflictThatNamesBothPlaces(t *testing.T) {
	const table = "schema = 1\n[services.\"a.service\"]\nrunning = true\nseverity = \"high\"\n"
	for text, want := range map[string]string{
		table + "[[rules]]\nmatch = [\"service/a.service\"]\nseverity = \"low\"\n":                                                                  `b.toml:5: cannot merge service/a.service: its severity is "low" by this rule and "high" by its own table at a.toml:2 (seed), which has the same rank`,
		strings.Replace(table, "high", "low", 1):                                                                                                    `b.toml:2: cannot merge service/a.service: its severity is "low" here and "high" at a.toml:2 (seed), which has the same rank`,
		table + "[[rules]]\nmatch = [\"service/*\"]\nseverity = \"low\"\n":                                                                          "",
		table + "[[rules]]\nmatch = [\"service/a.service\"]\nseverity = \"high\"\n[[rules]]\nmatch = [\"service/a.service\"]\ncontrols = [\"x\"]\n": "",
		strings.Replace(table, "severity = \"high\"\n", "", 1):                                                                                      "",
	} {
		_, err := Merge([]Fragment{mustParse(t, "a.toml", table), mustParse(t, "b.toml", text)}, nil, nil)
		if got := fmt.Sprint(err); got != want && (want != "" || err != nil) {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func TestWhatIsNoEvidenceIsRefusedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"[services.\"a.service\"]\nrunning = true\nseverity = \"grave\"\n":   `f:4: cannot use services."a.service".severity: "grave" is none of critical, high, medium, low, informational`,
		"[services.\"a.service\"]\nrunning = true\nseverity = \"\"\n":        `f:4: cannot use services."a.service".severity: "" is none of critical, high, medium, low, informational`,
		"[services.\"a.service\"]\nrunning = true\ncontrols = \"x\"\n":       `f:4: cannot use services."a.service".controls: it wants an array of strings and not the string "x"`,
		"[services.\"a.service\"]\nrunning = true\ncontrols = [\"\"]\n":      `f:4: cannot use services."a.service".controls: "" is not the name of a control: a text of one line and of 100 bytes at most`,
		"[services.\"a.service\"]\nrunning = true\ncontrols = [\"a\\nb\"]\n": `f:4: cannot use services."a.service".controls: "a\nb" is not the name of a control: a text of one line and of 100 bytes at most`,
		"[dconf.\"org/*/x\"]\na = { value = 1, controls = [\"x\"] }\n":       `f:3: cannot use dconf."org/*/x".a: its name holds a *, so that severity and controls cannot be said of it alone: say them in [[rules]]`,
		"[services.\"a.service\"]\ncontrols = [\"x\"]\n":                     `f:2: cannot use services."a.service": it says neither enabled, running nor masked`,
		"[sudo]\nallow = [\"%ops\"]\ncontrols = [\"x\"]\n":                   `f:4: cannot use sudo.controls: unknown key; known here are allow, commands, root_groups`,
		"[checks.c]\nrun = [\"/a\"]\nevery = \"1m\"\ntimeout = \"10s\"\n":    `f:2: cannot use checks.c: every 1m0s is not between 10m and 30d`,
		"[checks.c]\nrun = [\"/a\"]\nevery = \"31d\"\n":                      `f:2: cannot use checks.c: every 31d is not between 10m and 30d`,
		"[checks.c]\nrun = [\"/a\"]\nevery = \"10m\"\ntimeout = \"11m\"\n":   `f:2: cannot use checks.c: its timeout of 11m0s is longer than its interval of 10m0s`,
		"[checks.c]\nrun = [\"/a\"]\nevery = \"often\"\n":                    `f:4: cannot use checks.c.every: "often" is not a time such as "7d" or "12h", of a minute or more`,
		"[checks.c]\nfind = \"ghosts\"\n":                                    `f:2: cannot use checks.c: "ghosts" cannot be searched for; choose one of duplicate-users, duplicate-uids, duplicate-groups, duplicate-gids, unknown-groups, other-roots, empty-passwords, homes, world-writable, unowned, set-id, dot-files, altered-files`,
		"[checks.c]\nfind = \"homes\"\nexcept = [\"a:b\"]\n":                 `f:2: cannot use checks.c: "a:b" is not the name of an account or a group`,
		"[checks.c]\nfind = \"homes\"\nrun = [\"/a\"]\n":                     `f:4: cannot use checks.c.run: it is only for commands, and find is not one`,
		"[checks.c]\nfind = \"homes\"\nevery = \"6h\"\n":                     `f:4: cannot use checks.c.every: it is only for commands, and find is not one`,
		"[checks.c]\nrun = [\"/a\"]\nexcept = [\"x\"]\n":                     `f:4: cannot use checks.c.except: it belongs to find`,
		"[benchmarks.b]\n":                                                                          `f:2: cannot use benchmarks.b.controls: it names no control`,
		"[benchmarks.b]\ncontrols = [\"b:1\"]\n":                                                    `f:3: cannot use benchmarks.b.controls: "b:1" is written without the name of the benchmark here: "1"`,
		"[benchmarks.b]\ncontrols = [\"1 2\"]\n":                                                    `f:3: cannot use benchmarks.b.controls: "1 2" is not the number of a control, such as "5.2.2"`,
		"[benchmarks.\"a b\"]\ncontrols = [\"1\"]\n":                                                `f:3: cannot use benchmarks."a b".controls: "a b" is not the name of a benchmark: letters, digits, dots, hyphens and underscores`,
		"[benchmarks.b]\ncontrols = [\"1\"]\ntitle = \"x\"\n":                                       `f:4: cannot use benchmarks.b.title: unknown key; known here are controls, waived`,
		"[benchmarks.b]\ncontrols = [\"1\"]\nwaived = { 2 = \"x\" }\n":                              `f:4: cannot use benchmarks.b.waived.2: it is waived, and not among the controls`,
		"[benchmarks.b]\ncontrols = [\"1\"]\nwaived = { 1 = \" \" }\n":                              `f:4: cannot use benchmarks.b.waived.1: it needs a reason, in one line`,
		"[benchmarks.b]\ncontrols = [\"1\"]\nwaived = { 1 = 7 }\n":                                  `f:4: cannot use benchmarks.b.waived.1: it wants a string and not the number 7`,
		"[benchmarks.b]\ncontrols = [" + strings.Repeat("\"1\",", mostDemanded+1) + "]\n":           `f:3: cannot use benchmarks.b.controls: the benchmarks of the fragment name more than 3000 controls`,
		"[packages]\na = { ensure = \"present\", controls = [" + numbered(mostControls+1) + "] }\n": `f: cannot use the fragment: its rules have more than 1000 different controls`,
	} {
		_, err := Parse(Source{Name: "f", Text: "schema = 1\n" + text})
		if got := fmt.Sprint(err); got != want {
			t.Errorf("%.200s\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\"c:%d\",", i)
	}
	return b.String()
}

func TestTheControlsOfABenchmarkAddUpAndStandInTheOrderOfTheirNumbers(t *testing.T) {
	p := mustMerge(t, []string{"kiosk"},
		mustParse(t, "a.toml", "schema = 1\n[benchmarks.b]\ncontrols = [\"1.10\", \"1.2\", \"2\"]\n[benchmarks.a]\ncontrols = [\"V-2\"]\n"),
		mustParse(t, "b.toml", "schema = 1\npersonas = [\"kiosk\"]\n[benchmarks.b]\ncontrols = [\"1.2\", \"1.2.1\"]\n"),
		mustParse(t, "c.toml", "schema = 1\npersonas = [\"other\"]\n[benchmarks.c]\ncontrols = [\"1\"]\n"),
	)
	want := []Benchmark{
		{Name: "a", Controls: []string{"a:V-2"}, Origin: Origin{Fragment: "a.toml", Line: 4}},
		{Name: "b", Controls: []string{"b:1.2", "b:1.2.1", "b:1.10", "b:2"}, Origin: Origin{Fragment: "a.toml", Line: 2}},
	}
	if diff := cmp.Diff(want, p.Benchmarks); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	readAgain(t, p)
	without := mustMerge(t, nil, mustParse(t, "a.toml", "schema = 1\n[benchmarks.a]\ncontrols = [\"V-2\"]\n"))
	if p.Digest() == without.Digest() {
		t.Error("what is demanded does not change the digest")
	}
}

func TestWhatABenchmarkWaivesIsThatOfAllFragmentsAndTheLastReasonIsBelieved(t *testing.T) {
	p := mustMerge(t, nil,
		mustParse(t, "a.toml", "schema = 1\n[benchmarks.b]\ncontrols = [\"1.2\", \"1.10\"]\nwaived = { \"1.2\" = \"no disk\" }\n"),
		mustParse(t, "b.toml", "schema = 1\n[benchmarks.b]\ncontrols = [\"1.2\", \"1.10\"]\n[benchmarks.b.waived]\n\"1.2\" = \"no \\\"disk\\\" of its own\"\n\"1.10\" = \"a desktop\"\n"),
	)
	want := map[string]string{"b:1.2": `no "disk" of its own`, "b:1.10": "a desktop"}
	if diff := cmp.Diff(want, p.Benchmarks[0].Waived); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	readAgain(t, p)
	without := mustMerge(t, nil, mustParse(t, "a.toml", "schema = 1\n[benchmarks.b]\ncontrols = [\"1.2\", \"1.10\"]\n"))
	if p.Digest() == without.Digest() {
		t.Error("what is waived does not change the digest")
	}
	got := advised(t, "2026-11-21 12:00:00", "[benchmarks.b]\ncontrols = [\"1\", \"2\", \"3\"]\nwaived = { 1 = \"x\", 2 = \"y\" }\n[packages]\na = { ensure = \"present\", controls = [\"b:1\"] }\n")
	wantAdvice := `a.toml:2: notice: nothing is there for 1 of the 3 controls that the benchmark b names here: b:3
a.toml:2: warning: b:1 is waived, and resources are there for it: it stands as they do
`
	if diff := cmp.Diff(wantAdvice, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnAuthorIsToldOfControlsThatNothingIsThereForAndOfThoseThatTheBenchmarkDoesNotName(t *testing.T) {
	got := advised(t, "2026-11-21 12:00:00",
		"[benchmarks.b]\ncontrols = [\"1.1\", \"1.2\", \"1.3\", \"1.4\", \"1.5\", \"1.6\"]\n[packages]\na = { ensure = \"present\", controls = [\"b:1.1\", \"b:1.33\", \"z:1\"] }\n",
		"[[rules]]\nmatch = [\"package/a\"]\ncontrols = [\"b:1.2\", \"free text\"]\n")
	want := `a.toml:2: notice: nothing is there for 4 of the 6 controls that the benchmark b names here: b:1.3, b:1.4, b:1.5, …
a.toml:5: warning: the benchmark b names no control "b:1.33"; did you mean "b:1.3"?
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
