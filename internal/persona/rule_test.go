package persona_test

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/persona"
)

// config is the part of agent.toml that has the rules.
type config struct {
	Rules []persona.Rule `toml:"persona"`
}

func rules(t *testing.T, text string) []persona.Rule {
	t.Helper()
	var c config
	if _, err := toml.Decode(text, &c); err != nil {
		t.Fatal(err)
	}
	if err := persona.Validate(c.Rules); err != nil {
		t.Fatal(err)
	}
	return c.Rules
}

func TestRulesAreReadAsTheyAreWritten(t *testing.T) {
	got := rules(t, `
[[persona]]
name = "developer"
when = { tag.Persona = "developer", tag."Cost Centre" = ["", "R&D 7"] }
[[persona]]
name = "finance"
when = { group = 'EXAMPLE\Finance Users', hostname = "A-*", fact."os.id" = "amzn" }
[[persona]]
name = "kiosk"
[persona.when]
hostname = ["A-KIOSK*", "R-KIOSK*"]
group = ["EXAMPLE\\Kiosk", "kiosk"]
`)
	want := []persona.Rule{
		{Name: "developer", When: persona.Conditions{Tag: persona.ByName{"Persona": {"developer"}, "Cost Centre": {"", "R&D 7"}}}},
		{Name: "finance", When: persona.Conditions{
			Group: persona.Values{`EXAMPLE\Finance Users`}, Hostname: persona.Values{"A-*"}, Fact: persona.ByName{"os.id": {"amzn"}},
		}},
		{Name: "kiosk", When: persona.Conditions{
			Hostname: persona.Values{"A-KIOSK*", "R-KIOSK*"}, Group: persona.Values{`EXAMPLE\Kiosk`, "kiosk"},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAValueThatIsNoStringIsRefused(t *testing.T) {
	const values = "is neither a string nor a list of strings"
	for when, want := range map[string]string{
		`hostname = 3`:                   `line 3 (last key "persona.when.hostname"): 3 ` + values,
		`hostname = [["a"]]`:             `line 3 (last key "persona.when.hostname"): [[a]] ` + values,
		`group = true`:                   `line 3 (last key "persona.when.group"): true ` + values,
		`tag.Persona = { value = "x" }`:  `(last key "persona.when.tag"): Persona: map[value:x] ` + values,
		`tag.Persona = ["a", 1]`:         `(last key "persona.when.tag"): Persona: [a 1] ` + values,
		`fact."os.version" = 2`:          `(last key "persona.when.fact"): os.version: 2 ` + values,
		`hostname = "A", tag = "a"`:      `line 3 (last key "persona.when.tag"): a is no table`,
		`hostname = "A", fact = ["os."]`: `line 3 (last key "persona.when.fact"): [os.] is no table`,
	} {
		var c config
		if _, err := toml.Decode("[[persona]]\nname = \"x\"\nwhen = { "+when+" }\n", &c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", when, err)
		}
	}
}

func TestAConditionThatDoesNotExistIsNoticed(t *testing.T) {
	var c config
	meta, err := toml.Decode("[[persona]]\nname = \"x\"\nwhen = { hostname = \"A\", user = \"jane\", tags.Persona = [\"a\"] }\n", &c)
	if err != nil {
		t.Fatal(err)
	}
	var undecoded []string
	for _, key := range meta.Undecoded() {
		undecoded = append(undecoded, key.String())
	}
	if diff := cmp.Diff([]string{"persona.when.user", "persona.when.tags.Persona"}, undecoded); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEverythingThatIsWrongWithRulesIsSaidAtOnce(t *testing.T) {
	values := func(v ...string) persona.Values { return v }
	err := persona.Validate([]persona.Rule{
		{When: persona.Conditions{Hostname: values("[")}},
		{Name: "Finance Users", When: persona.Conditions{Group: persona.Values{}}},
		{Name: "empty", When: persona.Conditions{Tag: persona.ByName{}}},
		{Name: "facts", When: persona.Conditions{Fact: persona.ByName{"os.it": values("amzn"), "colour of the sky": values("blue"), "os.id": values("")}}},
		{Name: "tags", When: persona.Conditions{Tag: persona.ByName{"a": {}, "b": values("")}, Hostname: values("A-*", "")}},
		{Name: "fine", When: persona.Conditions{Hostname: values("A-[0-9]*")}},
	})
	want := `cannot use persona rule 1 (): name = "" is not a persona's name (small letters, digits and hyphens)
cannot use persona rule 1 (): host name: "[" is not a pattern (path.Match)
cannot use persona rule 2 (Finance Users): name = "Finance Users" is not a persona's name (small letters, digits and hyphens)
cannot use persona rule 2 (Finance Users): group names no value, so it never holds
cannot use persona rule 3 (empty): it has no conditions; what every machine has belongs in personas
cannot use persona rule 4 (facts): fact colour of the sky: no such fact is known; facts are ` + strings.Join(facts.Names(), ", ") + `
cannot use persona rule 4 (facts): fact os.id: no machine has an empty one
cannot use persona rule 4 (facts): fact os.it: no such fact is known; did you mean "os.id"?
cannot use persona rule 5 (tags): host name: no machine has an empty one
cannot use persona rule 5 (tags): tag a names no value, so it never holds`
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
