package converge

import "context"

type hurry struct{}

// InHurry is the context of a pass that somebody waits for, such as the lock-down at boot:
// a kind leaves for the next look what takes long to ask, and says so.
func InHurry(ctx context.Context) context.Context { return context.WithValue(ctx, hurry{}, true) }

// Hurries says whether the pass of a context is InHurry.
func Hurries(ctx context.Context) bool { return ctx.Value(hurry{}) != nil }
