package source_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// references to things called NAME0, NAME1 … which syntax holds.
func references(t *testing.T, n int, syntax string) []policy.Reference {
	t.Helper()
	all := make([]policy.Reference, n)
	for i := range all {
		all[i] = reference(t, fmt.Sprintf(syntax, i))
	}
	return all
}

func TestALookReadsThePlainParametersThatWereWantedLastTimeAlongWithTheManifest(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10": "schema = 1\n"})
	wanted := references(t, 12, "{{resolve:ssm:/p%d}}")
	for i := range wanted {
		a.fake.PutParameter(fmt.Sprintf("/p%d", i), fmt.Sprint("v", i))
	}
	wanted = append([]policy.Reference{reference(t, "{{resolve:secretsmanager:s}}"), reference(t, "{{resolve:ssm:/none}}")}, wanted...)
	a.fake.ForgetRequests()
	m, values, err := a.connect(t).Manifest(t.Context(), wanted)
	if err != nil || m.Serial != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	if len(values) != 8 || values[wanted[2]] != "v0" {
		t.Errorf("%v", values)
	}
	if diff := cmp.Diff([]string{"GetParameters"}, a.actions()); diff != "" {
		t.Error(diff)
	}
}

// IAM refuses a call for ten parameters because of one of them.
func TestOneParameterThatMayNotBeReadHoldsUpNoneOfTheOthersAndIsLeftAloneForAWhile(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10": "schema = 1\n"})
	wanted := references(t, 9, "{{resolve:ssm:/p%d}}")
	for i := range wanted {
		a.fake.PutParameter(fmt.Sprintf("/p%d", i), "v")
	}
	a.fake.DenyParameter("/p4")
	aws := a.connect(t)
	for look, calls := range []int{1 + 1 + 1 + 9, 1, 1} {
		a.fake.ForgetRequests()
		_, values, err := aws.Manifest(t.Context(), wanted)
		if err != nil {
			t.Fatalf("the manifest is held up: %v", err)
		}
		var rest []policy.Reference
		for _, r := range wanted {
			if _, had := values[r]; !had {
				rest = append(rest, r)
			}
		}
		more, missing := aws.Fetch(t.Context(), rest)
		if len(values)+len(more) != 8 || len(missing) != 1 {
			t.Errorf("look %d: %d values, missing %v", look, len(values)+len(more), source.Missing(missing))
		}
		want := "denied: ssm:GetParameters on arn:aws:ssm:eu-west-1:123456789012:parameter/p4"
		if said := source.TroubleOf(missing[wanted[4]]).String(); said != want {
			t.Errorf("%q, want %q", said, want)
		}
		if n := len(a.actions()); n != calls {
			t.Errorf("look %d took %d calls, want %d", look, n, calls)
		}
	}
	a.fake.Heal()
	aws.Reset()
	if _, missing := aws.Fetch(t.Context(), wanted); len(missing) > 0 {
		t.Error(source.Missing(missing))
	}
}

func TestAParameterWhoseKeyMayNotBeUsedHoldsUpNoneOfTheOthers(t *testing.T) {
	a := newActivated(t)
	a.fake.PutSecureParameter("/s0", "good")
	a.fake.PutSecureParameter("/s1", canary)
	a.fake.DenyDecryption("/s1")
	wanted := references(t, 2, "{{resolve:ssm-secure:/s%d}}")
	values, missing := a.connect(t).Fetch(t.Context(), wanted)
	if values[wanted[0]] != "good" || len(missing) != 1 {
		t.Errorf("%v, %v", values, missing)
	}
	if trouble := source.TroubleOf(missing[wanted[1]]); trouble.Name != source.AccessDenied || !strings.Contains(trouble.Detail, "kms:Decrypt") {
		t.Errorf("%s", trouble)
	}
	if said := source.TroubleOf(source.Missing(missing)).String(); !strings.HasPrefix(said, "denied: {{resolve:ssm-secure:/s1}}: kms:Decrypt on ") {
		t.Errorf("people would not know for what: %s", said)
	}
}

func TestTwentySecretsAreOneCallAndOneThatIsDeniedHoldsUpNoneOfTheOthers(t *testing.T) {
	a := newActivated(t)
	wanted := references(t, 45, "{{resolve:secretsmanager:s%d}}")
	for i := range wanted {
		a.fake.PutSecret(fmt.Sprint("s", i), fmt.Sprint("v", i))
	}
	a.fake.DenySecret("s7")
	values, missing := a.connect(t).Fetch(t.Context(), wanted)
	if len(values) != 44 || values[wanted[44]] != "v44" || len(missing) != 1 || source.TroubleOf(missing[wanted[7]]).Name != source.AccessDenied {
		t.Errorf("%d values, missing %v", len(values), source.Missing(missing))
	}
	if diff := cmp.Diff([]string{"BatchGetSecretValue", "BatchGetSecretValue", "BatchGetSecretValue"}, a.actions()); diff != "" {
		t.Error(diff)
	}
}

