package system

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrNoVolume is the error of Full when the root directory is not a mount point.
var ErrNoVolume = errors.New("the root directory is not on a volume of its own")

// Full returns how full the root volume is, from 0 to 1, as df(1) computes it: without the blocks
// that only root may use.
func (s *System) Full() (float64, error) {
	var volume unix.Statfs_t
	if err := unix.Statfs(s.Root, &volume); err != nil {
		return 0, fmt.Errorf("cannot tell how full %s is: %w", s.Root, err)
	}
	if !s.Running() {
		var at, above unix.Stat_t
		if err := errors.Join(unix.Lstat(s.Root, &at), unix.Lstat(filepath.Dir(s.Root), &above)); err != nil {
			return 0, fmt.Errorf("cannot tell how full %s is: %w", s.Root, err)
		}
		if at.Dev == above.Dev {
			return 0, ErrNoVolume
		}
	}
	used := volume.Blocks - volume.Bfree
	if used+volume.Bavail == 0 {
		return 0, ErrNoVolume
	}
	return float64(used) / float64(used+volume.Bavail), nil
}
