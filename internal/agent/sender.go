package agent

import (
	"context"
	"errors"
	"sync"

	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/source"
)

// A sender takes reports to SSM Compliance, the newest first: while one cannot be
// delivered, those that come after it replace it. What says nothing new is not
// sent again.
type sender struct {
	deliver func(context.Context, report.Report) error // one attempt
	done    func(error)                                // told what became of each attempt

	wake chan struct{} // holds one

	mu     sync.Mutex
	newest report.Report
}

func newSender(deliver func(context.Context, report.Report) error, done func(error)) *sender {
	return &sender{deliver: deliver, done: done, wake: make(chan struct{}, 1)}
}

// offer hands in a report.
func (s *sender) offer(r report.Report) {
	s.mu.Lock()
	s.newest = r
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) peek() report.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// run delivers until ctx is done.
func (s *sender) run(ctx context.Context) {
	delivered := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		backoff := source.Retry{}.Backoff()
		for {
			r := s.peek()
			content := r.ContentHash()
			if content == delivered {
				break
			}
			err := s.attempt(ctx, r)
			if err == nil {
				delivered = content
				s.done(nil)
				break
			}
			if ctx.Err() != nil {
				return
			}
			s.done(errors.New(source.TroubleOf(err).String()))
			if source.Classify(err) == source.Hopeless || !source.Sleep(ctx, backoff(err)) {
				break // the next report may be another matter
			}
		}
	}
}

func (s *sender) attempt(ctx context.Context, r report.Report) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	return s.deliver(ctx, r)
}
