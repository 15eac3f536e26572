// Package manifest is the format in which a policy is published to a fleet: one
// parameter, the manifest, lists by name and digest the parameters that hold the
// fragments. Those are written once and never changed, and the manifest is written
// last: whoever reads the manifest either finds all that it lists, or knows that it
// does not.
//
//	schema = 1
//	serial = 42                     # of the generation that is for everybody
//	[[fragment]]
//	name      = "10-base"
//	parameter = "/soe/prod/policy/10-base/3f9a1c2b4d5e"
//	sha256    = "…"                 # of the text
//	size      = 5120                # of the text, in bytes
//	encoding  = "gzip+base64"       # absent: the text as it is
//	parts     = 2                   # absent: one; else PARAMETER/1, PARAMETER/2 …
//	personas  = ["base"]            # absent: everybody
//
//	[rollout]                       # a second generation, for a share of the fleet
//	serial  = 43
//	percent = 10
//	salt    = "b1946ac9"
//	[[rollout.fragment]]
//	…
//
// A manifest that does not fit a standard parameter as it is, is packed: gzip, then
// base64.
//
// A machine's place in a rollout comes from a hash of its identity, so that ten
// percent are the same tenth at every look, and eleven percent are those and some
// more. With pause = true every machine stays at the serial that it has.
//
// Nothing here reads or writes parameters: Published of package source reads, and
// package publish writes.
package manifest
