// Package sudotext reads and writes the text of sudoers(5) as sudo 1.8.23 and its
// successors do, as far as is needed to tell who is granted something and where. It
// touches no machine.
//
// It is no full parser, and it errs to one side: a line that it cannot make
// sense of is Unclear, and the caller takes it for a grant to anybody. A search for
// names would not do: "#1000 ALL=(ALL) ALL" is a grant and no comment.
package sudotext
