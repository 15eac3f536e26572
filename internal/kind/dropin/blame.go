package dropin

import (
	"context"
	"fmt"
)

// A brokenError says that the configuration is broken by another file, and was before this one.
type brokenError struct {
	file string
	ours bool // the policy names that file
	err  error
}

func (e *brokenError) Error() string {
	if e.ours {
		return fmt.Sprintf("%s is broken already: %v", e.file, e.err)
	}
	return fmt.Sprintf("%s, which is somebody else's, is broken already: %v", e.file, e.err)
}

func (e *brokenError) Unwrap() error { return e.err }

// A fullConfig is the whole configuration of a program, of which a drop-in is a part. Each method
// returns what the program finds wrong.
type fullConfig interface {
	// with checks the whole configuration with changed files. A nil content stands for a removed file.
	with(ctx context.Context, changes map[string][]byte) error
	// alone checks one file by itself.
	alone(ctx context.Context, content []byte) error
	// culprit returns the file that breaks the configuration when with has returned err for these changes.
	culprit(ctx context.Context, changes map[string][]byte, err error) string
}

// checkIn checks the whole configuration with the candidate in it. If something is wrong, it decides
// whether the candidate is to blame: it is if the configuration was fine before or is fine without it,
// or if the candidate is wrong by itself. Otherwise the error is a brokenError.
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
