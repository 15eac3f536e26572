package box

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Session is a user's session of logind, with its user manager and bus.
type Session struct {
	ID string // as in loginctl

	box  *Box
	unit string // the unit that keeps it open
}

// Login opens a session through PAM, as a display manager would, and returns when logind has it.
// env goes to PAM; for example XDG_SESSION_TYPE=x11 makes it a graphical session.
func (b *Box) Login(ctx context.Context, user string, env ...string) (*Session, error) {
	return b.LoginBy(ctx, "login", user, env...)
}

// LoginBy is Login with another PAM service, such as sshd.
func (b *Box) LoginBy(ctx context.Context, service, user string, env ...string) (*Session, error) {
	s := &Session{box: b, unit: "login-" + user + "-" + strconv.FormatUint(b.logins.Add(1), 10) + ".service"}
	args := []string{
		"systemd-run", "--quiet", "--unit=" + s.unit, "--property=PAMName=" + service, "--property=User=" + user,
		"--property=Type=simple", // Type=exec would wait for a file descriptor that PAM keeps open
	}
	for _, e := range env {
		args = append(args, "--setenv="+e)
	}
	if _, err := b.run(ctx, append(args, "sleep", "infinity")...); err != nil {
		return nil, fmt.Errorf("cannot log %s in: %w", user, err)
	}
	// When PAM is done, the process has moved to the session's cgroup.
	const opened = `pid=$(systemctl show --property=MainPID --value "$1")
for i in $(seq 500); do
  id=$(sed -n 's,.*/session-\([^/]*\)\.scope$,\1,p' "/proc/$pid/cgroup" | head -n 1)
  [ -z "$id" ] || exec echo "$id"
  sleep 0.02
done
systemctl status --no-pager "$1"; exit 1`
	id, err := b.run(ctx, "sh", "-c", opened, "sh", s.unit)
	if err != nil {
		return nil, fmt.Errorf("cannot log %s in: %w", user, err)
	}
	s.ID = strings.TrimSpace(id)
	return s, nil
}

// Logout ends the session and returns when logind has removed it.
func (s *Session) Logout(ctx context.Context) error {
	const logout = `systemctl stop "$1"
for i in $(seq 500); do [ -e "/run/systemd/sessions/$2" ] || exit 0; sleep 0.02; done
loginctl session-status "$2"; exit 1`
	if _, err := s.box.run(ctx, "sh", "-c", logout, "sh", s.unit, s.ID); err != nil {
		return fmt.Errorf("cannot log out of session %s: %w", s.ID, err)
	}
	return nil
}

// Leave ends the session but leaves a process running in it, so that logind calls it closing and
// keeps it until that process ends.
func (s *Session) Leave(ctx context.Context) error {
	const leave = `for procs in $(find /sys/fs/cgroup -path "*/session-$2.scope/cgroup.procs"); do echo $$ >"$procs"; done
setsid sleep infinity </dev/null >/dev/null 2>&1 &
systemctl stop "$1"
for i in $(seq 500); do [ "$(loginctl show-session -p State --value "$2")" != closing ] || exit 0; sleep 0.02; done
loginctl session-status "$2"; exit 1`
	if _, err := s.box.run(ctx, "sh", "-c", leave, "sh", s.unit, s.ID); err != nil {
		return fmt.Errorf("cannot leave session %s: %w", s.ID, err)
	}
	return nil
}

// run runs a command that must succeed and returns its standard output.
func (b *Box) run(ctx context.Context, args ...string) (string, error) {
	r, err := b.Exec(ctx, args...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%q ended with code %d: %s", strings.Join(args, " "), r.Code, strings.TrimSpace(r.Stdout+r.Stderr))
	}
	return r.Stdout, err
}
