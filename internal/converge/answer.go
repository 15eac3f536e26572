package converge

import (
	"encoding/json"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// An Answer is the last result for a resource that its kind checks on a schedule of its own (see
// Timed). It is valid until the next check of the resource, also after a restart of the agent. It holds
// no secret.
type Answer struct {
	Digest string          `json:"digest"` // of what the policy wanted then (policy.Resource.Digest)
	At     time.Time       `json:"at"`
	Found  json.RawMessage `json:"found,omitempty"` // encoded by the kind
}

// Answer returns the latest answer for a resource; known is false when the ledger has none.
func (l *Ledger) Answer(id policy.ID) (a Answer, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, known = l.answers[id]
	return a, known
}

// KeepAnswer records the latest answer for a resource. It is written to disk at the end of the pass.
func (l *Ledger) KeepAnswer(id policy.ID, a Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(line{Resource: id, Answer: &a})
}

// DropAnswers forgets the answers of a kind's resources for which useful returns false.
func (l *Ledger) DropAnswers(kind string, useful func(id policy.ID) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.answers {
		if id.Kind() == kind && !useful(id) {
			l.note(line{Resource: id, Answer: &Answer{}})
		}
	}
}
