package history

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Limits of the history, in bytes and files.
const (
	maxSegment  = 512 << 10
	maxSegments = 8
	maxBatch    = 1 << 20 // of one pass
)

// A Log writes the history. It is safe for concurrent use within one process; only one process may write
// at a time.
type Log struct {
	files system.FS
	dir   string

	mu    sync.Mutex
	whole bool // the last line is known to be complete
}

// Open returns the history in dir. The directory is created with the first change, if it does not exist.
func Open(files system.FS, dir string) *Log { return &Log{files: files, dir: dir} }

// Append adds changes in their order and syncs them to the disk. After an error, none or only some of
// them may have been added; earlier changes are intact.
func (l *Log) Append(changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.append(changes); err != nil {
		l.whole = false
		return fmt.Errorf("cannot write the history: %w", err)
	}
	return nil
}

func (l *Log) append(changes []Change) error {
	newest, err := l.newest()
	if err != nil {
		return err
	}
	var batch bytes.Buffer
	taken := 0
	for i, c := range changes {
		line, err := c.line()
		if err != nil {
			return err
		}
		last := taken+len(line) > maxBatch
		if last {
			if line, err = (Change{Time: c.Time, Omitted: len(changes) - i}).line(); err != nil {
				return err
			}
		}
		if newest.size+batch.Len()+len(line) > maxSegment {
			if err := l.add(newest, batch.Bytes()); err != nil {
				return err
			}
			batch.Reset()
			newest = segment{number: newest.number + 1}
		}
		batch.Write(line)
		taken += len(line)
		if last {
			break
		}
	}
	return l.add(newest, batch.Bytes())
}

// newest returns the segment to append to. It removes an incomplete last line from it.
func (l *Log) newest() (segment, error) {
	segments, err := list(l.files, l.dir)
	if err != nil {
		return segment{}, err
	}
	if len(segments) == 0 {
		return segment{number: 1}, nil
	}
	last := segments[len(segments)-1]
	file := last.path(l.dir)
	if l.whole {
		info, err := l.files.Stat(file)
		last.size = int(info.Size)
		return last, err
	}
	content, err := l.files.ReadFile(file)
	if err != nil {
		return last, err
	}
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	if len(whole) < len(content) {
		if err := l.files.WriteFile(file, whole, attr()); err != nil {
			return last, err
		}
	}
	l.whole, last.size = true, len(whole)
	return last, nil
}

// add appends lines to a segment, or creates the segment with them.
func (l *Log) add(s segment, lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	file := s.path(l.dir)
	if s.size > 0 {
		if err := l.files.AppendFile(file, lines); err != nil {
			return err
		}
		return l.files.Sync(file)
	}
	for _, dir := range []string{path.Dir(l.dir), l.dir} {
		if err := l.files.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	segments, err := list(l.files, l.dir)
	if err != nil {
		return err
	}
	segments = slices.DeleteFunc(segments, func(there segment) bool { return there.number == s.number })
	for ; len(segments) >= maxSegments; segments = segments[1:] {
		if err := l.files.Remove(segments[0].path(l.dir)); err != nil {
			return err
		}
	}
	return l.files.WriteFile(file, lines, attr())
}

func attr() system.Attr { return system.Attr{Mode: 0o600, UID: -1, GID: -1} }

// segment is one file of a history.
type segment struct {
	number uint64
	size   int
}

const suffix = ".jsonl"

func (s segment) path(dir string) string {
	return path.Join(dir, fmt.Sprintf("%08d", s.number)+suffix)
}

// list returns the existing segments, oldest first, without their sizes.
func list(files system.FileReader, dir string) ([]segment, error) {
	names, err := files.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var segments []segment
	for _, name := range names {
		digits, ours := strings.CutSuffix(name, suffix)
		number, err := strconv.ParseUint(digits, 10, 32)
		if ours && err == nil && path.Base(segment{number: number}.path(dir)) == name {
			segments = append(segments, segment{number: number})
		}
	}
	slices.SortFunc(segments, func(a, b segment) int { return int(a.number) - int(b.number) })
	return segments, nil
}
