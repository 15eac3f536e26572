package account

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/soe-agent/soe-agent/internal/system"
)

// notWhileRunning returns a postponement while processes have an id, in the given lines of
// /proc/PID/status (proc_pid_status(5)). usermod and userdel look for processes of an account
// themselves, but do not say which; groupmod does not look.
func notWhileRunning(s *system.System, name string, id int, lines ...string) error {
	if !s.Running() {
		return nil
	}
	names, err := s.FS.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("it cannot be told which processes run: %w", err)
	}
	var found []string
	for _, pid := range names {
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		status, err := s.FS.ReadFile("/proc/" + pid + "/status")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return fmt.Errorf("it cannot be told which processes run: %w", err)
		}
		if program, has := holds(string(status), strconv.Itoa(id), lines); has {
			found = append(found, program+" ("+pid+")")
		}
	}
	if len(found) == 0 {
		return nil
	}
	const enough = 3
	more := ""
	if len(found) > enough {
		more = fmt.Sprintf(" and %d more", len(found)-enough)
		found = found[:enough]
	}
	return postponement{fmt.Sprintf("processes of %s are running: %s%s", name, strings.Join(found, ", "), more)}
}

func holds(status, id string, lines []string) (program string, has bool) {
	for line := range strings.SplitSeq(status, "\n") {
		key, value, _ := strings.Cut(line, ":")
		if key == "Name" {
			program = strings.TrimSpace(value)
		}
		has = has || slices.Contains(lines, key) && slices.Contains(strings.Fields(value), id)
	}
	return program, has
}
