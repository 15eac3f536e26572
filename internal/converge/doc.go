// Package converge brings a machine into line with its policy and reports the state of each resource.
//
// A Kind checks and repairs one sort of resource. The Engine runs the kinds in
// passes: check all of them concurrently, repair what drifted in a fixed order
// (lock down first, slow kinds last), and check again what was touched. Only the
// second check makes a resource compliant; the exit status of a command does not.
// A failure of one resource never stops another.
//
// The Ledger is the agent's memory. It records what the agent made or replaced on
// this machine, with the originals, and which digest of each resource was last
// found in line. That tells corrective drift (the machine changed) from
// intentional drift (the policy changed).
package converge
