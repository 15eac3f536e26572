package herd

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

const (
	// quota is what Parameter Store lets an account have, in calls a second, unless it
	// pays for more (AWS General Reference).
	quota      = 40
	policyPath = "/soe/prod"
)

// pollOf is how often so many look: every 15 minutes, or as seldom as 40 calls a second
// ask of a larger fleet (docs/publishing.md).
func pollOf(agents int) time.Duration { return 15 * time.Minute * time.Duration(max(1, agents/10_000)) }

// fragments are a policy that wants a parameter and a secret.
func fragments() map[string]string {
	return map[string]string{
		"10-base": "schema = 1\n[dropins.\"/etc/soe.d/syslog.conf\"]\ncontent = \"@{{resolve:ssm:/soe/prod/syslog/host}}\\n\"\n" +
			"[dropins.\"/etc/soe.d/token.conf\"]\ncontent = \"{{resolve:secretsmanager:soe/token}}\\n\"\n",
		"20-developer": "schema = 1\npersonas = [\"developer\"]\n[packages]\ngit = \"present\"\n",
		"30-finance":   "schema = 1\npersonas = [\"finance\"]\n[packages]\ngit = \"absent\"\n",
	}
}

// An agent is what of an agent deals with AWS.
type agent struct {
	policysync.Machine
	aws     *source.AWS
	subject policysync.Subject
	resumed chan struct{}
	gaveUp  bool

	started  time.Time     // its watch
	waited   time.Duration // from then until it first had what is published
	calls    int           // that were answered until then
	answered atomic.Int64  // calls in all
}

