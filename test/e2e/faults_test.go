package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
)

// A fault holds up the policy that is published, and the last good one stays.
type fault struct {
	name    string
	begin   func()             // nil: it is in what is published
	spoil   func(*publication) // nil: what is published is right
	end     func()             // besides healing AWS and publishing what is right
	trouble string             // as programs see it
	says    string             // as people see it
	mends   bool               // look whether drift is mended meanwhile
	wait    time.Duration      // that it asks for
}

func (o *outage) holdsUp(t *testing.T, f fault) {
	right := o.publication(t, o.serial+1)
	published := right
	if f.spoil != nil {
		published.fragments = maps.Clone(right.fragments)
		published.manifest.Fragments = slices.Clone(right.manifest.Fragments)
		f.spoil(&published)
	}
	if f.begin != nil {
		f.begin()
	}
	if f.spoil == nil {
		o.lookAgain(t)
		o.troubled(t, f.trouble) // a look that began before the fault is over now
	}
	o.put(t, published)
	o.lookAgain(t)
	s := o.troubled(t, f.trouble)
	if s.Serial != o.serial {
		t.Errorf("serial %d is in force", s.Serial)
	}
	if wait := time.Until(s.NextAttempt); f.wait > 0 && wait < f.wait {
		t.Errorf("the next attempt is in %s", wait)
	}
	o.says(t, f.says)
	if got, want := o.MustReadFile(t, serialFile), fmt.Sprintf("# serial %d\n", o.serial); got != want {
		t.Errorf("the file of serial %d holds %q", o.serial, got)
	}
	if f.mends {
		o.mends(t)
	}
	o.aws.Heal()
	if f.end != nil {
		f.end()
	}
	o.put(t, right)
	o.lookAgain(t)
	o.healed(t, o.serial+1)
}

// answers are faults of a service that is reached.
func (o *outage) answers() []fault {
	fails := func(f awsfake.Fault) func() {
		return func() { o.aws.FailAlways("GetParameters", f) }
	}
	var skew atomic.Int64
	return []fault{
		{
			name: "the account's calls are used up", begin: func() { o.aws.SetQuota(0.2, 1) }, end: func() { o.aws.SetQuota(0, 0) },
			trouble: source.Throttling, says: "throttled: ThrottlingException",
		},
		{name: "throttling", begin: fails(awsfake.Throttled), trouble: source.Throttling, says: "throttled: ThrottlingException"},
		{
			name: "throttling that says until when", begin: fails(awsfake.RetryAfter(5*time.Minute+30*time.Second, awsfake.Throttled)),
			trouble: source.Throttling, says: "; next attempt in 5m", wait: 5 * time.Minute,
		},
		{name: "errors", begin: fails(awsfake.InternalError), trouble: source.ServiceFails, says: "service failing: InternalServerError"},
		{name: "a load balancer's page", begin: fails(awsfake.ServiceUnavailable), trouble: source.ServiceFails, says: "service failing: HTTP 503"},
		{name: "an answer that is cut off", begin: fails(awsfake.TruncatedBody), trouble: source.NoSense, says: "makes no sense: the answer is cut off"},
		{name: "an answer that is garbled", begin: fails(awsfake.GarbledJSON), trouble: source.NoSense, says: "makes no sense: the answer is cut off"},
		{
			name: "a clock that is never the same", begin: fails(awsfake.Before(func() { o.aws.SetClockSkew(time.Duration(skew.Add(int64(2 * time.Hour)))) })),
			end:     func() { o.aws.SetClockSkew(0) },
			trouble: source.ClockWrong, says: "clock wrong: by ",
		},
	}
}

