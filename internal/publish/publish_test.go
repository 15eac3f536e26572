package publish_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/publish"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

const at = "/soe/prod"

// A fleet reads what is published at an endpoint.
type fleet struct {
	*awsfake.Server
	author, node *ssm.Client
}

func newFleet() *fleet {
	f := &fleet{Server: awsfake.InMemory()}
	client := func(credentials aws.Credentials) *ssm.Client {
		return ssm.New(ssm.Options{
			BaseEndpoint: &f.URL, Region: awsfake.Region, Retryer: aws.NopRetryer{}, HTTPClient: &http.Client{Transport: f.RoundTripper()},
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil }),
		})
	}
	f.author, f.node = client(awsfake.PublisherCredentials()), client(awsfake.DefaultCredentials())
	return f
}

func once(ctx context.Context, op func(context.Context) error) error { return op(ctx) }

func (f *fleet) publisher() *publish.Publisher {
	return &publish.Publisher{Store: f.author, Path: at, Call: once}
}

// sources returns fragments in files, by name.
func sources(fragments map[string]string) []policy.Source {
	var all []policy.Source
	for _, name := range slices.Sorted(maps.Keys(fragments)) {
		all = append(all, policy.Source{Name: "policy/" + name + ".toml", Layer: policy.Local, Text: fragments[name]})
	}
	return all
}

// try plans and writes.
func try(ctx context.Context, p *publish.Publisher, fragments map[string]string, percent float64) (*publish.Plan, publish.Result, error) {
	plan, err := p.Plan(ctx, sources(fragments), percent)
	if err != nil {
		return nil, publish.Result{}, err
	}
	result, err := p.Write(ctx, plan)
	return plan, result, err
}

func (f *fleet) publish(t *testing.T, fragments map[string]string, percent float64) (*publish.Plan, publish.Result) {
	t.Helper()
	plan, result, err := try(t.Context(), f.publisher(), fragments, percent)
	if err != nil || len(result.Warnings) > 0 {
		t.Fatalf("%v, warnings %q", err, result.Warnings)
	}
	return plan, result
}

// manifest returns the published manifest; ok is false if there is none.
func (f *fleet) manifest(ctx context.Context) (m manifest.Manifest, ok bool, err error) {
	out, err := f.node.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(at + "/manifest")})
	var none *types.ParameterNotFound
	if errors.As(err, &none) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	m, err = manifest.Parse(at+"/manifest", *out.Parameter.Value)
	return m, true, err
}

// read returns what machines get of a generation. It fails if anything is missing or wrong.
func (f *fleet) read(ctx context.Context, g manifest.Generation) (map[string]string, error) {
	texts := map[string]string{}
	for _, e := range g.Fragments {
		values := map[string]string{}
		for batch := range slices.Chunk(e.Parameters(), 10) {
			out, err := f.node.GetParameters(ctx, &ssm.GetParametersInput{Names: batch})
			if err != nil {
				return nil, err
			}
			for _, p := range out.Parameters {
				values[*p.Name] = *p.Value
			}
		}
		text, err := e.Assemble(values, nil)
		if err != nil {
			return nil, err
		}
		texts[e.Name] = text
	}
	return texts, nil
}

// whole fails if anything that the manifest names is missing or wrong.
func (f *fleet) whole(ctx context.Context) error {
	m, _, err := f.manifest(ctx)
	if err == nil {
		_, err = f.read(ctx, m.Generation)
	}
	if err == nil && m.Rollout != nil {
		_, err = f.read(ctx, m.Rollout.Generation)
	}
	return err
}

// everybody and canaries fail unless that generation has this serial and these fragments.
func (f *fleet) everybody(t *testing.T, serial int64, fragments map[string]string) {
	t.Helper()
	m, _, err := f.manifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.holds(t, m.Generation, serial, fragments)
}

func (f *fleet) canaries(t *testing.T, serial int64, percent float64, fragments map[string]string) (salt string) {
	t.Helper()
	m, _, err := f.manifest(t.Context())
	if err != nil || m.Rollout == nil {
		t.Fatalf("%+v, %v", m, err)
	}
	if m.Rollout.Percent != percent {
		t.Errorf("the rollout is for %v percent, not %v", m.Rollout.Percent, percent)
	}
	f.holds(t, m.Rollout.Generation, serial, fragments)
	return m.Rollout.Salt
}

