package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// homeUnit is systemd's name for the mount of /home.
const homeUnit = "home.mount"

// isAway returns an error that names the volume of a path if it is not mounted: on a WorkSpace
// /home is a volume that is mounted late in the boot. away distinguishes this error from others.
func isAway(s *system.System, name string) (away bool, err error) {
	if !s.Running() {
		return false, nil
	}
	fstab, err := s.FS.ReadFile("/etc/fstab")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	mounts, err2 := s.FS.ReadFile("/proc/self/mounts")
	if errors.Is(err2, fs.ErrNotExist) {
		return false, err // without /proc there is nothing to compare with
	}
	if err := errors.Join(err, err2); err != nil {
		return false, err
	}
	there := mountPoints(mounts)
	for _, volume := range mountPoints(fstab) {
		if path.IsAbs(volume) && volume != "/" && strings.HasPrefix(name+"/", volume+"/") && !slices.Contains(there, volume) {
			return true, public.Error(fmt.Errorf("%s is a volume that is not mounted yet", volume))
		}
	}
	return false, nil
}

// mountPoints returns the mount points in fstab(5), or in /proc/self/mounts, which has the same
// format.
func mountPoints(fstab []byte) (points []string) {
	for line := range strings.SplitSeq(string(fstab), "\n") {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0][0] != '#' {
			points = append(points, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[1]))
		}
	}
	return points
}

// homeMayBeMade returns why a home must not be created now, or nil.
func homeMayBeMade(s *system.System, home string) error {
	away, err := isAway(s, cmp.Or(home, "/home"))
	if away {
		return fmt.Errorf("%w, and would hide a home that is created now", err)
	}
	return err
}

// filesAreThere returns why an id must not change now, or nil: files on a volume that is not
// mounted would keep the old id. Their owner could not use them any more, and the next holder of
// that id could.
func filesAreThere(s *system.System) error {
	away, err := isAway(s, "/home")
	if away {
		return fmt.Errorf("%w, and files there would keep the old id", err)
	}
	return err
}

// aspectHome is drift of the directory itself: it is missing, or does not belong to the account.
// The path in /etc/passwd is another aspect.
const aspectHome = "home directory"

// kept returns the home that is kept for an account, or "". A home is kept if the policy names it,
// or if the agent created the account with one. The home of a service is only text in /etc/passwd:
// it may be a directory of a package, or not exist.
func (u *Users) kept(id policy.ID, want policy.User, have facts.Account) string {
	switch {
	case want.System || want.Registered || want.Ensure == policy.Absent || !system.IsPersonal(have.UID):
		return ""
	case want.Home == "/nonexistent" || want.Home == "/dev/null": // the usual ways to say that there should be none
		return ""
	case want.Home == "" && u.ledger.Owns(id) && path.Dir(have.Home) == "/home":
		return have.Home
	}
	return want.Home
}

// describeHome records how the home named in /etc/passwd differs from what it should be.
func (u *Users) describeHome(r *converge.Resource, db database, home string, have facts.Account) {
	_, err := isAway(u.system, home)
	var found directory
	if err == nil {
		found, err = u.lookAt(home)
	}
	switch {
	case err != nil && r.State == converge.Compliant:
		r.SetUnknownErr(fmt.Errorf("cannot tell whether its home %s is there: %w", home, err))
	case err != nil || found.isDir && (found.uid == have.UID || u.files.stillOf(db, found.uid) == have.Name):
	default:
		r.AddPublicDrift(aspectHome, have.Name+"'s", found.describe(db))
	}
}

// directory is what exists at the path of a home.
type directory struct {
	isThere, isDir bool
	uid            int
	real           string // the path after following a link at its end
}

func (d directory) describe(db database) string {
	switch {
	case !d.isThere:
		return "missing"
	case !d.isDir:
		return "not a directory"
	}
	if owner, known := db.accountOf(d.uid); known {
		return owner.Name + "'s"
	}
	return fmt.Sprintf("that of uid %d", d.uid)
}

// lookAt examines where a path leads. A FUSE file system of the owner, which is hidden from root,
// counts as an existing home.
func (u *Users) lookAt(home string) (directory, error) {
	const enough = 8
	for range enough {
		info, err := u.system.FS.Stat(home)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return directory{}, nil
		case err != nil:
			return directory{}, err
		case info.Type != fs.ModeSymlink:
			return directory{isThere: true, isDir: info.IsDir(), uid: info.UID, real: home}, nil
		}
		target, err := u.system.FS.Readlink(home)
		if err != nil {
			return directory{}, err
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(home), target)
		}
		home = path.Clean(target)
	}
	return directory{}, public.Error(fmt.Errorf("cannot follow %s: it leads from link to link", home))
}

