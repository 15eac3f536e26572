package source_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

const canary = "c4n4ry-value"

// activated is a machine whose hybrid activation has left its credentials.
type activated struct {
	root string
	*system.System
	fake *awsfake.Server
}

func newActivated(t *testing.T) *activated {
	t.Helper()
	root := t.TempDir()
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	a := &activated{root: root, System: s, fake: awsfake.New(t)}
	a.activate(t, awsfake.DefaultCredentials().AccessKeyID, time.Now().Add(time.Hour))
	return a
}

func (a *activated) put(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(a.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *activated) activate(t *testing.T, key string, expires time.Time) {
	t.Helper()
	c := awsfake.DefaultCredentials()
	identity, _ := json.Marshal(map[string]any{"ShareFile": "/root/.aws/credentials", "CredentialsExpiresAt": expires})
	a.put(t, "var/lib/amazon/ssm/runtimeconfig/identity_config.json", string(identity))
	a.put(t, "root/.aws/credentials", fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
		key, c.SecretAccessKey, c.SessionToken))
}

func (a *activated) connect(t *testing.T) *source.AWS {
	t.Helper()
	aws, err := source.Connect(source.Config{Path: "/soe/prod", Endpoint: a.fake.URL}, awsfake.Region, a.System)
	if err != nil {
		t.Fatal(err)
	}
	return aws
}

func (a *activated) publish(t *testing.T, serial int, fragments map[string]string) {
	t.Helper()
	if err := a.fake.PublishPolicy("/soe/prod", serial, fragments); err != nil {
		t.Fatal(err)
	}
}

func (a *activated) actions() (actions []string) {
	for _, r := range a.fake.Requests() {
		actions = append(actions, r.Action)
	}
	return actions
}

func TestOnlyTheFragmentsOfTheMachinesPersonasAreFetchedAndALookThatFindsNothingNewIsOneCall(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 3, map[string]string{
		"10-base":   "schema = 1\n[dropins.\"/etc/x.d/y\"]\ncontent = \"{{fact:hostname}}\"\n", // stored compressed
		"20-kiosk":  "schema = 1\npersonas = [\"kiosk\"]\n",
		"30-devel":  "schema = 1\npersonas = [\"developer\"]\n",
		"40-others": "schema = 1\npersonas = [\"finance\", \"kiosk\"]\n",
	})
	a.fake.ForgetRequests()
	aws := a.connect(t)
	sources, serial, err := aws.Published(t.Context(), []string{"base", "developer"}, nil)
	if err != nil || serial != 3 {
		t.Fatalf("serial %d, %v", serial, err)
	}
	var names []string
	for _, s := range sources {
		names = append(names, s.Name)
		if _, err := policy.Parse(s); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"10-base", "30-devel"}, names); diff != "" {
		t.Error(diff)
	}
	a.fake.ForgetRequests()
	again, _, err := aws.Published(t.Context(), []string{"base", "developer"}, sources)
	if err != nil || len(again) != 2 {
		t.Errorf("%d sources, %v", len(again), err)
	}
	if diff := cmp.Diff([]string{"GetParameter"}, a.actions()); diff != "" {
		t.Error(diff)
	}
}

func TestMoreFragmentsThanACallTakesComeInSeveral(t *testing.T) {
	a := newActivated(t)
	fragments := map[string]string{}
	for i := range 23 {
		fragments[fmt.Sprintf("%02d", i)] = fmt.Sprintf("schema = 1\ndescription = \"%d\"\n", i)
	}
	a.publish(t, 1, fragments)
	sources, _, err := a.connect(t).Published(t.Context(), []string{"base"}, nil)
	if err != nil || len(sources) != 23 {
		t.Errorf("%d fragments, %v", len(sources), err)
	}
}

func TestAPolicyThatIsNotWholeIsHalfPublished(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10-base": "schema = 1\n"})
	a.fake.PutParameter("/soe/prod/manifest", "schema = 1\nserial = 2\n[[fragment]]\nname = \"x\"\nparameter = \"/soe/prod/none\"\nsha256 = \""+strings.Repeat("0", 64)+"\"\n")
	if _, _, err := a.connect(t).Published(t.Context(), []string{"base"}, nil); !errors.Is(err, source.ErrHalfPublished) || source.Classify(err) != source.Soon {
		t.Errorf("a missing fragment: %v", err)
	}
	a.fake.PutParameter("/soe/prod/none", "something else")
	if _, _, err := a.connect(t).Published(t.Context(), []string{"base"}, nil); !errors.Is(err, source.ErrHalfPublished) {
		t.Errorf("a fragment of another digest: %v", err)
	}
}

