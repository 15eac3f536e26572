package policysync

import (
	"context"
	"time"

	"github.com/soe-agent/soe-agent/internal/source"
)

// resumeSplay is the time over which machines that wake up together spread their polls. Ten thousand polls
// at forty calls a second, which is what Parameter Store allows an account, take 250 seconds.
const resumeSplay = 270 * time.Second

// A Poller decides when to fetch the policy. Its fields are set before Run.
type Poller struct {
	// Fetch fetches the policy once and passes on what it finds. If a value could not be fetched it
	// returns an error, although the rest of the policy was fetched.
	Fetch func(context.Context) error
	// Interval returns how long to wait, on average, after a fetch without an error; 0 means until
	// Wake.
	Interval func() time.Duration
	// Failed is called after each failed fetch, with the time of the next one.
	Failed func(err error, next time.Time)
	// Wake asks for a fetch now: the configuration or a local fragment has changed.
	Wake <-chan struct{}
	// Resumed says that the machine has slept: a fetch that is under way is abandoned.
	Resumed <-chan struct{}

	Retry source.Retry
}

// Run fetches until ctx is done.
func (f *Poller) Run(ctx context.Context) {
	backoff := f.Retry.Backoff()
	for ctx.Err() == nil {
		interrupted, err := f.fetch(ctx)
		pause := f.pause(err, backoff)
		if interrupted == none && err != nil {
			f.Failed(err, time.Now().Add(pause))
		}
		if interrupted == none {
			interrupted = f.wait(ctx, pause)
		}
		for interrupted == resumed {
			interrupted = f.wait(ctx, f.jitter(resumeSplay))
		}
		if interrupted == woken || err == nil {
			backoff = f.Retry.Backoff()
		}
	}
}

// pause returns how long to wait after a fetch. After an error that people have to correct, it is the usual
// interval: retrying sooner would not help.
func (f *Poller) pause(err error, backoff func(error) time.Duration) time.Duration {
	if err != nil && source.Classify(err) < source.People {
		return backoff(err)
	}
	poll := f.Interval()
	if poll == 0 {
		return forever
	}
	return poll/2 + f.jitter(poll)
}

func (f *Poller) jitter(bound time.Duration) time.Duration {
	if f.Retry.Jitter == nil {
		return source.FullJitter(bound)
	}
	return f.Retry.Jitter(bound)
}

// forever is longer than any machine runs.
const forever = 100 * 365 * 24 * time.Hour

// An interruption is why a fetch or a wait ended early.
type interruption int

const (
	none interruption = iota
	woken
	resumed
)

// fetch fetches once, unless it is interrupted.
func (f *Poller) fetch(ctx context.Context) (why interruption, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = f.Fetch(ctx)
	}()
	select {
	case <-ended:
		return none, err
	case <-f.Wake:
		why = woken
	case <-f.Resumed:
		why = resumed
	}
	cancel()
	<-ended
	return why, nil // the error of an interrupted fetch means nothing
}

// wait waits for d, unless it is interrupted.
func (f *Poller) wait(ctx context.Context, d time.Duration) interruption {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-f.Wake:
		return woken
	case <-f.Resumed:
		return resumed
	}
	return none
}
