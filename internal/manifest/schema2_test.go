package manifest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/target"
)

func fragmentFor(t *testing.T, name string, when target.Conditions, personas ...string) manifest.Entry {
	t.Helper()
	e, _, err := manifest.Pack("/soe/prod", name, "schema = 1\n# "+name+"\n", personas)
	if err != nil {
		t.Fatal(err)
	}
	e.When = when
	return e
}

func TestAManifestIsWrittenInTheOldestSchemaThatHasAllThatItSays(t *testing.T) {
	plain, conditional := fragmentFor(t, "10", nil), fragmentFor(t, "20", target.Conditions{"os.family": {"rhel", "debian"}})
	for name, c := range map[string]struct {
		m    manifest.Manifest
		want int
	}{
		"nothing new": {manifest.Manifest{Generation: manifest.Generation{Serial: 1, Fragments: []manifest.Entry{plain}}}, 1},
		"a condition": {manifest.Manifest{Generation: manifest.Generation{Serial: 1, Fragments: []manifest.Entry{plain, conditional}}}, 2},
		"a condition in a rollout": {manifest.Manifest{
			Generation: manifest.Generation{Serial: 1, Fragments: []manifest.Entry{plain}},
			Rollout:    &manifest.Rollout{Generation: manifest.Generation{Serial: 2, Fragments: []manifest.Entry{conditional}}, Percent: 10, Salt: "2"},
		}, 2},
		"what its publisher says": {manifest.Manifest{Generation: manifest.Generation{Serial: 1, Commit: "abc", Author: "somebody", Message: "why"}}, 2},
		"a signature":             {manifest.Manifest{Signature: "x", Generation: manifest.Generation{Serial: 1}}, 2},
		"rings":                   {manifest.Manifest{Generation: manifest.Generation{Serial: 1}, Rollout: &manifest.Rollout{Generation: manifest.Generation{Serial: 2}, Salt: "2", Rings: []string{"canary"}}}, 2},
	} {
		text, err := c.m.Text()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text, fmt.Sprintf("schema = %d\n", c.want)) {
			t.Errorf("%s: %s", name, text)
		}
		back, err := manifest.Parse("m", text)
		if err != nil || back.Schema != c.want || back.Oldest() != c.want {
			t.Errorf("%s: %+v, %v", name, back, err)
		}
	}
}

func TestWhatOnlyANewerSchemaHasIsRefusedInAnOlderOne(t *testing.T) {
	entry := fragmentFor(t, "10", nil)
	text := func(schema int, more, inFragment string) string {
		return fmt.Sprintf("schema = %d\nserial = 1\n%s[[fragment]]\nname = \"10\"\nparameter = %q\nsha256 = %q\n%s", schema, more, entry.Parameter, entry.SHA256, inFragment)
	}
	const when = "when = { \"os.family\" = [\"rhel\"] }\n"
	for _, c := range []struct{ text, want string }{
		{text(1, "", ""), ""},
		{text(2, "", ""), ""},
		{text(2, "commit = \"a\"\nmessage = \"b\"\n", when), ""},
		{text(1, "", when), "its schema is 1, and it says what only schema 2 has"},
		{text(1, "message = \"b\"\n", ""), "its schema is 1, and it says what only schema 2 has"},
		{text(3, "", ""), "this agent knows the schemas 1 and 2, and not 3; upgrade the agent"},
		{text(2, "", "when = { \"os.family\" = [\"ubuntu\"] }\n"), `the fragment "10": when os.family: no machine has "ubuntu"`},
		{text(2, "", "when = { \"os.famly\" = [\"rhel\"] }\n"), `did you mean "os.family"?`},
		{text(2, "message = \""+strings.Repeat("x", 201)+"\"\n", ""), "its message has 201 bytes, and may have 200"},
		{text(2, "colour = 1\n", ""), "unknown key colour"},
	} {
		_, err := manifest.Parse("m", c.text)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
}

func TestAMachineFetchesWhatMayConcernIt(t *testing.T) {
	g := manifest.Generation{Fragments: []manifest.Entry{
		fragmentFor(t, "all", nil), fragmentFor(t, "el", target.Conditions{"os.family": {"rhel"}}),
		fragmentFor(t, "gnome", target.Conditions{"desktop": {"gnome"}}, "developer"), fragmentFor(t, "ubuntu", target.Conditions{"os.id": {"ubuntu"}}),
	}}
	for _, c := range []struct {
		facts    target.Facts
		personas string
		want     string
	}{
		{target.Facts{"os.family": "rhel", "os.id": "rocky", "desktop": "gnome"}, "base developer", "all el gnome"},
		{target.Facts{"os.family": "rhel", "os.id": "rocky", "desktop": "gnome"}, "base", "all el"},
		{target.Facts{"os.family": "debian", "os.id": "ubuntu"}, "base developer", "all gnome ubuntu"}, // its desktop is not known
		{nil, "base developer", "all el gnome ubuntu"},
	} {
		var names []string
		for _, e := range g.Of(strings.Fields(c.personas), c.facts) {
			names = append(names, e.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%v, %s: %s", c.facts, c.personas, got)
		}
	}
}

// 8 KB are what an advanced parameter takes.
func TestAHundredConditionalFragmentsFitAParameter(t *testing.T) {
	var m manifest.Manifest
	m.Serial, m.Message, m.Commit = 4711, strings.Repeat("m", 200), strings.Repeat("c", 40)
	families := [][]string{{"rhel"}, {"debian"}, {"amzn"}, {"amzn", "rhel"}}
	for i := range 100 {
		m.Fragments = append(m.Fragments, fragmentFor(t, fmt.Sprintf("%02d-fragment", i), target.Conditions{"os.family": families[i%len(families)]}, "developer"))
	}
	text, err := m.Text()
	if err != nil {
		t.Fatal(err)
	}
	const largest = 8192
	if len(text) > largest {
		t.Errorf("it has %d bytes, and a parameter %d", len(text), largest)
	}
	back, err := manifest.Parse("m", text)
	if err != nil || len(back.Fragments) != 100 || !slices.Equal(back.Fragments[7].When["os.family"], families[3]) {
		t.Errorf("%v, %v", back.Fragments[7], err)
	}
}
