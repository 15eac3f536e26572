package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/soe-agent/soe-agent/internal/report"
)

// Exit codes besides 0, the same for all commands.
const (
	exitError    = 1 // it could not be done, or not be told
	exitNotInSet = 2 // it was done, and something is not as it should be
)

// lastWords is how long what is still to be said is waited for in the end.
const lastWords = 500 * time.Millisecond

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
	err := root.ExecuteContext(ctx)
	if a.log != nil {
		a.log.Flush(lastWords)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errNotCompliant):
		return exitNotInSet
	default:
		fmt.Fprintln(stderr, report.Clean(err.Error()))
		return exitError
	}
}
