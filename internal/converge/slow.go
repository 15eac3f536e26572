package converge

import "context"

type skipSlow struct{}

// SkipSlow is the context of a pass that somebody waits for, such as the lock-down at boot:
// a kind leaves for the next check what takes long to ask, and says so.
func SkipSlow(ctx context.Context) context.Context { return context.WithValue(ctx, skipSlow{}, true) }

// SkipsSlow says whether the pass of a context is SkipSlow.
func SkipsSlow(ctx context.Context) bool { return ctx.Value(skipSlow{}) != nil }
