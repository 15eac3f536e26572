package credentials_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	registration = "/var/lib/amazon/ssm/registration"
	identity     = "/var/lib/amazon/ssm/runtimeconfig/identity_config.json"
	shared       = "/root/.aws/credentials"
	configured   = "/root/.aws/config"
	canary       = "c4n4ry"
)

// A machine is one whose files were all written long ago, but for those that a
// test says were not; whose time stands still until a test moves it; on which no
// program runs but by the test.
type machine struct {
	root string
	*system.System
	clock *clock
	disk  *disk
	env   map[string]string
	uid   int
	puts  int
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return newMachineSaying(t, nil)
}

// newMachineSaying returns a machine of which log is told what is done to it.
func newMachineSaying(t *testing.T, log *slog.Logger) *machine {
	t.Helper()
	root := t.TempDir()
	s, err := system.Open(system.Options{Root: root, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{root: root, System: s, clock: &clock{now: time.Now()}, disk: &disk{FileReader: s.FS.FileReader, owners: map[string]int{}}, env: map[string]string{}}
	s.Clock, s.FS.FileReader = m.clock, m.disk
	return m
}

func (m *machine) provider(t *testing.T, c credentials.Config) *credentials.Provider {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return credentials.NewFor(c, m.System, func(name string) string { return m.env[name] }, m.uid)
}

// put writes a file in place. It was changed an hour ago, and after what was put before.
func (m *machine) put(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	m.puts++
	m.age(t, name, time.Hour-time.Duration(m.puts)*time.Millisecond)
}

// age makes a file one that was changed so long ago.
func (m *machine) age(t *testing.T, name string, ago time.Duration) {
	t.Helper()
	at := m.clock.Now().Add(-ago)
	if err := os.Chtimes(filepath.Join(m.root, name), at, at); err != nil {
		t.Fatal(err)
	}
}

// activate leaves what amazon-ssm-agent does; the keys have which in their names.
func (m *machine) activate(t *testing.T, which string, expires time.Time) {
	t.Helper()
	m.put(t, registration, `{"ManagedInstanceID":"mi-0123456789abcdef0","Region":"eu-west-1"}`)
	m.put(t, shared, keys("default", which))
	m.put(t, identity, identityOf(shared, expires))
}

func identityOf(file string, expires time.Time) string {
	text, err := json.Marshal(map[string]any{
		"SchemaVersion": "1.1", "InstanceId": "mi-0123456789abcdef0", "IdentityType": "OnPrem",
		"ShareFile": file, "ShareProfile": "", "CredentialsExpiresAt": expires, "CredentialSource": "SSM",
	})
	if err != nil {
		panic(err) // strings and a time can always be written
	}
	return string(text)
}

// keys is a section with a set of keys that belong together.
func keys(section, which string) string {
	return fmt.Sprintf("[%s]\naws_access_key_id     = ASIA%s\naws_secret_access_key = %s-secret/%s=\naws_session_token     = %s-token/%s==\n",
		section, which, canary, which, canary, which)
}

// of fails the test unless all of c are of one set, and returns its name.
func of(t testing.TB, c aws.Credentials) string {
	t.Helper()
	which := strings.TrimPrefix(c.AccessKeyID, "ASIA")
	if c.SecretAccessKey != canary+"-secret/"+which+"=" || c.SessionToken != "" && c.SessionToken != canary+"-token/"+which+"==" {
		t.Errorf("the ID %q comes with the secret %q and the token %q", c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
	}
	return which
}

// gives fails the test unless p gives that set.
func gives(t *testing.T, p *credentials.Provider, want string) aws.Credentials {
	t.Helper()
	c, err := p.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := of(t, c); got != want {
		t.Fatalf("it gives the keys %q, want %q", got, want)
	}
	return c
}

// discreet fails the test when an error tells a secret.
func discreet(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "ASIA") {
		t.Errorf("a secret is in the error: %v", err)
	}
	if !strings.HasPrefix(err.Error(), "cannot get credentials: ") {
		t.Errorf("the error begins otherwise: %v", err)
	}
}

// clock is one on which sleeping takes no time at all.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// disk counts what is read, has files belong to whom a test says, and lets it have
// something happen while one is read.
type disk struct {
	system.FileReader
	reads   atomic.Int64
	owners  map[string]int // of files, and of what is below directories
	reading func(name string, content []byte) []byte
}

func (d *disk) ReadFile(name string) ([]byte, error) {
	d.reads.Add(1)
	content, err := d.FileReader.ReadFile(name)
	if d.reading != nil && err == nil {
		content = d.reading(name, content)
	}
	return content, err
}

func (d *disk) Stat(name string) (system.Info, error) {
	info, err := d.FileReader.Stat(name)
	for top, uid := range d.owners {
		if name == top || strings.HasPrefix(name, strings.TrimSuffix(top, "/")+"/") {
			info.UID = uid
		}
	}
	return info, err
}

// programs runs what a test has it run.
type programs struct {
	ran  []system.Command
	each func(ctx context.Context, c system.Command) (system.Output, error)
}

func (p *programs) Run(ctx context.Context, c system.Command) (system.Output, error) {
	p.ran = append(p.ran, c)
	return p.each(ctx, c)
}

// prints is a program that prints.
func prints(stdout string) func(context.Context, system.Command) (system.Output, error) {
	return func(context.Context, system.Command) (system.Output, error) {
		return system.Output{Stdout: []byte(stdout), Stderr: []byte(canary)}, nil
	}
}

// answer is what a credential_process prints.
func answer(which string, expires time.Time) string {
	fields := map[string]any{"Version": 1, "AccessKeyId": "ASIA" + which, "SecretAccessKey": canary + "-secret/" + which + "=", "SessionToken": canary + "-token/" + which + "=="}
	if !expires.IsZero() {
		fields["Expiration"] = expires.Format(time.RFC3339)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err) // strings can always be written
	}
	return string(text)
}

func TestTheSourceIsTheConfiguredOneElseTheEnvironmentElseItsProfileElseTheAgent(t *testing.T) {
	pair := map[string]string{"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s", "AWS_PROFILE": "p"}
	for _, test := range []struct {
		config credentials.Config
		env    map[string]string
		want   string
	}{
		{env: nil, want: "ssm-agent"},
		{env: map[string]string{"AWS_ACCESS_KEY_ID": "i"}, want: "ssm-agent"}, // half a pair
		{env: map[string]string{"AWS_PROFILE": "p"}, want: "profile"},
		{env: pair, want: "environment"},
		{config: credentials.Config{Source: "ssm-agent"}, env: pair, want: "ssm-agent"},
		{config: credentials.Config{Source: "profile"}, env: pair, want: "profile"},
		{config: credentials.Config{Source: "instance-metadata"}, env: pair, want: "instance-metadata"},
		{config: credentials.Config{Source: "process", Process: []string{"/bin/x"}}, env: pair, want: "process"},
	} {
		m := newMachine(t)
		m.env = test.env
		if got := credentials.Chosen(m.provider(t, test.config)); got != test.want {
			t.Errorf("%+v with %v: %s, want %s", test.config, test.env, got, test.want)
		}
	}
}

func TestAConfigurationThatCannotBeMeantIsRefusedWithWhatToWriteInstead(t *testing.T) {
	helper := []string{"/usr/bin/aws_signing_helper", "credential-process"}
	for _, good := range []credentials.Config{
		{},
		{Source: "ssm-agent"},
		{Source: "environment"},
		{Source: "instance-metadata"},
		{Source: "profile"},
		{Source: "profile", Profile: "soe", File: "/root/.aws/credentials"},
		{Source: "process", Process: helper},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, test := range []struct {
		config credentials.Config
		says   []string
	}{
		{credentials.Config{Source: "ssm"}, []string{"aws.credentials.source", `"ssm" is none`, "ssm-agent, environment, profile, process, instance-metadata"}},
		{credentials.Config{Profile: "soe"}, []string{"aws.credentials.profile", `write source = "profile"`}},
		{credentials.Config{Source: "ssm-agent", File: "/f"}, []string{"aws.credentials.file", `write source = "profile"`}},
		{credentials.Config{Source: "profile", Profile: "a]b"}, []string{"aws.credentials.profile", "[NAME]"}},
		{credentials.Config{Source: "profile", File: "~/.aws/credentials"}, []string{"aws.credentials.file", "not a full path", "/root/.aws/credentials"}},
		{credentials.Config{Source: "process"}, []string{`write process = ["/usr/bin/aws_signing_helper", "credential-process", …]`}},
		{credentials.Config{Process: helper}, []string{"aws.credentials.process", `write source = "process"`}},
		{credentials.Config{Source: "process", Process: []string{"aws_signing_helper"}}, []string{"not the full path of a program"}},
		{credentials.Config{Source: "process", Process: []string{"/usr/bin/x\x00y"}}, []string{"not the full path of a program"}},
		{credentials.Config{Source: "process", Process: []string{"/usr/bin/../x --flag"}}, []string{"each argument as a string of its own"}},
		{credentials.Config{Source: "x", Profile: "p", File: "/f", Process: helper}, []string{"credentials.source", "credentials.profile", "credentials.file", "credentials.process"}},
	} {
		err := test.config.Validate()
		if err == nil {
			t.Errorf("%+v is taken", test.config)
			continue
		}
		for _, text := range test.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%+v: %q is not in %q", test.config, text, err)
			}
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "cannot use aws.credentials.") {
				t.Errorf("%+v: %q", test.config, line)
			}
		}
	}
}

