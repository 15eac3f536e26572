package publish_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/soe-agent/soe-agent/internal/publish"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// A wire carries the calls of a publisher, and can break.
type wire struct {
	publish.Store
	calls  int
	breaks int         // the number of the call that gets no answer
	lost   bool        // the call is carried out, and its answer is lost
	before func(n int) // called before each call
	after  func(n int)
}

var errBroken = errors.New("the connection broke")

func through[In, Out any](w *wire, ctx context.Context, in *In, call func(context.Context, *In, ...func(*ssm.Options)) (*Out, error)) (*Out, error) {
	w.calls++
	n := w.calls
	if w.before != nil {
		w.before(n)
	}
	if n == w.breaks && !w.lost {
		return nil, errBroken
	}
	out, err := call(ctx, in)
	if w.after != nil {
		w.after(n)
	}
	if n == w.breaks {
		return nil, errBroken
	}
	return out, err
}

func (w *wire) GetParameter(ctx context.Context, in *ssm.GetParameterInput, _ ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	return through(w, ctx, in, w.Store.GetParameter)
}

func (w *wire) GetParameters(ctx context.Context, in *ssm.GetParametersInput, _ ...func(*ssm.Options)) (*ssm.GetParametersOutput, error) {
	return through(w, ctx, in, w.Store.GetParameters)
}

func (w *wire) GetParametersByPath(ctx context.Context, in *ssm.GetParametersByPathInput, _ ...func(*ssm.Options)) (*ssm.GetParametersByPathOutput, error) {
	return through(w, ctx, in, w.Store.GetParametersByPath)
}

func (w *wire) PutParameter(ctx context.Context, in *ssm.PutParameterInput, _ ...func(*ssm.Options)) (*ssm.PutParameterOutput, error) {
	return through(w, ctx, in, w.Store.PutParameter)
}

func (w *wire) DeleteParameters(ctx context.Context, in *ssm.DeleteParametersInput, _ ...func(*ssm.Options)) (*ssm.DeleteParametersOutput, error) {
	return through(w, ctx, in, w.Store.DeleteParameters)
}

// A step is one publication in a sequence.
type step struct {
	name    string
	given   func(t *testing.T, f *fleet)
	do      func(ctx context.Context, p *publish.Publisher) (publish.Result, error)
	arrived func(t *testing.T, f *fleet)
}

func publishing(fragments map[string]string, percent float64) func(context.Context, *publish.Publisher) (publish.Result, error) {
	return func(ctx context.Context, p *publish.Publisher) (publish.Result, error) {
		_, result, err := try(ctx, p, fragments, percent)
		return result, err
	}
}

func steps() []step {
	return []step{
		{
			"the first",
			func(*testing.T, *fleet) {},
			publishing(one(), publish.Everybody),
			func(t *testing.T, f *fleet) { f.everybody(t, 1, one()) },
		},
		{
			"another, with garbage",
			func(t *testing.T, f *fleet) {
				f.publish(t, three(), publish.Everybody)
				f.publish(t, one(), publish.Everybody)
				f.ages(t)
			},
			publishing(two(), publish.Everybody),
			func(t *testing.T, f *fleet) { f.everybody(t, 3, two()) },
		},
		{
			"a rollback to what is garbage",
			func(t *testing.T, f *fleet) {
				f.publish(t, three(), publish.Everybody)
				f.publish(t, one(), publish.Everybody)
				f.publish(t, two(), publish.Everybody)
				f.ages(t)
			},
			publishing(three(), publish.Everybody),
			func(t *testing.T, f *fleet) { f.everybody(t, 4, three()) },
		},
		{
			"a rollout",
			func(t *testing.T, f *fleet) { f.publish(t, one(), publish.Everybody) },
			publishing(two(), 10),
			func(t *testing.T, f *fleet) { f.everybody(t, 1, one()); f.canaries(t, 2, 10, two()) },
		},
		{
			"a pause",
			func(t *testing.T, f *fleet) { f.publish(t, one(), publish.Everybody) },
			func(ctx context.Context, p *publish.Publisher) (publish.Result, error) {
				plan, err := p.PlanPause(ctx, true)
				if err != nil {
					return publish.Result{}, err
				}
				return p.Write(ctx, plan)
			},
			func(t *testing.T, f *fleet) {
				if m, _, err := f.manifest(t.Context()); err != nil || !m.Pause {
					t.Error(err)
				}
			},
		},
	}
}

func TestAPublisherThatIsCutOffAtAnyCallLeavesAWholePolicyAndTheNextOneFinishes(t *testing.T) {
	for _, step := range steps() {
		for _, lost := range []bool{false, true} {
			name := step.name + ", not carried out"
			if lost {
				name = step.name + ", answer lost"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for n, over := 1, false; !over; n++ {
					f := newFleet()
					step.given(t, f)
					w := &wire{Store: f.author, breaks: n, lost: lost, after: func(n int) {
						if err := f.whole(t.Context()); err != nil {
							t.Fatalf("after call %d a machine sees: %v", n, err)
						}
					}}
					p := f.publisher()
					p.Store = w
					result, err := step.do(t.Context(), p)
					over = w.calls < n
					if !over && err == nil && len(result.Warnings) == 0 {
						t.Errorf("call %d failed, and nobody says so", n)
					}
					if _, err := step.do(t.Context(), f.publisher()); err != nil {
						t.Fatalf("after call %d failed: %v", n, err)
					}
					step.arrived(t, f)
				}
			})
		}
	}
}

