package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/watch"
)

// oneFile is a kind with one file that is to contain "right".
type oneFile struct {
	dir string
	at  func(moment string) // called at moments of a pass at which something else may write; nil: none
}

func (oneFile) Name() string                { return "dropin" }
func (k oneFile) Watches() []converge.Watch { return []converge.Watch{{Dir: k.dir}} }

func (k oneFile) name() string { return filepath.Join(k.dir, "file") }

// write replaces the file atomically, with one event.
func (k oneFile) write(content string) error {
	temporary := filepath.Join(k.dir, ".file.soe.swp")
	if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, k.name())
}

func (k oneFile) moment(name string) {
	if k.at != nil {
		k.at(name)
	}
}

func (k oneFile) Check(context.Context) ([]converge.Resource, error) {
	k.moment("before a look")
	content, err := os.ReadFile(k.name())
	k.moment("after a look")
	r := converge.Resource{ID: "dropin/file", State: converge.Compliant}
	if string(content) != "right" {
		r.AddDrift("content", "right", string(content))
	}
	return []converge.Resource{r}, err
}

func (k oneFile) Repair(context.Context, []converge.Resource) []converge.Outcome {
	k.moment("before a repair")
	defer k.moment("after a repair")
	if err := k.write("right"); err != nil {
		return []converge.Outcome{{ID: "dropin/file", Err: err}}
	}
	return nil
}

// keep keeps the file as the daemon does, and counts the passes.
func keep(t *testing.T, k oneFile) (w *worker, walks *atomic.Int64) {
	t.Helper()
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	state, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := converge.OpenLedger(state.FS, StateDir, facts.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	walks = &atomic.Int64{}
	w = newWorker(func(*worker, converge.Result) { walks.Add(1) })
	watcher := watch.New(s.FS, log, w.mark)
	if err := watcher.MarkWith(filepath.Join(t.TempDir(), "mark")); err != nil {
		t.Fatal(err)
	}
	w.catchUp = watcher.CatchUp
	watcher.Follow([]converge.Kind{k}, filepath.Join(t.TempDir(), "policy.d"), filepath.Join(t.TempDir(), "agent.toml"))
	w.assign(converge.New(&policy.Policy{}, []converge.Kind{k}, ledger, s.Clock, log), []converge.Kind{k})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.run(ctx) })
	wg.Go(func() { watcher.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return w, walks
}

// right waits until the file is right and nothing more is to be done.
func right(t *testing.T, w *worker, k oneFile) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if content, err := os.ReadFile(k.name()); err == nil && string(content) == "right" && w.idle() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the file is not mended")
		}
	}
}

func TestWhatTheAgentItselfHasWrittenIsNotWalkedAgain(t *testing.T) {
	k := oneFile{dir: t.TempDir()}
	if err := k.write("right"); err != nil {
		t.Fatal(err)
	}
	w, walks := keep(t, k)
	right(t, w, k)
	time.Sleep(200 * time.Millisecond) // whether or not there is a bus
	before := walks.Load()
	const drifts = 6 // a file that is repaired more often is contested
	for range drifts {
		if err := k.write("wrong"); err != nil {
			t.Fatal(err)
		}
		right(t, w, k)
	}
	time.Sleep(200 * time.Millisecond) // a superfluous pass would be over by then
	if got := walks.Load() - before; got > drifts+1 {
		t.Errorf("%d drifts were mended by %d walks", drifts, got)
	}
}

func TestWhatSomethingElseWritesAtAnyMomentOfAWalkIsMended(t *testing.T) {
	for _, moment := range []string{"before a look", "after a look", "before a repair", "after a repair"} {
		for nth := range 3 {
			t.Run(moment, func(t *testing.T) {
				k := oneFile{dir: t.TempDir()}
				if err := k.write("wrong"); err != nil {
					t.Fatal(err)
				}
				seen := 0
				foreign := k
				k.at = func(now string) {
					if now != moment {
						return
					}
					if seen++; seen == nth+1 {
						if err := foreign.write("wrong again"); err != nil {
							t.Error(err)
						}
					}
				}
				w, _ := keep(t, k)
				right(t, w, k)
			})
		}
	}
}
