package box

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// File describes a file in a box.
type File struct {
	Content  string
	Mode     uint32 // as for chmod(2), so that 0o4755 is setuid; 0 means 0644
	UID, GID int
}

// ReadFile reads a file as the box sees it: in its own mounts, and following symbolic links inside
// it.
func (b *Box) ReadFile(name string) (string, error) {
	f, err := b.open(name, unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	return string(content), err
}

// MustReadFile is ReadFile; the test fails if it cannot be read.
func (b *Box) MustReadFile(t testing.TB, name string) string {
	t.Helper()
	content, err := b.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// WriteFile writes a file of the box in place, as careless software does. Missing folders above it
// are created.
func (b *Box) WriteFile(name string, file File) error {
	if err := b.mkdirAll(path.Dir(path.Clean("/" + name))); err != nil {
		return err
	}
	f, err := b.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if file.Mode == 0 {
		file.Mode = 0o644
	}
	_, err = f.WriteString(file.Content)
	// Set the mode last: a change of owner clears setuid.
	return errors.Join(err, f.Chown(file.UID, file.GID), unix.Fchmod(int(f.Fd()), file.Mode), f.Close())
}

// MustWriteFile is WriteFile; the test fails if it cannot be written.
func (b *Box) MustWriteFile(t testing.TB, name string, file File) {
	t.Helper()
	if err := b.WriteFile(name, file); err != nil {
		t.Fatal(err)
	}
}

// WriteFiles is WriteFile for several.
func (b *Box) WriteFiles(files map[string]File) error {
	var errs []error
	for name, file := range files {
		errs = append(errs, b.WriteFile(name, file))
	}
	return errors.Join(errs...)
}

func (b *Box) mkdirAll(dir string) error {
	f, err := b.open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := b.mkdirAll(path.Dir(dir)); err != nil {
		return err
	}
	parent, err := b.open(path.Dir(dir), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), path.Base(dir), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot make %s in %s: %w", dir, b.Name, err)
	}
	return nil
}

// open resolves a name as the box would: absolute links, which are frequent (/var/run), must not
// lead to the host.
func (b *Box) open(name string, flags int, mode uint64) (*os.File, error) {
	root := b.Root
	if leader := b.Leader(); leader != 0 {
		root = "/proc/" + strconv.Itoa(leader) + "/root"
	}
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the root of %s: %w", b.Name, err)
	}
	defer unix.Close(top)
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: mode, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(top, name, &how)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s in %s: %w", name, b.Name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