// network are faults on the way to the service.
func (o *outage) network(t *testing.T) []fault {
	back := func() { o.endpoint(t, o.aws.URL) }
	host := strings.TrimPrefix(o.aws.URL, "http://")
	return []fault{
		{
			name: "connections are refused", begin: o.aws.Down, end: func() {
				if err := o.aws.Up(); err != nil {
					t.Fatal(err)
				}
			},
			trouble: source.NoNetwork, says: "no network: " + host + ": connection refused", mends: true,
		},
		{name: "a firewall drops everything", begin: func() { o.endpoint(t, awsfake.BlackHole(t)) }, end: back, trouble: source.NoNetwork, says: ": no answer in time"},
		{
			name: "the name is not known", begin: func() { o.endpoint(t, "http://no-such-host.invalid") }, end: back,
			trouble: source.NoNetwork, says: "no network: lookup no-such-host.invalid",
		},
		{
			name: "somebody else answers", begin: func() { o.endpoint(t, awsfake.NewTLS(t, awsfake.Certificate{}).URL) }, end: back,
			trouble: source.NotTrusted, says: "does a proxy answer instead of AWS?",
		},
		{
			name: "the certificate has expired", begin: func() {
				o.endpoint(t, awsfake.NewTLS(t, awsfake.Certificate{Expires: time.Now().Add(-time.Hour)}).URL)
			}, end: back,
			trouble: source.NotTrusted, says: "is this machine's clock wrong?",
		},
	}
}

// credentials are faults of what amazon-ssm-agent leaves, and of what AWS makes of it.
func (o *outage) credentials(t *testing.T) []fault {
	back := func() { o.activate(t) }
	changes := func(name, old, replacement string) func() {
		return func() {
			content := o.MustReadFile(t, name)
			changed := strings.Replace(content, old, replacement, 1)
			if changed == content {
				t.Fatalf("%q is not in %s", old, name)
			}
			o.MustWriteFile(t, name, box.File{Content: changed, Mode: 0o600})
		}
	}
	keys := awsfake.DefaultCredentials()
	year := time.Now().UTC().Format(`"CredentialsExpiresAt":"2006`)
	return []fault{
		{
			name: "nothing of the activation is left", begin: func() { o.MustExec(t, "rm", "-r", "/var/lib/amazon/ssm", credentialsFile) }, end: back,
			trouble: source.WaitingForActivation, says: "waiting for activation: there is neither /var/lib/amazon/ssm/registration nor ",
		},
		{
			name: "the credentials are gone", begin: func() { o.MustExec(t, "rm", credentialsFile) }, end: back,
			trouble: source.NoCredentials, says: "cannot look at " + credentialsFile,
		},
		{
			name: "the credentials are half written", begin: changes(credentialsFile, keys.SecretAccessKey[10:]+"\naws_session_token     = "+keys.SessionToken+"\n", ""), end: back,
			trouble: source.NoCredentials, says: "no credentials: the credentials are being written: " + credentialsFile,
		},
		{
			name: "the credentials have expired", begin: changes(identityFile, year, `"CredentialsExpiresAt":"2001`), end: back,
			trouble: source.CredentialsExpired, says: "expired: the credentials have expired, at 2001-",
		},
		{
			name: "the credentials have expired for AWS", begin: func() {
				expired := keys
				expired.CanExpire, expired.Expires = true, time.Now().Add(-time.Minute)
				o.aws.SetCredentials(expired)
			}, end: func() { o.aws.SetCredentials(keys) },
			trouble: source.CredentialsRefused, says: "refused: The security token included in the request is expired",
		},
		{
			name: "the secret is that of another key", begin: changes(credentialsFile, keys.SecretAccessKey, strings.ToLower(keys.SecretAccessKey)), end: back,
			trouble: source.CredentialsRefused, says: "refused: The request signature we calculated does not match",
		},
		{
			name: "everything is denied", begin: func() { o.aws.Deny("ssm:GetParameters") },
			trouble: source.AccessDenied, says: "denied: ssm:GetParameters on arn:aws:ssm:eu-west-1:123456789012:parameter" + policyPath + "/manifest", mends: true,
		},
	}
}

