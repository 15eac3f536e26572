// Package agent puts the house together: it opens the machine, finds the policy,
// makes the kinds and walks them. The commands use it for one walk; Run is the
// daemon, whose life is
//
//	lock down   the last good policy, or the seed, before anything touches the network
//	bootstrap   credentials, manifest, fragments, values: with patience, for ever
//	converge    all kinds, to the policy just fetched
//	keep        at once when something changes, and in full from time to time
//
// Two workers share the machine: one for the kinds that are quick, one for
// packages, so that a long download never holds up the mending of a sudoers file.
package agent
