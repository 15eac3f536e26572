package system

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// WriteNew writes a new file that only the calling user can read. It is safe in a directory that
// belongs to somebody hostile: it replaces nothing, and follows only links that root or the caller
// made. The file is written whole or not at all, unless the machine dies during the call.
func WriteNew(name string, content []byte) error {
	name, err := filepath.Abs(name)
	if err != nil {
		return cannot("write", name, err)
	}
	dir, err := enterTrusted(filepath.Dir(name))
	if err != nil {
		return cannot("write", name, err)
	}
	defer unix.Close(dir)
	err = create(dir, filepath.Base(name), content, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write %s: something is there already, and it is not replaced; name another file: %w", name, fs.ErrExist)
	}
	if err != nil {
		return cannot("write", name, err)
	}
	return nil
}

// Replace writes a file that everybody can read, or replaces one, in any directory as WriteNew. It
// never writes to the existing file, so that a link that somebody else has put there has no effect.
// It replaces only regular files.
func Replace(name string, content []byte) error {
	name, err := filepath.Abs(name)
	if err != nil {
		return cannot("write", name, err)
	}
	dir, err := enterTrusted(filepath.Dir(name))
	if err != nil {
		return cannot("write", name, err)
	}
	defer unix.Close(dir)
	base := filepath.Base(name)
	var there unix.Stat_t
	err = unix.Fstatat(dir, base, &there, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && there.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("cannot write %s: what is there is not a regular file; name another one", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return cannot("write", name, err)
	}
	temporary := fmt.Sprintf(".soe-agent-%s", rand.Text())
	err = create(dir, temporary, content, 0o644)
	if err != nil {
		return cannot("write", name, err)
	}
	if err := unix.Renameat(dir, temporary, dir, base); err != nil {
		return cannot("write", name, errors.Join(err, unix.Unlinkat(dir, temporary, 0)))
	}
	return nil
}

// create creates a file that does not exist yet, whole or not at all.
func create(dir int, base string, content []byte, mode uint32) error {
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, unix.Unlinkat(dir, base, 0))
	}
	return nil
}

// enterTrusted opens a directory, step by step. It follows links only in directories where only
// root and the caller can create any.
func enterTrusted(dir string) (fd int, err error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err = unix.Open("/", flags, 0)
	rest := strings.Split(dir, "/")
	for links := 0; err == nil && len(rest) > 0; {
		part := rest[0]
		if rest = rest[1:]; part == "" || part == "." {
			continue
		}
		var at int
		target := ""
		at, err = unix.Openat(fd, part, flags, 0)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) { // which of the two a link causes depends on the kernel
			target, err = trustedLink(fd, part)
		}
		if err != nil {
			break
		}
		if target != "" {
			if links++; links > maxLinks {
				err = unix.ELOOP
				break
			}
			rest = append(strings.Split(target, "/"), rest...)
			if !filepath.IsAbs(target) {
				continue
			}
			if at, err = unix.Open("/", flags, 0); err != nil {
				break
			}
		}
		unix.Close(fd)
		fd = at
	}
	if err != nil && fd >= 0 {
		unix.Close(fd)
		fd = -1
	}
	return fd, err
}

// trustedLink returns the target of a link that only root or the caller can have made.
func trustedLink(dir int, name string) (target string, err error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buffer)
	if errors.Is(err, unix.EINVAL) {
		return "", unix.ENOTDIR
	}
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return "", err
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return "", fmt.Errorf("%s on the way is a link, and others than root may have made it; name the directory itself", name)
	}
	return string(buffer[:n]), nil
}
