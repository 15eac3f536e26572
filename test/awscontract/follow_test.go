package awscontract

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/publish"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/internal/desktop"
)

// A scenario is what authors, publisher and machines do, and what must come of it wherever they do it.
type scenario struct {
	name    string
	notMoto string // why it cannot be played there; empty: it can
	play    func(*scene)
}

func scenarios() []scenario {
	const (
		noSelector = "moto leaves out the Selector of a reply, by which AWS says which version it is"
		noErrors   = "moto leaves secrets that are not there out of a batch, and out of its Errors, where AWS names them"
	)
	return []scenario{
		{"a policy is fetched once and then each look is one call", "", firstPublication},
		{"a newer policy costs its changed fragment alone", "", changedFragment},
		{"a large fragment comes in parts and one with references compressed", "", largeFragment},
		{"a machine reads the fragments of its personas alone", "", personas},
		{"parameters are read as they are now, ten a call", "", parameters},
		{"a parameter is read in the version that is wanted", noSelector, parameterVersions},
		{"secrets are read in one call, by name, by ARN and by key", "", secrets},
		{"after a rotation a secret is the new one, and its stage the old one", "", rotation},
		{"a parameter that is missing is named, and the rest goes on", "", missingParameter},
		{"a secret that is missing is named, and the rest goes on", noErrors, missingSecret},
		{"a stage or a key of a secret that is missing is named, and the rest goes on", "", missingPart},
		{"a rollout grows from ten percent to all, stands still in a pause, and is rolled back", "", rollout},
		{"a manifest that is ahead of its fragments is waited for", "", manifestAhead},
		{"an older manifest is refused", "", olderManifest},
		{"who publishes the same again writes nothing", "", publishTwice},
		{"what no manifest names is collected, page by page", "", garbage},
		{"of two who publish at once one is told that it is overrun", "", twoPublishers},
	}
}

func TestTheAgentFollowsAndPublishesAlikeAtAwsfakeAndAtMoto(t *testing.T) {
	moto := startMoto(t)
	for _, s := range scenarios() {
		t.Run(s.name+", awsfake", func(t *testing.T) { s.play(newScene(t, awsfake.New(t).URL)) })
		if s.notMoto == "" {
			t.Run(s.name+", moto", func(t *testing.T) {
				empty(t, moto)
				s.play(newScene(t, moto))
			})
		}
	}
}

