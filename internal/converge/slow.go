package converge

import "context"

type skipSlow struct{}

// SkipSlow returns the context of a pass that somebody waits for, such as the lock-down at boot. Kinds
// leave what takes long to read for the next check, and say so.
func SkipSlow(ctx context.Context) context.Context { return context.WithValue(ctx, skipSlow{}, true) }

// SkipsSlow says whether ctx comes from SkipSlow.
func SkipsSlow(ctx context.Context) bool { return ctx.Value(skipSlow{}) != nil }

type onlyPass struct{}

// OnlyPass returns the context of a pass that no other follows, such as that of a single apply. Kinds wait
// longer for a slow answer in it, because nobody asks again.
func OnlyPass(ctx context.Context) context.Context { return context.WithValue(ctx, onlyPass{}, true) }

// IsOnlyPass says whether ctx comes from OnlyPass.
func IsOnlyPass(ctx context.Context) bool { return ctx.Value(onlyPass{}) != nil }
