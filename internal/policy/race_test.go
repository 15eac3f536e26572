//go:build race

package policy

// allowance is by how much longer than a second a megabyte may take here: what is built
// to find races is slower by a factor of ten and more.
const allowance = 25
