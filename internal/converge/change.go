package converge

import "time"

// An Event is what happened to a resource in a pass.
type Event string

// The events. For a resource that is not in line, the event is named after its state.
const (
	WasCorrected  Event = "corrected"     // the agent brought it into line
	WasReclaimed  Event = "reclaimed"     // the policy does not want it, and the agent took it away
	WasCarriedOut Event = "carried out"   // what was pending has taken effect
	IsInLineAgain Event = "in line again" // without the agent: something else did it, or the policy wants it so now
)

// A Change is an event of a resource in a pass that belongs in the history.
type Change struct {
	Resource
	Event Event
	At    time.Time // when the check saw it
	// Noticed is when the resource was first seen not to be in line, possibly many passes ago.
	Noticed time.Time
}

// changeOf compares a resource with its state in the last pass. changed is false when the check
// found it as the last pass left it.
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
		} else if !was.NotInLineSince.IsZero() {
			event = IsInLineAgain
		}
	case Unknown:
	default:
		if r.State != was.State || r.mended && r.State != Contested {
			event = Event(r.State)
		}
	}
	c = Change{Resource: r, Event: event, At: r.seen, Noticed: r.noticed}
	if !was.NotInLineSince.IsZero() && !was.NotInLineSince.After(r.seen) { // else the clock was wrong then
		c.Noticed = was.NotInLineSince
	}
	return c, event != ""
}
