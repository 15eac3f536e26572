package account

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// accountsLock is the empty file that the C library locks for all account files (lckpwdf(3)).
const accountsLock = "/etc/.pwd.lock"

// noteLocks returns the files into which a tool of shadow-utils writes its pid while it works. A
// tool that was killed, or whose machine lost power, leaves them behind. The next tool removes a
// file whose process does not exist, but fails while some process has that pid.
func noteLocks() []string {
	var names []string
	for _, of := range []string{"passwd", "shadow", "group", "gshadow", "subuid", "subgid"} {
		names = append(names, "/etc/"+of+".lock")
	}
	return names
}

// writers returns the programs that create such files.
func writers() []string {
	return []string{
		"useradd", "userdel", "usermod", "groupadd", "groupdel", "groupmod", "groupmems", "gpasswd", "newgrp", "chage", "chfn", "chsh", "passwd", "chpasswd",
		"chgpasswd", "newusers", "pwconv", "pwunconv", "grpconv", "grpunconv", "pwck", "grpck", "vipw", "vigr", "adduser", "addgroup", "deluser", "luseradd",
	}
}

// freeLocks makes sure that no lock of the account files is held by a process that cannot be
// changing them: it restricts accountsLock to root, and removes a file of noteLocks if the process
// with its pid started later.
func freeLocks(s *system.System) {
	if !s.Running() {
		return
	}
	if closed, err := s.CloseToOthers(accountsLock); closed {
		s.Log.Info("restricted the lock file of the account databases to root: whoever can open it can hold it", "path", accountsLock)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, system.ErrReadOnly) {
		s.Log.Debug("cannot restrict the lock file of the account databases to root", "path", accountsLock, "err", err)
	}
	for _, name := range noteLocks() {
		holder, stale := noted(s, name)
		if !stale {
			continue
		}
		if err := s.FS.Remove(name); err != nil {
			s.Log.Warn("cannot remove a stale lock of the account databases; useradd and its like fail until it is removed", "path", name, "holder", holder, "err", err)
			continue
		}
		s.Log.Warn("removed a stale lock of the account databases: the process with its number began later", "path", name, "holder", holder)
	}
}

// noted returns the process whose pid is in a lock file, or "", and whether it cannot be the one
// that wrote the file.
func noted(s *system.System, name string) (holder string, stale bool) {
	content, err := s.FS.ReadFile(name)
	if err != nil {
		return "", false
	}
	pid, err := strconv.Atoi(strings.TrimRight(string(content), "\n\x00 "))
	if err != nil || pid <= 0 {
		return "", false
	}
	program, err := s.FS.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "", false // shadow-utils handles that
	}
	comm := strings.TrimSpace(string(program))
	holder = fmt.Sprintf("process %d, %s", pid, comm)
	info, err := s.FS.Stat(name)
	began, known := beginning(s, pid)
	const tick = 2 * time.Second // file timestamps are coarse
	return holder, err == nil && known && !slices.Contains(writers(), comm) && info.ModTime.Add(tick).Before(began)
}

// beginning returns the start time of a process.
func beginning(s *system.System, pid int) (time.Time, bool) {
	const ticks = 100 // per second, on all architectures that Go supports
	stat, err := s.FS.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	uptime, err2 := s.FS.ReadFile("/proc/uptime")
	if err != nil || err2 != nil {
		return time.Time{}, false
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])) // fields from the third of proc(5) on
	up, _, _ := strings.Cut(string(uptime), " ")
	since, err := strconv.ParseFloat(up, 64)
	if err != nil || len(fields) < 20 {
		return time.Time{}, false
	}
	start, err := strconv.ParseFloat(fields[19], 64)
	age := time.Duration((since - start/ticks) * float64(time.Second))
	return s.Clock.Now().Add(-age), err == nil
}

// whoLocks describes who holds a lock of any sort on the account files, or returns "".
func whoLocks(s *system.System) string {
	if !s.Running() {
		return ""
	}
	var all []string
	if holders, err := s.Holders(accountsLock); err == nil {
		for _, h := range holders {
			program := ""
			if len(h.Command) > 0 {
				program = ", " + h.Command[0]
			}
			all = append(all, fmt.Sprintf("process %d%s of user %s has locked %s", h.PID, program, h.User(), accountsLock))
		}
	}
	for _, name := range noteLocks() {
		if holder, _ := noted(s, name); holder != "" {
			all = append(all, holder+" is noted in "+name)
		}
	}
	return strings.Join(all, "; ")
}