// unwhole are faults of what is published.
func (o *outage) unwhole(t *testing.T) []fault {
	swap := func(p *publication) {
		a, b := p.parameter(0), p.parameter(1)
		p.fragments[a], p.fragments[b] = p.fragments[b], p.fragments[a]
	}
	var late publication
	var once sync.Once
	return []fault{
		{
			name: "nothing", spoil: func(p *publication) { p.absent = true },
			trouble: source.NothingPublished, says: "there is no parameter " + policyPath + "/manifest",
		},
		{
			name: "the manifest alone", spoil: func(p *publication) { clear(p.fragments) },
			trouble: source.HalfPublished, says: "there is no parameter " + policyPath + "/policy/10-serial/",
		},
		{
			name: "fragments in each other's place", spoil: swap,
			trouble: source.HalfPublished, says: "holds the text of 15-also",
		},
		{
			name: "a fragment that is cut off", spoil: func(p *publication) {
				p.fragments[p.parameter(0)] = p.fragments[p.parameter(0)][:20]
			},
			trouble: source.HalfPublished, says: "is cut off: it has 20 bytes of ",
		},
		{
			name: "a fragment as it was before", spoil: func(p *publication) {
				before := o.publication(t, o.serial)
				p.fragments[p.parameter(0)] = before.fragments[before.parameter(0)]
			},
			trouble: source.HalfPublished, says: "holds an earlier text of 10-serial",
		},
		{
			name: "a fragment that changes after the manifest is read", spoil: func(p *publication) { late = *p },
			begin: func() {
				o.aws.FailAlways("GetParameters", func(w http.ResponseWriter, r *http.Request, carryOut func() awsfake.Reply) {
					var in struct{ Names []string }
					if json.NewDecoder(r.Body).Decode(&in) == nil && slices.Contains(in.Names, late.parameter(0)) {
						once.Do(func() { o.aws.PutParameter(late.parameter(0), "another\n") })
					}
					carryOut().Write(w)
				})
			},
			trouble: source.HalfPublished, says: "10-serial",
		},
		{
			name: "an older manifest", spoil: func(p *publication) { p.manifest = o.publication(t, o.serial-1).manifest },
			trouble: source.OlderPublished, says: "an older policy is published: its serial is ",
		},
		{
			name: "a fragment that unpacks to more than an agent takes", spoil: func(p *publication) {
				p.bomb(t, policyPath+"/policy/99-bomb", strings.Repeat("#", 1<<20)+"\n")
			},
			trouble: source.HalfPublished, says: "99-bomb unpacks to more than 1048576 bytes; split it",
		},
	}
}

// A valueFault is that of one value: all but the resource that needs it is brought
// to the policy that is published.
type valueFault struct {
	name    string
	begin   func()
	end     func() // besides healing AWS
	trouble string // as programs see it
	says    string // as people see it, after that
	file    string // which needs the value
	reason  string // why it is left as it is, in the report
	then    string // what it holds in the end; empty: what it held
}

// values are faults of one value each.
func (o *outage) values() []valueFault {
	const parameters = "arn:aws:ssm:eu-west-1:123456789012:parameter"
	const token = "{{resolve:secretsmanager:" + tokenSecret + ":SecretString:token}}"
	return []valueFault{
		{
			name: "a parameter is denied", begin: func() { o.aws.DenyParameter(otherParameter) },
			trouble: source.AccessDenied, file: otherFile, reason: "denied: ssm:GetParameters on " + parameters + otherParameter,
		},
		{
			name: "a key is denied", begin: func() { o.aws.DenyDecryption(keyParameter) },
			trouble: source.AccessDenied, says: "{{resolve:ssm-secure:" + keyParameter + "}}: kms:Decrypt on ", file: keyFile, reason: "denied: kms:Decrypt on ",
		},
		{
			name: "a secret is denied, and rotated meanwhile", begin: func() {
				o.aws.DenySecret(tokenSecret)
				o.aws.PutSecret(tokenSecret, `{"token":"second token"}`)
			},
			trouble: source.AccessDenied, file: tokenFile, reason: "denied: secretsmanager:GetSecretValue on " + awsfake.SecretARN(tokenSecret), then: "second token\n",
		},
		{
			name: "a secret's key is denied", begin: func() {
				o.aws.FailSecret(tokenSecret, awsfake.Error(http.StatusBadRequest, "AccessDeniedException", "Access to KMS is not allowed"))
			},
			trouble: source.AccessDenied, says: token + ": Access to KMS is not allowed", file: tokenFile, reason: "denied: Access to KMS is not allowed",
		},
		{
			name: "a parameter is not there", begin: func() { o.aws.DeleteParameter(otherParameter) },
			end:     func() { o.aws.PutParameter(otherParameter, "third.example.com") },
			trouble: source.ValueMissing, says: "cannot resolve {{resolve:ssm:" + otherParameter + "}}: there is no such value", file: otherFile, reason: "value missing: ", then: "# third.example.com\n",
		},
		{
			name: "a secret is not there", begin: func() { o.aws.DeleteSecret(tokenSecret) },
			end:     func() { o.aws.PutSecret(tokenSecret, `{"token":"third token"}`) },
			trouble: source.ValueMissing, says: token + ": InvalidRequestException: ", file: tokenFile, reason: "value missing: ", then: "third token\n",
		},
	}
}