func TestTheEnvironmentsCredentialsExpireIfItSaysSo(t *testing.T) {
	m := newMachine(t)
	p := m.provider(t, credentials.Config{Source: "environment"})
	_, err := p.Retrieve(t.Context())
	discreet(t, err)
	m.env["AWS_ACCESS_KEY_ID"] = "ASIA1"
	_, err = p.Retrieve(t.Context())
	discreet(t, err)
	m.env["AWS_SECRET_ACCESS_KEY"] = canary + "-secret/1="
	m.env["AWS_SESSION_TOKEN"] = canary + "-token/1=="
	if c := gives(t, p, "1"); c.CanExpire {
		t.Error("they expire")
	}
	p.Forget()
	m.env["AWS_CREDENTIAL_EXPIRATION"] = m.clock.Now().Add(10 * time.Minute).Format(time.RFC3339)
	if c := gives(t, p, "1"); !c.CanExpire || c.Expires.Sub(m.clock.Now()) > 10*time.Minute {
		t.Errorf("they expire at %s", c.Expires)
	}
	m.clock.pass(11 * time.Minute)
	_, err = p.Retrieve(t.Context())
	discreet(t, err)
	m.env["AWS_CREDENTIAL_EXPIRATION"] = canary
	_, err = p.Retrieve(t.Context())
	discreet(t, err)
}

// sorted is what a test compares of an environment.
func sorted(env []string) []string { return slices.Sorted(slices.Values(env)) }