func TestWhereABatchIsDeniedSecretsAreReadOneByOneFromThenOn(t *testing.T) {
	a := newActivated(t)
	wanted := references(t, 3, "{{resolve:secretsmanager:s%d}}")
	for i := range wanted {
		a.fake.PutSecret(fmt.Sprint("s", i), "v")
	}
	a.fake.Deny("secretsmanager:BatchGetSecretValue")
	aws := a.connect(t)
	one := "GetSecretValue"
	for _, want := range [][]string{{"BatchGetSecretValue", one, one, one}, {one, one, one}} {
		a.fake.ForgetRequests()
		if values, missing := aws.Fetch(t.Context(), wanted); len(values) != 3 || len(missing) > 0 {
			t.Errorf("%v, %v", values, source.Missing(missing))
		}
		if diff := cmp.Diff(want, a.actions()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSecretsOfAStageOrAVersionAreReadAsSuch(t *testing.T) {
	a := newActivated(t)
	a.fake.PutSecret("s", "old")
	a.fake.PutSecret("s", "new")
	wanted := []policy.Reference{
		reference(t, "{{resolve:secretsmanager:s}}"),
		reference(t, "{{resolve:secretsmanager:s:SecretString::AWSCURRENT}}"),
		reference(t, "{{resolve:secretsmanager:s:SecretString::AWSPREVIOUS}}"),
		reference(t, "{{resolve:secretsmanager:s:SecretString::AWSPENDING}}"),
	}
	values, missing := a.connect(t).Fetch(t.Context(), wanted)
	want := map[policy.Reference]string{wanted[0]: "new", wanted[1]: "new", wanted[2]: "old"}
	if diff := cmp.Diff(want, values); diff != "" || len(missing) != 1 {
		t.Errorf("%s\nmissing: %v", diff, source.Missing(missing))
	}
}

func TestSecretsManagerInTroubleHoldsUpNothingElseForLong(t *testing.T) {
	a := newActivated(t)
	a.fake.PutParameter("/p", "v")
	a.fake.PutSecret("s", canary)
	a.fake.FailAlways("BatchGetSecretValue", awsfake.InternalError)
	wanted := []policy.Reference{reference(t, "{{resolve:ssm:/p}}"), reference(t, "{{resolve:secretsmanager:s}}")}
	ctx, aws := a.impatient(t)
	values, missing := aws.Fetch(ctx, wanted)
	if values[wanted[0]] != "v" || source.TroubleOf(missing[wanted[1]]).Name != source.ServiceFails {
		t.Errorf("%v, %v", values, source.Missing(missing))
	}
}

func TestTagsAreReadOnceAnHour(t *testing.T) {
	a := newActivated(t)
	const node = "mi-0123456789abcdef0"
	a.fake.SetTags(node, map[string]string{"Persona": "developer"})
	aws := a.connect(t)
	for range 3 {
		tags, err := aws.Tags(t.Context(), node)
		if diff := cmp.Diff(map[string]string{"Persona": "developer"}, tags); diff != "" || err != nil {
			t.Errorf("%s, %v", diff, err)
		}
	}
	if diff := cmp.Diff([]string{"ListTagsForResource"}, a.actions()); diff != "" {
		t.Error(diff)
	}
	a.fake.Deny("ssm:ListTagsForResource")
	aws.Reset()
	if _, err := aws.Tags(t.Context(), node); source.TroubleOf(err).Name != source.AccessDenied {
		t.Error(err)
	}
	if _, err := aws.Tags(t.Context(), ""); err == nil || source.Classify(err) == source.Denied {
		t.Errorf("without a node: %v", err)
	}
}

func TestAFragmentThatChangesBetweenManifestAndFetchIsHalfPublished(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10": "schema = 1\n"})
	aws := a.connect(t)
	m, _, err := aws.Manifest(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a.fake.PutParameter(m.Fragments[0].Parameter, "schema = 1\n# another\n")
	if _, err := aws.Fragments(t.Context(), m.Of(nil), nil); source.Classify(err) != source.Half {
		t.Error(err)
	}
}

func TestWhenToComeAgainIsReadFromTheAnswerItself(t *testing.T) {
	a := newActivated(t)
	a.fake.FailAlways("GetParameters", awsfake.RetryAfter(2*time.Minute, awsfake.Throttled))
	ctx, cancel := context.WithCancel(t.Context())
	var wait time.Duration
	aws := a.connectWith(t, source.Retry{Waiting: func(_ error, next time.Time) { wait = time.Until(next); cancel() }})
	if _, _, err := aws.Manifest(ctx, nil); source.Classify(err) != source.Throttled || wait < 119*time.Second {
		t.Errorf("%v, and again in %s", err, wait)
	}
}
