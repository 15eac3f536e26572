//go:build !race

package policy

// allowance is by which factor a megabyte may take longer than a second here: on busy cores a
// second of CPU time does less.
const allowance = 2
