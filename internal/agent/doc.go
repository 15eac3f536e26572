// Package agent puts the house together: it opens the machine, finds the policy,
// makes the kinds and walks them. The commands use it for one walk; Run is the
// daemon, whose life is
//
//	lock down   the last good policy, or the seed, before anything touches the network
//	bootstrap   credentials, manifest, fragments, values: with patience, for ever
//	converge    all kinds, to the policy just fetched
//	keep        at once when something changes, and in full from time to time
//
// Three workers share the machine: one for the kinds that are quick, one for the checks of the policy's own, one for
// packages, so that a long download never holds up the mending of a sudoers file.
//
// It may hang, die and be told to stop at any moment, and is in nobody's way then. The
// desktop waits ten seconds for the lock-down; a kind whose check does not end is set
// aside (converge.Engine.CheckTimeout); a worker that gives no sign of life has systemd's
// watchdog start another agent (pulse); one that dies young again and again keeps
// nothing but sudo (life); a stop waits for no more than the file being written.
package agent
