package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
)

// refreshAfter and refreshSpread say how often an unchanged report is sent again. longestSplay is how
// long a machine waits at most before it sends a changed one, so that a fleet that changes at once does
// not send at once. askAgain is how long it waits after a refusal, on average.
const (
	refreshAfter  = 20 * time.Hour
	refreshSpread = 8 * time.Hour
	longestSplay  = time.Minute
	askAgain      = time.Hour
	// longestConverging is how long a Converging report is held back under a policy that AWS has a report of:
	// when a fleet is started at nine, every machine converges, and that is not news.
	longestConverging = 10 * time.Minute
)

// leastRoom is the size in bytes below which a report is not made smaller.
const leastRoom = 50_000

// Reasons not to send a report that are not failures.
var (
	// errUnwanted is not reported: reports are off, or there is no connection to AWS yet.
	errUnwanted = errors.New("reports are not wanted")
	errNoNode   = errors.New("this machine is not a managed node yet, and AWS accepts reports of managed nodes only")
)

// A sender delivers reports to one service in AWS, and only the newest one: while one cannot be
// delivered, later ones replace it. A report with nothing new is not sent again for about a day. The
// sender keeps on disk what was last delivered and what could not be delivered. After a restart of the
// agent that is sent, unless there is something newer.
type sender struct {
	file    string // where it keeps that
	node    string // the managed node
	files   system.FS
	clock   system.Clock
	log     *slog.Logger
	compose func(r report.Report, room int) letter
	deliver func(context.Context, letter) error // one attempt
	// done is called after each attempt, with its error and the time of the last delivery.
	done  func(delivered time.Time, err error)
	splay func() time.Duration // the longest wait before a report is sent

	wake  chan struct{} // buffer of one
	hurry chan struct{} // buffer of one: what was refused may be allowed now

	mu              sync.Mutex
	newest          *report.Report // nil when it has been delivered
	convergingSince time.Time      // since when every report is Converging; else zero

	// The fields below are used by run alone.
	box     outbox
	earlier *letter   // from an earlier run; nil as soon as there is a newer report
	room    int       // for a report, in bytes
	tried   time.Time // when the last attempt was made
	refused time.Time // until when no attempt is made, after a refusal
}

// An outbox is what a sender keeps on disk.
type outbox struct {
	Delivered receipt `json:"delivered"`
	Waiting   *letter `json:"waiting,omitempty"`
}

// A receipt describes the last report that was delivered.
type receipt struct {
	Digest    string    `json:"digest"`
	Serial    int64     `json:"serial,omitempty"` // of the policy
	Compliant bool      `json:"compliant"`
	Time      time.Time `json:"time"`  // the report's own time
	At        time.Time `json:"at"`    // when it was delivered
	Again     time.Time `json:"again"` // when it is sent again if nothing changes
}

// stale says whether the delivered report should be sent again. That is also so if it seems to come
// from the future: the clock was wrong then.
func (r receipt) stale(now time.Time) bool {
	return !now.Before(r.Again) || now.Before(r.At.Add(-time.Hour))
}

// offer hands in a report.
func (s *sender) offer(r report.Report) {
	s.mu.Lock()
	s.newest = &r
	switch {
	case r.Verdict != report.Converging:
		s.convergingSince = time.Time{}
	case s.convergingSince.IsZero():
		s.convergingSince = time.Now()
		time.AfterFunc(longestConverging, s.nudge)
	}
	s.mu.Unlock()
	s.nudge()
}

// nudge makes the sender look at what it has to send.
func (s *sender) nudge() { post(s.wake) }

// again makes the sender try again what was refused.
func (s *sender) again() { post(s.hurry) }

func post(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// run delivers until ctx is done.
func (s *sender) run(ctx context.Context) {
	s.load()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hurry:
			s.refused = time.Time{}
		case <-s.wake:
		}
		if s.gather(ctx) {
			s.send(ctx)
		}
	}
}

// gather waits for a random part of the splay, so that reports that follow each other become one. It
// returns whether to send then. An urgent report waits less.
func (s *sender) gather(ctx context.Context) bool {
	longest := s.splay()
	start, splay := time.Now(), source.FullJitter(longest)
	for urgent := false; ; {
		if !urgent && s.urgent() {
			urgent = true
			splay = min(splay, time.Since(start)+source.FullJitter(longest/4))
		}
		pause := max(time.Until(start.Add(splay)), time.Until(s.tried.Add(longest)), time.Until(s.refused))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
			return true
		case <-s.hurry:
			s.refused = time.Time{}
		case <-s.wake:
		}
		timer.Stop()
	}
}

