package account

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/system"
)

const shadowFile = "/etc/shadow"

// An aspect of ageing is a field of shadow(5).
type aspect int

const (
	minDays aspect = iota
	maxDays
	warnDays
	inactiveDays
	expires
	lastChange
	aspects // their number
)

// none is the value of an empty field.
const none = -1

func (a aspect) String() string {
	return [...]string{"min_days", "max_days", "warn_days", "inactive_days", "expires", "last_change"}[a]
}

// option returns the option of chage(1) that sets the field.
func (a aspect) option() string { return [...]string{"-m", "-M", "-W", "-I", "-E", "-d"}[a] }

// text returns a value for people.
func (a aspect) text(value int) string {
	switch {
	case value == none && a == expires:
		return "never"
	case value == none:
		return "none"
	case a == expires || a == lastChange:
		return time.Unix(int64(value)*secondsOfDay, 0).UTC().Format(time.DateOnly)
	}
	return strconv.Itoa(value)
}

const secondsOfDay = 24 * 60 * 60

// days are the fields of one account.
type days [aspects]int

// A shadowEntry is what shadow(5) says of an account, without the password.
type shadowEntry struct {
	days
	hasPassword bool // somebody can log in with it
}

// A standing says whether somebody can log in with a password.
type standing int

const (
	usable standing = iota
	mustChange
	locked
)

// at returns the standing on a day. Of the readers of shadow(5) (pam_unix, login, sshd) the strictest
// one counts; old ones take a missing date of the last change for one long ago.
func (d days) at(day int) standing {
	age := day - d[lastChange] // since before 1970, if there is no date
	tooOld := d[maxDays] != none && age >= d[maxDays]
	switch {
	case d[expires] != none && day >= d[expires]:
		return locked
	case d[lastChange] == 0:
		return mustChange
	case tooOld && d[inactiveDays] != none && age >= d[maxDays]+d[inactiveDays]:
		return locked
	case tooOld:
		return mustChange
	}
	return usable
}

// isStuck reports whether a password is too old before it can be changed.
func (d days) isStuck() bool {
	return d[maxDays] != none && d[minDays] != none && d[minDays] > d[maxDays]
}

// readShadow returns the entries of /etc/shadow by name. A machine without it has none. The first line of a
// name counts. Numbers that no reader understands are an error of that account alone.
func readShadow(s *system.System) (map[string]shadowEntry, map[string]error, error) {
	content, err := s.FS.ReadFile(shadowFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	entries, broken := map[string]shadowEntry{}, map[string]error{}
	for line := range bytes.Lines(content) {
		fields := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		if len(fields) < 2 || fields[0] == "" || strings.ContainsRune("#+-", rune(fields[0][0])) {
			continue
		}
		name, password := fields[0], fields[1]
		if _, known := entries[name]; known {
			broken[name] = fmt.Errorf("%s is more than once in %s", name, shadowFile)
			continue
		}
		e := shadowEntry{hasPassword: password != "" && !strings.ContainsRune("!*", rune(password[0]))}
		for i, a := range []aspect{lastChange, minDays, maxDays, warnDays, inactiveDays, expires} {
			e.days[a] = none
			if i+2 >= len(fields) || fields[i+2] == "" {
				continue
			}
			number, err := strconv.Atoi(fields[i+2])
			if err != nil || number > 1<<31-1 {
				broken[name] = fmt.Errorf("the %s of %s in %s is no number", a, name, shadowFile)
			} else if number >= 0 {
				e.days[a] = number
			}
		}
		entries[name] = e
	}
	return entries, broken, nil
}

// today returns the day, as in shadow(5). By a clock that is behind, an old password would be taken for a new
// one; so the day is not before /etc/shadow, or the agent's ledger, was last written.
func today(s *system.System) (int, error) {
	day := s.Clock.Now()
	for _, file := range []string{shadowFile, path.Join(own.StateDir, "ledger.jsonl")} {
		info, err := s.FS.Stat(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		if err == nil && info.ModTime.After(day) {
			day = info.ModTime
		}
	}
	return int(day.Unix() / secondsOfDay), nil
}
