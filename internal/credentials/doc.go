// Package credentials is where the agent's AWS credentials come from. A WorkSpace
// has no instance profile: what there is, somebody else keeps fresh in a file or
// by a program, and a daemon that lives for months must notice each time.
//
// A Provider has one source, the configured one, and never tries another: the
// metadata service of a WorkSpace, for one, answers for AWS's own account. It
// keeps what it has read and looks at the files again before every request, so
// that new keys are used by the next request and not after the old have failed. It
// wants no cache around it, and the clients of the SDK put none there; they do
// remember the key that they derive from a secret, which is why there is a Signer.
//
// Files are read as somebody else may be writing them: amazon-ssm-agent truncates
// the shared file and writes it in place, and then another one that says until
// when its keys hold. A Provider gives what was whole, or what it gave before and
// still holds, or an error that wraps ErrHalfWritten.
//
// The daemon is root where a hostile user sits. A file that somebody other than
// root could have written, and a program that somebody else could have put there,
// are refused. No error and no log line holds a key, a token, or what a program
// has written.
package credentials
