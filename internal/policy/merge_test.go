package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// says returns a fragment that sets the version of git, which shows which fragment won.
func says(layer Layer, name, git string, personas ...string) Fragment {
	return Fragment{
		Name: name, Layer: layer, Personas: personas,
		Settings: []Setting{{ID: "package/git", Spec: Package{Ensure: Ensure(git)}, Line: 3}},
	}
}

func TestTheHighestRankedFragmentWins(t *testing.T) {
	for _, test := range []struct {
		name      string
		fragments []Fragment
		want      string
		overrode  []string
	}{
		{"a higher layer beats a persona", []Fragment{says(Remote, "r", "1", "developer"), says(Seed, "s", "2"), says(Local, "l", "3")}, "3", []string{"r", "s"}},
		{"a persona beats what is for everybody", []Fragment{says(Remote, "base", "1", "base"), says(Remote, "all", "2")}, "1", []string{"all"}},
		{"a later persona beats an earlier one", []Fragment{says(Remote, "dev", "1", "developer"), says(Remote, "base", "2", "base")}, "1", []string{"base"}},
		{"the latest persona of a fragment counts", []Fragment{says(Remote, "both", "1", "developer", "base"), says(Remote, "base", "2", "base")}, "1", []string{"base"}},
		{"other personas' fragments do not count", []Fragment{says(Local, "finance", "1", "finance"), says(Seed, "s", "2")}, "2", nil},
		{"the same said twice is no conflict", []Fragment{says(Seed, "a", "1"), says(Seed, "b", "1")}, "1", nil},
	} {
		p, err := Merge(test.fragments, []string{"base", "developer"}, nil)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		r, _ := p.Lookup("package/git")
		var overrode []string
		for _, o := range r.Origin.Overrode {
			overrode = append(overrode, o.Fragment)
		}
		if diff := cmp.Diff(test.overrode, overrode); diff != "" || string(r.Spec.(Package).Ensure) != test.want {
			t.Errorf("%s: git is %v; overrode (-want +got):\n%s", test.name, r.Spec, diff)
		}
	}
}

