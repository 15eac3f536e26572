package account

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// homeUnit is what systemd calls the mount of /home.
const homeUnit = "home.mount"

// errHomeIsAway is the state of a WorkSpace that is starting: /home is a volume
// that is mounted late.
var errHomeIsAway = public.Error(errors.New("/home is a volume that is not mounted yet"))

func homeIsAway(s *system.System) (bool, error) {
	if !s.Running() {
		return false, nil
	}
	fstab, err := s.FS.ReadFile("/etc/fstab")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	mounts, err2 := s.FS.ReadFile("/proc/self/mounts")
	if errors.Is(err2, fs.ErrNotExist) {
		return false, err // there is no /proc, and nothing to compare with
	}
	return mountsHome(fstab) && !mountsHome(mounts), errors.Join(err, err2)
}

// mountsHome reads fstab(5), of whose form /proc/self/mounts is.
func mountsHome(fstab []byte) bool {
	for line := range strings.SplitSeq(string(fstab), "\n") {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0][0] != '#' && fields[1] == "/home" {
			return true
		}
	}
	return false
}

// homeMayBeMade says why a home must not be made now.
func homeMayBeMade(s *system.System, home string) error {
	if home != "" && !strings.HasPrefix(home, "/home/") {
		return nil
	}
	away, err := homeIsAway(s)
	if away {
		return fmt.Errorf("%w, and would hide the home that were made now", errHomeIsAway)
	}
	return err
}

// filesAreThere says why an id must not change now: whoever came back to a home
// with the old id would be locked out of it, and the next with that id let in.
func filesAreThere(s *system.System) error {
	away, err := homeIsAway(s)
	if away {
		return fmt.Errorf("%w, and files there would keep the old id", errHomeIsAway)
	}
	return err
}
