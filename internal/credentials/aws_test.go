package credentials_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// An instance is the metadata service of one, version 2.
type instance struct {
	*httptest.Server
	mu       sync.Mutex
	asked    []string
	role     string // "": none
	answer   string
	tokenles bool // only version 1 is on
}

func newInstance(t *testing.T) *instance {
	i := &instance{role: "soe"}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = append(i.asked, r.Method+" "+r.URL.Path)
	const token = "t0k3n"
	switch {
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && !i.tokenles:
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		fmt.Fprint(w, token)
	case r.Method == http.MethodPut:
		w.WriteHeader(http.StatusForbidden)
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != token && !i.tokenles:
		w.WriteHeader(http.StatusUnauthorized)
	case i.role != "" && strings.TrimSuffix(r.URL.Path, "/") == "/latest/meta-data/iam/security-credentials":
		fmt.Fprint(w, i.role)
	case i.role != "" && r.URL.Path == "/latest/meta-data/iam/security-credentials/"+i.role:
		fmt.Fprint(w, i.answer)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// takeAsked returns what was asked since the last call.
func (i *instance) takeAsked() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	asked := i.asked
	i.asked = nil
	return asked
}

func roleKeys(which string, expires time.Time) string {
	return fmt.Sprintf(`{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIA%s","SecretAccessKey":"%s-secret/%s=","Token":"%s-token/%s==","Expiration":%q}`,
		which, canary, which, canary, which, expires.UTC().Format(time.RFC3339))
}

func TestTheInstanceMetadataServiceIsAskedByVersion2AndAgainBeforeItsCredentialsExpire(t *testing.T) {
	m, i := newMachine(t), newInstance(t)
	m.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = i.URL
	i.answer = roleKeys("1", m.clock.Now().Add(30*time.Minute))
	p := m.provider(t, credentials.Config{Source: "instance-metadata"})
	if c := gives(t, p, "1"); !c.CanExpire || c.Source != "instance-metadata" {
		t.Errorf("%s, can expire: %v", c.Source, c.CanExpire)
	}
	want := []string{"PUT /latest/api/token", "GET /latest/meta-data/iam/security-credentials/", "GET /latest/meta-data/iam/security-credentials/soe"}
	if diff := cmp.Diff(want, i.takeAsked()); diff != "" {
		t.Error(diff)
	}
	gives(t, p, "1")
	if asked := i.takeAsked(); len(asked) > 0 {
		t.Errorf("it was asked again: %v", asked)
	}
	m.clock.pass(26 * time.Minute)
	i.answer = roleKeys("2", m.clock.Now().Add(time.Hour))
	gives(t, p, "2")
}

func TestAnInstanceWithoutARoleOrWithoutVersion2HasNoCredentials(t *testing.T) {
	for name, change := range map[string]func(m *machine, i *instance){
		"no role":           func(_ *machine, i *instance) { i.role = "" },
		"version 1 only":    func(_ *machine, i *instance) { i.tokenles = true },
		"a role that fails": func(_ *machine, i *instance) { i.answer = `{"Code":"AssumeRoleUnauthorizedAccess"}` },
		"a role without":    func(_ *machine, i *instance) { i.answer = `{"Code":"Success","Expiration":"2030-01-01T00:00:00Z"}` },
		"nonsense":          func(_ *machine, i *instance) { i.answer = `{"SecretAccessKey":` + canary + `}` },
	} {
		t.Run(name, func(t *testing.T) {
			m, i := newMachine(t), newInstance(t)
			m.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = i.URL
			i.answer = roleKeys("1", m.clock.Now().Add(time.Hour))
			change(m, i)
			_, err := m.provider(t, credentials.Config{Source: "instance-metadata"}).Retrieve(t.Context())
			if discreet(t, err); !errors.Is(err, credentials.ErrNoCredentials) {
				t.Error(err)
			}
			if i.tokenles && slices.ContainsFunc(i.takeAsked(), func(r string) bool { return strings.HasPrefix(r, "GET") }) {
				t.Error("version 1 was asked")
			}
		})
	}
}

func TestNoSourceFallsBackOnTheInstanceMetadataService(t *testing.T) {
	i := newInstance(t)
	i.answer = roleKeys("1", time.Now().Add(time.Hour))
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", i.URL)
	for _, config := range []credentials.Config{{}, {Source: "ssm-agent"}, {Source: "environment"}, {Source: "profile"}, byProcess()} {
		m := newMachine(t)
		m.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = i.URL
		_, err := m.provider(t, config).Retrieve(t.Context())
		discreet(t, err)
	}
	if asked := i.takeAsked(); len(asked) > 0 {
		t.Errorf("it was asked: %v", asked)
	}
}

func TestTheSDKsClientsSeeAChangedFileAndWithTheSignerASecretThatWasMended(t *testing.T) {
	m, fake := newMachine(t), awsfake.New(t)
	fake.PutParameter("/p", "v")
	good := awsfake.DefaultCredentials()
	write := func(id, secret string) {
		m.put(t, shared, fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n", id, secret, good.SessionToken))
	}
	p := m.provider(t, credentials.Config{Source: "profile"})
	config := aws.Config{Region: awsfake.Region, BaseEndpoint: &fake.URL, Credentials: p, Retryer: func() aws.Retryer { return aws.NopRetryer{} }}
	plain := ssm.NewFromConfig(config)
	signing := ssm.NewFromConfig(config, func(o *ssm.Options) { o.HTTPSignerV4 = credentials.Signer{} })
	name := "/p"
	asks := func(client *ssm.Client) error {
		_, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
		return err
	}
	write("ASIAOTHER", "x")
	if asks(plain) == nil || asks(signing) == nil {
		t.Fatal("unknown keys are accepted")
	}
	write(good.AccessKeyID, "mistyped")
	if asks(plain) == nil || asks(signing) == nil {
		t.Fatal("a wrong secret is accepted")
	}
	write(good.AccessKeyID, good.SecretAccessKey)
	if err := asks(signing); err != nil {
		t.Errorf("the mended secret is not used: %v", err)
	}
	if asks(plain) == nil {
		t.Error("the SDK remembers derived keys no more: the Signer can go")
	}
}
