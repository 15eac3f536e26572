package source_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// references returns n references of this syntax, with numbers in their names.
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

// A VPC endpoint serves one service.
func TestEachServiceIsAskedAtItsOwnEndpoint(t *testing.T) {
	const vpce = "https://vpce-0123-abcd.ssm.eu-west-1.vpce.amazonaws.com"
	for what, test := range map[string]struct {
		config       source.Config
		ssm, secrets string
	}{
		"the region's own":             {source.Config{}, "ssm.eu-west-1.amazonaws.com", "secretsmanager.eu-west-1.amazonaws.com"},
		"an emulator":                  {source.Config{Endpoint: "http://127.0.0.1:5000"}, "127.0.0.1:5000", "127.0.0.1:5000"},
		"one by its host":              {source.Config{Endpoint: vpce}, vpce[8:], "secretsmanager.eu-west-1.amazonaws.com"},
		"one by name":                  {source.Config{Endpoints: source.Endpoints{SSM: "https://a.internal"}}, "a.internal", "secretsmanager.eu-west-1.amazonaws.com"},
		"both by name":                 {source.Config{Endpoints: source.Endpoints{SSM: "https://a.internal", SecretsManager: "https://b.internal"}}, "a.internal", "b.internal"},
		"one by name, the other's too": {source.Config{Endpoint: "https://c.internal", Endpoints: source.Endpoints{SecretsManager: "https://b.internal"}}, "c.internal", "b.internal"},
		"that of secrets, by its host": {source.Config{Endpoint: "https://vpce-1.secretsmanager.eu-west-1.vpce.amazonaws.com"}, "ssm.eu-west-1.amazonaws.com", "vpce-1.secretsmanager.eu-west-1.vpce.amazonaws.com"},
	} {
		t.Run(what, func(t *testing.T) {
			a := newActivated(t)
			asked := map[string]string{}
			client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				service, _, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
				asked[service] = r.URL.Host
				return nil, context.Canceled
			})}
			for _, wanted := range []string{"{{resolve:ssm:/p}}", "{{resolve:secretsmanager:s}}"} {
				ctx, cancel := context.WithCancel(t.Context())
				retry := source.Retry{Waiting: func(error, time.Time) { cancel() }}
				aws, err := source.Connect(test.config, "eu-west-1", credentials.New(credentials.Config{}, a.System), client, retry)
				if err != nil {
					t.Fatal(err)
				}
				aws.Fetch(ctx, []policy.Reference{reference(t, wanted)})
				cancel()
			}
			if diff := cmp.Diff(map[string]string{"AmazonSSM": test.ssm, "secretsmanager": test.secrets}, asked); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// troubledBy is a service that fails whenever a request names one of these.
func troubledBy(name string, fault awsfake.Fault, more ...string) awsfake.Fault {
	return func(w http.ResponseWriter, r *http.Request, carryOut func() awsfake.Reply) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		for _, name := range append(more, name) {
			if bytes.Contains(body, []byte(`"`+name+`"`)) {
				fault(w, r, carryOut)
				return
			}
		}
		carryOut().Write(w)
	}
}

func TestOneValueForWhichTheServiceFailsEachTimeHoldsUpNeitherTheManifestNorOtherValues(t *testing.T) {
	for what, fault := range map[string]awsfake.Fault{
		"an error of its own": awsfake.InternalError, "an error that nobody knows": awsfake.Error(http.StatusBadRequest, "SomethingNewException", "").Fault,
		"a web page": awsfake.ServiceUnavailable, "half an answer": awsfake.GarbledJSON,
	} {
		t.Run(what, func(t *testing.T) {
			a := newActivated(t)
			a.publish(t, 1, map[string]string{"10": "schema = 1\n"})
			wanted := references(t, 3, "{{resolve:ssm:/p%d}}")
			wanted = append(wanted, references(t, 3, "{{resolve:ssm-secure:/s%d}}")...)
			wanted = append(wanted, references(t, 3, "{{resolve:secretsmanager:x%d}}")...)
			for i := range 3 {
				a.fake.PutParameter(fmt.Sprintf("/p%d", i), "v")
				a.fake.PutSecureParameter(fmt.Sprintf("/s%d", i), "v")
				a.fake.PutSecret(fmt.Sprintf("x%d", i), "v")
			}
			bad := []policy.Reference{wanted[1], wanted[4], wanted[7]}
			a.fake.FailAlways("GetParameters", troubledBy(bad[0].Name, fault, bad[1].Name))
			for _, action := range []string{"BatchGetSecretValue", "GetSecretValue"} {
				a.fake.FailAlways(action, troubledBy(bad[2].Name, fault))
			}
			aws := a.connectWith(t, source.Retry{Jitter: func(time.Duration) time.Duration { return time.Millisecond }})
			m, _, err := aws.Manifest(t.Context(), wanted)
			if err != nil || m.Serial != 1 {
				t.Fatalf("the manifest is held up: %v", err)
			}
			values, missing := aws.Fetch(t.Context(), wanted)
			if len(values) != 6 || len(missing) != 3 {
				t.Errorf("%d values, missing %v", len(values), source.Missing(missing))
			}
			for _, r := range bad {
				if missing[r] == nil {
					t.Errorf("%s is there: %q", r, values[r])
				}
			}
		})
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

func TestAKeyOfAJSONSecretComesOutAsItWentInByteForByte(t *testing.T) {
	a := newActivated(t)
	for written, want := range map[string]string{
		`12345678901234567890`:              `12345678901234567890`,
		`1.10`:                              `1.10`,
		`1e3`:                               `1e3`,
		`-0`:                                `-0`,
		`0.1000000000000000055511151`:       `0.1000000000000000055511151`,
		`true`:                              `true`,
		`"a&b<c>d"`:                         `a&b<c>d`,
		`"a\u0026b\/\"\u00e9 \ud83d\ude00"`: `a&b/"é 😀`,
		`"\ufffd � \\ud800"`:                `� � \ud800`,
		`{"user":"a&b",  "port":5432.0,"z":1,"a":[1.0,{"<":">"}]}`: `{"user":"a&b",  "port":5432.0,"z":1,"a":[1.0,{"<":">"}]}`,
		"[1,\n  2]":       "[1,\n  2]",
		`[]`:              `[]`,
		`null`:            "",
		`"\ud800"`:        "",
		`"\ud800 \udc00"`: "",
	} {
		a.fake.PutSecret("s", `{"other": 1, "key" : `+written+` }`)
		r := reference(t, "{{resolve:secretsmanager:s:SecretString:key}}")
		values, missing := a.connect(t).Fetch(t.Context(), []policy.Reference{r})
		if values[r] != want || (want == "") != (missing[r] != nil) {
			t.Errorf("%s comes out as %s: %v", written, values[r], missing[r])
		}
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
	if _, err := aws.Fragments(t.Context(), m.Of(nil, nil), nil); source.Classify(err) != source.Half {
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