func TestAManifestThatCannotBeRightIsRefused(t *testing.T) {
	a := newActivated(t)
	for text, says := range map[string]string{
		"serial = ":                            "cannot read the manifest",
		"schema = 2\nserial = 1\n":             "schema 1 and not 2",
		"schema = 1\n":                         "its serial is 0",
		"schema = 1\nserial = 1\nserail = 2":   "unknown key serail",
		"schema = 1\nserial = 1\n[[fragment]]": "lacks its name",
	} {
		a.fake.PutParameter("/soe/prod/manifest", text)
		if _, _, err := a.connect(t).Published(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

func reference(t *testing.T, text string) policy.Reference {
	t.Helper()
	r, err := policy.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestValuesComeFromWhereTheReferenceSays(t *testing.T) {
	a := newActivated(t)
	a.fake.PutParameter("/p", "first")
	a.fake.PutParameter("/p", "second")
	a.fake.PutSecureParameter("/s", canary)
	a.fake.PutSecret("plain", "old")
	a.fake.PutSecret("plain", "new")
	a.fake.PutSecret("json", `{"user":"u","port":5432}`)
	want := map[policy.Reference]string{
		reference(t, "{{resolve:ssm:/p}}"):                                                         "second",
		reference(t, "{{resolve:ssm:/p:1}}"):                                                       "first",
		reference(t, "{{resolve:ssm-secure:/s}}"):                                                  canary,
		reference(t, "{{resolve:secretsmanager:plain}}"):                                           "new",
		reference(t, "{{resolve:secretsmanager:plain:SecretString::AWSPREVIOUS}}"):                 "old",
		reference(t, "{{resolve:secretsmanager:json:SecretString:user}}"):                          "u",
		reference(t, "{{resolve:secretsmanager:json:SecretString:port}}"):                          "5432",
		reference(t, "{{resolve:secretsmanager:"+awsfake.SecretARN("json")+":SecretString:user}}"): "u",
	}
	var references []policy.Reference
	for r := range want {
		references = append(references, r)
	}
	got, err := a.connect(t).Fetch(t.Context(), references)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNotThereIsNamedAllOfItAndNoSecretIsInTheErrors(t *testing.T) {
	a := newActivated(t)
	a.fake.PutSecureParameter("/s", canary)
	a.fake.PutSecret("json", `{"key":"`+canary+`"}`)
	a.fake.PutSecret("text", canary)
	a.fake.PutBinarySecret("binary", []byte(canary))
	bad := []string{
		"{{resolve:ssm:/none}}", "{{resolve:ssm:/s}}", "{{resolve:ssm-secure:/none}}", "{{resolve:secretsmanager:none}}",
		"{{resolve:secretsmanager:json:SecretString:other}}", "{{resolve:secretsmanager:text:SecretString:key}}", "{{resolve:secretsmanager:binary}}",
	}
	var references []policy.Reference
	for _, text := range bad {
		references = append(references, reference(t, text))
	}
	_, err := a.connect(t).Fetch(t.Context(), references)
	if !errors.Is(err, source.ErrNoValue) {
		t.Fatal(err)
	}
	for _, text := range bad {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s is not named in %v", text, err)
		}
	}
	if strings.Contains(err.Error(), canary) {
		t.Error("a secret is in the error")
	}
}

func TestEachTroubleHasANameThatPeopleUnderstandAndAClass(t *testing.T) {
	for name, trouble := range map[string]struct {
		make  func(a *activated)
		says  string
		class source.Class
	}{
		"not activated": {func(a *activated) { os.RemoveAll(filepath.Join(a.root, "var")) }, "no credentials yet", source.Credentials},
		"half written":  {func(a *activated) { a.put(t, "root/.aws/credentials", "[default]\naws_access") }, "no credentials yet", source.Credentials},
		"expired":       {func(a *activated) { a.activate(t, "x", time.Now().Add(-time.Minute)) }, "credentials expired", source.Credentials},
		"unknown key":   {func(a *activated) { a.activate(t, "ASIAUNKNOWN", time.Now().Add(time.Hour)) }, "credentials refused", source.Credentials},
		"denied": {func(a *activated) {
			a.fake.FailAlways("GetParameter", awsfake.AccessDenied("ssm:GetParameter", "parameter/soe/prod/manifest"))
		}, "denied: ", source.Later},
		"throttled":         {func(a *activated) { a.fake.FailAlways("GetParameter", awsfake.Throttled) }, "throttled", source.Soon},
		"failing":           {func(a *activated) { a.fake.FailAlways("GetParameter", awsfake.InternalError) }, "the service fails", source.Soon},
		"overloaded":        {func(a *activated) { a.fake.FailAlways("GetParameter", awsfake.ServiceUnavailable) }, "the service fails", source.Soon},
		"reset":             {func(a *activated) { a.fake.FailAlways("GetParameter", awsfake.Reset) }, "no network", source.Soon},
		"unreachable":       {func(a *activated) { a.fake.Down() }, "no network", source.Soon},
		"wrong clock":       {func(a *activated) { a.fake.SetClockSkew(time.Hour) }, "the clock is wrong", source.Credentials},
		"nothing published": {func(*activated) {}, "ParameterNotFound", source.Later},
	} {
		t.Run(name, func(t *testing.T) {
			a := newActivated(t)
			trouble.make(a)
			_, _, err := a.connect(t).Published(t.Context(), []string{"base"}, nil)
			if err == nil {
				t.Fatal("no error")
			}
			if reason := source.Reason(err); !strings.HasPrefix(reason, trouble.says) {
				t.Errorf("the reason is %q, want %q…; error: %v", reason, trouble.says, err)
			}
			if class := source.Classify(err); class != trouble.class {
				t.Errorf("class %d, want %d", class, trouble.class)
			}
		})
	}
}

func TestAServerThatHangsHoldsNobodyLongerThanTheContext(t *testing.T) {
	a := newActivated(t)
	a.fake.FailAlways("GetParameter", awsfake.Hang)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err := a.connect(t).Published(ctx, nil, nil)
	if reason := source.Reason(err); !strings.HasPrefix(reason, "no network") {
		t.Errorf("%q: %v", reason, err)
	}
}

func TestCredentialsAreReadAgainWhenTheyAreForgotten(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10": "schema = 1\n"})
	a.activate(t, "ASIAUNKNOWN", time.Now().Add(time.Hour))
	aws := a.connect(t)
	if _, _, err := aws.Published(t.Context(), nil, nil); err == nil {
		t.Fatal("unknown credentials were accepted")
	}
	a.activate(t, awsfake.DefaultCredentials().AccessKeyID, time.Now().Add(time.Hour))
	aws.Forget()
	if _, _, err := aws.Published(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
}

// jumps is a clock on which sleeping takes no time.
type jumps struct {
	now   time.Time
	slept []time.Duration
}

func (j *jumps) Now() time.Time { return j.now }

func (j *jumps) Sleep(ctx context.Context, d time.Duration) error {
	j.slept = append(j.slept, d)
	j.now = j.now.Add(d)
	return ctx.Err()
}

func TestRetryNeverGivesUpAndWaitsLongerButNeverTooLong(t *testing.T) {
	clock := &jumps{now: time.Now()}
	attempts := 0
	err := source.Retry(t.Context(), clock, nil, func(error, time.Time) {}, func(context.Context) error {
		if attempts++; attempts == 200 {
			return nil
		}
		return errors.New("not yet")
	})
	if err != nil || attempts != 200 || len(clock.slept) != 199 {
		t.Fatalf("%v after %d attempts", err, attempts)
	}
	var total time.Duration
	for i, d := range clock.slept {
		if d < 0 || d > 5*time.Minute {
			t.Errorf("wait %d is %s", i, d)
		}
		total += d
	}
	if clock.slept[0] > time.Second {
		t.Errorf("the first wait is %s", clock.slept[0])
	}
	// Uniform between 0 and the bound: on average half of it.
	if average := total / 199; average < 90*time.Second || average > 200*time.Second {
		t.Errorf("the waits are %s on average", average)
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := source.Retry(ctx, &jumps{}, nil, func(error, time.Time) { cancel() }, func(context.Context) error { return errors.New("no") })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTheLastGoodPolicyIsKeptWithoutSecretsAndForThisMachineOnly(t *testing.T) {
	var recorder system.Recorder
	s, err := system.Open(system.Options{Root: t.TempDir(), Gate: recorder.Gate})
	if err != nil {
		t.Fatal(err)
	}
	const dir = "/var/lib/soe-agent"
	good := source.LastGood{
		Machine: "m1", Serial: 4, Personas: []string{"base"}, Sources: []policy.Source{{Name: "a", Layer: policy.Remote, Text: "schema = 1\n"}},
		Values: map[string]string{"{{resolve:ssm:/p}}": "v"},
	}
	if err := source.WriteLastGood(s.FS, dir, good); err != nil {
		t.Fatal(err)
	}
	got, ok, err := source.ReadLastGood(s.FS, dir, "m1")
	if diff := cmp.Diff(good, got); diff != "" || !ok || err != nil {
		t.Errorf("%v %v %s", ok, err, diff)
	}
	if _, ok, _ := source.ReadLastGood(s.FS, dir, "m2"); ok {
		t.Error("another machine's policy is taken for good")
	}
	recorder.Changes()
	good.Saved = time.Now()
	if err := source.WriteLastGood(s.FS, dir, good); err != nil || len(recorder.Changes()) > 0 {
		t.Errorf("what is kept already was written again (%v)", err)
	}
	good.Values["{{resolve:ssm-secure:/s}}"] = canary
	if err := source.WriteLastGood(s.FS, dir, good); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a secret: %v", err)
	}
}