// empty makes moto forget what was stored.
func empty(t *testing.T, moto string) {
	t.Helper()
	answer, err := http.Post(moto+"/moto-api/reset", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
}

func firstPublication(s *scene) {
	s.publish(fragments{"10-base": desktop.Dropin("base", "one"), "20-more": desktop.Dropin("more", "two")}, publish.Everybody)
	m := s.machine("A-1")
	want := map[string]string{"base": "one", "more": "two"}
	m.follows(1, 2, want)
	for range 3 {
		m.follows(1, 1, want)
	}
}

func changedFragment(s *scene) {
	f, want := fragments{}, map[string]string{}
	for i := range 12 {
		name := fmt.Sprint("f", i)
		f[name], want[name] = desktop.Dropin(name, "old"), "old"
	}
	s.publish(f, publish.Everybody)
	m := s.machine("A-1")
	m.follows(1, 1+2, want)
	f["f7"], want["f7"] = desktop.Dropin("f7", "new"), "new"
	if written := s.publish(f, publish.Everybody).Written; len(written) != 1 || !strings.HasPrefix(written[0], at+"/policy/f7/") {
		s.Errorf("%q are written", written)
	}
	m.follows(2, 1+1, want)
}

func largeFragment(s *scene) {
	var large strings.Builder
	for i := range 250 {
		fmt.Fprintf(&large, "# %s\n", manifest.Digest(fmt.Sprint(i))) // cannot be made much smaller
	}
	s.put(types.ParameterTypeString, "/host", "logs.example.com")
	large.WriteString("@{{resolve:ssm:/host}}:6514")
	result := s.publish(fragments{"10-large": desktop.Dropin("large", large.String()), "20-small": desktop.Dropin("small", "{{fact:hostname}}")}, publish.Everybody)
	if n := len(result.Written); n < 4 {
		s.Errorf("only %d parameters are written", n)
	}
	want := map[string]string{"large": strings.Replace(large.String(), "{{resolve:ssm:/host}}", "logs.example.com", 1), "small": "A-1"}
	m := s.machine("A-1")
	m.follows(1, 3, want)
	m.follows(1, 1, want) // the value comes along with the manifest
}

func personas(s *scene) {
	s.publish(fragments{
		"10-all": desktop.Dropin("all", "x"), "20-dev": desktop.Dropin("dev", "x", "developer"),
		"30-fin": desktop.Dropin("fin", "x", "finance"), "40-two": desktop.Dropin("two", "x", "finance", "kiosk"),
	}, publish.Everybody)
	m := s.machine("A-1", "base", "developer")
	m.follows(1, 2, map[string]string{"all": "x", "dev": "x"})
	m.Subject.Personas = []string{"base", "finance"}
	m.follows(1, 2, map[string]string{"all": "x", "fin": "x", "two": "x"})
}

func parameters(s *scene) {
	f, want := fragments{}, map[string]string{}
	for i := range 12 {
		name := fmt.Sprint("p", i)
		s.put(types.ParameterTypeString, "/"+name, "value of "+name)
		f[name], want[name] = desktop.Dropin(name, "{{resolve:ssm:/"+name+"}}"), "value of "+name
	}
	s.put(types.ParameterTypeSecureString, "/secure", secureValue)
	f["secure"], want["secure"] = desktop.Dropin("secure", "{{resolve:ssm-secure:/secure}}"), secureValue
	s.publish(f, publish.Everybody)
	m := s.machine("A-1")
	m.follows(1, 1+2+2+1, want) // the manifest, 13 fragments, 12 values, and the SecureString apart
	s.put(types.ParameterTypeString, "/p3", "another")
	s.put(types.ParameterTypeSecureString, "/secure", "another")
	want["p3"], want["secure"] = "another", "another"
	m.follows(1, 1+1+1, want) // nine values come along with the manifest
}

func parameterVersions(s *scene) {
	for _, value := range []string{"first", "second", "third"} {
		s.put(types.ParameterTypeString, "/p", value)
		s.put(types.ParameterTypeSecureString, "/s", value+" secret")
	}
	s.publish(fragments{
		"10": desktop.Dropin("x", "{{resolve:ssm:/p:1}} {{resolve:ssm:/p:2}} {{resolve:ssm:/p}}"),
		"20": desktop.Dropin("y", "{{resolve:ssm-secure:/s:2}} {{resolve:ssm-secure:/s}}"),
	}, publish.Everybody)
	want := map[string]string{"x": "first second third", "y": "second secret third secret"}
	m := s.machine("A-1")
	m.follows(1, 4, want)
	m.follows(1, 2, want)
}

func secrets(s *scene) {
	s.secret("soe/bind", "hunter2")
	byARN := s.secret("soe/arn", "hunter3")
	s.secret("soe/json", `{"user":"u","port":5432}`)
	s.publish(fragments{"10": desktop.Dropin("x", "{{resolve:secretsmanager:soe/bind}} {{resolve:secretsmanager:"+byARN+"}} "+
		"{{resolve:secretsmanager:soe/json:SecretString:user}} {{resolve:secretsmanager:soe/json:SecretString:port}}")}, publish.Everybody)
	s.machine("A-1").follows(1, 3, map[string]string{"x": "hunter2 hunter3 u 5432"})
}

func rotation(s *scene) {
	s.secret("soe/bind", "old")
	s.publish(fragments{
		"10": desktop.Dropin("now", "{{resolve:secretsmanager:soe/bind}}"),
		"20": desktop.Dropin("was", "{{resolve:secretsmanager:soe/bind:SecretString::AWSPREVIOUS}}"),
	}, publish.Everybody)
	m := s.machine("A-1")
	if found := m.follows(1, 4, map[string]string{"now": "old"}); len(found.Missing) != 1 {
		s.Errorf("what was before: %v", found.Missing)
	}
	s.rotate("soe/bind", "new")
	m.follows(1, 3, map[string]string{"now": "new", "was": "old"})
	s.rotate("soe/bind", "newest")
	m.follows(1, 3, map[string]string{"now": "newest", "was": "new"})
}

func missingParameter(s *scene) {
	s.put(types.ParameterTypeString, "/there", "v")
	s.put(types.ParameterTypeSecureString, "/secure", secureValue)
	missing(s, []string{"{{resolve:ssm:/none}}", "{{resolve:ssm:/secure}}", "{{resolve:ssm-secure:/none}}"}, "{{resolve:ssm:/there}}")
}

func missingSecret(s *scene) {
	s.secret("there", "v")
	missing(s, []string{"{{resolve:secretsmanager:none}}", "{{resolve:secretsmanager:none:SecretString:key}}"}, "{{resolve:secretsmanager:there}}")
}

func missingPart(s *scene) {
	s.secret("there", "v")
	none := []string{"none:SecretString::AWSPREVIOUS", "there:SecretString::AWSPREVIOUS", "there:SecretString:key"}
	for i, part := range none {
		none[i] = "{{resolve:secretsmanager:" + part + "}}"
	}
	missing(s, none, "{{resolve:secretsmanager:there}}")
}

// missing has a policy refer to what is not there, and to something that is.
func missing(s *scene, none []string, there string) {
	f := fragments{"there": desktop.Dropin("there", there), "fixed": desktop.Dropin("fixed", "x")}
	for i, reference := range none {
		name := fmt.Sprint("none", i)
		f[name] = desktop.Dropin(name, reference)
	}
	s.publish(f, publish.Everybody)
	m := s.machine("A-1")
	found, err := m.Fetch(s.Context(), m.Subject, m.AWS)
	if err != nil {
		s.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"there": "v", "fixed": "x"}, desktop.Contents(found.Policy)); diff != "" {
		s.Errorf("what can be enforced: (-want +got)\n%s", diff)
	}
	for _, reference := range none {
		if why := found.Policy.Why[reference]; !strings.HasPrefix(why, "value missing: cannot resolve "+reference) {
			s.Errorf("%s: %q", reference, why)
		}
	}
	if len(found.Missing) != len(none) || source.Classify(found.Missing) != source.People || strings.Contains(found.Missing.Error(), secureValue) {
		s.Errorf("missing: %v", found.Missing)
	}
}

