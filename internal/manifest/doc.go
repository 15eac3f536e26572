// Package manifest is the format in which a policy is published to a fleet. One parameter, the
// manifest, lists the parameters that hold the fragments by name and digest. Those are written once
// and never changed, and the manifest is written last. So whoever reads the manifest either finds
// everything that it lists, or notices that something is missing.
//
//	schema = 1                      # or 2, as soon as it says what only 2 has
//	serial = 42                     # of the generation that is for everybody
//	[[fragment]]
//	name      = "10-base"
//	parameter = "/soe/prod/policy/10-base/3f9a1c2b4d5e"
//	sha256    = "…"                 # of the text
//	size      = 5120                # of the text, in bytes
//	encoding  = "gzip+base64"       # absent: the text as it is
//	parts     = 2                   # absent: one; else PARAMETER/1, PARAMETER/2 …
//	personas  = ["base"]            # absent: everybody
//	when      = { "os.family" = ["rhel"] }  # absent: every machine; of schema 2
//
//	[rollout]                       # a second generation, for a share of the fleet
//	serial  = 43
//	percent = 10
//	salt    = "b1946ac9"
//	[[rollout.fragment]]
//	…
//
// A manifest that would not fit a standard parameter is packed: gzip, then base64.
//
// A machine's place in a rollout is a hash of its identity. So ten percent are the same machines at
// every poll, and eleven percent are those and some more. With pause = true every machine stays at
// the serial that it has.
//
// This package does not access Parameter Store: Published of package source reads, and package
// publish writes.
package manifest