// count counts the calls that next gets answered.
func (a *agent) count(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		answer, err := next.RoundTrip(r)
		if err == nil && answer.StatusCode == http.StatusOK {
			a.answered.Add(1)
		}
		return answer, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A herd is agents of one account.
type herd struct {
	aws    *awsfake.Server
	agents []*agent
	jitter func(time.Duration) time.Duration

	mu    sync.Mutex
	looks int           // that had what is published
	left  int           // agents whose first look is awaited
	all   chan struct{} // closed when none is left
}

// root is a machine's files, which all agents share, but for their state.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "herd") // nobody's disk is measured
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newHerd makes n agents. It is called in the bubble in which they live.
func newHerd(t *testing.T, dir string, n int, jitter func(time.Duration) time.Duration) *herd {
	t.Helper()
	h := &herd{aws: awsfake.InMemory(), jitter: jitter}
	h.aws.Record(false)
	h.aws.SetQuota(quota, quota)
	h.aws.PutParameter("/soe/prod/syslog/host", "logs.example.com")
	h.aws.PutSecret("soe/token", "token")
	if err := h.aws.PublishPolicy(policyPath, 1, fragments()); err != nil {
		t.Fatal(err)
	}
	if err := awsfake.Activate(dir, awsfake.DefaultCredentials(), time.Now().AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	s.Root = "/" // it plays machines that run; an image gets no secret
	for i := range n {
		name := fmt.Sprintf("A-%07d", i)
		config := source.Config{Region: awsfake.Region, Path: policyPath, Endpoint: h.aws.URL}
		a := &agent{
			Machine: policysync.Machine{
				System: s, SeedDir: "/usr/share/soe-agent/policy.d", LocalDir: "/etc/soe-agent/policy.d",
				StateDir: "/state/" + name, Log: slog.New(slog.DiscardHandler),
			},
			resumed: make(chan struct{}, 1),
			subject: policysync.Subject{Facts: facts.Facts{Hostname: name, MachineID: "image"}, Path: policyPath, Personas: []string{"base", "developer"}},
		}
		client := &http.Client{Transport: a.count(h.aws.RoundTripper()), Timeout: 20 * time.Second}
		a.aws, err = source.Connect(config, "", credentials.New(config.Credentials, s), client, source.Retry{Jitter: jitter})
		if err != nil {
			t.Fatal(err)
		}
		h.agents = append(h.agents, a)
	}
	return h
}

// start starts the agents, spread over a time, and returns when each has had what
// is published. They live on until ctx is done, which wg tells.
func (h *herd) start(ctx context.Context, wg *sync.WaitGroup, over time.Duration) {
	h.await()
	poll := pollOf(len(h.agents))
	for _, a := range h.agents {
		delay := rand.N(over)
		wg.Go(func() {
			source.Sleep(ctx, delay)
			a.started = time.Now()
			f := policysync.Poller{
				Fetch: func(ctx context.Context) error { return h.look(ctx, a) }, Interval: func() time.Duration { return poll },
				Failed: func(error, time.Time) {}, Resumed: a.resumed, Retry: source.Retry{Jitter: h.jitter},
			}
			f.Run(ctx)
			a.gaveUp = ctx.Err() == nil
		})
	}
	<-h.all
}

// wake has all agents wake at the same moment, and returns when each has looked.
func (h *herd) wake() {
	h.await()
	for _, a := range h.agents {
		a.started = time.Now()
		a.resumed <- struct{}{}
	}
	<-h.all
}

// await forgets what each agent has had.
func (h *herd) await() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left, h.all = len(h.agents), make(chan struct{})
	for _, a := range h.agents {
		a.calls = 0
		a.answered.Store(0)
	}
}

func (h *herd) look(ctx context.Context, a *agent) error {
	found, err := a.Fetch(ctx, a.subject, a.aws)
	if err != nil {
		return err
	}
	if err := a.Keep(found); err != nil {
		return err
	}
	if len(found.Missing) > 0 {
		return found.Missing
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks++
	if a.calls == 0 {
		a.waited, a.calls = time.Since(a.started), int(a.answered.Load())
		if h.left--; h.left == 0 {
			close(h.all)
		}
	}
	return nil
}

// A result is what came of a herd.
type result struct {
	agents, looks       int
	took, least         time.Duration // until the last had what is published; less is not possible with the quota
	median, p99         time.Duration // an agent's wait
	most                int           // calls of one agent until it had what is published
	parameters, secrets awsfake.Calls
}

func (r result) String() string {
	each := func(n int) float64 { return float64(n) / float64(r.agents) }
	return fmt.Sprintf("%d agents: all done after %s, %.1f %% more than the quota asks for; median %s, p99 %s; at most %d calls each, and %.1f that were throttled on average",
		r.agents, r.took.Round(time.Second), 100*(r.over()-1), r.median.Round(time.Second), r.p99.Round(time.Second), r.most, each(r.parameters.Throttled))
}

// over is how many times as long it took as it had to.
func (r result) over() float64 { return r.took.Seconds() / r.least.Seconds() }

// measure does something and says what came of it.
func (h *herd) measure(do func()) result {
	h.aws.ForgetRequests()
	h.looks = 0
	start := time.Now()
	do()
	r := result{
		agents: len(h.agents), took: time.Since(start), looks: h.looks,
		parameters: h.aws.Calls("GetParameters"), secrets: h.aws.Calls("BatchGetSecretValue"),
	}
	r.least = time.Duration(r.parameters.Answered) * time.Second / quota
	var waits []time.Duration
	for _, a := range h.agents {
		waits = append(waits, a.waited)
		r.most = max(r.most, a.calls)
	}
	slices.Sort(waits)
	r.median, r.p99 = waits[len(waits)/2], waits[len(waits)*99/100]
	return r
}

// live has n agents start within a minute, live for an hour, and wake together.
func live(t *testing.T, n int, jitter func(time.Duration) time.Duration) (start, steady, wake result) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // there is memory, and little time
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(14 << 30))
	dir := root(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h := newHerd(t, dir, n, jitter)
		var wg sync.WaitGroup
		start = h.measure(func() { h.start(ctx, &wg, time.Minute) })
		t.Log("start: ", start)
		steady = h.measure(func() { time.Sleep(time.Hour) })
		wake = h.measure(h.wake)
		t.Log("wake:  ", wake)
		cancel()
		wg.Wait()
		for _, a := range h.agents {
			if a.gaveUp {
				t.Errorf("%s gave up", a.subject.Facts.Hostname)
			}
		}
	})
	return start, steady, wake
}

var agents = flag.Int("agents", 10_000, "how many agents are in the herd")

func TestAHerdThatStartsAndWakesTogetherIsServedAsFastAsTheQuotaAllows(t *testing.T) {
	start, steady, wake := live(t, *agents, nil)
	for what, r := range map[string]result{"start": start, "wake": wake} {
		if r.over() > 1.15 {
			t.Errorf("%s took %s, and the quota asks for %s", what, r.took, r.least)
		}
	}
	if start.most > 4 || wake.most > 2 {
		t.Errorf("an agent made %d calls to start, and %d to wake", start.most, wake.most)
	}
	for what, r := range map[string]result{"steady": steady, "wake": wake} {
		if r.looks == 0 || r.parameters.Answered != r.looks || r.secrets.Answered != r.looks {
			t.Errorf("%s: %d looks made %d calls of Parameter Store and %d of Secrets Manager", what, r.looks, r.parameters.Answered, r.secrets.Answered)
		}
	}
	if steady.parameters.Throttled > 0 {
		t.Errorf("%d calls were throttled without need", steady.parameters.Throttled)
	}
}

func TestWithoutJitterTheSameHerdTakesManyTimesAsLong(t *testing.T) {
	const n = 1000
	_, _, spread := live(t, n, nil)
	_, _, together := live(t, n, func(bound time.Duration) time.Duration { return bound })
	if together.median < 2*spread.median {
		t.Errorf("an agent waits %s, and without jitter %s", spread.median, together.median)
	}
}
