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

// A Query says which changes are wanted.
type Query struct {
	// ID is that of their resource. A * in it is any text; empty, all are wanted.
	ID    string
	Since time.Time
	Limit int // so many, the last ones; 0: all
}

func (q Query) wants(c Change) bool {
	return !c.Time.Before(q.Since) && (q.ID == "" || policy.Rule{Match: []string{q.ID}}.Matches(c.ID))
}

// Read returns the changes of the history in dir that are asked for, in the order in
// which they were written. Where there is no history there are none. A damaged line is
// passed over; with an error it returns what could be read.
func Read(files system.FileReader, dir string, q Query) ([]Change, error) {
	segments, err := list(files, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	var changes []Change
	var errs []error
	for _, s := range segments {
		content, err := files.ReadFile(s.path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the agent may just have removed it
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

// latest are the last changes, as many as are wanted.
func (q Query) latest(changes []Change) []Change {
	if q.Limit == 0 || len(changes) <= q.Limit {
		return changes
	}
	return slices.Clone(changes[len(changes)-q.Limit:])
}
