// Package source is AWS as the agent sees it: the manifest and the fragments of a
// published policy in SSM Parameter Store, the values that a policy refers to in
// Parameter Store and Secrets Manager, and what to do when that fails.
//
// An AWS is a connection to one account and region, which lives as long as its
// configuration. Manifest is one look at what is published; Fragments and Fetch get
// what it leads to. Each call is made again, with patience, while it fails for a
// reason that passes by itself: Retry does that, in one place, by one table of
// errors. What does not pass is returned, and Classify says what to do about it.
// TroubleOf has a name for each, which people see.
//
// No error, log line or file of this package ever holds the value of a secret.
package source
