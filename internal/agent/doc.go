// Package agent assembles the agent: it opens the machine, finds the policy, opens the kinds and checks them.
// The commands use it for one pass. Run is the daemon, which goes through these phases:
//
//	lock down   the last good policy, or the seed, before anything touches the network
//	bootstrap   credentials, manifest, fragments, values; retried for as long as it takes
//	converge    all kinds, to the policy just fetched
//	keep        at once when something changes, and in full from time to time
//
// Three workers share the machine: one for the quick kinds, one for packages, and one for the policy's own
// checks. So a long download never delays the repair of a sudoers file.
//
// Who talks to whom:
//
//	AWS ◀──▶ link ◀── bootstrap ──policy──▶ enforce ──kinds──▶ worker (three) ◀──"check again"── watch
//	                      │                    │                    │
//	                what it learns        in force now         what it found
//	                      ▼                    ▼                    ▼
//	      contact, personas, refusals       findings ◀──────────────┘      startup, crashes
//	                      └────────────────────┴────────┬─────────────────────────┘
//	                                                    ▼
//	                          publish: report and status ──▶ files, bus, systemd, senders ──▶ AWS
//
// Each name in the middle row is a type of its own that owns its state and its lock, and takes no other
// lock while it holds that. The daemon wires them together. Its own lock (mu) is held while report and
// status are made and written and while a policy is put into force, so that what is published is
// consistent. It also guards the configuration and the status. A second lock (enforcing) is taken
// before it, so that only one policy at a time is put into force.
//
// The agent may hang, crash, or be told to stop at any moment, and must not be in anybody's way then. The
// desktop waits ten seconds for the lock-down. A kind whose check does not return is set aside
// (converge.Engine.CheckTimeout). If a worker gives no sign of life, systemd's watchdog restarts the agent
// (heartbeat). If the agent crashes soon after its start again and again, it keeps nothing but sudo
// (crashRecord). A stop waits for no more than the file that is being written.
package agent
