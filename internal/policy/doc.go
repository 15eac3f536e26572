// Package policy is the language in which a desktop's standard operating
// environment is written down: its words, its rules, and how several
// documents become one.
//
// A policy is written as fragments, one TOML document each:
//
//	schema   = 1
//	personas = ["developer"]
//
//	[packages]
//	git = "latest"
//
//	[dropins."/etc/sysctl.d/60-soe.conf"]
//	content = "kernel.dmesg_restrict = 1\n"
//
// Parse reads one fragment and reports everything that is wrong with it, each
// problem with file and line. Merge selects the fragments of a machine's
// personas and puts them together: a higher Layer replaces the whole resource
// of a lower one, and every resource remembers where it came from. Of then
// hands the merged resources, typed, to the kind that keeps them.
//
// Each table of a fragment is a section, in a file of its name: what it is read as, its
// keys, what is judged of their values, how it is written. The list of sections is in
// sections.go, and the decoder, the JSON Schema, the reference and the kinds go by it.
//
// The package does no I/O but what an fs.FS given to it does, and knows nothing
// of the machine: what it accepts on an author's laptop it accepts on every
// desktop.
package policy
