// Package source is the agent's access to AWS: the manifest and the fragments of a published policy in SSM
// Parameter Store, the values that a policy refers to in Parameter Store and Secrets Manager, and what to
// do about errors.
//
// An AWS is a connection to one account and region; it lives as long as its configuration. Manifest reads
// what is published now; Fragments and Fetch read what the manifest leads to. A call that fails for a
// reason that goes away by itself is repeated with growing waits. Retry does that in one place, by one
// table of errors. Other errors are returned, and Classify says what to do about them. TroubleOf gives
// each error the name that people see.
//
// No error, log line or file of this package ever holds the value of a secret.
package source
