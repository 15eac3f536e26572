package agent

import (
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/public"
)

// contact is what is known of the published policy: when AWS last answered, and what the daemon waits for.
type contact struct {
	mu      sync.Mutex
	fetched *policy.Policy // the last published policy; nil if none was fetched since the start
	unkept  bool           // it could not be kept for the next boot
	heard   bool           // since the start AWS has answered, or is known not to
	waiting public.Line    // what is waited for, as in Status.Waiting
	trouble string         // the name of the trouble behind it
	next    time.Time      // when the next attempt is made
	last    time.Time      // when the published policy was last confirmed
	since   time.Time      // when this machine first had its serial
	rollout string
}

// fromBefore records what an earlier run has left.
func (c *contact) fromBefore(last, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.since = last, since
}

// answered records that the service answered with a policy, and returns the name of the trouble that is over.
func (c *contact) answered(found policysync.Found, now time.Time) (over string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(found.Missing) == 0 { // missing values are trouble too, which look reports
		over = c.trouble
		c.waiting, c.trouble, c.next = public.Line{}, "", time.Time{}
	}
	c.heard, c.last, c.rollout, c.since = true, now, found.Rollout, found.Since
	return over
}

// waits records what is waited for. news is true if the trouble differs from the last one.
func (c *contact) waits(waiting public.Line, trouble string, next time.Time) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news = c.trouble != trouble
	c.heard, c.waiting, c.trouble, c.next = true, waiting, trouble, next
	return news
}

// refused records that the service answered with a policy that cannot be used.
func (c *contact) refused(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = now
}

// nothingPublished records that nothing is waited for.
func (c *contact) nothingPublished() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard, c.waiting, c.trouble = true, public.Line{}, ""
}

// kept records whether the fetched policy could be kept for the next boot.
func (c *contact) kept(kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unkept = !kept
}

// take records the policy that was fetched, and returns the one before it.
func (c *contact) take(p *policy.Policy) (before *policy.Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.fetched = c.fetched, p
	return before
}

// replace replaces the fetched policy, if there is one, by one that was merged without AWS. That one has no
// secrets, so it differs from what is fetched next.
func (c *contact) replace(p *policy.Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fetched != nil {
		c.fetched = p
	}
}

// ever says whether a published policy was fetched since the start.
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

// troubled says whether AWS could not be reached the last time.
func (c *contact) troubled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble != ""
}

// lastTime returns when the published policy was last confirmed.
func (c *contact) lastTime() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// fill sets the fields of a status about the published policy, with the part of each text that its
// reader may see.
func (c *contact) fill(s *Status, part func([]public.Line) []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Trouble, s.NextAttempt, s.LastContact, s.Rollout, s.PolicySince = c.trouble, c.next, c.last, c.rollout, c.since
	if c.waiting != (public.Line{}) {
		s.Waiting = part([]public.Line{c.waiting})[0]
	}
}
