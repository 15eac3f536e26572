package converge

import (
	"cmp"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// standing is the last state of a resource.
type standing struct {
	State          State     `json:"state"`
	Since          time.Time `json:"since"`
	Digest         string    `json:"digest,omitempty"` // of what was wanted when it was last in line or pending; noDigest when nothing was
	Changed        time.Time `json:"changed,omitzero"` // when the agent last changed it
	Cause          Cause     `json:"cause,omitempty"`  // of a pending resource
	Held           bool      `json:"held,omitempty"`   // it is pending because a step of its repair was postponed
	NotInLineSince time.Time `json:"astray,omitzero"`  // since when it has not been in line; zero if it is

	// The state before it became unknown, and since when it had that.
	Known      State     `json:"known,omitempty"`
	KnownSince time.Time `json:"known_since,omitzero"`
}

// briefDoubt is how long a resource may be unknown and still count as not having changed its state. A
// short time without an answer, as at a boot where everything starts at once, is not news.
const briefDoubt = 10 * time.Minute

// Changed returns when the agent last changed the resource; the zero time if it never did.
func (l *Ledger) Changed(id policy.ID) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resources[id].Changed
}

// MarkChanged records that the agent has just changed the resource.
func (l *Ledger) MarkChanged(id policy.ID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.resources[id]
	s.Changed = now
	l.note(line{Resource: id, Standing: &s})
}

// noDigest stands for the digest of a resource that comes from its kind and not from the policy.
const noDigest = "-"

// notWanted stands for the digest of a resource that the policy no longer names.
const notWanted = "not wanted"

// left marks the resources of a kind that are neither wanted nor there any more: those for which known
// returns false. If the policy names one again, it counts as new.
func (l *Ledger) left(kind string, known func(policy.ID) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.resources {
		if id.Kind() == kind && s.Digest != "" && s.Digest != noDigest && s.Digest != notWanted && !known(id) {
			s.Digest = notWanted
			l.note(line{Resource: id, Standing: &s})
		}
	}
}

// WasInLine says whether the resource was last in line, or pending, with what the digest stands for.
func (l *Ledger) WasInLine(id policy.ID, digest string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.resources[id]
	return ok && s.Digest == cmp.Or(digest, noDigest)
}

// awaited says whether a drifted resource was pending until now and only its effect is missing, and the
// cause of the change that was pending.
func (l *Ledger) awaited(r Resource) (cause Cause, yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.resources[r.ID]
	if s.State != Pending || s.Digest != cmp.Or(r.digest, noDigest) || !s.Held && !r.onlyEffect() {
		return "", false
	}
	return cmp.Or(s.Cause, Intentional), true
}

// EverInLine says whether the resource has ever been in line, whatever was wanted of it.
func (l *Ledger) EverInLine(id policy.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resources[id].Digest != ""
}

// Since returns when the resource came into a state. That is an earlier time if it is still in the
// state, or is in it again after being unknown for less than briefDoubt; otherwise it is now. A
// corrected resource counts as compliant.
func (l *Ledger) Since(id policy.ID, state State, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A time in the future comes from a clock that was wrong, and says nothing.
	s, ok := l.resources[id]
	switch {
	case !ok || s.Since.Round(0).After(now.Round(0)):
	case settled(s.State) == state:
		return s.Since
	case s.State == Unknown && s.Known == state && now.Sub(s.Since) < briefDoubt && !s.KnownSince.Round(0).After(now.Round(0)):
		return s.KnownSince
	}
	return now
}

func settled(state State) State {
	if state == Corrected {
		return Compliant
	}
	return state
}

// stands records the state of a resource if it has changed, and returns the former one.
func (l *Ledger) stands(r Resource) (was standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.resources[r.ID]
	now := old
	now.State, now.Since = settled(r.State), r.Since
	now.Cause, now.Held = "", false
	switch {
	case r.State != Unknown:
		now.Known, now.KnownSince = "", time.Time{}
	case old.State != Unknown:
		now.Known, now.KnownSince = old.State, old.Since
	}
	switch r.State {
	case Pending:
		now.Cause, now.Held = cmp.Or(r.Cause, old.Cause), r.held
		now.Digest = cmp.Or(r.digest, noDigest)
	case Compliant, Corrected:
		now.Digest = cmp.Or(r.digest, noDigest)
	}
	switch {
	case r.State == Compliant || r.State == Corrected || r.State == NotApplicable:
		now.NotInLineSince = time.Time{}
	case r.State != Unknown && now.NotInLineSince.IsZero():
		now.NotInLineSince = r.noticed.Round(0) // without the monotonic clock, as it is read back
	}
	if now != old {
		l.note(line{Resource: r.ID, Standing: &now})
	}
	return old
}
