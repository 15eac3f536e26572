package facts

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// An Account is an entry of passwd(5), local or from the directory.
type Account struct {
	Name    string
	UID     int
	GID     int
	Comment string
	Home    string
	Shell   string
}

// A Group is an entry of group(5), local or from the directory.
type Group struct {
	Name    string
	GID     int
	Members []string
}

// LocalAccounts returns the accounts of /etc/passwd, in file order.
func LocalAccounts(s *system.System) ([]Account, error) {
	content, err := s.FS.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	return parseAccounts(content), nil
}

// LocalGroups returns the groups of /etc/group, in file order.
func LocalGroups(s *system.System) ([]Group, error) {
	content, err := s.FS.ReadFile("/etc/group")
	if err != nil {
		return nil, err
	}
	return parseGroups(content), nil
}

// An Opening is how people can get into a local group without root.
type Opening struct {
	Password       bool     // whoever knows the group's password gets in (newgrp(1))
	Administrators []string // they may add anybody, including themselves (gpasswd(1))
	Members        []string // the members in gshadow(5), which newgrp(1) uses
}

// Openings returns the openings of the groups in /etc/group and /etc/gshadow, by name. It does not
// return the passwords.
func Openings(s *system.System) (map[string]Opening, error) {
	all := map[string]Opening{}
	split := func(list string) []string {
		return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	}
	add := func(fields []string, shadow bool) {
		o := all[fields[0]]
		o.Password = o.Password || opens(fields[1])
		if shadow {
			o.Administrators = append(o.Administrators, split(fields[2])...)
			o.Members = append(o.Members, split(fields[3])...)
		}
		all[fields[0]] = o
	}
	content, err := s.FS.ReadFile("/etc/group")
	if err != nil {
		return nil, err
	}
	for fields := range entries(content, 2, 4) {
		add(fields, false)
	}
	content, err = s.FS.ReadFile("/etc/gshadow")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for fields := range entries(content, 2, 4) {
		add(fields, true)
	}
	return all, nil
}

// opens reports whether a password can match a field of group(5) or gshadow(5). An empty field lets
// nobody in, and "x" means that gshadow has the password.
func opens(field string) bool {
	return field != "" && field != "x" && field[0] != '!' && field[0] != '*'
}

// LookupUser finds an account by name or decimal uid through the machine's name service. The
// directory's people are in no local file, and a static binary can only query them through
// getent(1). If getent does not answer in time, the error wraps context.DeadlineExceeded.
func LookupUser(ctx context.Context, s *system.System, key string) (Account, bool, error) {
	content, err := getent(ctx, s, "passwd", key)
	if err != nil {
		return Account{}, false, err
	}
	accounts := parseAccounts(content)
	switch {
	case len(accounts) > 0:
		return accounts[0], true, nil
	case len(bytes.TrimSpace(content)) > 0:
		return Account{}, false, fmt.Errorf("cannot look up passwd %q: getent says %q", key, firstWords(content))
	}
	return Account{}, false, nil
}

// LookupGroup finds a group by name or decimal gid, as LookupUser finds accounts.
func LookupGroup(ctx context.Context, s *system.System, key string) (Group, bool, error) {
	content, err := getent(ctx, s, "group", key)
	if err != nil {
		return Group{}, false, err
	}
	groups := parseGroups(content)
	switch {
	case len(groups) > 0:
		return groups[0], true, nil
	case len(bytes.TrimSpace(content)) > 0:
		return Group{}, false, fmt.Errorf("cannot look up group %q: getent says %q", key, firstWords(content))
	}
	return Group{}, false, nil
}

// GroupsByID returns those of the groups with these ids that have a name.
func GroupsByID(ctx context.Context, s *system.System, gids []int) ([]Group, error) {
	keys := make([]string, len(gids))
	for i, gid := range gids {
		keys[i] = strconv.Itoa(gid)
	}
	content, err := getent(ctx, s, "group", keys...)
	return parseGroups(content), err
}

// patience is how long the directory may take to answer. On a slow network the first query takes
// seconds.
const patience = 15 * time.Second

func firstWords(content []byte) string {
	const enough = 80
	return string(content[:min(len(content), enough)])
}