// urgent says whether AWS has no report yet, or has a compliant one and the machine is no longer compliant.
func (s *sender) urgent() bool {
	r := s.peek()
	return r != nil && (s.box.Delivered.Digest == "" || s.box.Delivered.Compliant && !r.Compliant)
}

// peek returns the newest report if it is to be sent. A Converging one is held back for longestConverging if
// AWS has a report under the same serial.
func (s *sender) peek() *report.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.box.Delivered
	if r := s.newest; r != nil && r.Verdict == report.Converging && known.Digest != "" && r.Policy.Serial == known.Serial && time.Since(s.convergingSince) < longestConverging {
		return nil
	}
	return s.newest
}

// send delivers the newest report, however long that takes, unless it is refused.
func (s *sender) send(ctx context.Context) {
	backoff := source.Retry{}.Backoff()
	for {
		r, l := s.next()
		if l == nil {
			return
		}
		err := s.attempt(ctx, *l)
		s.tried = time.Now()
		switch {
		case errors.Is(err, errUnwanted), errors.Is(err, errNoNode):
			s.tell(err)
			return
		case err == nil:
			s.delivered(r, *l)
			s.tell(nil)
			return
		case source.TooLarge(err) && s.room > leastRoom:
			s.room /= 2
			s.earlier = nil // it was made for more room
			continue
		}
		s.keep(l)
		if ctx.Err() != nil {
			return
		}
		s.tell(err)
		if source.Classify(err) >= source.Denied {
			s.refused = time.Now().Add(askAgain/2 + source.FullJitter(askAgain))
			return
		}
		if !s.wait(ctx, backoff(err)) {
			return
		}
	}
}

// wait waits before another attempt, and returns whether to make one.
func (s *sender) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.hurry:
	case <-timer.C:
	}
	return true
}

// next returns what is to be delivered, and the report that it was made of; nil if there is nothing.
// The times of reports never decrease, whatever the clock does, because the service would ignore such a
// report.
func (s *sender) next() (*report.Report, *letter) {
	newest := s.peek()
	if newest == nil {
		return nil, s.earlier
	}
	r := *newest
	if least := s.box.Delivered.Time.Add(time.Second); r.Time.Before(least) && s.box.Delivered.Digest != "" {
		r.Time = least
	}
	if w := s.box.Waiting; w != nil && r.Time.Before(w.Time) {
		r.Time = w.Time
	}
	l := s.compose(r, s.room)
	s.earlier = nil
	if l.Digest == s.box.Delivered.Digest && !s.box.Delivered.stale(s.clock.Now()) {
		s.settled(newest)
		if s.box.Waiting != nil {
			s.box.Waiting = nil
			s.save()
		}
		s.tell(nil)
		return nil, nil
	}
	return newest, &l
}

func (s *sender) attempt(ctx context.Context, l letter) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	return s.deliver(ctx, l)
}

// settled drops a report unless there is a newer one.
func (s *sender) settled(r *report.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == r {
		s.newest = nil
	}
}

func (s *sender) delivered(r *report.Report, l letter) {
	now := s.clock.Now().Round(0) // without the monotonic clock, as it is read back
	s.earlier = nil
	s.settled(r)
	s.box = outbox{Delivered: receipt{
		Digest: l.Digest, Serial: l.Serial, Compliant: l.Compliant, Time: l.Time, At: now,
		Again: now.Add(refreshAfter + source.FullJitter(refreshSpread)),
	}}
	s.save()
}

// keep keeps on disk what could not be delivered.
func (s *sender) keep(l *letter) {
	if s.box.Waiting != nil && s.box.Waiting.Digest == l.Digest {
		return
	}
	s.box.Waiting = l
	s.save()
	s.box.Waiting = &letter{Digest: l.Digest, Time: l.Time} // the report itself is on disk and in newest
}

func (s *sender) tell(err error) {
	switch {
	case errors.Is(err, errUnwanted):
		err = nil
	case err != nil && !errors.Is(err, errNoNode):
		err = errors.New(source.TroubleOf(err).String())
	}
	s.done(s.box.Delivered.At, err)
}

func (s *sender) load() {
	content, err := s.files.ReadFile(s.file)
	if err == nil {
		err = json.Unmarshal(content, &s.box)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("cannot read the last report sent to AWS; the whole report is sent again", "err", err)
		s.box = outbox{}
	}
	if w := s.box.Waiting; w != nil && w.node() == s.node {
		s.earlier = w
	}
	s.done(s.box.Delivered.At, nil)
}

func (s *sender) save() {
	content, err := json.Marshal(s.box)
	if err == nil {
		err = s.files.WriteFile(s.file, content, system.Attr{Mode: 0o600})
	}
	if err != nil {
		s.log.Warn("cannot keep the last report sent to AWS; after a restart the whole report is sent again", "err", err)
	}
}