// patient repeats calls without waiting.
func patient(ctx context.Context, op func(context.Context) error) error {
	var err error
	for range 5 {
		if err = op(ctx); err == nil {
			return nil
		}
	}
	return err
}

func TestACallThatIsRepeatedBecauseItsAnswerWasLostIsNoOtherPublisher(t *testing.T) {
	for _, step := range steps() {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			for n, over := 1, false; !over; n++ {
				f := newFleet()
				step.given(t, f)
				w := &wire{Store: f.author, breaks: n, lost: true}
				p := f.publisher()
				p.Store, p.Call = w, patient
				result, err := step.do(t.Context(), p)
				if err != nil || len(result.Warnings) > 0 {
					t.Fatalf("after the answer to call %d was lost: %v, %q", n, err, result.Warnings)
				}
				step.arrived(t, f)
				over = w.calls < n
			}
		})
	}
}

func TestThrottlingIsWaitedFor(t *testing.T) {
	f := newFleet()
	for _, action := range []string{"PutParameter", "GetParameter", "GetParameters", "GetParametersByPath"} {
		f.Fail(action, 2, awsfake.Throttled)
	}
	p := f.publisher()
	p.Call = patient
	if _, result, err := try(t.Context(), p, one(), publish.Everybody); err != nil || len(result.Warnings) > 0 {
		t.Fatalf("%v, %q", err, result.Warnings)
	}
	f.everybody(t, 1, one())
}

func TestOfTwoWhoPublishAtOnceOneIsInForceAndTheOtherIsToldAtWhicheverCallTheyMeet(t *testing.T) {
	for name, given := range map[string]func(*testing.T, *fleet){
		"the first": func(*testing.T, *fleet) {},
		"another": func(t *testing.T, f *fleet) {
			f.publish(t, three(), publish.Everybody)
			f.publish(t, one(), publish.Everybody)
			f.ages(t) // what the other publisher wants is garbage to this one
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; meet(t, given, n); n++ {
			}
		})
	}
}

// meet lets one publisher publish, and another one start and finish right before the first one's call n. It
// returns false if there are fewer calls.
func meet(t *testing.T, given func(*testing.T, *fleet), n int) bool {
	f := newFleet()
	given(t, f)
	w := &wire{Store: f.author}
	w.before = func(call int) {
		if call != n {
			return
		}
		if _, result, err := try(t.Context(), f.publisher(), three(), publish.Everybody); err != nil || len(result.Warnings) > 0 {
			t.Fatalf("the other, at call %d: %v, %q", n, err, result.Warnings)
		}
	}
	w.after = func(int) {
		if err := f.whole(t.Context()); err != nil {
			t.Fatalf("they meet at call %d, and a machine sees: %v", n, err)
		}
	}
	p := f.publisher()
	p.Store = w
	_, result, err := try(t.Context(), p, two(), publish.Everybody)
	m, _, _ := f.manifest(t.Context())
	texts, readErr := f.read(t.Context(), m.Generation)
	if readErr != nil {
		t.Fatalf("call %d: %v", n, readErr)
	}
	inForce := texts["10-base"] == two()["10-base"]
	switch {
	case errors.Is(err, publish.ErrOverrun) && !inForce:
	case err == nil && inForce && (n == 1 || len(result.Warnings) == 1 || w.calls < n):
	case err == nil && !inForce && result.Version > 0: // the other one came later and saw this one's policy
	default:
		t.Errorf("they meet at call %d: %v, %q, in force: %v", n, err, result.Warnings, inForce)
	}
	return n <= w.calls
}

func TestManyWhoPublishAtOnceLeaveOneWholePolicy(t *testing.T) {
	f := newFleet()
	f.publish(t, three(), publish.Everybody)
	var wait sync.WaitGroup
	done := make(chan struct{})
	for _, fragments := range []map[string]string{one(), two(), one(), two()} {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if _, _, err := try(t.Context(), f.publisher(), fragments, publish.Everybody); err != nil && !errors.Is(err, publish.ErrOverrun) {
				t.Error(err)
			}
		}()
	}
	go func() { wait.Wait(); close(done) }()
	for looking := true; looking; {
		select {
		case <-done:
			looking = false
		case <-time.After(time.Millisecond):
		}
		if err := f.whole(t.Context()); err != nil {
			t.Errorf("a machine sees: %v", err)
		}
	}
	m, _, _ := f.manifest(t.Context())
	if m.Serial < 2 {
		t.Error("nobody has published")
	}
}
