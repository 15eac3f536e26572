package awscontract

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/publish"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/internal/desktop"
)

const at = desktop.Path

// A scene is an account at an endpoint, in which somebody publishes and machines follow.
type scene struct {
	*testing.T
	url     string
	ssm     *ssm.Client
	secrets *secretsmanager.Client
}

func newScene(t *testing.T, url string) *scene {
	s := &scene{T: t, url: url}
	s.ssm, s.secrets = clients(url)
	return s
}

// put stores a parameter, or a new version of one.
func (s *scene) put(kind types.ParameterType, name, value string) {
	s.Helper()
	in := &ssm.PutParameterInput{Name: &name, Value: &value, Type: kind, Overwrite: aws.Bool(true), Tier: types.ParameterTierIntelligentTiering}
	if _, err := s.ssm.PutParameter(s.Context(), in); err != nil {
		s.Fatal(err)
	}
}

// secret makes a secret and returns its ARN.
func (s *scene) secret(name, value string) string {
	s.Helper()
	out, err := s.secrets.CreateSecret(s.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: &value})
	if err != nil {
		s.Fatal(err)
	}
	return *out.ARN
}

func (s *scene) rotate(name, value string) {
	s.Helper()
	if _, err := s.secrets.PutSecretValue(s.Context(), &secretsmanager.PutSecretValueInput{SecretId: &name, SecretString: &value}); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) manifest() string {
	s.Helper()
	out, err := s.ssm.GetParameter(s.Context(), &ssm.GetParameterInput{Name: aws.String(manifest.Name(at))})
	if err != nil {
		s.Fatal(err)
	}
	return *out.Parameter.Value
}

func (s *scene) publisher() *publish.Publisher {
	once := func(ctx context.Context, op func(context.Context) error) error { return op(ctx) }
	return &publish.Publisher{Store: s.ssm, Path: at, Call: once}
}

// fragments are a policy, by the fragments' names.
type fragments map[string]string

func (f fragments) files() []policy.Source {
	var files []policy.Source
	for _, name := range slices.Sorted(maps.Keys(f)) {
		files = append(files, policy.Source{Name: name + ".toml", Text: f[name]})
	}
	return files
}

// publish publishes a policy, and returns what came of it.
func (s *scene) publish(f fragments, percent float64) publish.Result {
	s.Helper()
	plan, err := s.publisher().Plan(s.Context(), f.files(), percent)
	if err != nil {
		s.Fatal(err)
	}
	return s.write(plan)
}

func (s *scene) write(plan *publish.Plan) publish.Result {
	s.Helper()
	result, err := s.publisher().Write(s.Context(), plan)
	if err != nil || len(result.Warnings) > 0 {
		s.Fatalf("%v, warnings %q", err, result.Warnings)
	}
	return result
}

func (s *scene) pause(pause bool) {
	s.Helper()
	plan, err := s.publisher().PlanPause(s.Context(), pause)
	if err != nil {
		s.Fatal(err)
	}
	s.write(plan)
}

// A machine follows what is published in a scene.
type machine struct {
	*scene
	*desktop.Desktop
	wire *counted
}

// counted counts the requests that it carries.
type counted struct {
	http.RoundTripper
	requests int
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests++
	return c.RoundTripper.RoundTrip(r)
}

func (s *scene) machine(hostname string, personas ...string) *machine {
	s.Helper()
	client := source.Client()
	wire := &counted{RoundTripper: client.Transport}
	client.Transport = wire
	m := &machine{scene: s, Desktop: desktop.New(s.T, hostname, s.url, client, source.Retry{}), wire: wire}
	m.Subject.Personas = personas
	return m
}

// follows looks as the daemon does, and fails unless that takes so many calls and the policy then is of this
// serial and wants this in its drop-ins, by their names.
func (m *machine) follows(serial int64, calls int, want map[string]string) policysync.Found {
	m.Helper()
	before := m.wire.requests
	found, err := m.Fetch(m.Context(), m.Subject, m.AWS)
	if err != nil {
		m.Fatal(err)
	}
	if err := m.Keep(found); err != nil {
		m.Fatal(err)
	}
	if found.Policy.Serial != serial {
		m.Errorf("%s has serial %d, want %d", m.Subject.Facts.Hostname, found.Policy.Serial, serial)
	}
	if diff := cmp.Diff(want, desktop.Contents(found.Policy)); diff != "" {
		m.Errorf("what %s wants: (-want +got)\n%s", m.Subject.Facts.Hostname, diff)
	}
	if n := m.wire.requests - before; n != calls {
		m.Errorf("%s has made %d calls, want %d", m.Subject.Facts.Hostname, n, calls)
	}
	return found
}

// stays looks, fails if a policy is found, and if what is known without the network is not as it was.
func (m *machine) stays(serial int64, want map[string]string) error {
	m.Helper()
	found, err := m.Fetch(m.Context(), m.Subject, m.AWS)
	if err == nil {
		m.Fatalf("it goes to serial %d", found.Policy.Serial)
	}
	known, knownErr := m.Known(m.Subject)
	if knownErr != nil {
		m.Fatal(knownErr)
	}
	if diff := cmp.Diff(want, desktop.Contents(known.Policy)); diff != "" || known.Policy.Serial != serial {
		m.Errorf("it stays at serial %d: (-want +got)\n%s", known.Policy.Serial, diff)
	}
	return err
}
