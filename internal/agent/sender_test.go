package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// fixed provides credentials that never change.
type fixed struct{}

func (fixed) Retrieve(context.Context) (aws.Credentials, error) {
	return awsfake.DefaultCredentials(), nil
}
func (fixed) Forget() {}

// A reporter is the part of an agent that delivers reports to AWS.
type reporter struct {
	*testing.T
	aws   *awsfake.Server
	root  string
	node  string
	clock *shifted

	*sender
	mu        sync.Mutex
	said      []string // errors of the failed attempts
	delivered time.Time
}

// A shifted clock is wrong by a given time.
type shifted struct {
	system.Clock
	by time.Duration
}

func (s *shifted) Now() time.Time { return s.Clock.Now().Add(s.by) }

const oneNode = "mi-0123456789abcdef0"

// newReporter returns one with an empty disk. Call it in a synctest bubble.
func newReporter(t *testing.T) *reporter {
	return &reporter{T: t, aws: awsfake.InMemory(), root: t.TempDir(), node: oneNode, clock: &shifted{}}
}

// live begins a run of the agent, which ends when end is called.
func (r *reporter) live() (end func()) {
	r.Helper()
	s, err := system.Open(system.Options{Root: r.root})
	if err != nil {
		r.Fatal(err)
	}
	r.clock.Clock = s.Clock
	client := &http.Client{Transport: r.aws.RoundTripper()}
	to, err := source.Connect(source.Config{Endpoint: r.aws.URL}, awsfake.Region, fixed{}, client, source.Retry{})
	if err != nil {
		r.Fatal(err)
	}
	r.sender = &sender{
		file: complianceFile, node: r.node, files: s.FS, clock: r.clock, log: slog.New(slog.DiscardHandler), room: report.Room,
		compose: complianceLetter, splay: func() time.Duration { return longestSplay },
		deliver: func(ctx context.Context, l letter) error {
			if l.node() == "" {
				return errNoNode
			}
			return l.put(ctx, to)
		},
		done: func(delivered time.Time, err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.delivered = delivered
			if err != nil {
				r.said = append(r.said, err.Error())
			}
		},
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(r.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.run(ctx) })
	return func() { cancel(); wg.Wait() }
}

// reports hands in a report of one resource.
func (r *reporter) reports(id policy.ID, state converge.State) {
	f := facts.Facts{Hostname: "A-1", MachineID: "m", ManagedNode: r.node}
	resource := converge.Resource{ID: id, State: state, Severity: policy.High, Reason: "because"}
	r.offer(report.New("0.1.0", f, &policy.Policy{Serial: 7}, nil, r.clock.Now(), []converge.Resource{resource}, nil))
}

// stored returns the resource that the service knows of.
func (r *reporter) stored() string {
	stored, _ := r.aws.Compliance(oneNode, report.ComplianceType)
	if len(stored.Items) == 0 {
		return ""
	}
	return stored.Items[0].ID + " " + stored.Items[0].Details["state"]
}

func (r *reporter) calls() int {
	calls := r.aws.Calls("PutComplianceItems")
	return calls.Answered + calls.Throttled
}

// wants waits, and fails unless the service then knows of this resource only and has been called so often.
func (r *reporter) wants(after time.Duration, stored string, calls int) {
	r.Helper()
	time.Sleep(after)
	synctest.Wait()
	if got := r.stored(); got != stored {
		r.Errorf("after %s the service knows of %q, and should of %q", after, got, stored)
	}
	if got := r.calls(); got != calls {
		r.Errorf("there were %d calls, want %d", got, calls)
	}
}

func TestWhatSaysNothingNewIsNotSentAgainBeforeADayHasGoneAcrossRestartsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		end := r.live()
		r.reports("package/a", converge.Compliant)
		r.wants(time.Minute, "package/a compliant", 1)
		for range 19 * 4 { // polls, with a restart each
			time.Sleep(15 * time.Minute)
			end()
			end = r.live()
			r.reports("package/a", converge.Compliant)
		}
		r.wants(2*time.Minute, "package/a compliant", 1)
		for range 10 * 4 {
			time.Sleep(15 * time.Minute)
			r.reports("package/a", converge.Compliant)
		}
		before := time.Now()
		r.wants(2*time.Minute, "package/a compliant", 2)
		if stored, _ := r.aws.Compliance(oneNode, report.ComplianceType); before.Sub(stored.ExecutionTime) > 10*time.Hour {
			t.Errorf("what is said again counts as said at %s, and it is %s", stored.ExecutionTime, before)
		}
		r.mu.Lock()
		if r.delivered.IsZero() || len(r.said) > 0 {
			t.Errorf("delivered at %s; said: %q", r.delivered, r.said)
		}
		r.mu.Unlock()
		end()
	})
}