func (f *fleet) holds(t *testing.T, g manifest.Generation, serial int64, fragments map[string]string) {
	t.Helper()
	texts, err := f.read(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if g.Serial != serial {
		t.Errorf("the serial is %d, not %d", g.Serial, serial)
	}
	if diff := cmp.Diff(fragments, texts); diff != "" {
		t.Error(diff)
	}
}

// parameters returns the names of all fragments' parameters.
func (f *fleet) parameters(t *testing.T) (names []string) {
	t.Helper()
	pages := ssm.NewGetParametersByPathPaginator(f.author, &ssm.GetParametersByPathInput{Path: aws.String(at + "/policy"), Recursive: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Parameters {
			names = append(names, *p.Name)
		}
	}
	return names
}

func (f *fleet) writes() (n int) {
	for _, r := range f.Requests() {
		if r.Action == "PutParameter" || r.Action == "DeleteParameters" {
			n++
		}
	}
	return n
}

// incompressible returns a fragment that takes several parameters.
func incompressible() string {
	var b strings.Builder
	b.WriteString("schema = 1\n[dropins.\"/etc/sysctl.d/60-soe.conf\"]\ncontent = \"\"\"\n")
	for i := range 120 {
		fmt.Fprintf(&b, "# %s\n", manifest.Digest(fmt.Sprint(i)))
	}
	return b.String() + "\"\"\"\n"
}

// The policies of the tests.
func one() map[string]string {
	return map[string]string{
		"10-base": "schema = 1\n[packages]\ngit = \"present\"\n",
		"20-dev":  "schema = 1\npersonas = [\"developer\"]\n[pcoip]\nmaximum_frame_rate = 24\n",
		"30-long": incompressible(),
	}
}

func two() map[string]string {
	p := one()
	p["10-base"] = "schema = 1\n[packages]\ngit = \"latest\"\n"
	p["40-host"] = "schema = 1\n[dropins.\"/etc/rsyslog.d/60-forward.conf\"]\ncontent = \"*.* @@{{resolve:ssm:/soe/prod/syslog}}:6514\\n\"\n"
	return p
}

func three() map[string]string {
	return map[string]string{"10-base": "schema = 1\n[packages]\ngit = \"absent\"\n"}
}

func TestAPolicyIsPublishedInStandardParametersAndReadAsItWasWritten(t *testing.T) {
	f := newFleet()
	plan, result := f.publish(t, two(), publish.Everybody)
	f.everybody(t, 1, two())
	if diff := cmp.Diff(plan.Parameters, result.Written); diff != "" {
		t.Error(diff)
	}
	for _, name := range result.Written {
		out, err := f.author.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
		if err != nil || len(*out.Parameter.Value) > 4096 || out.Parameter.Type != types.ParameterTypeString {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(result.Written) <= len(two()) {
		t.Errorf("no fragment takes several parameters: %q", result.Written)
	}
}

func TestAnotherPolicyHasTheNextSerialAndWritesOnlyWhatIsNew(t *testing.T) {
	f := newFleet()
	f.publish(t, one(), publish.Everybody)
	_, result := f.publish(t, two(), publish.Everybody)
	f.everybody(t, 2, two())
	for _, name := range result.Written {
		if !strings.HasPrefix(name, at+"/policy/10-base/") && !strings.HasPrefix(name, at+"/policy/40-host/") {
			t.Errorf("%s was written", name)
		}
	}
}

func TestPublishingTheSameAgainWritesNothing(t *testing.T) {
	f := newFleet()
	f.publish(t, one(), publish.Everybody)
	f.publish(t, two(), 10)
	for _, percent := range []float64{10, publish.Everybody} {
		f.publish(t, two(), percent)
		f.ForgetRequests()
		plan, result := f.publish(t, two(), percent)
		if !plan.Nothing() || f.writes() != 0 || result.Version != 0 {
			t.Errorf("at %v percent: %+v, %d writes", percent, plan, f.writes())
		}
	}
	if plan, _ := f.publish(t, two(), 25); !plan.Nothing() {
		t.Error("a rollout of what everybody has is no news")
	}
	f.everybody(t, 2, two())
}

func TestARolloutLeavesTheOthersWhatTheyHaveAndGrowsUntilEverybodyHasIt(t *testing.T) {
	f := newFleet()
	f.publish(t, one(), publish.Everybody)
	f.publish(t, two(), 10)
	f.everybody(t, 1, one())
	salt := f.canaries(t, 2, 10, two())
	_, result := f.publish(t, two(), 50)
	f.everybody(t, 1, one())
	if again := f.canaries(t, 2, 50, two()); again != salt {
		t.Error("the rollout goes to other machines when it grows")
	}
	if len(result.Written) > 0 {
		t.Errorf("%q was written again", result.Written)
	}
	f.publish(t, two(), publish.Everybody)
	f.everybody(t, 2, two())
	if m, _, _ := f.manifest(t.Context()); m.Rollout != nil {
		t.Error("the rollout goes on")
	}
}

func TestABetterPolicyGoesToTheSameMachinesAndTheNextRolloutToOthers(t *testing.T) {
	f := newFleet()
	f.publish(t, one(), publish.Everybody)
	f.publish(t, two(), 10)
	salt := f.canaries(t, 2, 10, two())
	f.publish(t, three(), 10)
	f.everybody(t, 1, one())
	if again := f.canaries(t, 3, 10, three()); again != salt {
		t.Error("most machines of the first attempt fall back")
	}
	f.publish(t, three(), publish.Everybody)
	f.publish(t, two(), 10)
	if again := f.canaries(t, 4, 10, two()); again == salt {
		t.Error("the same machines are the first again")
	}
}

func TestARollbackIsOlderContentUnderANewSerial(t *testing.T) {
	f := newFleet()
	f.publish(t, one(), publish.Everybody)
	f.publish(t, two(), publish.Everybody)
	f.publish(t, one(), publish.Everybody)
	f.everybody(t, 3, one())

	f.publish(t, three(), 10) // and one for a rollout
	f.publish(t, one(), publish.Everybody)
	f.everybody(t, 5, one()) // machines that have 4 do not go back to 3
}

func TestWhatCannotBeRolledOutIsSaid(t *testing.T) {
	f := newFleet()
	for percent, want := range map[float64]string{
		10: "cannot begin with a rollout", -1: "from 0 to 100", 101: "from 0 to 100",
	} {
		if _, _, err := try(t.Context(), f.publisher(), one(), percent); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v percent: %v", percent, err)
		}
	}
	f.publish(t, one(), publish.Everybody)
	f.publish(t, two(), 10)
	_, _, err := try(t.Context(), f.publisher(), one(), 20)
	if err == nil || !strings.Contains(err.Error(), "to take back the rollout of serial 2, publish without --percent") {
		t.Error(err)
	}
	f.canaries(t, 2, 10, two())
}

func TestAPauseAndItsEndChangeNothingElse(t *testing.T) {
	f := newFleet()
	if _, err := f.publisher().PlanPause(t.Context(), true); err == nil || !strings.Contains(err.Error(), "nothing is published") {
		t.Error(err)
	}
	f.publish(t, one(), publish.Everybody)
	f.publish(t, two(), 10)
	before, _, _ := f.manifest(t.Context())
	for _, pause := range []bool{true, false} {
		plan, err := f.publisher().PlanPause(t.Context(), pause)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.publisher().Write(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		before.Pause = pause
		after, _, _ := f.manifest(t.Context())
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error(diff)
		}
		if again, err := f.publisher().PlanPause(t.Context(), pause); err != nil || !again.Nothing() {
			t.Errorf("again: %v", err)
		}
	}
}

func TestWhatIsPublishedInAPauseWaitsForItsEnd(t *testing.T) {
	f := newFleet()
	f.publish(t, one(), publish.Everybody)
	plan, _ := f.publisher().PlanPause(t.Context(), true)
	if _, err := f.publisher().Write(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	after, _ := f.publish(t, two(), publish.Everybody)
	m, _, _ := f.manifest(t.Context())
	if _, moves := m.For("A-1", 1); moves || !after.After.Paused {
		t.Errorf("%+v", after.After)
	}
}

func TestAManifestOfAnotherSchemaIsNotReplaced(t *testing.T) {
	f := newFleet()
	f.PutParameter(at+"/manifest", "schema = 3\n")
	_, _, err := try(t.Context(), f.publisher(), one(), publish.Everybody)
	if err == nil || !strings.Contains(err.Error(), "knows the schemas 1 and 2, and not 3") {
		t.Error(err)
	}
	if f.writes() != 0 {
		t.Error("something was written")
	}
}

func TestABadPolicyIsReportedWholeAndNothingIsAsked(t *testing.T) {
	f := newFleet()
	_, _, err := try(t.Context(), f.publisher(), map[string]string{"a": "schema = 1\n[packages]\ngit = 1\n", "b": "x = 1\n"}, publish.Everybody)
	if problems := policy.AsProblems(err); len(problems) < 2 || problems[0].File != "policy/a.toml" {
		t.Error(err)
	}
	_, err = f.publisher().Plan(t.Context(), []policy.Source{{Name: "x/a.toml", Text: "schema = 1\n"}, {Name: "y/a.toml", Text: "schema = 1\n"}}, publish.Everybody)
	if err == nil || err.Error() != "cannot publish y/a.toml: its name is that of x/a.toml, and a fragment's name is there once; rename it" {
		t.Error(err)
	}
	if _, err := f.publisher().Plan(t.Context(), nil, publish.Everybody); err == nil {
		t.Error("a policy without fragments is published")
	}
	if n := len(f.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestAPathIsWantedBeforeAnythingIsAsked(t *testing.T) {
	f := newFleet()
	for path, want := range map[string]string{"": "no path is configured", "soe": "a path is made of", "/soe//x": "a path is made of", "/": "a path is made of"} {
		p := f.publisher()
		p.Path = path
		if _, _, err := try(t.Context(), p, one(), publish.Everybody); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if n := len(f.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestAParameterThatHoldsSomethingElseIsNamedAndLeftAlone(t *testing.T) {
	f := newFleet()
	_, parameters, err := manifest.Pack(at, "10-base", one()["10-base"], nil)
	if err != nil {
		t.Fatal(err)
	}
	f.PutParameter(parameters[0].Name, "somebody's")
	_, _, err = try(t.Context(), f.publisher(), one(), publish.Everybody)
	if err == nil || !strings.Contains(err.Error(), parameters[0].Name+": it is there already and holds something else") {
		t.Error(err)
	}
	if f.writes() != 0 {
		t.Error("something was written")
	}
}

func TestAManifestThatIsTooLargeIsRefusedAndOneThatIsNotFreeIsSaid(t *testing.T) {
	f := newFleet()
	many := func(n int) map[string]string {
		fragments := map[string]string{}
		for i := range n {
			fragments[fmt.Sprintf("%03d-fragment", i)] = fmt.Sprintf("schema = 1\n# %d\n", i)
		}
		return fragments
	}
	plan, _ := f.publish(t, many(75), publish.Everybody)
	if len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "not free") {
		t.Errorf("%q", plan.Warnings)
	}
	f.everybody(t, 1, many(75))
	if _, _, err := try(t.Context(), f.publisher(), many(200), publish.Everybody); err == nil || !strings.Contains(err.Error(), "Parameter Store takes 8192") {
		t.Error(err)
	}
	f.publish(t, many(2), publish.Everybody) // an advanced parameter cannot become a standard one
	f.everybody(t, 2, many(2))
}

func TestWhatWasDeletedByHandIsWrittenAgain(t *testing.T) {
	f := newFleet()
	_, result := f.publish(t, one(), publish.Everybody)
	f.DeleteParameter(result.Written[0])
	if f.whole(t.Context()) == nil {
		t.Fatal("nothing is missing")
	}
	plan, result := f.publish(t, one(), publish.Everybody)
	if len(result.Written) != 1 || result.Version != 0 || len(plan.Warnings) != 1 {
		t.Errorf("%+v, warnings %q", result, plan.Warnings)
	}
	f.everybody(t, 1, one())
}

// ages makes parameters look as if they had been written days ago.
func (f *fleet) ages(t *testing.T) {
	t.Helper()
	for _, name := range f.parameters(t) {
		f.Age(name, 48*time.Hour)
	}
}
