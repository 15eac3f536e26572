package converge

import (
	"encoding/json"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// An Answer is what was found of a resource that is looked at in its own time: it counts until the
// next look, over restarts of the agent too. It holds no secret.
type Answer struct {
	Digest string          `json:"digest"` // of what was wanted then (policy.Resource.Digest)
	At     time.Time       `json:"at"`
	Found  json.RawMessage `json:"found,omitempty"` // in the kind's own words
}

// Answer is the last one of a resource.
func (l *Ledger) Answer(id policy.ID) (a Answer, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, known = l.answers[id]
	return a, known
}

// KeepAnswer has an answer be the last one of a resource. The end of the pass makes it last.
func (l *Ledger) KeepAnswer(id policy.ID, a Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(line{Resource: id, Answer: &a})
}

// DropAnswers forgets those of a kind that are of no use any more.
func (l *Ledger) DropAnswers(kind string, useful func(id policy.ID) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.answers {
		if id.Kind() == kind && !useful(id) {
			l.note(line{Resource: id, Answer: &Answer{}})
		}
	}
}
