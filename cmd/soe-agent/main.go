// Soe-agent makes of a thin-image Linux desktop the standard operating
// environment of its persona, keeps it so while people work, and reports its
// compliance. See the README for what it is, and soe-agent --help for how to
// use it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/soe-agent/soe-agent/internal/system"
)

func main() {
	// The memory belongs to whoever works on the machine: the heap may grow by a fifth
	// before it is swept, which costs a few milliseconds.
	debug.SetGCPercent(20)
	if err := system.KeepMemoryIn(); err != nil {
		fmt.Fprintln(os.Stderr, err) // and that is no reason to leave the machine as it is
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes besides 0, the same for all commands.
const (
	exitError    = 1 // it could not be done, or not be told
	exitNotInSet = 2 // it was done, and something is not as it should be
)

// errNotCompliant makes a command exit with exitNotInSet. What is not in line
// has been said by then.
var errNotCompliant = errors.New("not everything is in line")

// run is main without the process, for tests.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	syscall.Umask(0o022) // what dconf, rpm and others make must be readable, whoever called us
	a := &app{stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return 0
	case errors.Is(err, errNotCompliant):
		return exitNotInSet
	default:
		fmt.Fprintln(stderr, err)
		return exitError
	}
}