// getent runs getent(1). Its exit code 2 means that one of the keys was not found.
func getent(ctx context.Context, s *system.System, database string, keys ...string) ([]byte, error) {
	if len(keys) == 0 || slices.Contains(keys, "") {
		return nil, nil // getent would list all entries
	}
	out, err := s.Runner.Run(ctx, system.Command{Argv: append([]string{"getent", database, "--"}, keys...), ReadOnly: true, Timeout: patience})
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot look up %s %q: %w", database, strings.Join(keys, " "), err)
	case out.ExitCode != 0 && out.ExitCode != 2:
		return nil, fmt.Errorf("cannot look up %s %q: %s", database, strings.Join(keys, " "), out.LastLine())
	case out.ExitCode == 0 && len(out.Stdout) == 0:
		return nil, fmt.Errorf("cannot look up %s %q: getent found it and said nothing", database, strings.Join(keys, " "))
	}
	return out.Stdout, nil
}

// ErrNoAccount is the error of a query about an unknown account.
var ErrNoAccount = errors.New("no such user")

// GroupsOf returns the names of all groups of an account (id(1)). The error wraps ErrNoAccount if
// there is no such account.
func GroupsOf(ctx context.Context, s *system.System, name string) ([]string, error) {
	// -z, because names of a directory's groups may contain blanks.
	out, err := s.Runner.Run(ctx, system.Command{Argv: []string{"id", "-Gnz", "--", name}, ReadOnly: true, Timeout: patience})
	if err != nil {
		return nil, fmt.Errorf("cannot tell the groups of %q: %w", name, err)
	}
	if len(out.Stdout) == 0 && strings.HasSuffix(strings.TrimSpace(string(out.Stderr)), ErrNoAccount.Error()) {
		return nil, fmt.Errorf("cannot tell the groups of %q: %w", name, ErrNoAccount)
	}
	// id also exits with 1 if a group has no name; it then prints the gid.
	if len(out.Stdout) == 0 || out.Stdout[len(out.Stdout)-1] != 0 && strings.ContainsAny(string(out.Stdout), "\n") {
		return nil, fmt.Errorf("cannot tell the groups of %q: %s", name, out.LastLine())
	}
	return strings.FieldsFunc(string(out.Stdout), func(r rune) bool { return r == 0 }), nil
}

// GroupIDs returns the gids of all groups of an account (id(1)). It does not look up the groups,
// because a large group of a directory may take long.
func GroupIDs(ctx context.Context, s *system.System, name string) ([]int, error) {
	out, err := s.Runner.Run(ctx, system.Command{Argv: []string{"id", "-G", "--", name}, ReadOnly: true, Timeout: patience})
	if err != nil {
		return nil, fmt.Errorf("cannot tell the groups of %q: %w", name, err)
	}
	if out.ExitCode != 0 {
		return nil, fmt.Errorf("cannot tell the groups of %q: %s", name, out.LastLine())
	}
	var gids []int
	for field := range strings.FieldsSeq(string(out.Stdout)) {
		gid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("cannot tell the groups of %q: id -G says %q", name, field)
		}
		gids = append(gids, gid)
	}
	if len(gids) == 0 { // every account has at least one
		return nil, fmt.Errorf("cannot tell the groups of %q: id -G says nothing", name)
	}
	return gids, nil
}

// People returns the accounts that may use the desktop, by uid: local accounts that can log in,
// owners of a home in /home, and whoever is logged in now. AWS does not say which of them the
// WorkSpace was assigned to. Together with an error, it returns those that are known.
func People(ctx context.Context, s *system.System) ([]Account, error) {
	local, err := LocalAccounts(s)
	if err != nil {
		return nil, err
	}
	people := map[int]Account{}
	byUID := map[int]Account{}
	for _, a := range local {
		byUID[a.UID] = a
		if system.IsPersonal(a.UID) && CanLogIn(a.Shell) {
			people[a.UID] = a
		}
	}
	uids, err := elsewhere(ctx, s)
	errs := []error{err}
	for _, uid := range uids {
		if _, known := people[uid]; known || !system.IsPersonal(uid) {
			continue
		}
		account, found := byUID[uid]
		if !found {
			account, found, err = LookupUser(ctx, s, strconv.Itoa(uid))
			errs = append(errs, err)
		}
		if found {
			people[uid] = account
		}
	}
	sorted := make([]Account, 0, len(people))
	for _, a := range people {
		sorted = append(sorted, a)
	}
	slices.SortFunc(sorted, func(a, b Account) int { return cmp.Compare(a.UID, b.UID) })
	return sorted, errors.Join(errs...)
}