func rollout(s *scene) {
	old, young := fragments{"10": desktop.Dropin("x", "old")}, fragments{"10": desktop.Dropin("x", "new")}
	one, two := map[string]string{"x": "old"}, map[string]string{"x": "new"}
	s.publish(old, publish.Everybody)
	s.publish(young, 10)
	published, err := manifest.Parse(manifest.Name(at), s.manifest())
	if err != nil {
		s.Fatal(err)
	}
	canary, other := s.machine(hostAt(published.Rollout.Salt, 0, 10)), s.machine(hostAt(published.Rollout.Salt, 10, 100))
	canary.follows(2, 2, two)
	other.follows(1, 2, one)
	s.pause(true)
	s.publish(young, publish.Everybody)
	canary.follows(2, 1, two)
	other.follows(1, 1, one)
	s.pause(false)
	canary.follows(2, 1, two)
	other.follows(2, 2, two)
	s.publish(old, publish.Everybody)
	canary.follows(3, 2, one)
	other.follows(3, 2, one)
}

// hostAt is the name of a machine whose place in a rollout is from one percentage on, and below another.
func hostAt(salt string, from, below float64) string {
	for i := 0; ; i++ {
		name := fmt.Sprint("A-", i)
		if place := manifest.Place(salt, name+"\x00"+desktop.MachineID); place >= from && place < below {
			return name
		}
	}
}

func manifestAhead(s *scene) {
	m := s.machine("A-1")
	m.stays(0, map[string]string{}) // nothing is published
	s.publish(fragments{"10": desktop.Dropin("x", "old")}, publish.Everybody)
	m.follows(1, 2, map[string]string{"x": "old"})
	entry, parts, err := manifest.Pack(at, "10", desktop.Dropin("x", "new"), nil)
	if err != nil {
		s.Fatal(err)
	}
	ahead := manifest.Manifest{Generation: manifest.Generation{Serial: 2, Fragments: []manifest.Entry{entry}}}
	text, err := ahead.Text()
	if err != nil {
		s.Fatal(err)
	}
	s.put(types.ParameterTypeString, manifest.Name(at), text)
	if err := m.stays(1, map[string]string{"x": "old"}); source.Classify(err) != source.Half || !strings.Contains(err.Error(), entry.Parameter) {
		s.Error(err)
	}
	for _, p := range parts {
		s.put(types.ParameterTypeString, p.Name, p.Value)
	}
	m.follows(2, 2, map[string]string{"x": "new"})
}

func olderManifest(s *scene) {
	s.publish(fragments{"10": desktop.Dropin("x", "old")}, publish.Everybody)
	older := s.manifest()
	s.publish(fragments{"10": desktop.Dropin("x", "new")}, publish.Everybody)
	m := s.machine("A-1")
	m.follows(2, 2, map[string]string{"x": "new"})
	s.put(types.ParameterTypeString, manifest.Name(at), older)
	if err := m.stays(2, map[string]string{"x": "new"}); !errors.Is(err, source.ErrOlder) {
		s.Error(err)
	}
	s.machine("A-2").follows(1, 2, map[string]string{"x": "old"})
}

