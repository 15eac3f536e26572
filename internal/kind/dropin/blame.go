package dropin

import (
	"context"
	"fmt"
)

// A brokenError says that a configuration was broken before the file at hand,
// and by which other one.
type brokenError struct {
	file string
	ours bool // the policy names it
	err  error
}

func (e *brokenError) Error() string {
	if e.ours {
		return fmt.Sprintf("%s is broken already: %v", e.file, e.err)
	}
	return fmt.Sprintf("%s, which is somebody else's, is broken already: %v", e.file, e.err)
}

func (e *brokenError) Unwrap() error { return e.err }

// A fullConfig is all that one program reads, of which a drop-in is a part. Each
// method says what the program finds wrong.
type fullConfig interface {
	// with checks everything with changed files; nil stands for one that is removed.
	with(ctx context.Context, changes map[string][]byte) error
	// alone checks one file and nothing else.
	alone(ctx context.Context, content []byte) error
	// culprit returns the file that breaks the configuration, with changed files, for which with
	// returned err.
	culprit(ctx context.Context, changes map[string][]byte, err error) string
}

// checkIn checks the whole configuration with the candidate in it. Where something is wrong, it
// tells whether the candidate is to blame: it is, when all was well before or
// is without it, and when it is wrong by itself. A brokenError says that it is not.
func (c candidate) checkIn(ctx context.Context, w fullConfig) error {
	refused := w.with(ctx, map[string][]byte{c.name: c.content})
	if refused == nil || w.with(ctx, nil) == nil {
		return refused
	}
	without := map[string][]byte{c.name: nil}
	other := w.with(ctx, without)
	if other == nil {
		return refused
	}
	if c.content != nil {
		if err := w.alone(ctx, c.content); err != nil {
			return err
		}
	}
	file := w.culprit(ctx, without, other)
	return &brokenError{file: file, ours: c.named(file), err: other}
}
