package converge

import "maps"

// A Retouch is one change of what is somebody else's: of an owner, a group, a mode, or the
// lines of a key.
type Retouch struct {
	Was  string `json:"was"`  // before the agent first changed it
	Made string `json:"made"` // what the agent has made of it last
	// Earlier is what it had made of it before that: while a change is under way, or where one has
	// failed, it is either.
	Earlier *string `json:"earlier,omitempty"`
}

// Makes says whether the agent has made of it what it is now.
func (r Retouch) Makes(now string) bool {
	return now == r.Made || r.Earlier != nil && now == *r.Earlier
}

// Retouched is what the agent has changed of a file that is somebody else's, by aspect.
func (l *Ledger) Retouched(name string) map[string]Retouch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.retouched[name])
}

// Retouch records what Retouched is to return, so that it can be given back; nothing
// forgets it. It has to be flushed before the file is changed.
func (l *Ledger) Retouch(name string, aspects map[string]Retouch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if maps.Equal(l.retouched[name], aspects) {
		return
	}
	l.note(line{Retouched: name, Aspects: maps.Clone(aspects)})
}

// A Retouching works out what is to become of aspects of what is somebody else's.
type Retouching struct {
	Before map[string]Retouch // what the ledger knows
	// What the ledger is to know before the change, which is all that it knows and what comes; and
	// after it.
	During, After map[string]Retouch
}

// Retouching begins one of what the ledger knows by a name.
func (l *Ledger) Retouching(name string) Retouching {
	r := Retouching{Before: l.Retouched(name), During: map[string]Retouch{}, After: map[string]Retouch{}}
	maps.Copy(r.During, r.Before)
	return r
}

// Goal is what is to become of an aspect that is so now: what is wanted, if the policy names
// it; what it was before an earlier policy had it changed, if it is still as that had it; else
// what it is.
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
