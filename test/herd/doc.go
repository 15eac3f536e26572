// Package herd is ten thousand agents that start, or wake, together, against one
// account's calls a second: the agent's own code, in virtual time, with AWS in
// memory.
package herd
