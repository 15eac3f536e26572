// Package target describes the machines that a policy may be for: by facts, such as the family of the
// operating system, the package manager, the desktop and the streaming protocol.
//
// Facts are those of one machine, as far as they are known. Conditions are tests of facts, as in
//
//	when = { fact."os.family" = ["rhel"], fact.desktop = "gnome" }
//
// They hold, do not hold, or cannot be told while a fact is not known: an unknown fact never counts as
// false. All returns the machines that a policy is linted for, with the facts that are common to each.
package target