func publishTwice(s *scene) {
	f := fragments{"10": desktop.Dropin("x", "{{fact:hostname}}"), "20": desktop.Dropin("y", strings.Repeat("y", 5000))}
	s.publish(f, publish.Everybody)
	before := s.manifest()
	plan, err := s.publisher().Plan(s.Context(), f.files(), publish.Everybody)
	if err != nil || !plan.Nothing() {
		s.Fatalf("%+v, %v", plan, err)
	}
	if result := s.write(plan); len(result.Written)+len(result.Deleted) > 0 || result.Version != 0 || s.manifest() != before {
		s.Errorf("%+v", result)
	}
}

// A store is Parameter Store for a publisher who is interfered with.
type store struct {
	*ssm.Client
	old    string                       // what is below this path seems to be days old; empty: nothing
	before func(*ssm.PutParameterInput) // done before each writing; nil: nothing
	pages  int                          // that were listed
}

func (o *store) GetParametersByPath(ctx context.Context, in *ssm.GetParametersByPathInput, options ...func(*ssm.Options)) (*ssm.GetParametersByPathOutput, error) {
	out, err := o.Client.GetParametersByPath(ctx, in, options...)
	if err != nil {
		return nil, err
	}
	o.pages++
	for i, p := range out.Parameters {
		if o.old != "" && strings.HasPrefix(*p.Name, o.old) {
			out.Parameters[i].LastModifiedDate = aws.Time(p.LastModifiedDate.Add(-48 * time.Hour))
		}
	}
	return out, nil
}

func (o *store) PutParameter(ctx context.Context, in *ssm.PutParameterInput, options ...func(*ssm.Options)) (*ssm.PutParameterOutput, error) {
	if o.before != nil {
		o.before(in)
	}
	return o.Client.PutParameter(ctx, in, options...)
}

func garbage(s *scene) {
	s.publish(fragments{"10": desktop.Dropin("x", "one"), "20": desktop.Dropin("y", "one")}, publish.Everybody)
	for i := range 23 {
		s.put(types.ParameterTypeString, fmt.Sprintf("%s/policy/gone/%012x", at, i), "x")
	}
	young := at + "/policy/young/0123456789ab"
	s.put(types.ParameterTypeString, young, "x")
	days := &store{Client: s.ssm, old: at + "/policy/gone/"}
	p := s.publisher()
	p.Store = days
	plan, err := p.Plan(s.Context(), fragments{"10": desktop.Dropin("x", "two")}.files(), publish.Everybody)
	if err != nil {
		s.Fatal(err)
	}
	result, err := p.Write(s.Context(), plan)
	if err != nil || len(result.Deleted) != 23 || len(result.Warnings) > 0 || days.pages < 3 {
		s.Errorf("%d are deleted after %d pages, %v, %q", len(result.Deleted), days.pages, err, result.Warnings)
	}
	m := s.machine("A-1")
	m.follows(2, 2, map[string]string{"x": "two"})
	if _, err := s.ssm.GetParameter(s.Context(), &ssm.GetParameterInput{Name: &young}); err != nil {
		s.Errorf("what somebody writes at the moment is gone: %v", err)
	}
	again, err := s.publisher().Plan(s.Context(), fragments{"10": desktop.Dropin("x", "two")}.files(), publish.Everybody)
	if err != nil || !again.Nothing() {
		s.Errorf("%+v, %v", again, err)
	}
}

func twoPublishers(s *scene) {
	s.publish(fragments{"10": desktop.Dropin("x", "one")}, publish.Everybody)
	theirs, ours := fragments{"10": desktop.Dropin("x", "theirs")}, fragments{"10": desktop.Dropin("x", "ours")}
	meet := func(when func(name string) bool) error {
		met := false
		p := s.publisher()
		p.Store = &store{Client: s.ssm, before: func(in *ssm.PutParameterInput) {
			if !met && when(*in.Name) {
				met = true
				s.publish(theirs, publish.Everybody)
			}
		}}
		plan, err := p.Plan(s.Context(), ours.files(), publish.Everybody)
		if err != nil {
			s.Fatal(err)
		}
		result, err := p.Write(s.Context(), plan)
		if err == nil && len(result.Warnings) != 1 {
			s.Errorf("warnings: %q", result.Warnings)
		}
		return err
	}
	m := s.machine("A-1")
	if err := meet(func(name string) bool { return name != manifest.Name(at) }); !errors.Is(err, publish.ErrOverrun) {
		s.Errorf("the others come before the manifest is looked at: %v", err)
	}
	m.follows(2, 2, map[string]string{"x": "theirs"})
	theirs["10"] = desktop.Dropin("x", "theirs, again")
	if err := meet(func(name string) bool { return name == manifest.Name(at) }); err != nil {
		s.Errorf("the others come between the look and the writing: %v", err)
	}
	m.follows(3, 2, map[string]string{"x": "ours"})
}
