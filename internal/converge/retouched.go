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