// PersonalUIDs returns the uids of People in ascending order. It does not query the directory,
// which may be slow or unreachable.
func PersonalUIDs(ctx context.Context, s *system.System) ([]int, error) {
	local, err := LocalAccounts(s)
	if err != nil {
		return nil, err
	}
	uids, err := elsewhere(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, a := range local {
		if CanLogIn(a.Shell) {
			uids = append(uids, a.UID)
		}
	}
	uids = slices.DeleteFunc(uids, func(uid int) bool { return !system.IsPersonal(uid) })
	slices.Sort(uids)
	return slices.Compact(uids), nil
}

// DesktopUIDs returns the uids of those who have used the desktop, or are about to, in ascending
// order: the owners of homes in /home, and whoever is logged in. There are none before the user's
// volume is mounted. It does not query the directory.
func DesktopUIDs(ctx context.Context, s *system.System) ([]int, error) {
	uids, err := elsewhere(ctx, s)
	if err != nil {
		return nil, err
	}
	uids = slices.DeleteFunc(uids, func(uid int) bool { return !system.IsPersonal(uid) })
	slices.Sort(uids)
	return slices.Compact(uids), nil
}

// elsewhere returns the uids of people with homes or sessions; together with an error, those that
// could be read. A home may be on a file system that never answers.
func elsewhere(ctx context.Context, s *system.System) ([]int, error) {
	var uids []int
	var errs []error
	homes, err := s.ListHomes(ctx, "/home") // /home is mounted late; until then there are no homes
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, name := range homes {
		switch info, err := s.StatHome(ctx, path.Join("/home", name)); {
		case errors.Is(err, fs.ErrNotExist), system.HiddenByOwner(path.Join("/home", name), err): // its owner is a local account, or logged in
		case err != nil:
			errs = append(errs, err)
		case info.IsDir():
			uids = append(uids, info.UID)
		}
	}
	sessions, err := s.Sessions.List(ctx)
	for _, session := range sessions {
		uids = append(uids, int(session.UID))
	}
	return uids, errors.Join(append(errs, err)...)
}

// CanLogIn reports whether a shell lets its account log in.
func CanLogIn(shell string) bool {
	return !strings.HasSuffix(shell, "/nologin") && !strings.HasSuffix(shell, "/false")
}

func parseAccounts(content []byte) []Account {
	var accounts []Account
	for fields := range entries(content, 4, 7) {
		uid, isUID := ParseID(fields[2])
		gid, isGID := ParseID(fields[3])
		if isUID && isGID {
			accounts = append(accounts, Account{
				Name: fields[0], UID: uid, GID: gid, Comment: fields[4], Home: fields[5], Shell: fields[6],
			})
		}
	}
	return accounts
}

func parseGroups(content []byte) []Group {
	var groups []Group
	for fields := range entries(content, 3, 4) {
		if gid, is := ParseID(fields[2]); is {
			members := strings.FieldsFunc(fields[3], func(r rune) bool { return r == ',' })
			for i := range members {
				members[i] = strings.TrimLeftFunc(members[i], isBlank)
			}
			groups = append(groups, Group{Name: fields[0], GID: gid, Members: members})
		}
	}
	return groups
}

// ParseID parses a decimal id as glibc does, and so everything that lets people in: it accepts
// leading blanks and a sign, and negates unsigned. A number that is too large, or the largest one,
// is not an id.
func ParseID(text string) (id int, is bool) {
	digits := strings.TrimLeftFunc(text, isBlank)
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	value, err := strconv.ParseUint(digits, 10, 64)
	if negative {
		value = -value
	}
	if err != nil || value >= math.MaxUint32 {
		return 0, false
	}
	return int(value), true
}

// isBlank is isspace(3).
func isBlank(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) }

// entries yields the first most fields of each line that has at least least fields. Like glibc it
// skips blanks before a name, ignores lines that begin with # (comments) or with + or - (references
// to NIS, nsswitch.conf(5), compat), returns missing fields at the end as empty, and puts the rest
// of the line into the last field.
func entries(content []byte, least, most int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.SplitSeq(string(content), "\n") {
			entry := strings.TrimLeftFunc(line, isBlank)
			if entry == "" || strings.ContainsRune("#+-", rune(entry[0])) {
				continue
			}
			fields := strings.SplitN(entry, ":", most)
			if len(fields) < least || fields[0] == "" {
				continue
			}
			if !yield(append(fields, make([]string, most-len(fields))...)) {
				return
			}
		}
	}
}
