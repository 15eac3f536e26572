package resolve_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/resolve"
)

// values is a service with these values and no others.
type values map[string]string

func (v values) Fetch(_ context.Context, references []policy.Reference) (map[policy.Reference]string, map[policy.Reference]error) {
	found, missing := map[policy.Reference]string{}, map[policy.Reference]error{}
	for _, r := range references {
		if value, ok := v[r.String()]; ok {
			found[r] = value
		} else {
			missing[r] = errors.New("cannot resolve " + r.String())
		}
	}
	return found, missing
}

func policyOf(t *testing.T, content string) *policy.Policy {
	t.Helper()
	f, err := policy.Parse(policy.Source{Name: "x.toml", Text: "schema = 1\n[dropins.\"/etc/x.d/y\"]\ncontent = '''" + content + "'''\n"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge([]policy.Fragment{f}, []string{"base"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestValuesAndFactsAreInPlaceAndOnlyWhatIsNoSecretMayBeKept(t *testing.T) {
	p := policyOf(t, "{{fact:hostname}} {{resolve:ssm:/p}} {{resolve:secretsmanager:s}} {{other}}")
	got, err := resolve.Resolve(t.Context(), p, facts.Facts{Hostname: "A-1"}, values{
		"{{resolve:ssm:/p}}": "plain", "{{resolve:secretsmanager:s}}": "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Of[policy.Dropin](got.Policy)
	if len(want) != 1 || want[0].Spec.Content != "A-1 plain secret {{other}}" {
		t.Errorf("%+v", want)
	}
	if diff := cmp.Diff(map[string]string{"{{resolve:ssm:/p}}": "plain"}, got.Keep); diff != "" {
		t.Error(diff)
	}
}

func TestEveryValueThatCannotBeHadIsNamedAndWhatNeedsItIsNotEnforced(t *testing.T) {
	p := policyOf(t, "{{resolve:ssm:/p}} {{resolve:ssm:/q}} {{resolve:ssm:/r}}")
	got, err := resolve.Resolve(t.Context(), p, facts.Facts{}, values{"{{resolve:ssm:/p}}": "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/q", "/r"} {
		if got.Missing[policy.Reference{Service: "ssm", Name: name}] == nil {
			t.Errorf("%s is not named", name)
		}
	}
	if n := len(policy.Of[policy.Dropin](got.Policy)); n != 0 || len(got.Missing) != 2 {
		t.Errorf("%d drop-ins would be enforced without %v", n, got.Missing)
	}
}

func TestAFactThatThisMachineDoesNotKnowYetIsMissingAndNotEmpty(t *testing.T) {
	got, err := resolve.Resolve(t.Context(), policyOf(t, "{{fact:managed-node}}"), facts.Facts{}, values{})
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := got.Policy.Lookup("dropin/etc/x.d/y"); len(r.Missing) != 1 || len(got.Missing) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestOfflineWhatIsMissingIsNotedAndNotEnforced(t *testing.T) {
	p := policyOf(t, "{{fact:hostname}} {{resolve:secretsmanager:s}}")
	got := resolve.Offline(p, facts.Facts{Hostname: "A-1"}, func(policy.Reference) (string, bool) { return "", false })
	if n := len(policy.Of[policy.Dropin](got)); n != 0 {
		t.Errorf("%d drop-ins would be enforced", n)
	}
	if r, _ := got.Lookup("dropin/etc/x.d/y"); len(r.Missing) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestAFactThatNoMachineHasIsAProblemOfThePolicy(t *testing.T) {
	_, err := resolve.Resolve(t.Context(), policyOf(t, "{{fact:hostname}} {{fact:colour}}"), facts.Facts{}, values{})
	problems := policy.AsProblems(err)
	if len(problems) != 1 || problems[0].File != "x.toml" || problems[0].Line != 2 {
		t.Errorf("%v", err)
	}
}
