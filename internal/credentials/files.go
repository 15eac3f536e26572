package credentials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A file is what tells one content of a file from another; the zero one is not there.
type file struct {
	path    string // where the links on the way lead
	modTime time.Time
	size    int64
	inode   uint64
}

// look finds the file that a path leads to, and refuses it when somebody other than
// root could change it, or what is on the way to it (see system.Trusted).
func (p *Provider) look(name string) (file, error) {
	leads, info, err := system.Trusted(p.system.FS, name, p.uid)
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !info.IsRegular() {
		return file{}, fmt.Errorf("cannot read %s: it is not a regular file", name)
	}
	if err != nil {
		return file{}, err
	}
	return file{path: leads, modTime: info.ModTime, size: info.Size, inode: info.Inode}, nil
}

// unchanged says whether files are as they were.
func (p *Provider) unchanged(files map[string]file) bool {
	for name, was := range files {
		now, err := p.look(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || now != was {
			return false
		}
	}
	return true
}

// A snapshot is the content of files, read together.
type snapshot struct {
	provider *Provider
	files    map[string]file
	contents map[string][]byte
}

// read returns the content of a file.
func (s *snapshot) read(name string) ([]byte, error) {
	found, err := s.provider.look(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s.files[name] = found // that there is none may change as well
	if err != nil {
		return nil, err
	}
	s.contents[name], err = s.provider.system.FS.ReadFile(found.path)
	return s.contents[name], err
}

const (
	// settle is longer than the kernel gives one time to all that is written
	// (a jiffy, 10 ms at the most).
	settle = 20 * time.Millisecond
	// writing is how long after its last change a file that is not whole may still
	// be being written.
	writing = time.Minute
	looks   = 4
)

// young says whether a file was changed so lately that a second change might not
// show. One from the future is: nobody knows how old it is.
func (s *snapshot) young() bool {
	now := s.provider.system.Clock.Now()
	for _, f := range s.files {
		if f.path != "" && now.Sub(f.modTime) < settle {
			return true
		}
	}
	return false
}

// incomplete is the error when something is missing: it is being written, or it is
// just so.
func (s *snapshot) incomplete(format string, args ...any) error {
	reason, now := ErrNoCredentials, s.provider.system.Clock.Now()
	for _, f := range s.files {
		if f.path != "" && now.Sub(f.modTime).Abs() < writing {
			reason = ErrHalfWritten
		}
	}
	return fmt.Errorf("%w: %s", reason, fmt.Sprintf(format, args...))
}

// unreadable is the error for a file or program that cannot be used at all.
func unreadable(err error) error {
	if errors.Is(err, ErrUnsafe) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNoCredentials, err)
}

// still says whether the content of the files is as it was read, for there are
// changes that show in nothing else. Files that nobody could make sense of get
// a moment: one that is being truncated is empty before it is young.
func (s *snapshot) still(ctx context.Context, sense error) (bool, error) {
	if sense != nil || s.young() {
		if err := s.provider.system.Clock.Sleep(ctx, settle); err != nil {
			return false, err
		}
	}
	second := snapshot{s.provider, map[string]file{}, map[string][]byte{}}
	for name := range s.files {
		content, err := second.read(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if !bytes.Equal(content, s.contents[name]) {
			return false, nil
		}
	}
	return true, nil
}

// steady returns what read makes of files that nobody changes meanwhile.
func steady[T any](ctx context.Context, p *Provider, read func(*snapshot) (T, error)) (T, map[string]file, error) {
	var none T
	for range looks {
		s := &snapshot{p, map[string]file{}, map[string][]byte{}}
		made, err := read(s)
		still, lookErr := s.still(ctx, err)
		if lookErr != nil {
			return none, nil, lookErr
		}
		if still {
			return made, s.files, err
		}
	}
	return none, nil, fmt.Errorf("%w: the files change all the time", ErrHalfWritten)
}
