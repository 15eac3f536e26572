// Package policy is the language of policies, which describe a desktop's standard operating
// environment: its words, its rules, and how several documents are merged.
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
// Parse reads one fragment and reports everything that is wrong with it, each problem with file and
// line. Merge selects the fragments for a machine's personas and merges them: a higher Layer
// replaces the whole resource of a lower one, and every resource records where it came from. Of
// returns the merged resources of one type, for the kind that implements them.
//
// Each table of a fragment is a section, in a file of its name: its spec, its keys, how their
// values are checked, and how it is written. sections.go has the list of sections, which the
// decoder, the JSON Schema, the reference and the kinds use.
//
// The package does no I/O except through an fs.FS given to it, and knows nothing about the machine:
// what it accepts on an author's laptop it accepts on every desktop.
package policy