func TestChangesThatFollowEachOtherBecomeOneReportAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		defer r.live()()
		r.reports("package/a", converge.Failed)
		r.wants(longestSplay/4, "package/a failed", 1)
		for i := range 600 { // ten minutes
			time.Sleep(time.Second)
			r.reports(policy.ID(fmt.Sprint("package/", i)), converge.Failed)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := r.calls(); n < 5 || n > 12 {
			t.Errorf("in ten minutes there were %d calls", n)
		}
		if got := r.stored(); got != "package/599 failed" {
			t.Errorf("the service knows of %s", got)
		}
	})
}

func TestTheFirstFindingIsToldSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		defer r.live()()
		r.reports("package/a", converge.Compliant)
		r.wants(longestSplay/4, "package/a compliant", 1)
		for i := range 20 {
			time.Sleep(time.Hour)
			r.reports("package/a", converge.Corrected) // it may wait for a minute
			r.reports("package/a", converge.Failed)
			r.wants(longestSplay/4, "package/a failed", 2+2*i)
			time.Sleep(time.Hour)
			r.reports("package/a", converge.Compliant)
			r.wants(longestSplay, "package/a compliant", 3+2*i)
		}
	})
}

func TestNoReportBearsAnEarlierTimeThanOneBeforeItWhateverTheClockDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		end := r.live()
		r.clock.by = 3 * time.Hour
		r.reports("package/a", converge.Failed)
		r.wants(time.Minute, "package/a failed", 1)
		end()
		r.clock.by = 0
		end = r.live()
		r.reports("package/b", converge.Failed)
		r.wants(2*time.Minute, "package/b failed", 2)
		r.reports("package/b", converge.Failed)
		r.wants(2*time.Minute, "package/b failed", 2)
		end()
	})
}

func TestWhatAClockAheadHasDatedIsSaidAgainWhenTheClockIsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		defer r.live()()
		r.clock.by = 10 * 365 * 24 * time.Hour
		r.reports("package/a", converge.Compliant)
		r.wants(time.Minute, "package/a compliant", 1)
		r.clock.by = 0
		r.reports("package/a", converge.Compliant)
		r.wants(2*time.Minute, "package/a compliant", 2)
		r.reports("package/a", converge.Compliant)
		r.wants(2*time.Minute, "package/a compliant", 2)
	})
}

func TestTheLastReportThatCouldNotBeDeliveredIsSentAfterARebootUnlessThereIsANewerOne(t *testing.T) {
	for name, newer := range map[string]bool{"no newer one": false, "a newer one": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReporter(t)
				r.aws.Down()
				end := r.live()
				for i := range 100 {
					r.reports(policy.ID(fmt.Sprint("package/", i)), converge.Failed)
					time.Sleep(10 * time.Minute)
				}
				end()
				files, _ := os.ReadDir(filepath.Join(r.root, StateDir))
				if len(files) != 1 {
					t.Errorf("what could not be delivered is in %v", files)
				}
				info, err := os.Stat(filepath.Join(r.root, complianceFile))
				if err != nil || info.Mode().Perm() != 0o600 || info.Size() > 2000 {
					t.Errorf("%v, %v", info, err)
				}
				time.Sleep(10 * time.Hour)
				defer r.live()()
				r.nudge() // as a report does that is not complete yet
				time.Sleep(time.Hour)
				if err := r.aws.Up(); err != nil {
					t.Fatal(err)
				}
				want := "package/99 failed"
				if newer {
					r.reports("package/new", converge.Compliant)
					want = "package/new compliant"
				}
				time.Sleep(10 * time.Minute)
				r.aws.ForgetRequests()
				r.wants(time.Hour, want, 0)
				content, err := os.ReadFile(filepath.Join(r.root, complianceFile))
				if err != nil || strings.Contains(string(content), "waiting") {
					t.Errorf("%v: what is delivered still waits:\n%s", err, content)
				}
			})
		})
	}
}

func TestAReportOfAnotherNodeIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		r.aws.Down()
		end := r.live()
		r.reports("package/a", converge.Failed)
		time.Sleep(10 * time.Minute)
		end()
		if err := r.aws.Up(); err != nil {
			t.Fatal(err)
		}
		r.aws.ForgetRequests()
		r.node = "mi-0123456789abcdef1"
		defer r.live()()
		r.nudge()
		r.wants(time.Hour, "", 0)
	})
}

func TestAMachineThatIsNoManagedNodeSendsNothingAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		r.node = ""
		defer r.live()()
		for range 3 {
			r.reports("package/a", converge.Failed)
			r.wants(10*time.Minute, "", 0)
		}
		r.mu.Lock()
		if len(r.said) != 3 || r.said[0] != errNoNode.Error() {
			t.Errorf("said: %q", r.said)
		}
		r.mu.Unlock()
		if _, err := os.Stat(filepath.Join(r.root, complianceFile)); err == nil {
			t.Error("a report of nobody is kept")
		}
		r.node = oneNode // it is activated
		r.reports("package/a", converge.Failed)
		r.wants(time.Minute, "package/a failed", 1)
	})
}

func TestWhatIsDeniedIsTriedAgainSeldomOrWhenSomebodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		r.aws.Deny("ssm:PutComplianceItems")
		defer r.live()()
		for i := range 24 * 60 {
			r.reports(policy.ID(fmt.Sprint("package/", i)), converge.Failed)
			time.Sleep(time.Minute)
		}
		if n := r.calls(); n < 15 || n > 48 {
			t.Errorf("in a day there were %d calls", n)
		}
		r.mu.Lock()
		if n := len(r.said); n == 0 || !strings.HasPrefix(r.said[n-1], "denied: ssm:PutComplianceItems") {
			t.Errorf("said: %q", r.said)
		}
		r.mu.Unlock()
		r.aws.Heal()
		r.again()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := r.stored(); got != "package/1439 failed" {
			t.Errorf("the service knows of %q", got)
		}
	})
}

func TestAReportThatIsTooLargeForTheServiceIsSentSmaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		defer r.live()()
		r.aws.Fail("PutComplianceItems", 2, awsfake.Error(http.StatusBadRequest, "TotalSizeLimitExceededException", "").Fault)
		r.reports("package/a", converge.Failed)
		r.wants(time.Minute, "package/a failed", 3)
		if r.mu.Lock(); len(r.said) > 0 {
			t.Errorf("said: %q", r.said)
		}
		r.mu.Unlock()
	})
}

func TestAFileThatIsNoOutboxIsNoHindrance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		if err := os.MkdirAll(filepath.Join(r.root, StateDir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r.root, complianceFile), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		defer r.live()()
		r.reports("package/a", converge.Failed)
		r.wants(time.Minute, "package/a failed", 1)
		var box outbox
		content, err := os.ReadFile(filepath.Join(r.root, complianceFile))
		if err == nil {
			err = json.Unmarshal(content, &box)
		}
		if err != nil || box.Delivered.Digest == "" {
			t.Errorf("%v: %s", err, content)
		}
	})
}

// The quota of PutComplianceItems is not documented; this is a small one.
const reportsPerSecond = 10

