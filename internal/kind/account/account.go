package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// database is the local accounts and groups at one moment.
type database struct {
	accounts []facts.Account
	groups   []facts.Group
}

func readDatabase(s *system.System) (database, error) {
	accounts, err1 := facts.LocalAccounts(s)
	groups, err2 := facts.LocalGroups(s)
	return database{accounts, groups}, errors.Join(err1, err2)
}

func first[E any](all []E, is func(E) bool) (E, bool) {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], true
	}
	var none E
	return none, false
}

func (d database) account(name string) (facts.Account, bool) {
	return first(d.accounts, func(a facts.Account) bool { return a.Name == name })
}

func (d database) accountOf(uid int) (facts.Account, bool) {
	return first(d.accounts, func(a facts.Account) bool { return a.UID == uid })
}

func (d database) group(name string) (facts.Group, bool) {
	return first(d.groups, func(g facts.Group) bool { return g.Name == name })
}

func (d database) groupOf(gid int) (facts.Group, bool) {
	return first(d.groups, func(g facts.Group) bool { return g.GID == gid })
}

// A postponement is the error of a step that must wait for the end of a session or process.
type postponement struct{ reason string }

func (p postponement) Error() string { return p.reason }

// mend repairs resources one after the other, because the tools lock the same files: removals first
// and additions last, so that an id which becomes free can be used.
func mend(drifted []converge.Resource, repair func(converge.Resource) error) []converge.Outcome {
	drifted = slices.Clone(drifted)
	slices.SortStableFunc(drifted, func(a, b converge.Resource) int { return cmp.Compare(turn(a), turn(b)) })
	var outcomes []converge.Outcome
	for _, r := range drifted {
		err := repair(r)
		var wait postponement
		switch {
		case errors.As(err, &wait):
			if !strings.HasSuffix(err.Error(), ": "+wait.reason) {
				wait.reason = err.Error() // there are other problems besides the wait
			}
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Postponed: converge.NextSession, Reason: wait.reason})
		case err != nil:
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: err})
		}
	}
	return outcomes
}

func turn(r converge.Resource) int {
	switch d := r.Diff[0]; {
	case d.Aspect != "ensure":
		return 1
	case d.Want == string(policy.Absent):
		return 0
	}
	return 2
}

// toolTimeout includes the time that usermod needs to chown a large home.
const toolTimeout = 10 * time.Minute

// run runs a tool of shadow-utils. The tool is not killed when ctx ends, because the files would be
// inconsistent between two of its writes.
func run(ctx context.Context, s *system.System, argv ...string) error {
	freeLocks(s)
	out, err := s.Runner.Run(context.WithoutCancel(ctx), system.Command{Argv: argv, Timeout: toolTimeout})
	switch {
	case err != nil:
		return err
	case out.ExitCode == 0:
		return nil
	case out.ExitCode == 8 && (argv[0] == "usermod" || argv[0] == "userdel"):
		return postponement{fmt.Sprintf("processes of %s are running (%s)", argv[len(argv)-1], out.LastLine())}
	}
	failed := exitError{argv[0], out.ExitCode, out.LastLine(), ""}
	if out.ExitCode == 1 || out.ExitCode == 10 {
		failed.holder = whoLocks(s)
	}
	return failed
}

// An exitError is the error of a tool of shadow-utils with an exit code other than 0.
type exitError struct {
	tool   string
	code   int
	says   string
	holder string // describes the holder of a lock that it may be waiting for
}

func (e exitError) Error() string {
	if e.holder != "" {
		return fmt.Sprintf("%s: %s (%s exited with %d: %s)", meaning(e.tool, e.code), e.holder, e.tool, e.code, e.says)
	}
	return fmt.Sprintf("%s (%s exited with %d: %s)", meaning(e.tool, e.code), e.tool, e.code, e.says)
}

// meaning explains an exit code; see EXIT VALUES in useradd(8), usermod(8), userdel(8),
// groupadd(8), groupmod(8) and groupdel(8).
func meaning(tool string, code int) string {
	group := strings.HasPrefix(tool, "group")
	switch code {
	case 1:
		return "/etc/passwd or /etc/shadow cannot be written, or another program holds their lock"
	case 2:
		return tool + " does not know one of these options; it may be too old"
	case 3:
		return tool + " does not accept one of these values"
	case 4:
		if group {
			return "the gid is taken"
		}
		return "the uid is taken"
	case 6:
		switch {
		case group || tool == "useradd":
			return "there is no such group"
		case tool == "userdel":
			return "there is no such account"
		}
		return "there is no such account, or no such group"
	case 8:
		if group {
			return "it is the primary group of an account"
		}
	case 9:
		return "the name is taken"
	case 10:
		return "/etc/group or /etc/gshadow cannot be written, or another program holds their lock"
	case 12:
		switch tool {
		case "useradd":
			return "the home directory cannot be made"
		case "usermod":
			return "the home directory cannot be moved"
		case "userdel":
			return "the home directory cannot be removed"
		}
	case 13, 14:
		return "the SELinux mapping cannot be changed"
	}
	return "it did not work"
}

// notWhileIn returns a postponement while one of the persons concerned is logged in.
func notWhileIn(ctx context.Context, s *system.System, concerned func(system.Session) bool) error {
	sessions, err := s.Sessions.List(ctx)
	if err != nil {
		return fmt.Errorf("it cannot be told who is logged in: %w", err)
	}
	for _, session := range sessions {
		if session.Live() && concerned(session) {
			return postponement{session.User + " is logged in"}
		}
	}
	return nil
}

// watches are the directories whose changes concern accounts: those of their files, of sessions,
// and of mounts for homes.
func watches() []converge.Watch {
	return []converge.Watch{
		{Dir: "/etc", Names: []string{"passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf", "fstab"}},
		{Sessions: true},
		{Unit: homeUnit},
	}
}
