// Package sudoers reads sudoers(5) as sudo 1.8.23 and its successors do, as far
// as is needed to tell who is granted something and where, and has visudo(8)
// judge a change before it is made.
//
// It is no full parser, and it errs to one side: a line that it cannot make
// sense of is Unclear, and the caller takes it for a grant to anybody. Two traps
// are why a search for names would not do: "#1000 ALL=(ALL) ALL" is a grant and
// no comment, and one syntax error in any file ends sudo for everybody.
package sudoers

// Main is the file that sudo reads; Dir is the directory that it includes on
// every system that the agent knows.
const (
	Main = "/etc/sudoers"
	Dir  = "/etc/sudoers.d"
)
