package facts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Installed returns evidence that a daemon is installed although its program was not found: a unit
// or a process. It returns "" if there is none.
func Installed(ctx context.Context, s *system.System, program string, units ...string) (by string, err error) {
	for _, unit := range units {
		for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
			switch info, err := s.FS.Stat(path.Join(dir, unit)); {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return "", err
			case info.IsRegular(): // a link may be a leftover or a mask
				return "there is its unit " + path.Join(dir, unit), nil
			}
		}
		if !s.Running() {
			continue
		}
		switch state, err := s.Units.Unit(ctx, unit); {
		case errors.Is(err, system.ErrNotRunning):
		case err != nil:
			return "", err
		case !slices.Contains([]string{"", "inactive", "failed"}, state.ActiveState):
			return unit + " runs", nil
		}
	}
	if !s.Running() {
		return "", nil
	}
	return runs(s, program)
}

// runs returns a message about a process of that name, or "".
func runs(s *system.System, name string) (string, error) {
	pids, err := s.FS.ReadDir("/proc")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, pid := range pids {
		if pid[0] < '1' || pid[0] > '9' {
			continue
		}
		comm, err := s.FS.ReadFile("/proc/" + pid + "/comm")
		if err == nil && strings.TrimSpace(string(comm)) == name {
			return fmt.Sprintf("process %s is called so", pid), nil
		}
	}
	return "", nil
}
