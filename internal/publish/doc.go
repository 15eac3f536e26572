// Package publish writes a policy to SSM Parameter Store, in the format of package
// manifest, for the fleet that reads it there.
//
// It is done in two steps. Plan only reads: it finds out what is published now,
// what would change for each persona and what would have to be written. Write
// carries a plan out: fragments first, each under a name of its own that nobody
// knows yet; then it reads them back; and last, in one call, it replaces the
// manifest. So a machine that reads meanwhile finds the old policy, whole, or the
// new one, whole; and whoever is stopped halfway has changed nothing for any
// machine, and publishes again.
//
//	plan, err := publisher.Plan(ctx, sources, publish.Everybody)
//	…
//	result, err := publisher.Write(ctx, plan)
//
// What Write replaces is not lost at once: the fragments of the manifest before
// stay for the machines that are just reading it, and nothing is deleted that was
// written in the last 24 hours. Two who publish at once do not mix: Parameter Store
// knows no "replace only if it is still this one", so the manifest is read again
// before it is replaced, and its version is looked at after; whoever came too late
// is told so.
package publish
