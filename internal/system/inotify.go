package system

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrEventsLost is sent by an Inotify if the kernel dropped events because they were not read in
// time.
var ErrEventsLost = errors.New("the kernel's queue of file events was full")

// A FileEvent is a change in a watched directory, or of the directory itself.
type FileEvent struct {
	Name  string // the changed entry, below the name by which its directory is watched
	Moved bool   // it was created, removed or renamed; otherwise its content or mode changed
}

// An Inotify reports changes in directories. It does not watch a link in place of a directory. A
// directory that is watched by several names is reported by each. Its methods are safe for
// concurrent use.
type Inotify struct {
	Events   chan FileEvent
	Problems chan error // including ErrEventsLost

	file        *os.File
	done, ended chan struct{}

	mu      sync.Mutex
	closed  bool
	fd      int              // of file; calling its Fd would make reads block that Close must be able to end
	names   map[int][]string // by watch descriptor
	watches map[string]int   // the descriptor of each name
}

// OpenInotify returns an Inotify that watches nothing yet.
func OpenInotify() (*Inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot watch files: %w", err)
	}
	n := &Inotify{
		Events: make(chan FileEvent), Problems: make(chan error), done: make(chan struct{}), ended: make(chan struct{}),
		file: os.NewFile(uintptr(fd), "inotify"), fd: fd, names: map[int][]string{}, watches: map[string]int{},
	}
	go n.read()
	return n, nil
}

const fileEvents = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE | unix.IN_DELETE_SELF |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MOVE_SELF

// Add watches a directory. If another directory has taken its place, that one is watched instead.
// The error wraps fs.ErrNotExist if there is no directory of that name. Otherwise it is only the
// kernel's error, without the name: it is mostly the same for many directories, and the caller
// names them.
func (n *Inotify) Add(dir string) error {
	return n.add(dir, fileEvents|unix.IN_ONLYDIR|unix.IN_DONT_FOLLOW)
}

// AddFile watches a file that belongs to root. Errors are as for Add.
func (n *Inotify) AddFile(name string) error { return n.add(name, fileEvents|unix.IN_DONT_FOLLOW) }

func (n *Inotify) add(name string, mask uint32) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return os.ErrClosed
	}
	wd, err := unix.InotifyAddWatch(n.fd, name, mask)
	if err != nil {
		n.drop(name) // the previous directory is elsewhere now
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return fs.ErrNotExist
		}
		return err
	}
	if was, watched := n.watches[name]; watched && was != wd {
		n.drop(name)
	}
	n.watches[name] = wd
	if !slices.Contains(n.names[wd], name) {
		n.names[wd] = append(n.names[wd], name)
	}
	return nil
}

// Remove ends the watch of a name, if there is one.
func (n *Inotify) Remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(name)
}

// drop removes a name, and the watch with its last name. The caller holds mu.
func (n *Inotify) drop(name string) {
	wd, watched := n.watches[name]
	if !watched {
		return
	}
	delete(n.watches, name)
	n.names[wd] = slices.DeleteFunc(n.names[wd], func(other string) bool { return other == name })
	if len(n.names[wd]) > 0 {
		return
	}
	delete(n.names, wd)
	if !n.closed {
		_, _ = unix.InotifyRmWatch(n.fd, uint32(wd)) // the watch may have gone with its directory
	}
}

// Watched returns the watched names, in no particular order.
func (n *Inotify) Watched() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for name := range n.watches {
		names = append(names, name)
	}
	return names
}

// Close ends all watches. No events follow.
func (n *Inotify) Close() {
	n.mu.Lock()
	was := n.closed
	n.closed = true
	n.mu.Unlock()
	if was {
		return
	}
	close(n.done)
	_ = n.file.Close()
	<-n.ended
}

func (n *Inotify) read() {
	defer close(n.ended)
	raw := make([]byte, 64<<10)
	for {
		size, err := n.file.Read(raw)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			if !n.complain(fmt.Errorf("cannot read file events: %w", err)) || !n.pause() {
				return
			}
			continue
		}
		for rest := raw[:size]; len(rest) >= unix.SizeofInotifyEvent; {
			wd, mask := int(int32(binary.NativeEndian.Uint32(rest))), binary.NativeEndian.Uint32(rest[4:])
			end := min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(rest[12:])), len(rest))
			entry := string(bytes.TrimRight(rest[unix.SizeofInotifyEvent:end], "\x00"))
			rest = rest[end:]
			if mask&unix.IN_Q_OVERFLOW != 0 && !n.complain(ErrEventsLost) {
				return
			}
			for _, event := range n.events(wd, mask, entry) {
				select {
				case n.Events <- event:
				case <-n.done:
					return
				}
			}
		}
	}
}

// pause limits a persistent error to one report a second. It returns false after Close.
func (n *Inotify) pause() bool {
	select {
	case <-time.After(time.Second):
		return true
	case <-n.done:
		return false
	}
}

// complain sends an error. It returns false if nobody listens any more.
func (n *Inotify) complain(err error) bool {
	select {
	case n.Problems <- err:
		return true
	case <-n.done:
		return false
	}
}

// events returns the events for an event of the kernel, one for each watched name.
func (n *Inotify) events(wd int, mask uint32, entry string) []FileEvent {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := slices.Clone(n.names[wd]) // empty if the watch was removed in the meantime
	if mask&(unix.IN_IGNORED|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT) != 0 {
		for _, name := range names { // the directory's new place, if any, is not known
			n.drop(name)
		}
	}
	if mask&unix.IN_IGNORED != 0 {
		return nil
	}
	moved := mask&(unix.IN_CREATE|unix.IN_DELETE|unix.IN_DELETE_SELF|unix.IN_MOVED_FROM|unix.IN_MOVED_TO|unix.IN_MOVE_SELF|unix.IN_UNMOUNT) != 0
	var events []FileEvent
	for _, name := range names {
		events = append(events, FileEvent{Name: path.Join(name, entry), Moved: moved})
	}
	return events
}
