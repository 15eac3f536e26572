package system

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Holder is a process that holds a lock on a file.
type Holder struct {
	PID     int
	UID     int      // the effective one
	Command []string // its arguments; empty if it has ended
	Lock    string   // as /proc/locks has it: "FLOCK", "POSIX", "OFDLCK", "LEASE"
	Write   bool     // an exclusive lock
}

// User returns the name of the process's user for people, or the uid if it has no name.
func (h Holder) User() string {
	id := strconv.Itoa(h.UID)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// Holders returns the processes that hold any lock on the file at name, or on the target of a link
// there. It misses a process that has sent its open file over a socket from which it was not
// received yet. Below the root of an image the processes are those of the running machine.
func (s *System) Holders(name string) ([]Holder, error) {
	t, err := openTop(s.Root, nil)
	if err != nil {
		return nil, cannot("look at", name, err)
	}
	defer t.dir.Close()
	fd, err := t.open(name, unix.O_PATH)
	if err != nil {
		return nil, cannot("look at", name, err)
	}
	defer unix.Close(fd)
	return holdersOf(fd)
}

func holdersOf(fd int) ([]Holder, error) {
	var file unix.Stat_t
	if err := unix.Fstat(fd, &file); err != nil {
		return nil, err
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot tell who holds a lock: %w", err)
	}
	var holders []Holder
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", process.Name())
		for _, lock := range locksOf(dir, file) {
			h := Holder{PID: pid, UID: effectiveUser(dir), Lock: lock[1], Write: slices.Contains(lock, "WRITE")}
			command, _ := readSome(path.Join(dir, "cmdline")) // empty for a process that has ended
			for word := range bytes.SplitSeq(bytes.TrimRight(command, "\x00"), []byte{0}) {
				if len(word) > 0 {
					h.Command = append(h.Command, string(word))
				}
			}
			holders = append(holders, h)
			break
		}
	}
	return holders, nil
}

// locksOf returns the locks that a process holds on a file, as /proc/PID/fdinfo shows them, field
// by field. It includes open file description locks, for which /proc/locks names no process.
func locksOf(process string, file unix.Stat_t) [][]string {
	names, err := os.ReadDir(filepath.Join(process, "fd"))
	if err != nil {
		return nil // it has ended
	}
	var locks [][]string
	for _, name := range names {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(process, "fd", name.Name()), &st) != nil || st.Dev != file.Dev || st.Ino != file.Ino {
			continue
		}
		info, _ := readSome(filepath.Join(process, "fdinfo", name.Name()))
		for line := range strings.Lines(string(info)) {
			if said, is := strings.CutPrefix(line, "lock:"); is {
				if fields := strings.Fields(said); len(fields) >= 4 {
					locks = append(locks, fields)
				}
			}
		}
	}
	return locks
}

// effectiveUser returns the effective uid of a process. The owner of its directory in /proc does
// not tell: a process can make that root.
func effectiveUser(process string) int {
	status, _ := readSome(filepath.Join(process, "status"))
	for line := range strings.Lines(string(status)) {
		if said, is := strings.CutPrefix(line, "Uid:"); is {
			if fields := strings.Fields(said); len(fields) == 4 {
				if uid, err := strconv.Atoi(fields[1]); err == nil {
					return uid
				}
			}
		}
	}
	return -1
}

// readSome reads the beginning of a file whose length another user controls.
func readSome(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
