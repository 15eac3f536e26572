// Package persona tells which personas a machine has: those that it always has and
// one more, of the first rule in agent.toml whose conditions all hold.
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
// A rule may ask for tags of the managed node, groups of who sits at the desktop,
// the host name, and facts. What it asks for is known late, or not always: a
// machine is activated, named and joined to its directory after the agent's first
// start, its user's volume is mounted late, AWS and the directory may not answer.
// So a condition holds, or does not, or cannot be told; and what cannot be told is
// never taken for false, for then a machine would lose its persona, and the user
// their programs, whenever a directory is slow.
package persona
