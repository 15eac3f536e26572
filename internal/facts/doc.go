// Package facts determines what this machine is and who uses it: the operating system, the names by
// which AWS and the directory know it, its accounts, and the people who may use the desktop. It
// only reads.
package facts
