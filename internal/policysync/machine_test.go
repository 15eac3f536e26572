package policysync_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

const (
	canary    = "c4n4ry-value"
	path      = "/soe/prod"
	stateFile = "var/lib/soe-agent/lastgood.json"
)

// A desktop is an activated machine, with the policy that is published to it.
type desktop struct {
	policysync.Machine
	subject policysync.Subject
	fake    *awsfake.Server
	aws     *source.AWS
	root    string
}

func newDesktop(t *testing.T) *desktop {
	t.Helper()
	root := t.TempDir()
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	s.Root = "/" // a running system
	d := &desktop{fake: awsfake.New(t), root: root}
	d.Machine = policysync.Machine{
		System: s, SeedDir: "/usr/share/soe-agent/policy.d", LocalDir: "/etc/soe-agent/policy.d", StateDir: "/var/lib/soe-agent",
		Log: slog.New(slog.DiscardHandler),
	}
	d.subject = policysync.Subject{
		Facts: facts.Facts{Hostname: "A-1", MachineID: "m1"}, Path: path, Personas: []string{"base", "developer"},
	}
	if err := awsfake.Activate(root, awsfake.DefaultCredentials(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	config := source.Config{Region: awsfake.Region, Path: path, Endpoint: d.fake.URL}
	if d.aws, err = source.Connect(config, "", credentials.New(config.Credentials, s), source.Client(), source.Retry{}); err != nil {
		t.Fatal(err)
	}
	d.write(t, "usr/share/soe-agent/policy.d/10-seed.toml", dropin("seed", "from the image"))
	return d
}

func (d *desktop) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(d.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// dropin returns a fragment with one drop-in, for these personas.
func dropin(name, content string, personas ...string) string {
	text := "schema = 1\n"
	if len(personas) > 0 {
		text += "personas = [\"" + strings.Join(personas, "\", \"") + "\"]\n"
	}
	return text + fmt.Sprintf("[dropins.\"/etc/soe.d/%s.conf\"]\ncontent = %q\n", name, content+"\n")
}

// generation puts fragments, by name, into Parameter Store.
func (d *desktop) generation(t *testing.T, serial int64, fragments map[string]string) manifest.Generation {
	t.Helper()
	g := manifest.Generation{Serial: serial}
	for _, name := range slices.Sorted(maps.Keys(fragments)) {
		f, err := policy.Parse(policy.Source{Name: name, Text: fragments[name]})
		if err != nil {
			t.Fatal(err)
		}
		e, parameters, err := manifest.Pack(path, name, fragments[name], f.Personas)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parameters {
			d.fake.PutParameter(p.Name, p.Value)
		}
		g.Fragments = append(g.Fragments, e)
	}
	return g
}

func (d *desktop) publish(t *testing.T, m manifest.Manifest) {
	t.Helper()
	m.Schema = 1
	text, err := m.Text()
	if err != nil {
		t.Fatal(err)
	}
	d.fake.PutParameter(manifest.Name(path), text)
}

// everywhere publishes a policy to all machines.
func (d *desktop) everywhere(t *testing.T, serial int64, fragments map[string]string) {
	t.Helper()
	d.publish(t, manifest.Manifest{Generation: d.generation(t, serial, fragments)})
}

// follows fetches and keeps the policy, as the daemon does, and returns the drop-ins that it wants.
func (d *desktop) follows(t *testing.T) (policysync.Found, map[string]string) {
	t.Helper()
	found, err := d.Fetch(t.Context(), d.subject, d.aws)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Keep(found); err != nil {
		t.Fatal(err)
	}
	return found, contents(found.Policy)
}

// stays fetches and returns the error. The last good policy must not change.
func (d *desktop) stays(t *testing.T) error {
	t.Helper()
	before, _ := os.ReadFile(filepath.Join(d.root, stateFile))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := d.Fetch(ctx, d.subject, d.aws)
	if err == nil {
		t.Fatal("the policy was accepted")
	}
	if after, _ := os.ReadFile(filepath.Join(d.root, stateFile)); string(after) != string(before) {
		t.Error("the last good policy is another one")
	}
	return err
}

// contents returns the contents of the drop-ins, by file name.
func contents(p *policy.Policy) map[string]string {
	all := map[string]string{}
	for _, w := range policy.Of[policy.Dropin](p) {
		name := strings.TrimSuffix(filepath.Base(string(w.ID)), ".conf")
		all[name] = strings.TrimSpace(w.Spec.Content)
	}
	return all
}

func wants(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	want = maps.Clone(want)
	want["seed"] = "from the image"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", what, diff)
	}
}

func TestAPolicyIsFetchedOnceAndThenEachLookIsOneCall(t *testing.T) {
	d := newDesktop(t)
	d.fake.PutParameter("/host", "logs.example.com")
	d.everywhere(t, 1, map[string]string{"10-base": dropin("base", "@{{resolve:ssm:/host}} {{fact:hostname}}", "base"), "20-kiosk": dropin("kiosk", "x", "kiosk")})
	d.fake.ForgetRequests()
	found, got := d.follows(t)
	wants(t, "the first look", got, map[string]string{"base": "@logs.example.com A-1"})
	if n := len(d.fake.Requests()); n != 3 || found.Policy.Serial != 1 || found.Policy.Partial {
		t.Errorf("%d calls, serial %d", n, found.Policy.Serial)
	}
	d.fake.PutParameter("/host", "other.example.com")
	for range 3 {
		d.fake.ForgetRequests()
		_, got := d.follows(t)
		wants(t, "a later look", got, map[string]string{"base": "@other.example.com A-1"})
		if n := len(d.fake.Requests()); n != 1 {
			t.Errorf("it took %d calls", n)
		}
	}
}

func TestAParameterThatIsWantedNoMoreIsReadNoMore(t *testing.T) {
	d := newDesktop(t)
	d.fake.PutParameter("/host", "logs.example.com")
	d.fake.PutParameter("/port", "6514")
	d.everywhere(t, 1, map[string]string{"10": dropin("x", "@{{resolve:ssm:/host}}:{{resolve:ssm:/port}}")})
	d.follows(t)
	d.everywhere(t, 2, map[string]string{"10": dropin("x", "@elsewhere:{{resolve:ssm:/port}}")})
	d.follows(t)
	d.fake.ForgetRequests()
	d.follows(t)
	if requests := d.fake.Requests(); len(requests) != 1 || strings.Contains(string(requests[0].Body), "/host") {
		t.Errorf("%d calls; the first: %s", len(requests), requests[0].Body)
	}
}

func TestANewerPolicyCostsOnlyTheFragmentsThatChanged(t *testing.T) {
	d := newDesktop(t)
	fragments := map[string]string{}
	for i := range 15 {
		fragments[fmt.Sprintf("%02d", i)] = dropin(fmt.Sprint(i), "one")
	}
	d.everywhere(t, 1, fragments)
	d.follows(t)
	fragments["07"] = dropin("7", "two")
	d.everywhere(t, 2, fragments)
	d.fake.ForgetRequests()
	if found, got := d.follows(t); found.Policy.Serial != 2 || got["7"] != "two" || got["8"] != "one" {
		t.Errorf("serial %d: %v", found.Policy.Serial, got)
	}
	if n := len(d.fake.Requests()); n != 2 {
		t.Errorf("%d calls", n)
	}
}

func TestAChangeOfPersonaFetchesItsFragmentsAndWantsThoseOfTheOtherNoMore(t *testing.T) {
	d := newDesktop(t)
	d.everywhere(t, 1, map[string]string{"10-dev": dropin("dev", "x", "developer"), "20-fin": dropin("fin", "x", "finance")})
	_, got := d.follows(t)
	wants(t, "developer", got, map[string]string{"dev": "x"})
	d.subject.Personas = []string{"base", "finance"}
	found, got := d.follows(t)
	wants(t, "finance", got, map[string]string{"fin": "x"})
	if found.Policy.Partial {
		t.Error("nothing of the other persona would be taken away")
	}
	d.subject.Unsure = true
	if found, _ := d.follows(t); !found.Policy.Partial {
		t.Error("something may be taken away although the personas are not certain")
	}
}

func TestARolloutReachesAMachineWhenItIsLargeEnoughAndAPauseLeavesItWhereItIs(t *testing.T) {
	d := newDesktop(t)
	m := manifest.Manifest{
		Generation: d.generation(t, 42, map[string]string{"10": dropin("x", "old")}),
		Rollout:    &manifest.Rollout{Generation: d.generation(t, 43, map[string]string{"10": dropin("x", "new")}), Salt: "b1946ac9"},
	}
	place := manifest.Place(m.Rollout.Salt, "A-1\x00m1")
	for _, step := range []struct {
		what    string
		percent float64
		pause   bool
		serial  int64
		want    string
	}{
		{"to nobody", 0, false, 42, "old"},
		{"up to before this machine", place - 0.01, false, 42, "old"},
		{"up to this machine", place + 0.01, false, 43, "new"},
		{"paused, for all", 100, true, 43, "new"},
		{"paused, for nobody", 0, true, 43, "new"},
		{"taken back", 0, false, 42, "old"},
		{"paused again, for all", 100, true, 42, "old"},
		{"to all", 100, false, 43, "new"},
	} {
		m.Rollout.Percent, m.Pause = step.percent, step.pause
		d.publish(t, m)
		found, got := d.follows(t)
		wants(t, step.what, got, map[string]string{"x": step.want})
		if found.Policy.Serial != step.serial || !strings.Contains(found.Rollout, "serial 43 is for") || step.pause != strings.Contains(found.Rollout, "paused") {
			t.Errorf("%s: serial %d, %q", step.what, found.Policy.Serial, found.Rollout)
		}
	}
	// The rollout is over, and another begins while everything is paused.
	d.publish(t, manifest.Manifest{Pause: true, Generation: d.generation(t, 44, map[string]string{"10": dropin("x", "newest")})})
	found, got := d.follows(t)
	wants(t, "paused at a serial that is not listed any more", got, map[string]string{"x": "new"})
	if found.Policy.Serial != 43 {
		t.Errorf("serial %d", found.Policy.Serial)
	}
}

func TestARollbackIsOlderContentUnderANewSerial(t *testing.T) {
	d := newDesktop(t)
	old, newer := map[string]string{"10": dropin("x", "old")}, map[string]string{"10": dropin("x", "new")}
	d.everywhere(t, 1, old)
	d.follows(t)
	d.everywhere(t, 2, newer)
	d.follows(t)
	d.everywhere(t, 3, old)
	found, got := d.follows(t)
	wants(t, "after the rollback", got, map[string]string{"x": "old"})
	if found.Policy.Serial != 3 {
		t.Errorf("serial %d", found.Policy.Serial)
	}
}

func TestAnOlderManifestThatCameBackIsSaidAndTheLastGoodPolicyKept(t *testing.T) {
	d := newDesktop(t)
	d.everywhere(t, 41, map[string]string{"10": dropin("x", "old")})
	older := func() { d.everywhere(t, 41, map[string]string{"10": dropin("x", "old")}) }
	d.everywhere(t, 42, map[string]string{"10": dropin("x", "new")})
	d.follows(t)
	older()
	err := d.stays(t)
	want := "cannot use the manifest below /soe/prod: an older policy is published: its serial is 41, and serial 42 is in force; publish again, as serial 43 or later"
	if !errors.Is(err, source.ErrOlder) || err.Error() != want {
		t.Errorf("%v", err)
	}
	if source.TroubleOf(err).Name != source.OlderPublished || source.Classify(err) != source.People {
		t.Errorf("%s", source.TroubleOf(err))
	}
	// Serials of another path are independent.
	d.subject.Path = "/soe/other"
	d.write(t, stateFile, strings.Replace(d.read(t, stateFile), path, "/soe/other", 1))
	d.subject.Path = path
	if found, _ := d.follows(t); found.Policy.Serial != 41 {
		t.Errorf("serial %d", found.Policy.Serial)
	}
}

func (d *desktop) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(d.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestAMachineThatWasRestoredToAnOlderStateGoesToWhatIsPublishedWithoutFuss(t *testing.T) {
	d := newDesktop(t)
	d.everywhere(t, 1, map[string]string{"10": dropin("x", "old")})
	d.follows(t)
	snapshot := d.read(t, stateFile)
	d.everywhere(t, 2, map[string]string{"10": dropin("x", "new")})
	d.follows(t)
	d.write(t, stateFile, snapshot)
	found, got := d.follows(t)
	wants(t, "after the restore", got, map[string]string{"x": "new"})
	if found.Policy.Serial != 2 {
		t.Errorf("serial %d", found.Policy.Serial)
	}
}

func TestAPolicyThatIsNotWholeIsNotUsedAndWhatIsWrongWithItIsSaid(t *testing.T) {
	d := newDesktop(t)
	one := map[string]string{"10": dropin("x", "one"), "20": dropin("y", "one")}
	two := map[string]string{"10": dropin("x", "two"), "20": dropin("y", "two")}
	first := d.generation(t, 1, one)
	d.publish(t, manifest.Manifest{Generation: first})
	d.follows(t)
	second := d.generation(t, 2, two)
	name := second.Fragments[0].Parameter
	for _, test := range []struct {
		what, value, says string
	}{
		{"swapped", two["20"], name + " holds the text of 20"},
		{"stale", one["10"], name + " holds an earlier text of 10"},
		{"truncated", two["10"][:20], name + " is cut off: it has 20 bytes of "},
		{"altered", strings.Replace(two["10"], "two", "six", 1), name + " is not what the manifest lists"},
	} {
		d.publish(t, manifest.Manifest{Generation: second})
		d.fake.PutParameter(name, test.value)
		err := d.stays(t)
		if source.TroubleOf(err).Name != source.HalfPublished || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.what, err)
		}
	}
	d.fake.DeleteParameter(name)
	if err := d.stays(t); !strings.Contains(err.Error(), "there is no parameter "+name) {
		t.Error(err)
	}
	d.fake.PutParameter(name, two["10"])
	if found, _ := d.follows(t); found.Policy.Serial != 2 {
		t.Errorf("serial %d", found.Policy.Serial)
	}
}

func TestASecretIsInThePolicyThatNeedsItAndInNoFile(t *testing.T) {
	d := newDesktop(t)
	d.fake.PutSecureParameter("/s", canary)
	d.fake.PutSecret("json", `{"key":"`+canary+`"}`)
	d.fake.PutParameter("/p", "plain")
	d.everywhere(t, 1, map[string]string{"10": dropin("x", "{{resolve:ssm-secure:/s}} {{resolve:secretsmanager:json:SecretString:key}} {{resolve:ssm:/p}}")})
	_, got := d.follows(t)
	wants(t, "the policy", got, map[string]string{"x": canary + " " + canary + " plain"})
	if content := d.read(t, stateFile); !strings.Contains(content, "plain") || strings.Contains(content, canary) {
		t.Errorf("%s", content)
	}
	if info, err := os.Stat(filepath.Join(d.root, stateFile)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestForAnImageNoSecretIsFetched(t *testing.T) {
	d := newDesktop(t)
	d.System.Root = d.root // an image
	d.fake.PutSecureParameter("/s", canary)
	d.fake.PutSecret("json", `{"key":"`+canary+`"}`)
	d.fake.PutParameter("/p", "plain")
	d.everywhere(t, 1, map[string]string{
		"10": dropin("x", "{{resolve:ssm-secure:/s}} {{resolve:ssm:/p}}"), "20": dropin("y", "{{resolve:secretsmanager:json:SecretString:key}}"), "30": dropin("z", "{{resolve:ssm:/p}}"),
	})
	found, err := d.Fetch(t.Context(), d.subject, d.aws)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range found.Policy.Resources {
		if secret := strings.HasSuffix(string(r.ID), "x.conf") || strings.HasSuffix(string(r.ID), "y.conf"); len(r.Secrets) > 0 || secret != (len(r.Missing) > 0) {
			t.Errorf("%s: %d secrets, missing %v", r.ID, len(r.Secrets), r.Missing)
		}
	}
	for _, request := range d.fake.Requests() {
		if strings.Contains(request.Action, "Secret") || strings.Contains(string(request.Body), `"/s"`) {
			t.Errorf("AWS was asked for a secret: %s %s", request.Action, request.Body)
		}
	}
}

func TestAValueThatCannotBeHadHoldsUpOnlyWhatNeedsIt(t *testing.T) {
	d := newDesktop(t)
	d.fake.PutSecret("s", canary)
	d.fake.DenySecret("s")
	d.everywhere(t, 1, map[string]string{"10": dropin("x", "{{resolve:secretsmanager:s}}"), "20": dropin("y", "good"), "30": dropin("z", "{{resolve:ssm:/none}}")})
	found, got := d.follows(t)
	wants(t, "what can be enforced", got, map[string]string{"y": "good"})
	if len(found.Missing) != 2 || source.Classify(found.Missing) != source.Denied {
		t.Errorf("missing: %v", found.Missing)
	}
	for reference, says := range map[string]string{
		"{{resolve:secretsmanager:s}}": "denied: secretsmanager:GetSecretValue on " + awsfake.SecretARN("s"),
		"{{resolve:ssm:/none}}":        "value missing: cannot resolve {{resolve:ssm:/none}}: there is no such value",
	} {
		if why := found.Policy.Why[reference]; why != says {
			t.Errorf("%s: %q", reference, why)
		}
	}
	d.fake.Heal()
	d.fake.PutParameter("/none", "there")
	found, got = d.follows(t)
	wants(t, "when it can be had", got, map[string]string{"x": canary, "y": "good", "z": "there"})
	if len(found.Missing) > 0 {
		t.Errorf("missing: %v", found.Missing)
	}
}

func TestWithoutTheNetworkThePolicyIsWhatWasPublishedLastAndHowOldThatIsIsKnown(t *testing.T) {
	d := newDesktop(t)
	known, err := d.Known(d.subject)
	if err != nil || !known.Saved.IsZero() || !known.Policy.Partial {
		t.Fatalf("%+v, %v", known, err)
	}
	wants(t, "never online", contents(known.Policy), map[string]string{})

	d.fake.PutParameter("/p", "plain")
	d.fake.PutSecret("s", canary)
	d.everywhere(t, 7, map[string]string{"10": dropin("x", "{{resolve:ssm:/p}}"), "20": dropin("y", "{{resolve:secretsmanager:s}}")})
	d.follows(t)
	known, err = d.Known(d.subject)
	if err != nil || known.Policy.Serial != 7 || known.Policy.Partial || time.Since(known.Saved) > time.Minute {
		t.Fatalf("%+v, %v", known, err)
	}
	wants(t, "offline", contents(known.Policy), map[string]string{"x": "plain"})

	if time.Since(known.Since) > time.Minute {
		t.Errorf("it has serial 7 since %s", known.Since)
	}

	d.write(t, "etc/soe-agent/policy.d/50-local.toml", "schema = 1\n[dropins\n")
	if known, err = d.Known(d.subject); err != nil || len(known.Refused) != 1 || known.Policy.Serial != 7 {
		t.Errorf("with a local fragment that is wrong: %+v, %v", known, err)
	}
	d.subject.Facts.MachineID = "another"
	if known, err = d.Known(d.subject); err != nil || known.Policy.Serial != 0 {
		t.Errorf("a clone goes by %+v, %v", known.Policy, err)
	}
}

func TestThePolicyThatIsKeptIsNotWrittenAtEveryLook(t *testing.T) {
	d := newDesktop(t)
	d.everywhere(t, 1, map[string]string{"10": dropin("x", "one")})
	d.follows(t)
	before, err := os.Stat(filepath.Join(d.root, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	d.follows(t)
	after, err := os.Stat(filepath.Join(d.root, stateFile))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again, %v", err)
	}
	// The time of the last contact is kept to the hour.
	old := strings.Replace(d.read(t, stateFile), time.Now().Format("2006-"), "1999-", 1)
	d.write(t, stateFile, old)
	d.follows(t)
	if known, err := d.Known(d.subject); err != nil || time.Since(known.Saved) > time.Minute {
		t.Errorf("%s, %v", known.Saved, err)
	}
}

func TestAPolicyOfTheAuthorsOwnIsResolvedAndAWSAskedOnlyIfNeedBe(t *testing.T) {
	d := newDesktop(t)
	d.fake.PutParameter("/p", "plain")
	connect := func() (*source.AWS, error) { return d.aws, nil }
	text := func(content string) []policy.Source { return []policy.Source{{Name: "x", Text: dropin("x", content)}} }
	p, err := d.Only(t.Context(), d.subject, text("{{resolve:ssm:/p}}"), connect)
	if err != nil || contents(p)["x"] != "plain" {
		t.Errorf("%v, %v", p, err)
	}
	nowhere := errors.New("no region")
	p, err = d.Only(t.Context(), d.subject, text("{{resolve:ssm:/p}}"), func() (*source.AWS, error) { return nil, nowhere })
	if err != nil || p.Why["{{resolve:ssm:/p}}"] != "failing: no region" {
		t.Errorf("%v, %v", p, err)
	}
	if p, err = d.Only(t.Context(), d.subject, text("{{fact:hostname}}"), nil); err != nil || contents(p)["x"] != "A-1" {
		t.Errorf("%v, %v", p, err)
	}
}

func TestHowLongTheMachineHasHadItsPolicyIsKnown(t *testing.T) {
	d := newDesktop(t)
	d.everywhere(t, 1, map[string]string{"10": dropin("x", "one")})
	d.follows(t)
	d.write(t, stateFile, regexp.MustCompile(`"since":"[^"]*"`).ReplaceAllString(d.read(t, stateFile), `"since":"2001-02-03T04:05:06Z"`))
	year := func(want int) {
		t.Helper()
		d.follows(t)
		if known, err := d.Known(d.subject); err != nil || known.Since.Year() != want {
			t.Errorf("serial %d is there since %s, %v", known.Policy.Serial, known.Since, err)
		}
	}
	year(2001) // the next fetch does not change it
	d.everywhere(t, 2, map[string]string{"10": dropin("x", "two")})
	year(time.Now().Year())
	// An agent that did not record this did record when the policy was confirmed.
	d.write(t, stateFile, regexp.MustCompile(`"since":"[^"]*",?`).ReplaceAllString(regexp.MustCompile(`"saved":"[^"]*"`).ReplaceAllString(d.read(t, stateFile), `"saved":"2002-02-03T04:05:06Z"`), ""))
	year(2002)
}

func TestWhatIsWrongInAFragmentThatNotEverybodyMayReadIsRootsToRead(t *testing.T) {
	d := newDesktop(t)
	const name = "etc/soe-agent/policy.d/50-here.toml"
	d.write(t, name, "schema = 1\n[dropins.\"/etc/profile.d/a.sh\"]\nensure = \"M4RK\"\n")
	chmod := func(name string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(filepath.Join(d.root, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, scene := range []struct {
		file, dir os.FileMode
		quoted    bool
	}{{0o644, 0o755, true}, {0o600, 0o755, false}, {0o640, 0o755, false}, {0o644, 0o700, false}} {
		chmod(name, scene.file)
		chmod(filepath.Dir(name), scene.dir)
		known, err := d.Known(d.subject)
		whole, open := strings.Join(public.Whole(known.Refused), "\n"), strings.Join(public.Open(known.Refused), "\n")
		if err != nil || !strings.Contains(whole, "M4RK") || strings.Contains(open, "M4RK") != scene.quoted || !strings.Contains(open, "/"+name+":2: cannot use") {
			t.Errorf("of a file of mode %o in a directory of mode %o root reads %q and everybody %q, %v", scene.file, scene.dir, whole, open, err)
		}
	}
	// What is published is for root to read, even if a local file has the same name.
	d.write(t, "soe/base/10.toml", "")
	_, err := policy.Parse(policy.Source{Name: "/soe/base/10.toml", Layer: policy.Remote, Text: "schema = 1\n[dropins.M4RK]\n"})
	lines := d.Problems(fmt.Errorf("cannot use the published policy: %w", err))
	if err == nil || len(lines) == 0 || !strings.Contains(strings.Join(public.Whole(lines), ""), "M4RK") || strings.Contains(strings.Join(public.Open(lines), ""), "M4RK") {
		t.Errorf("of a published fragment it says %q", lines)
	}
}
