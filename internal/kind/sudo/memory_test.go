package sudo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A memory stands for the door to a machine's files, where a million passes are made over
// small machines. A file is written whole or not at all, in one change: that the real door
// does so is held by the tests of internal/system.
type memory struct {
	*shelf

	gate   system.Gate
	look   system.Looker
	known  *parsed  // that the stand-ins have read
	full   []string // files for which there is no room; another name they may have
	rights bool     // it also replaces links, as system.Rights does
}

// A shelf is what a memory holds, and others that look at it in another way.
type shelf struct {
	mu    sync.Mutex
	nodes map[string]node
	clock int
}

type node struct {
	content string
	info    system.Info
	link    string
}

// newMemory holds files by name, as those of kindtest.Root are.
func newMemory(files map[string]string, modes map[string]fs.FileMode) *memory {
	m := &memory{shelf: &shelf{nodes: map[string]node{}}, known: newParsed()}
	for name, content := range files {
		mode, set := modes[name]
		if !set {
			mode = 0o644
		}
		target, isLink := strings.CutPrefix(content, "-> ")
		switch {
		case isLink:
			m.put(name, node{link: target, info: system.Info{Type: fs.ModeSymlink}})
		case strings.HasSuffix(name, "/"):
			m.dirs(path.Clean(name))
		default:
			m.put(name, node{content: content, info: system.Info{Attr: system.Attr{Mode: mode}}})
		}
	}
	return m
}

// all is a file system, all of which it plays.
func (m *memory) all() system.FS {
	return system.FS{FileReader: m, FileSearcher: m, FileWriter: m, FileAppender: m, Homes: m}
}

// takeRights is the file system by which rights are taken away.
func (m *memory) takeRights() system.Rights {
	r := *m
	r.rights = true
	return system.Rights{FS: r.all(), Room: &r}
}

func (m *shelf) put(name string, n node) {
	m.dirs(path.Dir(name))
	m.clock++
	n.info.Size, n.info.Inode, n.info.Changed = int64(len(n.content)), uint64(m.clock), time.Unix(0, int64(m.clock))
	m.nodes[name] = n
}

// replace has a file with the mode of before hold something else, past gate and look.
func (m *shelf) replace(name, content string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(name, node{content: content, info: system.Info{Attr: m.nodes[name].info.Attr}})
}

func (m *shelf) dirs(name string) {
	for ; name != "/"; name = path.Dir(name) {
		if _, is := m.nodes[name]; is {
			return
		}
		m.clock++
		m.nodes[name] = node{info: system.Info{Attr: system.Attr{Mode: 0o755}, Type: fs.ModeDir, Inode: uint64(m.clock), Changed: time.Unix(0, int64(m.clock))}}
	}
}

