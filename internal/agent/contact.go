package agent

import (
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/public"
)

// contact is what is known of the published policy: when AWS was last heard, and what is
// waited for.
type contact struct {
	mu      sync.Mutex
	fetched *policy.Policy // the last one that was published; nil in this run of the daemon
	unkept  bool           // it could not be kept for the next boot
	heard   bool           // of what is published, or that it cannot be had, in this run
	waiting public.Line    // what is waited for, as in Status.Waiting
	trouble string         // the name of that
	next    time.Time      // when that is tried again
	last    time.Time      // when the published policy was last confirmed
	since   time.Time      // when this machine first had its serial
	rollout string
}

// fromBefore notes what an earlier run has left.
func (c *contact) fromBefore(last, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.since = last, since
}

// answered notes that the service answered with a policy, and returns the trouble that is
// over by that.
func (c *contact) answered(found policysync.Found, now time.Time) (over string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(found.Missing) == 0 { // a value that is missing is trouble, and said by whoever looks
		over = c.trouble
		c.waiting, c.trouble, c.next = public.Line{}, "", time.Time{}
	}
	c.heard, c.last, c.rollout, c.since = true, now, found.Rollout, found.Since
	return over
}

// waits notes what is waited for, and says whether that is something else than before.
func (c *contact) waits(waiting public.Line, trouble string, next time.Time) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news = c.trouble != trouble
	c.heard, c.waiting, c.trouble, c.next = true, waiting, trouble, next
	return news
}

// refused notes that the service answered with what cannot be used.
func (c *contact) refused(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = now
}

// nothingPublished notes that nothing is waited for.
func (c *contact) nothingPublished() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard, c.waiting, c.trouble = true, public.Line{}, ""
}

// kept notes whether the last one could be kept for the next boot.
func (c *contact) kept(kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unkept = !kept
}

// take takes the policy that was fetched, and returns the one before it.
func (c *contact) take(p *policy.Policy) (before *policy.Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.fetched = c.fetched, p
	return before
}

// replace puts another in the place of the one that was fetched, if any was: it has no
// secrets, and is another one than what is fetched next.
func (c *contact) replace(p *policy.Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fetched != nil {
		c.fetched = p
	}
}

// ever says whether there was a published policy in this run of the daemon.
func (c *contact) ever() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fetched != nil
}

func (c *contact) isUnkept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unkept
}

func (c *contact) isHeard() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard
}

// troubled says whether AWS could not be asked the last time.
func (c *contact) troubled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble != ""
}

// lastTime is when the published policy was last confirmed.
func (c *contact) lastTime() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// fill says in a status what is known, as somebody may read it.
func (c *contact) fill(s *Status, part func([]public.Line) []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Trouble, s.NextAttempt, s.LastContact, s.Rollout, s.PolicySince = c.trouble, c.next, c.last, c.rollout, c.since
	if c.waiting != (public.Line{}) {
		s.Waiting = part([]public.Line{c.waiting})[0]
	}
}
