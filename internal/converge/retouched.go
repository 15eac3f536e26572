package converge

import "maps"

// A Retouch records one change that the agent made to a file it does not own: to its owner, its group,
// its mode, or the lines of a key.
type Retouch struct {
	Was  string `json:"was"`  // the value before the agent first changed it
	Made string `json:"made"` // the value that the agent set last
	// Earlier is the value that the agent had set before Made. While a change is under way, or after
	// one has failed, the file has one or the other.
	Earlier *string `json:"earlier,omitempty"`
}

// Makes says whether the present value was set by the agent.
func (r Retouch) Makes(now string) bool {
	return now == r.Made || r.Earlier != nil && now == *r.Earlier
}

// Retouched returns what the agent has changed in a file it does not own, by aspect.
func (l *Ledger) Retouched(name string) map[string]Retouch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.retouched[name])
}

// Retouch records the changes that Retouched returns, so that they can be undone later. An empty map
// forgets the file. The ledger has to be flushed before the file is changed.
func (l *Ledger) Retouch(name string, aspects map[string]Retouch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if maps.Equal(l.retouched[name], aspects) {
		return
	}
	l.note(line{Retouched: name, Aspects: maps.Clone(aspects)})
}

// A Retouching works out the new values of the aspects of a file that the agent does not own.
type Retouching struct {
	Before map[string]Retouch // what the ledger has recorded
	// During is what to record before the change: Before, plus what is about to be set. After is what
	// to record after it.
	During, After map[string]Retouch
}

// Retouching begins a Retouching from what the ledger has recorded for a name.
func (l *Ledger) Retouching(name string) Retouching {
	r := Retouching{Before: l.Retouched(name), During: map[string]Retouch{}, After: map[string]Retouch{}}
	maps.Copy(r.During, r.Before)
	return r
}

// Goal returns the value that an aspect is to have, whose value is now: wanted, if the policy names the
// aspect; the original value, if an earlier policy had the agent change it and the agent's value is still
// there; otherwise now.
func (r *Retouching) Goal(aspect, now, wanted string, named bool) string {
	was, known := r.Before[aspect]
	switch {
	case named && wanted == now:
		if known {
			r.After[aspect] = was
		}
		return now
	case named:
		if !known {
			was.Was = now
		}
		r.After[aspect] = Retouch{Was: was.Was, Made: wanted}
		if known && was.Makes(now) {
			was.Earlier = &now
		}
		was.Made = wanted
		r.During[aspect] = was
		return wanted
	case known && was.Makes(now):
		return was.Was
	}
	return now
}