func TestAConflictAtOneRankNamesBothPlacesEvenWhenItIsOverridden(t *testing.T) {
	fragments := []Fragment{says(Remote, "a", "1", "base"), says(Remote, "b", "2", "base"), says(Local, "c", "3")}
	_, err := Merge(fragments, []string{"base"}, nil)
	want := "b:3: cannot merge package/git: it is set differently at a:3 (remote), which has the same rank"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestTwoWordsForOneResourceInAFragmentAreAConflict(t *testing.T) {
	f := mustParse(t, "f.toml", "schema = 1\n[users.apache]\nuid = 50\n[ids]\nuid.apache = 48\n")
	if _, err := Merge([]Fragment{f}, nil, nil); err == nil || !strings.Contains(err.Error(), "user/apache") {
		t.Errorf("got %v", err)
	}
}

func TestAPolicyThatRemovesAllItsAdministratorsIsRefused(t *testing.T) {
	allow := mustParse(t, "allow.toml", "schema = 1\n[sudo]\nallow = [\"root\", \"alice\", \"%ops\"]\n")
	alice := mustParse(t, "alice.toml", "schema = 1\n[users.alice]\nensure = \"absent\"\n")
	ops := mustParse(t, "ops.toml", "schema = 1\n[groups.ops]\nensure = \"absent\"\n")
	if _, err := Merge([]Fragment{allow, alice}, nil, nil); err != nil {
		t.Errorf("ops are left: %v", err)
	}
	_, err := Merge([]Fragment{allow, alice, ops}, nil, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "allow.toml:3: cannot merge sudo/allow: it would leave no administrator") {
		t.Errorf("got %v", err)
	}
}

func TestOfGivesTheKnownResourcesOfOneType(t *testing.T) {
	p := mustMerge(t, nil, mustParse(t, "f", "schema = 1\n[packages]\nb = \"present\"\na = \"{{fact:a}}\"\n[groups.c]\n"))
	p = p.Expand(func(Reference) (string, bool) { return "", false })
	if wants := Of[Package](p); len(wants) != 1 || wants[0].ID != "package/b" || wants[0].Spec.Ensure != Present {
		t.Errorf("got %+v", wants)
	}
	if r, ok := p.Lookup("package/a"); !ok || len(r.Missing) != 1 || r.Missing[0].Name != "a" || r.Spec.(Package).Ensure != "{{fact:a}}" {
		t.Errorf("got %+v", r)
	}
	if _, ok := p.Lookup("package/z"); ok {
		t.Error("found what is not there")
	}
}

const withReferences = `schema = 1
[dropins."/etc/app.d/a.conf"]
content = "host={{resolve:ssm:/host}} password={{resolve:secretsmanager:app:SecretString:password}} {{ansible}}"
[pcoip]
max_link_rate = "{{resolve:ssm:/rate:3}}"
[sudo]
allow = ["%{{resolve:ssm:/admins}}"]
`

func expanded(t *testing.T, values map[string]string) *Policy {
	t.Helper()
	return mustMerge(t, nil, mustParse(t, "f.toml", withReferences)).Expand(func(r Reference) (string, bool) {
		v, ok := values[r.String()]
		return v, ok
	})
}

func TestReferencesAreReplacedAndSecretsRemembered(t *testing.T) {
	values := map[string]string{
		"{{resolve:ssm:/host}}":                                "{{resolve:ssm:/rate:3}}", // a value is not interpreted as a reference
		"{{resolve:secretsmanager:app:SecretString:password}}": "hunter2",
		"{{resolve:ssm:/rate:3}}":                              "90000",
		"{{resolve:ssm:/admins}}":                              "admins",
	}
	p := expanded(t, values)
	r, _ := p.Lookup("dropin/etc/app.d/a.conf")
	if got, want := r.Spec.(Dropin).Content, "host={{resolve:ssm:/rate:3}} password=hunter2 {{ansible}}"; got != want {
		t.Errorf("content %q, want %q", got, want)
	}
	if diff := cmp.Diff([]string{"hunter2"}, r.Secrets); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
	if shown := r.Shown.(Dropin).Content; strings.Contains(shown, "hunter2") || !strings.Contains(shown, "{{resolve:secretsmanager:app:SecretString:password}}") {
		t.Errorf("shown %q", shown)
	}
	if r, _ := p.Lookup("pcoip/max_link_rate"); r.Spec.(PCoIP).Value != "90000" || r.Shown != nil || r.Secrets != nil {
		t.Errorf("got %+v", r)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if spec, _ := json.Marshal(r.Spec); strings.Contains(string(spec), "hunter2") || !strings.Contains(string(text), "pcoip") {
		t.Errorf("a spec shows the secret: %s", spec)
	}
}

func TestAValueThatBreaksARuleOfItsPlaceFailsThatOneResource(t *testing.T) {
	p := expanded(t, map[string]string{
		"{{resolve:ssm:/host}}": "h", "{{resolve:secretsmanager:app:SecretString:password}}": "hunter2",
		"{{resolve:ssm:/rate:3}}": "{{fact:rate}}", "{{resolve:ssm:/admins}}": "",
	})
	for id, want := range map[ID]string{
		"pcoip/max_link_rate": `cannot use pcoip/max_link_rate once its references are resolved: "{{fact:rate}}" is not a number between 104 and 900000, as far as is known; if pcoip-agent.conf(5) of the installed agent says otherwise, say allow_unknown = true (set at f.toml:5 (seed))`,
		"sudo/allow":          `cannot use sudo/allow once its references are resolved: "%" is not a user or a %group (set at f.toml:7 (seed))`,
	} {
		if r, _ := p.Lookup(id); r.Unusable != want || len(r.Missing) != 1 {
			t.Errorf("got  %s\nwant %s", r.Unusable, want)
		}
	}
	if len(Of[Sudo](p))+len(Of[PCoIP](p)) != 0 || len(Of[Dropin](p)) != 1 {
		t.Error("what cannot be used would be enforced, or what can be would not")
	}
}

func TestAPolicyThatRemovesAllItsAdministratorsOnceValuesAreKnownLeavesSudoAsItIs(t *testing.T) {
	p := mustMerge(t, nil, mustParse(t, "f.toml", withReferences+"[groups.admins]\nensure = \"absent\"\n")).
		Expand(func(Reference) (string, bool) { return "admins", true })
	if r, _ := p.Lookup("sudo/allow"); !strings.Contains(r.Unusable, "no administrator") || len(Of[Sudo](p)) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestASecretThatIsEmptyForNowIsOneAllTheSame(t *testing.T) {
	p := expanded(t, map[string]string{
		"{{resolve:ssm:/host}}": "h", "{{resolve:secretsmanager:app:SecretString:password}}": "",
	})
	r, _ := p.Lookup("dropin/etc/app.d/a.conf")
	if diff := cmp.Diff([]string{""}, r.Secrets); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}

func TestADigestIsOfWhatIsWantedAndNotOfSecretsOrPlaces(t *testing.T) {
	values := func(host, password string) *Policy {
		return expanded(t, map[string]string{
			"{{resolve:ssm:/host}}": host, "{{resolve:secretsmanager:app:SecretString:password}}": password,
			"{{resolve:ssm:/rate:3}}": "90000", "{{resolve:ssm:/admins}}": "admins",
		})
	}
	if values("a", "hunter2").Digest() != values("a", "o").Digest() {
		t.Error("a secret's rotation changes the digest")
	}
	if values("a", "x").Digest() == values("b", "x").Digest() {
		t.Error("a public value does not change the digest")
	}
	base := "schema = 1\n[packages]\ngit = \"latest\"\n"
	digest := func(name, text string) string { return mustMerge(t, nil, mustParse(t, name, text)).Digest() }
	if digest("a", base) != digest("b", "\n"+base) {
		t.Error("the place changes the digest")
	}
	if digest("a", base) == digest("a", base+"[[rules]]\nmatch = [\"*\"]\nmode = \"audit\"\n") {
		t.Error("a rule does not change the digest, so that a new waiver would go unnoticed")
	}
}

func TestRulesSayHowGraveDriftIsAndWhatIsLeftAlone(t *testing.T) {
	text := `schema = 1
[[rules]]
match = ["sudo/*", "package/git"]
severity = "critical"
controls = ["A", "B"]
[[rules]]
match = ["package/*"]
mode = "audit"
until = 2026-12-31
reason = "TICKET-123"
severity = "low"
controls = ["B", "C"]
[[rules]]
match = ["service/*"]
mode = "audit"
pending = "36h"
[[rules]]
match = ["service/a*"]
pending = "2d"
`
	p := mustMerge(t, nil, mustParse(t, "f", text))
	end := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	lastMoment := end.Add(-time.Nanosecond)
	const week = 7 * 24 * time.Hour
	for _, test := range []struct {
		id   ID
		at   time.Time
		want Ruling
	}{
		{"pcoip/x", end, Ruling{Severity: Medium, Pending: week}},
		{"sudo/allow", end, Ruling{Severity: Critical, Controls: []string{"A", "B"}, Pending: week}},
		{"package/git", lastMoment, Ruling{Severity: Low, Controls: []string{"A", "B", "C"}, Audit: true, Waived: true, Until: end, Reason: "TICKET-123", Pending: week}},
		{"package/git", end, Ruling{Severity: Low, Controls: []string{"A", "B", "C"}, Until: end, Reason: "TICKET-123", Pending: week}},
		{"service/a.service", end, Ruling{Severity: Medium, Audit: true, Pending: 48 * time.Hour}},
		{"service/b.service", end, Ruling{Severity: Medium, Audit: true, Pending: 36 * time.Hour}},
	} {
		if diff := cmp.Diff(test.want, p.Ruling(test.id, test.at)); diff != "" {
			t.Errorf("%s at %s (-want +got):\n%s", test.id, test.at, diff)
		}
	}
}

func TestTheRuleOfAHigherRankIsBelieved(t *testing.T) {
	rule := func(layer Layer, severity Severity) Fragment {
		return Fragment{Name: layer.String(), Layer: layer, Rules: []Rule{{Match: []string{"*"}, Severity: severity}}}
	}
	p := mustMerge(t, nil, rule(Local, High), rule(Seed, Low), rule(Remote, Critical))
	if got := p.Ruling("package/git", time.Time{}).Severity; got != High {
		t.Errorf("severity %s", got)
	}
	if p.Rules[0].Origin.Layer != Seed || p.Rules[0].Origin.Fragment != "seed" {
		t.Errorf("origin %+v", p.Rules[0].Origin)
	}
}

func TestGlobs(t *testing.T) {
	for _, test := range []struct {
		glob, text string
		want       bool
	}{
		{"package/git", "package/git", true},
		{"package/git", "package/gitk", false},
		{"*", "", true},
		{"*", "a/b", true},
		{"dconf/org/*/lock", "dconf/org/mate/screensaver/lock", true},
		{"ab*ba", "aba", false},
		{"ab*ba", "abba", true},
		{"*a*b*", "xbxaxbx", true},
		{"*a*b*", "xbxax", false},
		{"a**b", "ab", true},
		{"", "", true},
		{"", "a", false},
		{"[a]?", "a1", false},
	} {
		if got := matchGlob(test.glob, test.text); got != test.want {
			t.Errorf("matchGlob(%q, %q) = %v", test.glob, test.text, got)
		}
	}
}

func TestARuleThatCanMatchNothingIsRecognised(t *testing.T) {
	for glob, nothing := range map[string]bool{
		"*": false, "pack*": false, "package/*": false, "package*": false, "*/etc/*": false, "sudo/allow": false, "s*/x": false,
		"": true, "sudo": true, "sudo/": true, "packages/*": true, "x*": true, "/etc/*": true, "Package/git": true,
	} {
		if got := matchesNothing(glob); got != nothing {
			t.Errorf("matchesNothing(%q) = %v", glob, got)
		}
	}
}

func TestAnOriginSurvivesJSON(t *testing.T) {
	want := Origin{Layer: Remote, Fragment: "10-base", Line: 7, Persona: "base", Overrode: []Origin{{Layer: Seed, Fragment: "seed.toml", Line: 1}}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Origin
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`{"layer":"cloud"}`), &got); err == nil {
		t.Error("an unknown layer is accepted")
	}
	if got.String() != "10-base:7 (remote)" {
		t.Errorf("it calls itself %s", got)
	}
}

func TestAnIDNamesKindAndResource(t *testing.T) {
	id := NewID("dropin", "/etc/sysctl.d/60-soe.conf")
	if id != "dropin/etc/sysctl.d/60-soe.conf" || id.Kind() != "dropin" || id.Name() != "etc/sysctl.d/60-soe.conf" {
		t.Errorf("got %s, %s, %s", id, id.Kind(), id.Name())
	}
}

// naiveGlob is slow and obviously right.
func naiveGlob(glob, text string) bool {
	switch {
	case glob == "":
		return text == ""
	case glob[0] == '*':
		return naiveGlob(glob[1:], text) || text != "" && naiveGlob(glob, text[1:])
	}
	return text != "" && text[0] == glob[0] && naiveGlob(glob[1:], text[1:])
}

func FuzzMatchGlob(f *testing.F) {
	f.Add("a*b*c", "axxbxxc")
	f.Add("*ab*ab", "abab")
	f.Fuzz(func(t *testing.T, glob, text string) {
		if len(glob) > 12 || len(text) > 24 {
			return
		}
		if got, want := matchGlob(glob, text), naiveGlob(glob, text); got != want {
			t.Errorf("matchGlob(%q, %q) = %v", glob, text, got)
		}
	})
}

func BenchmarkRulingOfAPolicyWithManyRules(b *testing.B) {
	p := &Policy{}
	for i := range 50 {
		p.Rules = append(p.Rules, Rule{Match: []string{fmt.Sprintf("package/a%d*", i), "dconf/*/lock"}, Severity: Low})
	}
	for b.Loop() {
		p.Ruling("dconf/org/mate/screensaver/lock-enabled", time.Time{})
	}
}

func TestHowLongSomethingMayBePendingIsATime(t *testing.T) {
	for text, ok := range map[string]bool{
		"7d": true, "90m": true, "24h": true, "": false, "0d": false, "-1d": false, "1s": false, "d": false, "7 days": false, "9999999d": false,
	} {
		_, err := Parse(Source{Name: "f", Text: fmt.Sprintf("schema = 1\n[[rules]]\nmatch = [\"*\"]\npending = %q\n", text)})
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestOnlyTheWindowIsATimeAtWhichSessionsMayBeDisrupted(t *testing.T) {
	const text = "schema = 1\n[[rules]]\nmatch = [\"pcoip/*\"]\ndisrupt = "
	for value, refused := range map[string]bool{`"window"`: false, `"now"`: true, `"always"`: true, `""`: true, "true": true} {
		f, err := Parse(Source{Name: "f", Text: text + value})
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), "f:4: ") {
			t.Errorf("%s: %v", value, err)
		}
		if refused {
			continue
		}
		p := mustMerge(t, nil, f)
		for id, want := range map[ID]string{"pcoip/x": DisruptInWindow, "service/x": ""} {
			if got := p.Ruling(id, time.Time{}).Disrupt; got != want {
				t.Errorf("%s: %q", id, got)
			}
		}
		if plain := mustMerge(t, nil, mustParse(t, "f", "schema = 1\n[[rules]]\nmatch = [\"pcoip/*\"]\n")); plain.Digest() == p.Digest() {
			t.Error("it is no change of policy")
		}
	}
}
