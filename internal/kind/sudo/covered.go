package sudo

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/mounts"
	"github.com/soe-agent/soe-agent/internal/sudoers"
)

// covered returns where something is mounted over sudo's files: the file itself, the directory, or a file in
// it. What sudo reads then is somebody else's, and no write changes it.
func (k *Kind) covered() (points []string) {
	if !k.system.Running() {
		return nil
	}
	content, err := k.files.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil // the next verify looks again
	}
	for _, m := range mounts.Parse(string(content)) {
		if (m.Point == sudoers.Main || m.Point == sudoers.Dir || path.Dir(m.Point) == sudoers.Dir) && !slices.Contains(points, m.Point) {
			points = append(points, m.Point)
		}
	}
	slices.SortFunc(points, func(a, b string) int { return strings.Compare(b, a) }) // a file of the directory before the directory
	return points
}

// uncover unmounts what is mounted over sudo's files, unless sudo, asked beforehand what it would say without,
// would then refuse one of the administrators whom it lets in now.
func (k *Kind) uncover(ctx context.Context, p *plan) error {
	if len(p.covered) == 0 {
		return nil
	}
	by := strings.Join(p.covered, " ")
	for _, name := range k.administrators(p) {
		if len(k.working(ctx, p, []string{name}, nil)) == 0 && !p.silent {
			continue
		}
		l, err := sudoers.ListUncovered(ctx, k.system, name, p.covered)
		if err != nil {
			return fmt.Errorf("cannot take away what is mounted over sudo's files, for it is not known what sudo would say without: %w; look at what is below, and do: umount %s", err, by)
		}
		if !l.Administers() {
			return fmt.Errorf("cannot take away what is mounted over sudo's files: sudo, which lets in %s now, would not do so without; look at what is below, and do: umount %s", name, by)
		}
	}
	for _, point := range p.covered {
		if err := k.system.Rights.Uncover(point); err != nil {
			return err
		}
	}
	return nil
}
