// Package source is where fragments and values come from: directories of the
// machine, SSM Parameter Store, Secrets Manager; and the cache of the last good
// policy for when those cannot be reached.
//
// An AWS is a connection to one account and region. Published returns the remote
// layer, checked against its manifest; Fetch returns the values that a policy
// refers to. Neither retries: Retry does, in one place, by one table of errors.
// No error, log line or file of this package ever holds the value of a secret.
package source
