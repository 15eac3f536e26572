package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A sender takes reports to SSM Compliance, the newest first: while one cannot be
// delivered, those that come after it replace it. What says nothing new is not
// sent again.
type sender struct {
	clock   system.Clock
	deliver func(context.Context, report.Report) error // one attempt
	done    func(error)                                // told what became of each attempt

	wake chan struct{} // holds one

	mu     sync.Mutex
	newest report.Report
}

func newSender(clock system.Clock, deliver func(context.Context, report.Report) error, done func(error)) *sender {
	return &sender{clock: clock, deliver: deliver, done: done, wake: make(chan struct{}, 1)}
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
	failed := func(err error, _ time.Time) { s.done(fmt.Errorf("%s", source.Reason(err))) }
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		_ = source.Retry(ctx, s.clock, nil, failed, func(ctx context.Context) error {
			r := s.peek()
			content := r.ContentHash()
			if content == delivered {
				return nil
			}
			ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
			defer cancel()
			if err := s.deliver(ctx, r); err != nil {
				return err
			}
			delivered = content
			s.done(nil)
			return nil
		})
	}
}
