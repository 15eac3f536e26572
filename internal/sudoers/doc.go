// Package sudoers knows what sudo reads and prints on a machine: the files of sudoers(5), in order;
// how the installed sudo would read them after a change; and what it allows a user to do. One
// syntax error in any file disables sudo for everybody. So sudo and visudo(8) check a change before
// it is made.
package sudoers

// Main is the file that sudo reads. Dir is the directory that Main includes on every system that
// the agent knows.
const (
	Main = "/etc/sudoers"
	Dir  = "/etc/sudoers.d"
	// Grants is the agent's own file that sorts first.
	Grants = Dir + "/0-soe-sudo"
)
