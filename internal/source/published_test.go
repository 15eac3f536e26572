package source_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// answers is a fault that answers with status 200 and this body.
func answers(body string) awsfake.Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ func() awsfake.Reply) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = io.WriteString(w, body) // the client may be gone
	}
}

func TestFragmentsAreInTheOrderOfTheManifestWhicheverAreKnownAlready(t *testing.T) {
	a := newActivated(t)
	fragments := map[string]string{"10": "schema = 1\n", "20": "schema = 1\n# 20\n", "30": "schema = 1\n# 30\n"}
	a.publish(t, 1, fragments)
	aws := a.connect(t)
	known, _, err := published(t.Context(), aws, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	fragments["10"] = "schema = 1\n# changed\n"
	a.publish(t, 2, fragments)
	again, _, err := published(t.Context(), aws, nil, known)
	if err != nil {
		t.Fatal(err)
	}
	known[0].Text = fragments["10"]
	if diff := cmp.Diff(known, again); diff != "" {
		t.Error(diff)
	}
}

func TestAManifestThatNamesOtherPersonasThanTheFragmentIsRefused(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10-base": "schema = 1\npersonas = [\"kiosk\", \"base\"]\n"})
	aws := a.connect(t)
	known, _, err := published(t.Context(), aws, []string{"base"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	manifestName := "/soe/prod/manifest"
	in, err := aws.SSM().GetParameter(t.Context(), &ssm.GetParameterInput{Name: &manifestName})
	if err != nil {
		t.Fatal(err)
	}
	manifest := *in.Parameter.Value
	change := func(personas string) {
		a.fake.PutParameter("/soe/prod/manifest", strings.Replace(manifest, `["kiosk", "base"]`, personas, 1))
	}
	change(`["base", "kiosk"]`)
	if _, _, err := published(t.Context(), aws, []string{"base"}, nil); err != nil {
		t.Errorf("another order: %v", err)
	}
	for _, cached := range [][]policy.Source{nil, known} {
		change(`["base"]`)
		_, _, err = published(t.Context(), aws, []string{"base"}, cached)
		if problems := policy.AsProblems(err); len(problems) != 1 || problems[0].File != "10-base" {
			t.Errorf("with %d known: %v", len(cached), err)
		}
	}
}

func TestWhatIsWrongWithAManifestIsAProblemOfThePolicyWithItsPlace(t *testing.T) {
	a := newActivated(t)
	entry := "[[fragment]]\nname = \"x\"\nparameter = \"/x\"\nsha256 = \"" + strings.Repeat("0", 64) + "\"\n"
	for text, want := range map[string]policy.Problem{
		"schema = 1\nserial = \n":                  {File: "/soe/prod/manifest", Line: 2},
		"schema = 1\n":                             {File: "/soe/prod/manifest"},
		"schema = 1\nserial = 1\n" + entry + entry: {File: "/soe/prod/manifest"},
	} {
		a.fake.PutParameter("/soe/prod/manifest", text)
		_, _, err := published(t.Context(), a.connect(t), nil, nil)
		problems := policy.AsProblems(err)
		if len(problems) != 1 || problems[0].File != want.File || problems[0].Line != want.Line {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAnAnswerThatMakesNoSenseIsAnErrorAndNoSecretIsInIt(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10": "schema = 1\n"})
	a.fake.PutSecret("s", canary)
	a.fake.PutSecureParameter("/s", canary)
	for _, answer := range []awsfake.Fault{awsfake.GarbledJSON, answers(""), answers("{}"), answers("<html>log in first</html>")} {
		a.fake.FailAlways(awsfake.Any, answer)
		ctx, aws := a.impatient(t)
		_, _, err := published(ctx, aws, nil, nil)
		if err == nil || source.Classify(err) != source.Passing || source.TroubleOf(err).Name != source.NoSense {
			t.Errorf("%v: %q", err, source.TroubleOf(err))
		}
		for _, text := range []string{"{{resolve:secretsmanager:s}}", "{{resolve:ssm-secure:/s}}"} {
			ctx, aws := a.impatient(t)
			_, missing := aws.Fetch(ctx, []policy.Reference{reference(t, text)})
			if why := source.Missing(missing); len(why) != 1 || strings.Contains(why.Error()+source.TroubleOf(why).String(), canary) {
				t.Errorf("%s: %v", text, why)
			}
		}
		a.fake.Heal()
	}
}

// Parameter Store takes an ARN and answers with the bare name and the ARN.
func TestAParameterNamedByItsARNIsFound(t *testing.T) {
	a := newActivated(t)
	const arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/shared"
	body, _ := json.Marshal(map[string]any{"Parameters": []map[string]any{
		{"Name": "/shared", "ARN": arn, "Type": "String", "Value": "newest"},
		{"Name": "/shared", "ARN": arn, "Type": "String", "Value": "second", "Selector": ":2"},
	}})
	a.fake.FailAlways("GetParameters", answers(string(body)))
	newest, second := reference(t, "{{resolve:ssm:"+arn+"}}"), reference(t, "{{resolve:ssm:"+arn+":2}}")
	got, missing := a.connect(t).Fetch(t.Context(), []policy.Reference{newest, second})
	if len(missing) > 0 {
		t.Fatal(source.Missing(missing))
	}
	if diff := cmp.Diff(map[policy.Reference]string{newest: "newest", second: "second"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEachSecretIsReadOnceHoweverManyOfItsKeysAreWantedAndThoughItCannotBeRead(t *testing.T) {
	a := newActivated(t)
	a.fake.PutSecret("json", `{"a":"1","b":"2"}`)
	var references []policy.Reference
	for _, text := range []string{"json:SecretString:a", "json:SecretString:b", "none:SecretString:a", "none:SecretString:b"} {
		references = append(references, reference(t, "{{resolve:secretsmanager:"+text+"}}"))
	}
	values, missing := a.connect(t).Fetch(t.Context(), references)
	if !errors.Is(missing[references[2]], source.ErrNoValue) || !errors.Is(missing[references[3]], source.ErrNoValue) || values[references[1]] != "2" {
		t.Errorf("%v, %v", values, missing)
	}
	if diff := cmp.Diff([]string{"BatchGetSecretValue"}, a.actions()); diff != "" {
		t.Error(diff)
	}
}

func TestAWrongClockIsToldFromWrongCredentials(t *testing.T) {
	a := newActivated(t)
	a.fake.SetClockSkew(2 * time.Hour)
	ctx, aws := a.impatient(t)
	_, _, err := published(ctx, aws, nil, nil)
	if said := source.TroubleOf(err).String(); !strings.HasPrefix(said, "clock wrong: by 2h0m") && !strings.HasPrefix(said, "clock wrong: by 1h59m") {
		t.Errorf("%q: %v", said, err)
	}
	a.fake.SetClockSkew(0)
	a.put(t, "root/.aws/credentials", "[default]\naws_access_key_id = "+awsfake.DefaultCredentials().AccessKeyID+
		"\naws_secret_access_key = half\naws_session_token = "+awsfake.DefaultCredentials().SessionToken+"\n")
	ctx, aws = a.impatient(t)
	_, _, err = published(ctx, aws, nil, nil)
	if trouble := source.TroubleOf(err); trouble.Name != source.CredentialsRefused || strings.Contains(trouble.Detail, "half") {
		t.Errorf("%q: %v", trouble, err)
	}
}

func TestAConnectionLearnsHowWrongTheClockIsAndGoesOn(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10": "schema = 1\n"})
	a.fake.SetClockSkew(2 * time.Hour)
	waits := 0
	aws := a.connectWith(t, source.Retry{Waiting: func(error, time.Time) { waits++ }, Jitter: func(time.Duration) time.Duration { return 0 }})
	if _, _, err := published(t.Context(), aws, nil, nil); err != nil || waits != 1 {
		t.Errorf("%v after %d waits", err, waits)
	}
	if _, _, err := published(t.Context(), aws, nil, nil); err != nil || waits != 1 {
		t.Errorf("%v after %d waits in all", err, waits)
	}
}
