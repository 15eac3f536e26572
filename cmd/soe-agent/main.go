//go:build !pages

// Soe-agent makes of a thin-image Linux desktop the standard operating
// environment of its persona, keeps it so while people work, and reports its
// compliance. See the README for what it is, and soe-agent --help for how to
// use it.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/soe-agent/soe-agent/internal/system"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == system.StartApart {
		fmt.Fprintln(os.Stderr, system.RunApart())
		os.Exit(exitError)
	}
	// The memory belongs to whoever works on the machine: the heap may grow by a fifth
	// before it is swept, which costs a few milliseconds.
	debug.SetGCPercent(20)
	if err := system.KeepMemoryIn(); err != nil {
		fmt.Fprintln(os.Stderr, err) // and that is no reason to leave the machine as it is
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
