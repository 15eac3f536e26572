package source_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

const canary = "c4n4ry-value"

// activated is a machine that has the credentials of a hybrid activation.
type activated struct {
	root string
	*system.System
	fake     *awsfake.Server
	endpoint string // empty: that of the fake
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
	c.AccessKeyID = key
	if err := awsfake.Activate(a.root, c, expires); err != nil {
		t.Fatal(err)
	}
}

func (a *activated) connect(t *testing.T) *source.AWS {
	t.Helper()
	return a.connectWith(t, source.Retry{})
}

func (a *activated) connectWith(t *testing.T, retry source.Retry) *source.AWS {
	t.Helper()
	c := source.Config{Path: "/soe/prod", Endpoint: cmp.Or(a.endpoint, a.fake.URL)}
	aws, err := source.Connect(c, awsfake.Region, credentials.New(c.Credentials, a.System), source.Client(), retry)
	if err != nil {
		t.Fatal(err)
	}
	return aws
}

// impatient returns a connection, and a context that ends when the first call fails for a reason that goes
// away by itself.
func (a *activated) impatient(t *testing.T) (context.Context, *source.AWS) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, a.connectWith(t, source.Retry{Waiting: func(error, time.Time) { cancel() }})
}

// published returns the published fragments for these personas.
func published(ctx context.Context, aws *source.AWS, personas []string, known []policy.Source) ([]policy.Source, int64, error) {
	m, _, err := aws.Manifest(ctx, nil)
	if err != nil {
		return nil, 0, err
	}
	sources, err := aws.Fragments(ctx, m.Of(personas, nil), known)
	return sources, m.Serial, err
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
	sources, serial, err := published(t.Context(), aws, []string{"base", "developer"}, nil)
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
	if diff := gocmp.Diff([]string{"10-base", "30-devel"}, names); diff != "" {
		t.Error(diff)
	}
	a.fake.ForgetRequests()
	again, _, err := published(t.Context(), aws, []string{"base", "developer"}, sources)
	if err != nil || len(again) != 2 {
		t.Errorf("%d sources, %v", len(again), err)
	}
	if diff := gocmp.Diff([]string{"GetParameters"}, a.actions()); diff != "" {
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
	sources, _, err := published(t.Context(), a.connect(t), []string{"base"}, nil)
	if err != nil || len(sources) != 23 {
		t.Errorf("%d fragments, %v", len(sources), err)
	}
}

func TestAPolicyThatIsNotWholeIsHalfPublished(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10-base": "schema = 1\n"})
	a.fake.PutParameter("/soe/prod/manifest", "schema = 1\nserial = 2\n[[fragment]]\nname = \"x\"\nparameter = \"/soe/prod/none\"\nsha256 = \""+strings.Repeat("0", 64)+"\"\n")
	if _, _, err := published(t.Context(), a.connect(t), []string{"base"}, nil); !errors.Is(err, manifest.ErrHalfPublished) || source.Classify(err) != source.Half {
		t.Errorf("a missing fragment: %v", err)
	}
	a.fake.PutParameter("/soe/prod/none", "something else")
	if _, _, err := published(t.Context(), a.connect(t), []string{"base"}, nil); !errors.Is(err, manifest.ErrHalfPublished) {
		t.Errorf("a fragment of another digest: %v", err)
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
	got, missing := a.connect(t).Fetch(t.Context(), references)
	if len(missing) > 0 {
		t.Fatal(source.Missing(missing))
	}
	if diff := gocmp.Diff(want, got); diff != "" {
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
	_, missing := a.connect(t).Fetch(t.Context(), references)
	err := source.Missing(missing)
	for _, r := range references {
		if why := missing[r]; !errors.Is(why, source.ErrNoValue) || !strings.Contains(err.Error(), r.String()) {
			t.Errorf("%s is not named in %v", r, err)
		}
	}
	if strings.Contains(err.Error(), canary) {
		t.Error("a secret is in the error")
	}
}

func TestEachTroubleHasANameThatPeopleSeeAndAClass(t *testing.T) {
	denied := awsfake.AccessDenied("ssm:GetParameters", "arn:aws:ssm:eu-west-1:123456789012:parameter/soe/prod/manifest")
	failing := func(fault awsfake.Fault) func(*testing.T, *activated) {
		return func(_ *testing.T, a *activated) { a.fake.FailAlways("GetParameters", fault) }
	}
	for name, trouble := range map[string]struct {
		make  func(t *testing.T, a *activated)
		says  string
		class source.Class
	}{
		"not activated":   {func(_ *testing.T, a *activated) { os.RemoveAll(filepath.Join(a.root, "var")) }, "waiting for activation: there is neither ", source.Credentials},
		"half written":    {func(t *testing.T, a *activated) { a.put(t, "root/.aws/credentials", "[default]\naws_access") }, "no credentials: the credentials are being written: ", source.Credentials},
		"expired":         {func(t *testing.T, a *activated) { a.activate(t, "x", time.Now().Add(-time.Minute)) }, "expired: the credentials have expired, at ", source.Credentials},
		"expired for AWS": {failing(awsfake.ExpiredToken), "refused: ", source.Credentials},
		"unknown key":     {func(t *testing.T, a *activated) { a.activate(t, "ASIAUNKNOWN", time.Now().Add(time.Hour)) }, "refused: ", source.Credentials},
		"denied":          {failing(denied), "denied: ssm:GetParameters on arn:aws:ssm:eu-west-1:123456789012:parameter/soe/prod/manifest", source.Denied},
		"throttled":       {failing(awsfake.Throttled), "throttled: ThrottlingException", source.Throttled},
		"failing":         {failing(awsfake.InternalError), "service failing: InternalServerError", source.Passing},
		"overloaded":      {failing(awsfake.ServiceUnavailable), "service failing: HTTP 503", source.Passing},
		"reset":           {failing(awsfake.Reset), "no network: ", source.Passing},
		"cut off":         {failing(awsfake.TruncatedBody), "makes no sense: the answer is cut off", source.Passing},
		"unreachable":     {func(_ *testing.T, a *activated) { a.fake.Down() }, "no network: 127.0.0.1:", source.Passing},
		"no name":         {func(_ *testing.T, a *activated) { a.endpoint = "http://aws.invalid" }, "no network: lookup aws.invalid", source.Passing},
		"unknown issuer":  {func(t *testing.T, a *activated) { a.endpoint = awsfake.NewTLS(t, awsfake.Certificate{}).URL }, "not trusted: ", source.Passing},
		"another's name": {func(t *testing.T, a *activated) {
			a.endpoint = awsfake.NewTLS(t, awsfake.Certificate{Host: "proxy.example.com"}).URL
		}, "not trusted: ", source.Passing},
		"its time is over": {func(t *testing.T, a *activated) {
			a.endpoint = awsfake.NewTLS(t, awsfake.Certificate{Expires: time.Now().Add(-time.Hour)}).URL
		}, "not trusted: ", source.Passing},
		"no TLS at all":    {func(_ *testing.T, a *activated) { a.endpoint = strings.Replace(a.fake.URL, "http:", "https:", 1) }, "no network: ", source.Passing},
		"wrong clock":      {func(_ *testing.T, a *activated) { a.fake.SetClockSkew(time.Hour) }, "clock wrong: by ", source.Credentials},
		"nothing there":    {func(*testing.T, *activated) {}, "nothing published: ", source.People},
		"a proxy's page":   {failing(answers("<html>log in first</html>")), "makes no sense: ", source.Passing},
		"a garbled answer": {failing(awsfake.GarbledJSON), "makes no sense: ", source.Passing},
	} {
		t.Run(name, func(t *testing.T) {
			a := newActivated(t)
			trouble.make(t, a)
			ctx, aws := a.impatient(t)
			_, _, err := aws.Manifest(ctx, nil)
			if err == nil {
				t.Fatal("no error")
			}
			if said := source.TroubleOf(err).String(); !strings.HasPrefix(said, trouble.says) {
				t.Errorf("it is called %q, want %q…; error: %v", said, trouble.says, err)
			}
			if class := source.Classify(err); class != trouble.class {
				t.Errorf("class %d, want %d", class, trouble.class)
			}
		})
	}
}

// In Go the error of any system call looks like a network error, because it has a Timeout method.
func TestWhatFailsOnTheMachineItselfIsNotCalledTheNetwork(t *testing.T) {
	for name, err := range map[string]error{
		"a file":                &fs.PathError{Op: "openat2", Path: "/etc/machine-id", Err: unix.EIO},
		"a file on the way":     &url.Error{Op: "Post", URL: "https://x", Err: &fs.PathError{Op: "open", Path: "/etc/pki/tls/cert.pem", Err: unix.EACCES}},
		"a link":                &os.LinkError{Op: "rename", Old: "a", New: "b", Err: unix.ENOSPC},
		"a system call":         os.NewSyscallError("getrandom", unix.EIO),
		"an error's number":     unix.EROFS,
		"no descriptor is left": &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", unix.EMFILE)},
		"no memory is left":     &url.Error{Op: "Post", URL: "https://x", Err: &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", unix.ENOMEM)}},
		"no descriptor for DNS": &net.DNSError{Err: "socket: too many open files", Name: "x", UnwrapErr: os.NewSyscallError("socket", unix.ENFILE)},
	} {
		wrapped := fmt.Errorf("cannot tell: %w", err)
		if trouble := source.TroubleOf(wrapped); trouble.Name != source.Other || trouble.Detail != wrapped.Error() {
			t.Errorf("%s: it is called %q", name, trouble)
		}
	}
}

func TestWithoutARegionTheActivationIsWaitedForWhichNamesOne(t *testing.T) {
	a := newActivated(t)
	_, err := source.Connect(source.Config{Path: "/soe/prod"}, "", credentials.New(credentials.Config{}, a.System), source.Client(), source.Retry{})
	want := "waiting for activation: the region is not known before that; or set region in [aws] of agent.toml"
	if said := source.TroubleOf(err).String(); said != want || source.Classify(err) != source.Credentials {
		t.Errorf("%q, class %d", said, source.Classify(err))
	}
}

func TestAServerThatHangsHoldsNobodyLongerThanTheContext(t *testing.T) {
	for name, hang := range map[string]func(*activated){
		"it answers nothing":        func(a *activated) { a.fake.FailAlways("GetParameters", awsfake.Hang) },
		"it answers ever so slowly": func(a *activated) { a.fake.FailAlways("GetParameters", awsfake.SlowBody(time.Hour)) },
		"it is a black hole":        func(a *activated) { a.endpoint = awsfake.BlackHole(t) },
	} {
		a := newActivated(t)
		hang(a)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, _, err := a.connect(t).Manifest(ctx, nil)
		cancel()
		if trouble := source.TroubleOf(err); trouble.Name != source.NoNetwork || !strings.HasSuffix(trouble.Detail, "no answer in time") {
			t.Errorf("%s: %q: %v", name, trouble, err)
		}
	}
}

func TestCredentialsAreReadAgainWhenTheyWereRefused(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10": "schema = 1\n"})
	a.activate(t, "ASIAUNKNOWN", time.Now().Add(time.Hour))
	ctx, aws := a.impatient(t)
	if _, _, err := published(ctx, aws, nil, nil); err == nil {
		t.Fatal("unknown credentials were accepted")
	}
	a.activate(t, awsfake.DefaultCredentials().AccessKeyID, time.Now().Add(time.Hour))
	if _, _, err := published(t.Context(), aws, nil, nil); err != nil {
		t.Error(err)
	}
}

// A client caches what it has derived from a secret by the ID of its key.
func TestASecretThatIsMendedUnderTheSameKeyIsUsedAtOnce(t *testing.T) {
	a := newActivated(t)
	a.publish(t, 1, map[string]string{"10": "schema = 1\n"})
	a.fake.PutSecret("s", "v")
	wanted := []policy.Reference{reference(t, "{{resolve:secretsmanager:s}}")}
	credentials := filepath.Join(a.root, "root/.aws/credentials")
	right, err := os.ReadFile(credentials)
	if err != nil {
		t.Fatal(err)
	}
	secret := awsfake.DefaultCredentials().SecretAccessKey
	a.put(t, "root/.aws/credentials", strings.Replace(string(right), secret, strings.ToLower(secret), 1))
	var giveUp context.CancelFunc
	aws := a.connectWith(t, source.Retry{Waiting: func(error, time.Time) { giveUp() }})
	refused := func(service string, call func(context.Context) error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		giveUp = cancel
		if err := call(ctx); err == nil || source.TroubleOf(err).Name != source.CredentialsRefused {
			t.Errorf("%s: %v", service, err)
		}
	}
	refused("Systems Manager", func(ctx context.Context) error { _, _, err := aws.Manifest(ctx, nil); return err })
	refused("Secrets Manager", func(ctx context.Context) error { _, missing := aws.Fetch(ctx, wanted); return missing[wanted[0]] })
	a.put(t, "root/.aws/credentials", string(right))
	if _, _, err := published(t.Context(), aws, nil, nil); err != nil {
		t.Error(err)
	}
	if _, missing := aws.Fetch(t.Context(), wanted); len(missing) > 0 {
		t.Error(source.Missing(missing))
	}
}
