package converge

import "time"

// An Event is what became of a resource in a pass.
type Event string

// The events. Those of a resource that is not in line are called as its state is.
const (
	WasCorrected  Event = "corrected"     // the agent brought it into line
	WasReclaimed  Event = "reclaimed"     // the policy does not want it, and the agent took it away
	WasCarriedOut Event = "carried out"   // what was pending has taken effect
	IsInLineAgain Event = "in line again" // without the agent: something else did it, or the policy wants it so now
)

// A Change is something that became of a resource in a pass, and is worth remembering.
type Change struct {
	Resource
	Event Event
	At    time.Time // when it was seen to be so
	// Noticed is when it was first seen not to be in line, be it many passes ago.
	Noticed time.Time
}

// changeOf says what became of a resource that stood somewhere else before. What a
// look finds as it was left is no change.
func changeOf(r Resource, was standing) (c Change, changed bool) {
	event := Event("")
	switch r.State {
	case Corrected:
		event = WasCorrected
		if r.unwanted {
			event = WasReclaimed
		} else if was.State == Pending && !r.mended {
			event = WasCarriedOut
		}
	case Compliant:
		if was.State == Pending {
			event = WasCarriedOut
		} else if !was.Astray.IsZero() {
			event = IsInLineAgain
		}
	case Unknown:
	default:
		if r.State != was.State || r.mended && r.State != Contested {
			event = Event(r.State)
		}
	}
	c = Change{Resource: r, Event: event, At: r.seen, Noticed: r.noticed}
	if !was.Astray.IsZero() && !was.Astray.After(r.seen) { // or the clock was wrong then
		c.Noticed = was.Astray
	}
	return c, event != ""
}