func (o *outage) holdsUpOne(t *testing.T, f valueFault) {
	id := policy.ID("dropin" + f.file)
	stat := func() string { return o.MustExec(t, "stat", "-c", "%a %U %Y %s", f.file) }
	was, attributes := o.MustReadFile(t, f.file), stat()
	serial := o.serial + 1
	f.begin()
	o.put(t, o.publication(t, serial))
	o.lookAgain(t)
	var r outcome
	o.until(t, "all but one resource is in line with the new policy", func() bool {
		s, code := o.status(t)
		r = o.report(t)
		return s.Serial == serial && code == 2 && s.Trouble == f.trouble && s.Phase == agent.Keeping &&
			r.Summary[converge.Unknown] == 1 && r.resource(id).State == converge.Unknown
	})
	for _, resource := range r.Resources {
		if resource.ID != id && !resource.State.InLine() {
			t.Errorf("%s is %s: %s", resource.ID, resource.State, resource.Reason)
		}
	}
	if reason := r.resource(id).Reason; !strings.Contains(reason, f.reason) {
		t.Errorf("the report says %q, and not %q", reason, f.reason)
	}
	o.says(t, f.trouble+": "+f.says)
	if got := o.MustReadFile(t, serialFile); got != fmt.Sprintf("# serial %d\n", serial) {
		t.Errorf("the rest is held up: %q", got)
	}
	if now := stat(); o.MustReadFile(t, f.file) != was || now != attributes {
		t.Errorf("the file was touched: it was %sand is %s", attributes, now)
	}
	o.aws.Heal()
	if f.end != nil {
		f.end()
	}
	o.lookAgain(t)
	o.healed(t, serial)
	want := f.then
	if want == "" {
		want = was
	}
	if got := o.MustReadFile(t, f.file); got != want {
		t.Errorf("the file holds %q, and not %q", got, want)
	}
}

// survives are faults that keep nothing from being brought up to date.
func (o *outage) survives(t *testing.T) {
	for _, f := range []struct {
		name       string
		begin, end func()
		more       func(*publication)
	}{
		{name: "secrets may be read one by one only", begin: func() {
			o.aws.Deny("secretsmanager:BatchGetSecretValue")
			o.aws.PutSecret(tokenSecret, `{"token":"fourth token"}`)
		}, end: func() {
			if got := o.MustReadFile(t, tokenFile); got != "fourth token\n" {
				t.Errorf("the secret is %q", got)
			}
		}},
		{name: "a burst of errors", begin: func() {
			o.aws.Fail("GetParameters", 1, awsfake.ServiceUnavailable)
			o.aws.Fail("GetParameters", 1, awsfake.InternalError)
		}},
		{name: "answers come slowly", begin: func() { o.aws.FailAlways("GetParameters", awsfake.SlowBody(300*time.Millisecond)) }},
		{name: "the clock is an hour slow", begin: func() { o.aws.SetClockSkew(time.Hour) }},
		{name: "the clock is right again", begin: func() { o.aws.SetClockSkew(0) }},
		{name: "a fragment fills an advanced parameter", more: func(p *publication) {
			text := "schema = 1\n" + strings.Repeat("#", 8192-len("schema = 1\n"))
			name := policyPath + "/policy/99-large"
			p.fragments[name] = text
			p.manifest.Fragments = append(p.manifest.Fragments, manifest.Entry{
				Name: "99-large", Parameter: name, SHA256: manifest.Digest(text), Size: len(text),
			})
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			next := o.publication(t, o.serial+1)
			if f.more != nil {
				f.more(&next)
			}
			if f.begin != nil {
				f.begin()
			}
			o.put(t, next)
			o.lookAgain(t)
			o.healed(t, o.serial+1)
			if f.end != nil {
				f.end()
			}
			o.aws.Heal()
		})
	}
	t.Run("an answer that never comes is not waited for when somebody asks", func(t *testing.T) {
		o.aws.FailAlways("GetParameters", awsfake.Hang)
		o.put(t, o.publication(t, o.serial+1))
		o.aws.ForgetRequests()
		if _, err := o.aws.WaitForRequest(t.Context(), "GetParameters"); err != nil {
			t.Fatal(err)
		}
		o.mends(t)
		o.aws.Heal()
		o.lookAgain(t)
		o.healed(t, o.serial+1)
	})
}