// at is what is at a name, unless the look at it fails.
func (m *memory) at(op, name string) (node, error) {
	if m.look != nil {
		if err := m.look(system.Look{Op: op, Target: name}); err != nil {
			return node{}, &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, is := m.nodes[name]
	if !is {
		return n, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

func (m *memory) Stat(name string) (system.Info, error) {
	n, err := m.at("stat", name)
	return n.info, err
}

func (m *memory) ReadFile(name string) ([]byte, error) {
	content, _, err := m.Inspect(name)
	return content, err
}

func (m *memory) Inspect(name string) ([]byte, system.Info, error) {
	n, err := m.at("read", name)
	if err == nil && !n.info.IsRegular() {
		err = &fs.PathError{Op: "read", Path: name, Err: unix.EISDIR}
	}
	return []byte(n.content), n.info, err
}

func (m *memory) Readlink(name string) (string, error) {
	n, err := m.at("readlink", name)
	return n.link, err
}

func (m *memory) Entries(dir string) (map[string]system.Info, error) {
	if _, err := m.at("list", dir); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	entries := map[string]system.Info{}
	for name, n := range m.nodes {
		if base, is := within(dir, name); is {
			entries[base] = n.info
		}
	}
	return entries, nil
}

func (m *memory) ReadDir(dir string) ([]string, error) {
	entries, err := m.Entries(dir)
	if err != nil {
		return nil, err
	}
	return sortedKeys(entries), nil
}

// change does something to the nodes if the gate lets it.
func (m *memory) change(op, name string, do func() error) error {
	if m.gate != nil {
		if err := m.gate(system.Change{Op: op, Target: name}); err != nil {
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return do()
}

func (m *memory) WriteFile(name string, content []byte, attr system.Attr) error {
	if n, err := m.at("stat", name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if n.info.Type == fs.ModeSymlink && !m.rights {
		return &fs.PathError{Op: "write", Path: name, Err: unix.ELOOP}
	} else if slices.Contains(m.full, name) {
		return &fs.PathError{Op: "write", Path: name, Err: unix.ENOSPC}
	}
	return m.change("rename", name, func() error {
		m.put(name, node{content: string(content), info: system.Info{Attr: attr}})
		return nil
	})
}

func (m *memory) AppendFile(name string, content []byte) error {
	return m.change("append", name, func() error {
		n := m.nodes[name]
		n.content += string(content)
		m.put(name, n)
		return nil
	})
}

func (m *memory) Sync(string) error { return nil }

func (m *memory) SetAttr(name string, attr system.Attr) error {
	return m.change("chmod", name, func() error {
		n := m.nodes[name]
		n.info.Attr = attr
		m.nodes[name] = n
		return nil
	})
}

func (m *memory) Symlink(target, name string) error {
	return m.change("rename", name, func() error {
		m.put(name, node{link: target, info: system.Info{Type: fs.ModeSymlink}})
		return nil
	})
}

func (m *memory) MkdirAll(name string, _ fs.FileMode) error {
	if _, err := m.at("stat", name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return m.change("mkdir", name, func() error { m.dirs(name); return nil })
}

func (m *memory) Remove(name string) error {
	if _, err := m.at("stat", name); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return m.change("remove", name, func() error { delete(m.nodes, name); return nil })
}

func (m *memory) Reserve(dir string) error {
	spare := system.Spare(dir)
	if _, err := m.at("stat", spare); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return m.change("rename", spare, func() error { m.put(spare, node{content: strings.Repeat("\x00", system.SpareSize)}); return nil })
}

func (m *memory) SetAside(name string) error { return m.move(name, system.Aside(name)) }

func (m *memory) Restore(name string) error { return m.move(system.Aside(name), name) }

func (m *memory) move(from, to string) error {
	n, err := m.at("stat", from)
	if err != nil {
		return err
	}
	return m.change("rename", from, func() error {
		m.put(to, n)
		delete(m.nodes, from)
		return nil
	})
}

var errNotThere = errors.New("there is none in memory")

func (m *memory) ReadPersonal(string, int, string) ([]byte, error) { return nil, errNotThere }

func (m *memory) DescribeHome(string) (system.Info, error) { return system.Info{}, errNotThere }

func (m *memory) Reown(context.Context, system.Reown) (system.Reowned, error) {
	return system.Reowned{}, errNotThere
}

func (m *memory) MoveDir(string, string) error { return errNotThere }

func (m *memory) Survey(context.Context, system.Survey) []system.Unseen { return nil }

func (m *memory) Walk(context.Context, system.Walk) (system.Walked, error) {
	return system.Walked{}, nil
}

// files are the names of those in a directory, for who stands in for sudo and polkit: their
// looks are none of the agent's.
func (m *shelf) files(dir string) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.nodes {
		if _, is := within(dir, name); is {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// within is the name that a file has in a directory, if it is there.
func within(dir, name string) (base string, is bool) {
	rest, below := strings.CutPrefix(name, strings.TrimSuffix(dir, "/"))
	if !below || len(rest) < 2 || rest[0] != '/' || strings.Contains(rest[1:], "/") {
		return "", false
	}
	return rest[1:], true
}

// state is what there is, by name: all that a kind goes by that looks for the first time.
func (m *shelf) state() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	state := make(map[string]string, len(m.nodes))
	for name, n := range m.nodes {
		text := (n.info.Mode | n.info.Type).String()
		switch n.info.Type {
		case 0:
			text += " " + n.content
		case fs.ModeSymlink:
			text += " → " + n.link
		}
		if n.info.UID != 0 || n.info.GID != 0 {
			text += fmt.Sprintf(" of %d:%d", n.info.UID, n.info.GID)
		}
		state[name] = text
	}
	return state
}

// seen is state without the directories, as faultwalk sees a disk.
func (m *shelf) seen() map[string]string {
	state := m.state()
	maps.DeleteFunc(state, func(_, text string) bool { return text[0] == 'd' })
	return state
}

// well is the same machine, of which no look and no change fails.
func (m *memory) well() *memory {
	return &memory{shelf: m.shelf, known: m.known}
}

// get is a file, through a link, for them.
func (m *shelf) get(name string) (node, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, is := m.nodes[name]
	if is && n.link != "" {
		n, is = m.nodes[n.link]
	}
	return n, is && n.info.IsRegular()
}
