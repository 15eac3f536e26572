//go:build race

package policy

// allowance is by which factor a megabyte may take longer than a second here: code built with the
// race detector is slower by a factor of ten and more.
const allowance = 25