// meetsAll boots a machine that has never had a policy into one fault after the other.
func (o *outage) meetsAll(t *testing.T) {
	var answer atomic.Pointer[awsfake.Fault]
	begin := func(f awsfake.Fault) { answer.Store(&f) }
	o.aws.FailAlways(awsfake.Any, func(w http.ResponseWriter, r *http.Request, carryOut func() awsfake.Reply) {
		(*answer.Load())(w, r, carryOut)
	})
	o.put(t, o.publication(t, 1))
	o.activate(t)
	for i, f := range []struct {
		fault   awsfake.Fault
		trouble string
	}{{awsfake.Throttled, source.Throttling}, {awsfake.ServiceUnavailable, source.ServiceFails}, {denied, source.AccessDenied}} {
		begin(f.fault)
		if i == 0 {
			o.boot(t)
		}
		o.lookAgain(t)
		if s := o.troubled(t, f.trouble); s.Phase != agent.Bootstrapping || s.Serial != 0 {
			t.Errorf("status: %s, serial %d", s.Phase, s.Serial)
		}
		o.says(t, "none published to this machine yet: the seed is in force")
		if !o.fails(t, "sudo", "-l", "-U", box.DesktopUser, "/usr/bin/id") {
			t.Error("the desktop user has sudo")
		}
	}
	o.aws.Heal()
	o.lookAgain(t)
	o.healed(t, 1)
}

func TestWhateverAWSDoesPeopleSeeItTheLastGoodPolicyHoldsAndTheNextComesInTheEnd(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	t.Run("a first boot that meets one fault after the other", o.meetsAll)
	for _, f := range slices.Concat(o.answers(), o.network(t), o.credentials(t), o.unwhole(t)) {
		t.Run(f.name, func(t *testing.T) { o.holdsUp(t, f) })
	}
	for _, f := range o.values() {
		t.Run(f.name, func(t *testing.T) { o.holdsUpOne(t, f) })
	}
	o.survives(t)
}

// One value that nobody has allowed yet is no reason to keep a desktop unfinished:
// units that are ordered after the target would wait for ever.
func TestASecretThatIsDeniedOnFirstBootHoldsUpNothingButItsFile(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.aws.DenySecret(tokenSecret)
	o.put(t, o.publication(t, 1))
	o.activate(t)
	o.boot(t)
	o.until(t, "the machine is configured", func() bool { return !o.fails(t, "systemctl", "is-active", "soe-configured.target") })
	o.until(t, "all is done but what needs the secret", func() bool {
		s, code := o.status(t)
		return code == 2 && s.Serial == 1 && s.Phase == agent.Keeping && s.Trouble == source.AccessDenied &&
			!o.fails(t, "test", "-e", keyFile) // a value that came late came
	})
	for _, r := range o.report(t).Resources {
		if unknown := r.ID == "dropin"+tokenFile; r.State.InLine() == unknown || unknown && r.State != converge.Unknown {
			t.Errorf("%s is %s: %s", r.ID, r.State, r.Reason)
		}
	}
	if !o.fails(t, "test", "-e", tokenFile) {
		t.Errorf("there is a file without its secret: %q", o.MustReadFile(t, tokenFile))
	}
	o.aws.Heal()
	o.lookAgain(t)
	o.healed(t, 1)
	if got := o.MustExec(t, "sh", "-c", "cat "+tokenFile+"; stat -c %a "+tokenFile); got != "first token\n600\n" {
		t.Errorf("the file is %q", got)
	}
}
