package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A sample is what one run of a command took, all that it started included.
type sample struct {
	Took time.Duration `json:"took"`
	CPU  time.Duration `json:"cpu"`
	Peak int64         `json:"peak"` // KiB resident at most, of its largest process
	Code int           `json:"code"`
	Said string        `json:"said"`
}

// measureArg makes this program run the command that follows, inside the machine
// where it is at home, and print a sample: so that the way into the machine is not
// measured.
const measureArg = "measure"

func measure(argv []string) {
	cmd := exec.Command(argv[0], argv[1:]...)
	start := time.Now()
	said, err := cmd.CombinedOutput()
	s := sample{Took: time.Since(start), Said: string(said)}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	s.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	s.Peak, s.Code = usage.Maxrss, cmd.ProcessState.ExitCode()
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}
