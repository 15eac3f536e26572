// Package agent puts the house together: it opens the machine, finds the policy,
// makes the kinds and checks them. The commands use it for one pass; Run is the
// daemon, whose life is
//
//	lock down   the last good policy, or the seed, before anything touches the network
//	bootstrap   credentials, manifest, fragments, values: with patience, for ever
//	converge    all kinds, to the policy just fetched
//	keep        at once when something changes, and in full from time to time
//
// Three workers share the machine: one for the kinds that are quick, one for the checks of the policy's own, one for
// packages, so that a long download never holds up the repairing of a sudoers file.
//
// Who talks to whom:
//
//	AWS ◀──▶ link ◀── bootstrap ──policy──▶ enforce ──kinds──▶ worker (three) ◀──"look again"── watch
//	                      │                    │                    │
//	                what it learns        in force now         what it found
//	                      ▼                    ▼                    ▼
//	      contact, personas, refusals       findings ◀──────────────┘      startup, crashes
//	                      └────────────────────┴────────┬─────────────────────────┘
//	                                                    ▼
//	                          publish: report and status ──▶ files, bus, systemd, senders ──▶ AWS
//
// Each name in the middle row is a type of its own, which owns its state and its lock, and
// takes no other lock while it has that. The daemon wires them. Its own lock (mu) is held
// while report and status are made and written, and while another policy is put into force:
// so what is told fits together. It guards the configuration and the status besides. Another
// (enforcing) is taken before it, so that one policy at a time is put into force.
//
// It may hang, die and be told to stop at any moment, and is in nobody's way then. The
// desktop waits ten seconds for the lock-down; a kind whose check does not end is set
// aside (converge.Engine.CheckTimeout); a worker that gives no sign of life has systemd's
// watchdog start another agent (heartbeat); one that crashes soon after its start again and again keeps
// nothing but sudo (crashRecord); a stop waits for no more than the file being written.
package agent
