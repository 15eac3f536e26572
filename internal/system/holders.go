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
	UID     int      // the one that it has in effect
	Command []string // its words; none when it has ended
	Lock    string   // as /proc/locks has it: "FLOCK", "POSIX", "OFDLCK", "LEASE"
	Write   bool     // nobody else can have one
}

// User names the user of a process, for people.
func (h Holder) User() string {
	id := strconv.Itoa(h.UID)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// Holders are the processes that hold a lock of any sort on the file at a name, or
// where a link there leads. Nobody is seen who has sent an open file to somebody who
// has not received it. Below a root that does not run the processes are those of the
// machine that does.
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
			command, _ := readSome(path.Join(dir, "cmdline")) // of one that has ended there is none
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

// locksOf are the locks on a file that a process holds by what it has open, as
// /proc/PID/fdinfo shows them, field by field. It names those of open files too, of
// which /proc/locks tells no process.
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

// effectiveUser is the user that a process acts as. The owner of its directory in /proc
// does not tell: that is root's as soon as the process wishes.
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

// readSome reads the beginning of what a stranger may have made long.
func readSome(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
