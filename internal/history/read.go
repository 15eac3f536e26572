package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Query selects changes.
type Query struct {
	// ID is the id of the resource; a * in it matches any text. Empty matches every resource.
	ID    string
	Since time.Time
	Limit int // only this many, the last ones; 0 means all
}

func (q Query) wants(c Change) bool {
	return !c.Time.Before(q.Since) && (q.ID == "" || policy.Rule{Match: []string{q.ID}}.Matches(c.ID))
}

// Read returns the changes of the history in dir that q selects, in the order in which they were written.
// It returns none if there is no history. Damaged lines are skipped. With an error it returns what it
// could read.
func Read(files system.FileReader, dir string, q Query) ([]Change, error) {
	segments, err := list(files, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	var changes []Change
	var errs []error
	for _, s := range segments {
		content, err := files.ReadFile(s.path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the agent may have removed it meanwhile
			errs = append(errs, fmt.Errorf("cannot read all of the history: %w", err))
		}
		for line := range bytes.Lines(content) {
			var c Change
			if bytes.HasSuffix(line, []byte("\n")) && json.Unmarshal(line, &c) == nil && q.wants(c) {
				changes = append(changes, c)
			}
		}
		changes = q.latest(changes)
	}
	return changes, errors.Join(errs...)
}

// latest returns the last changes, at most Limit.
func (q Query) latest(changes []Change) []Change {
	if q.Limit == 0 || len(changes) <= q.Limit {
		return changes
	}
	return slices.Clone(changes[len(changes)-q.Limit:])
}
