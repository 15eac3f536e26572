// Package persona selects the personas of a machine: those that it always has, and that of the
// first rule in agent.toml whose conditions all hold, or of every such rule (persona_rules = "all").
//
//	personas = ["base"]
//
//	[[persona]]
//	name = "developer"
//	when = { tag.Persona = "developer" }
//
//	[[persona]]
//	name = "finance"
//	when = { group = 'EXAMPLE\Finance Users', hostname = "A-*", fact."os.id" = ["amzn", "rocky"] }
//
// A rule may test tags of the managed node, groups of the desktop's user, the host name, and facts.
// These may be known late, or not always: a machine is activated, named and joined to its directory
// after the agent's first start, its user's volume is mounted late, and AWS or the directory may
// not answer. So a condition holds, does not hold, or cannot be determined. An undetermined
// condition never counts as false. Otherwise a machine would lose its persona, and the user their
// programs, whenever a directory is slow.
package persona