// provide makes sure that a home exists and belongs to the account. If the account's current home
// is elsewhere, it is moved in one step, provided that the new name does not exist. Nothing is ever
// copied, merged or removed. undo reverts a move.
func (u *Users) provide(ctx context.Context, db database, have facts.Account, home string) (undo func() error, err error) {
	stay := func() error { return nil }
	if home == "" {
		return stay, nil
	}
	if err := homeMayBeMade(u.system, home); err != nil {
		return stay, err
	}
	found, err := u.lookAt(home)
	if err != nil {
		return stay, err
	}
	switch {
	case found.isThere && found.isDir && found.uid == have.UID:
		return stay, nil
	case found.isThere:
		return stay, u.adopt(ctx, db, have, home, found)
	}
	if err := u.placeFor(home); err != nil {
		return stay, fmt.Errorf("cannot make its home %s: %w", home, err)
	}
	if movable, err := u.movable(db, have); err != nil || !movable {
		if err == nil {
			err = u.furnish(ctx, have, home)
		}
		return stay, err
	}
	if err := notWhileRunning(u.system, have.Name, have.UID, "Uid"); err != nil {
		return stay, err
	}
	switch err := u.system.FS.MoveDir(have.Home, home); {
	case errors.Is(err, system.ErrOtherFS):
		return stay, public.Error(fmt.Errorf("its home %s is on another file system than %s, and is not copied; copy it there by hand (cp -a), and give the copy to %s", have.Home, home, have.Name))
	case err != nil:
		return stay, fmt.Errorf("cannot move its home %s to %s: %w", have.Home, home, err)
	}
	u.system.Log.Info("moved the home directory of an account", "account", have.Name, "from", have.Home, "to", home)
	return func() error { return u.system.FS.MoveDir(home, have.Home) }, nil
}

// adopt makes the account the owner of a directory that belongs to root: of the directory alone,
// and only below the directories of homes, or if it is empty and not part of the system.
// Directories of anybody else are left as they are.
func (u *Users) adopt(ctx context.Context, db database, have facts.Account, home string, found directory) error {
	refuse := func(why string) error {
		return public.Error(fmt.Errorf("%s cannot be its home: it is %s; %s", home, found.describe(db), why))
	}
	if !found.isDir || found.uid != 0 {
		return refuse("move it out of the way, or give it to " + have.Name + " if it is meant to be (chown -R)")
	}
	names, err := u.system.FS.ReadDir(found.real)
	if err != nil {
		return err
	}
	if path.Dir(found.real) != "/home" && (len(names) > 0 || ofTheSystem(found.real)) {
		return refuse("give it to " + have.Name + " by hand if all that is in it is to be theirs (chown)")
	}
	if _, _, err := system.Trusted(u.system.FS, path.Dir(found.real), 0); err != nil {
		return fmt.Errorf("cannot give %s its home %s: %w", have.Name, home, err)
	}
	if err := u.Since(u.mark); err != nil {
		return err
	}
	return run(ctx, u.system, "chown", "-h", owner(have), "--", found.real)
}

// ofTheSystem reports whether a directory is part of the system, and so no place for homes.
func ofTheSystem(dir string) bool {
	first, rest, _ := strings.Cut(strings.TrimPrefix(dir, "/"), "/")
	return rest == "" || slices.Contains([]string{"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"}, first)
}

func owner(have facts.Account) string { return fmt.Sprintf("%d:%d", have.UID, have.GID) }

// placeFor creates the parent directory of a home, where only root can replace it.
func (u *Users) placeFor(home string) error {
	if why := protected.Path(home); why != "" {
		return public.Error(errors.New(why))
	}
	if err := u.Since(u.mark); err != nil {
		return err
	}
	parent := path.Dir(home)
	if err := u.system.FS.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	_, _, err := system.Trusted(u.system.FS, parent, 0)
	return err
}

// movable reports whether the current home of an account may be moved: it is a directory that
// belongs to the account, and not the home of anybody else.
func (u *Users) movable(db database, have facts.Account) (bool, error) {
	info, err := u.system.FS.Stat(have.Home)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.IsDir() || info.UID != have.UID:
		return false, nil
	}
	for _, other := range db.accounts {
		if other.Name != have.Name && strings.HasPrefix(other.Home+"/", have.Home+"/") {
			return false, nil
		}
	}
	return true, u.Since(u.mark)
}

// furnish creates a home with a copy of /etc/skel, as useradd does. It uses a temporary name first,
// so that somebody who logs in finds all of it or none.
func (u *Users) furnish(ctx context.Context, have facts.Account, home string) error {
	draft := own.Temporary(home)
	discard := []string{"rm", "-rf", "--one-file-system", "--", draft}
	steps := [][]string{discard, {"mkdir", "-m", "0700", "--", draft}} // first remove one that a crash left
	switch names, err := u.system.FS.ReadDir("/etc/skel"); {
	case err == nil && len(names) > 0:
		steps = append(steps, []string{"cp", "-R", "-P", "--preserve=mode,timestamps", "-T", "--", "/etc/skel", draft}, []string{"chmod", "0700", "--", draft})
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	steps = append(steps, []string{"chown", "-R", "-h", owner(have), "--", draft})
	var err error
	for i := 0; i < len(steps) && err == nil; i++ {
		err = run(ctx, u.system, steps[i]...)
	}
	if err == nil {
		err = u.system.FS.MoveDir(draft, home)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot make its home %s: %w", home, err), run(ctx, u.system, discard...))
	}
	return u.label(ctx, home)
}

// label gives a new home its SELinux labels if SELinux is on.
func (u *Users) label(ctx context.Context, home string) error {
	if _, err := u.system.FS.Stat("/sys/fs/selinux/enforce"); err != nil {
		return nil //nolint:nilerr // it is off; the label of the place is inherited
	}
	err := run(ctx, u.system, "restorecon", "-R", "--", home)
	if errors.Is(err, system.ErrNotInstalled) {
		return nil
	}
	return err
}
