package resolve_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/resolve"
)

// values are those of a service that has no others.
type values map[string]string

func (v values) Fetch(_ context.Context, references []policy.Reference) (map[policy.Reference]string, error) {
	found := map[policy.Reference]string{}
	var errs []error
	for _, r := range references {
		value, ok := v[r.String()]
		if !ok {
			errs = append(errs, errors.New("cannot resolve "+r.String()))
			continue
		}
		found[r] = value
	}
	return found, errors.Join(errs...)
}

func policyOf(t *testing.T, content string) *policy.Policy {
	t.Helper()
	f, err := policy.Parse(policy.Source{Name: "x.toml", Text: "schema = 1\n[dropins.\"/etc/x.d/y\"]\ncontent = '''" + content + "'''\n"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge([]policy.Fragment{f}, []string{"base"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestValuesAndFactsAreInPlaceAndOnlyWhatIsNoSecretMayBeKept(t *testing.T) {
	p := policyOf(t, "{{fact:hostname}} {{resolve:ssm:/p}} {{resolve:secretsmanager:s}} {{other}}")
	got, keep, err := resolve.Resolve(t.Context(), p, facts.Facts{Hostname: "A-1"}, values{
		"{{resolve:ssm:/p}}": "plain", "{{resolve:secretsmanager:s}}": "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Of[policy.Dropin](got)
	if len(want) != 1 || want[0].Spec.Content != "A-1 plain secret {{other}}" {
		t.Errorf("%+v", want)
	}
	if diff := cmp.Diff(map[string]string{"{{resolve:ssm:/p}}": "plain"}, keep); diff != "" {
		t.Error(diff)
	}
}

func TestEverythingThatCannotBeResolvedIsNamed(t *testing.T) {
	p := policyOf(t, "{{fact:colour}} {{resolve:ssm:/p}} {{resolve:ssm:/q}}")
	_, _, err := resolve.Resolve(t.Context(), p, facts.Facts{}, values{})
	for _, name := range []string{"{{fact:colour}}", "{{resolve:ssm:/p}}", "{{resolve:ssm:/q}}"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
}

func TestOfflineWhatIsMissingIsNotedAndNotEnforced(t *testing.T) {
	p := policyOf(t, "{{fact:hostname}} {{resolve:secretsmanager:s}}")
	got, err := resolve.Offline(p, facts.Facts{}, func(policy.Reference) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if n := len(policy.Of[policy.Dropin](got)); n != 0 {
		t.Errorf("%d drop-ins would be enforced", n)
	}
	if r, _ := got.Lookup("dropin/etc/x.d/y"); len(r.Missing) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestAFactThatNoMachineHasIsAProblemOfThePolicy(t *testing.T) {
	_, _, err := resolve.Resolve(t.Context(), policyOf(t, "{{fact:hostname}} {{fact:colour}}"), facts.Facts{}, values{})
	problems := policy.AsProblems(err)
	if len(problems) != 1 || problems[0].File != "x.toml" || problems[0].Line != 2 {
		t.Errorf("%v", err)
	}
}
