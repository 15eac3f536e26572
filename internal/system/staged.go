package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Staged is what a command sees in place of existing files: for each path a file owned by root
// with that content, or no file if it is nil. Only that command sees it, and nothing of it is on
// disk. With it a program can be asked what it would do after a change, before the change is made.
//
// A directory that does not exist is seen with the staged files in it. No directory of staged files
// may be below another, unless only contents of existing files differ.
type Staged map[string][]byte

// stagedMode is the mode of staged files. All programs accept it, even sudo.
const stagedMode = 0o440

// startStaged starts a command in a thread with mounts of its own, in which the staged files hide
// those that exist (mount_namespaces(7)). The thread ends with the call.
func startStaged(cmd *exec.Cmd, root string, staged Staged, uncovered []string) error {
	started := make(chan error)
	spend(func() {
		err := stage(root, staged, uncovered)
		if err != nil {
			err = fmt.Errorf("cannot show it the staged files: %w", err)
		} else {
			err = cmd.Start()
		}
		started <- err
	})
	return <-started
}

func stage(root string, staged Staged, uncovered []string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, point := range uncovered {
		if err := unix.Unmount(filepath.Join(root, point), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("%s: %w", point, err)
		}
	}
	below, err := openTop(root, nil) // opened anew, because earlier descriptors are not of these mounts
	if err != nil {
		return err
	}
	defer below.dir.Close()
	byDir := map[string]Staged{}
	for name, content := range staged {
		dir, base, err := placeOf(&below, path.Clean(name))
		if err != nil {
			return err
		}
		if byDir[dir] == nil {
			byDir[dir] = Staged{}
		}
		byDir[dir][base] = content
	}
	for dir, files := range byDir {
		if err := (layer{&below, dir, files}).lay(); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// placeOf splits the name of a file into its nearest existing directory and the rest.
func placeOf(below *top, name string) (dir, rest string, err error) {
	for dir = path.Dir(name); ; dir = path.Dir(dir) {
		there, err := openDir(below, dir)
		if err == nil {
			return dir, strings.TrimPrefix(strings.TrimPrefix(name, dir), "/"), there.Close()
		}
		if !errors.Is(err, unix.ENOENT) || dir == "/" {
			return "", "", fmt.Errorf("%s: %w", dir, err)
		}
	}
}

// A layer hides the content of one directory.
type layer struct {
	below *top
	dir   string
	files Staged
}

// lay mounts a file system in memory on the directory, binds each existing entry to its place and
// adds the staged files. If only contents of existing files differ, it hides only those files.
func (l layer) lay() error {
	below, err := openDir(l.below, l.dir)
	if err != nil {
		return err
	}
	defer below.Close()
	onlyContents, err := l.onlyContents(below)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(below.Fd()), &st); err != nil {
		return err
	}
	names, err := l.names(below)
	if err != nil {
		return err
	}
	// A mount needs a mount point. The directory itself serves as one; what it hides stays
	// reachable by its descriptor.
	if err := unix.Mount("tmpfs", at(below, ""), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64m,mode=0700"); err != nil {
		return err
	}
	above, err := openDir(l.below, l.dir)
	if err != nil {
		return err
	}
	defer above.Close()
	for base, content := range l.files {
		if content != nil {
			if err := writeStaged(above, base, content); err != nil {
				return err
			}
		}
	}
	if onlyContents {
		return l.uncover(below, above)
	}
	for _, base := range names {
		if _, covered := l.files[base]; !covered {
			if err := show(below, above, base); err != nil {
				return fmt.Errorf("%s: %w", base, err)
			}
		}
	}
	return errors.Join(
		unix.Fchownat(int(above.Fd()), "", int(st.Uid), int(st.Gid), unix.AT_EMPTY_PATH),
		unix.Fchmod(int(above.Fd()), st.Mode&0o7777))
}

// openDir opens a directory. It follows only links that root made.
func openDir(below *top, dir string) (*os.File, error) {
	at, err := below.walk(dir, true)
	if err != nil {
		return nil, err
	}
	defer at.close()
	return at.openFile(at.base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// onlyContents reports whether each staged file exists as a regular file.
func (l layer) onlyContents(below *os.File) (bool, error) {
	for base, content := range l.files {
		var st unix.Stat_t
		err := unix.Fstatat(int(below.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return false, err
		}
		if err != nil || content == nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o7777 != stagedMode || st.Uid != 0 || st.Gid != 0 {
			return false, nil
		}
	}
	return true, nil
}

func (l layer) names(below *os.File) ([]string, error) {
	dir, err := os.Open(at(below, ""))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// uncover binds each staged file to the existing file of its name, and unmounts the layer again.
func (l layer) uncover(below, above *os.File) error {
	for base := range l.files {
		if err := unix.Mount(at(above, base), at(below, base), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
	return unix.Unmount(at(above, ""), unix.MNT_DETACH)
}

func writeStaged(dir *os.File, base string, content []byte) error {
	for i := range base {
		if base[i] != '/' {
			continue
		}
		if err := unix.Mkdirat(int(dir.Fd()), base[:i], 0o750); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return errors.Join(f.Chown(0, 0), f.Chmod(stagedMode))
}

// show binds the content of one directory to another.
func show(below, above *os.File, base string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(below.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil // removed in the meantime
		}
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := os.Readlink(at(below, base))
		if err != nil {
			return err
		}
		return unix.Symlinkat(target, int(above.Fd()), base)
	case unix.S_IFDIR:
		if err := unix.Mkdirat(int(above.Fd()), base, 0o700); err != nil {
			return err
		}
	default:
		fd, err := unix.Openat(int(above.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return unix.Mount(at(below, base), at(above, base), "", unix.MS_BIND|unix.MS_REC, "")
}

// at returns a path to an entry of an open directory. The path stays right whatever is mounted on
// the directory.
func at(dir *os.File, base string) string {
	return strings.TrimSuffix("/proc/thread-self/fd/"+strconv.Itoa(int(dir.Fd()))+"/"+base, "/")
}
