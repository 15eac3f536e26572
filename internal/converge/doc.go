// Package converge brings a machine into line with its policy and says where it
// stands.
//
// A Kind knows one sort of resource: it checks, and it repairs. The Engine checks
// the kinds in passes: check everything at once, repair what drifted in a fixed
// order (lock down first, slow things last), check again what was touched. Only
// the second check makes a resource compliant; that a command exited 0 does not.
// One resource's failure never stops another.
//
// The Ledger is the memory: what the agent made or replaced on this machine, with
// what was there before, and what was last found in line, by which corrective
// drift (the machine changed) is told from intentional drift (the policy did).
package converge
