//go:build !race

package policy

// allowance is by how much longer than a second a megabyte may take here: on a machine
// whose cores are busy a second of CPU does less.
const allowance = 2