func TestAFleetThatChangesAtOnceTellsSpreadAndAllOfItArrives(t *testing.T) {
	const fleet = 1000
	dir, err := os.MkdirTemp("/dev/shm", "fleet") // in memory, so that the disk is not measured
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		server := awsfake.InMemory()
		server.Record(false)
		server.SetQuotaOf("PutComplianceItems", reportsPerSecond, reportsPerSecond)
		var machines []*reporter
		for i := range fleet {
			m := &reporter{T: t, aws: server, root: filepath.Join(dir, fmt.Sprint(i)), node: fmt.Sprintf("mi-%017d", i), clock: &shifted{}}
			if err := os.Mkdir(m.root, 0o700); err != nil {
				t.Fatal(err)
			}
			defer m.live()()
			machines = append(machines, m)
		}
		for _, state := range []converge.State{converge.Compliant, converge.Failed, converge.Compliant} {
			what := "all become " + string(state)
			time.Sleep(time.Hour)
			server.ForgetRequests()
			for _, m := range machines {
				go func() {
					time.Sleep(source.FullJitter(time.Second))
					m.reports("package/a", state)
				}()
			}
			start := time.Now()
			var waits []time.Duration
			for server.Calls("PutComplianceItems").Answered < fleet && time.Since(start) < time.Hour {
				time.Sleep(time.Second)
				for len(waits) < server.Calls("PutComplianceItems").Answered {
					waits = append(waits, time.Since(start))
				}
			}
			synctest.Wait()
			for _, m := range machines {
				if stored, _ := server.Compliance(m.node, report.ComplianceType); len(stored.Items) != 1 || stored.Items[0].Details["state"] != string(state) {
					t.Fatalf("%s: of %s the service knows %+v", what, m.node, stored)
				}
			}
			calls := server.Calls("PutComplianceItems")
			slices.Sort(waits)
			t.Logf("%s: %s; median %s, all after %s", what, fmt.Sprintf("%+v", calls), waits[fleet/2], waits[fleet-1])
			if calls.Answered != fleet {
				t.Errorf("%s: %d reports were taken of %d machines", what, calls.Answered, fleet)
			}
			if least := fleet / reportsPerSecond * time.Second; waits[fleet-1] > 4*least {
				t.Errorf("%s: all have arrived after %s; %s is as fast as it goes", what, waits[fleet-1], least)
			}
			if calls.Throttled > 6*fleet {
				t.Errorf("%s: %d calls were throttled", what, calls.Throttled)
			}
		}
	})
}

// converges hands in a report of a machine that has not been checked completely.
func (r *reporter) converges(serial int64) {
	p := &policy.Policy{Serial: serial, Resources: []policy.Resource{{ID: "package/slow"}}}
	unseen := converge.NotCheckedYet(p, "package", time.Unix(0, 0))
	r.offer(report.New("0.1.0", facts.Facts{Hostname: "A-1", MachineID: "m", ManagedNode: r.node}, p, nil, r.clock.Now(), unseen, nil))
}

func TestAfterARestartUnderTheSameSerialAWSIsToldNothingBeforeAllWasLookedAtOrTenMinutesHavePassed(t *testing.T) {
	for name, test := range map[string]struct {
		after  time.Duration
		stored string
		calls  int
	}{
		"all is looked at soon": {5 * time.Minute, "package/a compliant", 1},
		"that takes long":       {11 * time.Minute, "package/slow unknown", 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReporter(t)
				end := r.live()
				r.reports("package/a", converge.Compliant)
				r.wants(time.Minute, "package/a compliant", 1)
				end()
				defer r.live()()
				for range test.after / time.Second {
					r.converges(7)
					time.Sleep(time.Second)
				}
				r.wants(time.Minute, test.stored, test.calls)
				r.reports("package/a", converge.Compliant)
				r.wants(2*time.Minute, "package/a compliant", 2*test.calls-1)
			})
		})
	}
}

func TestThatAMachineConvergesToANewSerialAWSIsToldAtOnceAndAfterARestartTooIfItWasNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t)
		end := r.live()
		r.converges(6) // AWS knows nothing of the machine yet
		r.wants(longestSplay/4, "package/slow unknown", 1)
		r.reports("package/a", converge.Compliant)
		r.wants(2*time.Minute, "package/a compliant", 2)
		r.converges(8)
		r.wants(longestSplay/4, "package/slow unknown", 3)
		r.reports("package/a", converge.Compliant) // serial 7
		r.wants(2*time.Minute, "package/a compliant", 4)
		r.aws.Down()
		r.converges(8)
		time.Sleep(time.Minute)
		end()
		if err := r.aws.Up(); err != nil {
			t.Fatal(err)
		}
		defer r.live()()
		r.converges(8)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.stored(); got != "package/slow unknown" {
			t.Errorf("the service knows of %s", got)
		}
	})
}
