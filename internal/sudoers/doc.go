// Package sudoers knows what sudo reads and says on a machine: the files of sudoers(5),
// in order; what the sudo that is installed would make of them, were they changed; and
// what it lets somebody do. One syntax error in any file ends sudo for everybody, so
// that sudo and visudo(8) judge a change before it is made.
package sudoers

// Main is the file that sudo reads; Dir is the directory that it includes on
// every system that the agent knows.
const (
	Main = "/etc/sudoers"
	Dir  = "/etc/sudoers.d"
)
