// Package publish writes a policy to SSM Parameter Store, in the format of package manifest, for the fleet
// that reads it there.
//
// It takes two steps. Plan only reads: it finds out what is published now, what would change for each
// persona, and what would have to be written. Write carries a plan out. It writes the fragments, each under
// a new name that no manifest mentions yet, and reads them back. Last, in one call, it replaces the
// manifest. So a machine that reads meanwhile finds either the whole old policy or the whole new one. If
// Write is stopped halfway, nothing has changed for any machine, and the policy can be published again.
//
//	plan, err := publisher.Plan(ctx, sources, publish.Everybody)
//	…
//	result, err := publisher.Write(ctx, plan)
//
// What Write replaces is not deleted at once: the fragments of the previous manifest stay for machines that
// are reading it, and nothing is deleted that was written in the last 24 hours. Two publishers at the same
// time do not mix their policies. Parameter Store has no conditional write, so the manifest is read again
// right before it is replaced, and its version is checked afterwards; the publisher that was too late gets
// an error.
package publish
