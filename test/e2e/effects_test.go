package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
)

var effectsSeed = flag.Uint64("effects.seed", uint64(time.Now().UnixNano()), "of the scenarios of effects")

// witness is told whenever a unit stops whose stop would end sessions, and writes
// down those that are live at that moment. A desktop ends with it.
const witness = `#!/bin/sh
for id in $(loginctl list-sessions --no-legend | awk '{print $1}'); do
  Class= State= Service=
  eval "$(loginctl show-session "$id" -p Class -p State -p Service 2>/dev/null)"
  [ "$Class" = user ] && [ "$State" != closing ] || continue
  [ "$2" = anybody ] || [ "$Service" != sshd ] || continue
  echo "$1 stopped under session $id, of $Service" >> /root/violations
  loginctl terminate-session "$id"
done
exit 0
`

// carrier is a service that reads a file when it starts, and whose stop is witnessed.
func carrier(name, reads, whom, more string) box.File {
	return box.File{Content: "[Unit]\nStartLimitIntervalSec=0\n" + more + "\n[Service]\nEnvironment=SERIAL=0\n" +
		"ExecStart=/bin/sh -c '" + reads + " >/run/" + name + ".read; exec sleep infinity'\n" +
		"ExecStop=/usr/local/bin/witness " + name + " " + whom + "\nExecStopPost=/bin/rm -f /run/" + name + ".read\n" + wanted}
}

// A stage is a desktop with things of which the change would end sessions.
type stage struct {
	*desktop
	random   *rand.Rand
	sessions []*login
	want     wishes
	serial   int
	kills    int
	settled  bool     // nothing has happened since all was in effect
	told     []string // what has happened in this scenario
}

type login struct {
	*box.Session
	ssh bool
}

type wishes struct {
	clipboard, gadget, helper, nofile int
	accounts                          bool
}

func (w wishes) toml(serial int) string {
	return fmt.Sprintf(`schema = 1
[pcoip]
server_clipboard_state = %d
[dropins."/etc/systemd/system/gadget.service.d/10-soe.conf"]
content = "[Service]\nEnvironment=SERIAL=%d\n"
[dropins."/etc/helper.d/10-soe.conf"]
content = "%d\n"
activate = ["/usr/bin/systemctl", "restart", "helper.service"]
[dropins."/etc/security/limits.d/60-soe.conf"]
content = "* soft nofile %d\n"
[services."accounts-daemon.service"]
running = %v
[dropins."/etc/modprobe.d/serial.conf"]
content = "# %d\n"
`, w.clipboard, w.gadget, w.helper, w.nofile, w.accounts, serial)
}

func newStage(t *testing.T, seed uint64) *stage {
	t.Helper()
	s := &stage{random: rand.New(rand.NewPCG(seed, 0)), want: wishes{clipboard: 1, nofile: 1024, accounts: true}}
	s.desktop = newDesktop(t, box.WithFiles(map[string]box.File{
		"/usr/local/bin/witness":                     {Content: witness, Mode: 0o755},
		"/etc/pam.d/sshd":                            {Content: "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_systemd.so\n"},
		"/etc/helper.d/10-soe.conf":                  {Content: "0\n"},
		"/var/lib/systemd/linger/" + box.DesktopUser: {}, // it is no session, and it is faster
		unitDir + box.PCoIPService:                   carrier("pcoip", "cat "+box.PCoIPConf, "desktop", "Requires=helper.service\nAfter=helper.service"),
		unitDir + "helper.service":                   carrier("helper", "cat /etc/helper.d/10-soe.conf", "desktop", ""),
		unitDir + "accounts-daemon.service":          carrier("accounts", "echo up", "desktop", ""),
		unitDir + "gadget.service":                   carrier("gadget", "echo $SERIAL", "anybody", ""),
	}))
	s.MustExec(t, "systemctl", "--quiet", "start", "gadget.service", "accounts-daemon.service")
	s.publish(t)
	s.MustExec(t, "systemd-run", "--quiet", "--unit=agent-under-test", "--property=Restart=always", "--property=RestartSec=10ms",
		"--property=StartLimitIntervalSec=0", "soe-agent", "run")
	s.settle(t)
	return s
}

// publish makes the policy what is wanted.
func (s *stage) publish(t *testing.T) {
	t.Helper()
	s.serial++
	s.MustWriteFile(t, "/etc/soe-agent/policy.d/50-test.toml", box.File{Content: s.want.toml(s.serial)})
}

// read is a file in the running box; "" if there is none.
func (s *stage) read(name string) string {
	content, _ := os.ReadFile(filepath.Join("/proc", fmt.Sprint(s.Leader()), "root", name))
	return strings.TrimSpace(string(content))
}

func (s *stage) live(concerned func(*login) bool) bool {
	return slices.ContainsFunc(s.sessions, concerned)
}
func atDesktop(l *login) bool { return !l.ssh }
func anybody(*login) bool     { return true }

// missing is what is not yet in effect of what may be: "" when all is.
func (s *stage) missing() string {
	var status agent.Status // that of one which was killed says nothing
	if err := json.Unmarshal([]byte(s.read("/run/soe-agent/status.json")), &status); err != nil || s.read(fmt.Sprintf("/proc/%d/comm", status.PID)) != "soe-agent" {
		return "it is not there"
	}
	if s.read("/etc/modprobe.d/serial.conf") != fmt.Sprintf("# %d", s.serial) || status.Phase != agent.Keeping {
		return "it has not looked at everything"
	}
	if !strings.Contains(s.read(box.PCoIPConf), fmt.Sprintf("server_clipboard_state = %d", s.want.clipboard)) {
		return "pcoip-agent.conf is not written"
	}
	if !s.live(atDesktop) {
		switch {
		case !strings.Contains(s.read("/run/pcoip.read"), fmt.Sprintf("server_clipboard_state = %d", s.want.clipboard)):
			return "the PCoIP agent has not read its file"
		case s.read("/run/helper.read") != fmt.Sprint(s.want.helper):
			return "the helper has not read its file"
		case (s.read("/run/accounts.read") == "up") != s.want.accounts:
			return fmt.Sprintf("that the accounts-daemon runs is not %v", s.want.accounts)
		}
	}
	if !s.live(anybody) && s.read("/run/gadget.read") != fmt.Sprint(s.want.gadget) {
		return "the gadget has not been restarted"
	}
	var r report.Report
	if err := json.Unmarshal([]byte(s.read("/run/soe-agent/report.json")), &r); err != nil || len(r.Resources) == 0 {
		return "there is no report"
	}
	for _, resource := range r.Resources {
		if !resource.Tolerable() || resource.State == converge.Pending && !s.live(anybody) {
			return fmt.Sprintf("%s is %s: %s %v", resource.ID, resource.State, resource.Reason, resource.Diff)
		}
	}
	return ""
}

// settle waits until all is in effect that may be, and the agent has nothing more to
// do: with a new serial it looks at everything.
func (s *stage) settle(t *testing.T) {
	t.Helper()
	s.publish(t)
	deadline := time.Now().Add(3 * soon)
	for s.missing() != "" {
		if time.Now().After(deadline) {
			report, _ := s.Exec(t.Context(), "soe-agent", "report")
			journal, _ := s.Exec(t.Context(), "journalctl", "--no-pager", "-u", "agent-under-test", "-n", "60")
			t.Fatalf("seed %d: %s, after\n%s\n%s\n%s", *effectsSeed, s.missing(), strings.Join(s.told, "\n"), report.Stdout, journal.Stdout)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *stage) tell(format string, args ...any) {
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

// logIn opens a session. What may be restarted while there is none is restarted
// before: who comes while it is has no session yet that could end.
func (s *stage) logIn(t *testing.T, ssh bool) {
	t.Helper()
	if !s.settled && (!s.live(atDesktop) || !s.live(anybody)) {
		s.settle(t)
	}
	s.settled = false
	service, env := "login", []string{"XDG_SESSION_TYPE=x11"}
	if ssh {
		service, env = "sshd", []string{"XDG_SESSION_TYPE=tty"}
	} else if s.random.IntN(2) == 0 {
		env = nil // of a type that PAM was not told
	}
	session, err := s.LoginBy(t.Context(), service, box.DesktopUser, env...)
	if err != nil {
		t.Fatal(err)
	}
	s.sessions = append(s.sessions, &login{session, ssh})
	s.tell("login %s by %s %s", session.ID, service, env)
}

func (s *stage) logOut(t *testing.T, leave bool) {
	t.Helper()
	i := s.random.IntN(len(s.sessions))
	l := s.sessions[i]
	s.sessions = slices.Delete(s.sessions, i, i+1)
	end := l.Logout
	if leave {
		end = l.Leave
	}
	if err := end(t.Context()); err != nil {
		t.Fatalf("seed %d: %v, %s, after\n%s", *effectsSeed, err, s.read("/root/violations"), strings.Join(s.told, "\n"))
	}
	s.tell("logout %s, something is left running: %v", l.ID, leave)
}

// step lets something happen.
func (s *stage) step(t *testing.T) {
	t.Helper()
	switch s.random.IntN(10) {
	case 0, 1, 2:
		switch s.random.IntN(5) {
		case 0:
			s.want.clipboard = s.random.IntN(4)
		case 1:
			s.want.gadget++
		case 2:
			s.want.helper++
		case 3:
			s.want.accounts = !s.want.accounts
		case 4:
			s.want.nofile++
		}
		s.publish(t)
		s.tell("policy %d: %+v", s.serial, s.want)
	case 3:
		harm := []string{
			"sed -i 's/server_clipboard_state = .*/server_clipboard_state = 3/' " + box.PCoIPConf,
			"rm -f /etc/systemd/system/gadget.service.d/10-soe.conf",
			"echo theirs > /etc/helper.d/10-soe.conf",
			"systemctl start accounts-daemon.service",
		}[s.random.IntN(4)]
		s.MustExec(t, "sh", "-c", harm)
		s.tell("drift: %s", harm)
	case 4, 5:
		if len(s.sessions) < 3 {
			s.logIn(t, s.random.IntN(3) == 0)
		}
	case 6, 7:
		if len(s.sessions) > 0 {
			s.logOut(t, s.random.IntN(4) == 0)
		}
	case 8: // disconnected, or locked: as the desktop tells logind
		if len(s.sessions) > 0 {
			l := s.sessions[s.random.IntN(len(s.sessions))]
			hint := []string{"SetIdleHint", "SetLockedHint"}[s.random.IntN(2)]
			_, _ = s.ExecAs(t.Context(), box.DesktopUser, "busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1/session/_3"+l.ID,
				"org.freedesktop.login1.Session", hint, "b", "true") // of some types logind does not take it
			s.tell("%s of %s", hint, l.ID)
		}
	case 9:
		how := []string{"systemctl", "restart", "agent-under-test.service"}
		if s.kills < 2 && s.random.IntN(4) == 0 { // who dies more often while young comes back in safe mode
			s.kills++
			how = []string{"systemctl", "kill", "--signal=KILL", "agent-under-test.service"}
		}
		s.MustExec(t, how...)
		s.tell("%s", how)
	}
}

func (s *stage) scenario(t *testing.T) {
	t.Helper()
	s.told = nil
	s.logIn(t, s.random.IntN(6) == 0)
	for range 2 + s.random.IntN(4) {
		s.step(t)
		if s.random.IntN(8) == 0 {
			s.settle(t) // otherwise one comes upon the other
		}
	}
	for len(s.sessions) > 0 {
		s.logOut(t, s.random.IntN(4) == 0)
	}
	s.settle(t)
	if violations := s.read("/root/violations"); violations != "" {
		t.Fatalf("seed %d: %s, in\n%s", *effectsSeed, violations, strings.Join(s.told, "\n"))
	}
	s.settled = true
	s.MustExec(t, "sh", "-c", "systemctl stop 'session-*.scope'")
}

// window makes the maintenance window one that is open from and to so long from now.
func (d *desktop) window(t *testing.T, from, to time.Duration) {
	t.Helper()
	now := time.Now().UTC()
	d.MustWriteFile(t, "/etc/soe-agent/agent.toml", box.File{Content: fmt.Sprintf("[schedule]\nwindow = { from = %q, to = %q, timezone = \"UTC\" }\n",
		now.Add(from).Format("15:04"), now.Add(to).Format("15:04"))})
}

func TestWhereThePolicyConsentsASessionIsDisruptedInTheWindowOnceAndNeverBefore(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		unitDir + "accounts-daemon.service": unit(stays, wanted), unitDir + "gadget.service": unit(stays, wanted),
	}))
	d.MustExec(t, "systemctl", "--quiet", "start", "accounts-daemon.service", "gadget.service")
	if _, err := d.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11"); err != nil {
		t.Fatal(err)
	}
	const (
		clipboard, gadget, accounts = "pcoip/server_clipboard_state", "dropin/etc/systemd/system/gadget.service.d/10-soe.conf", "service/accounts-daemon.service"

		toml = `
pcoip.server_clipboard_state = 0
services."accounts-daemon.service" = { running = false }
[dropins."/etc/systemd/system/gadget.service.d/10-soe.conf"]
content = "[Service]\nEnvironment=A=1\n"
`
		rule = "[[rules]]\nmatch = [\"*\"]\ndisrupt = \"window\"\n"
	)
	processes := func() string {
		return d.MustExec(t, "systemctl", "show", "-p", "MainPID", box.PCoIPService, "accounts-daemon.service", "gadget.service")
	}
	before := processes()
	pending := map[policy.ID]converge.State{clipboard: converge.Pending, gadget: converge.Pending, accounts: converge.Pending}
	waits := func(o outcome, effect converge.Effect, reason string) {
		t.Helper()
		o.wants(t, pending)
		for id := range pending {
			if r := o.resource(id); r.Effect != effect || !strings.Contains(r.Reason, reason) {
				t.Errorf("%s waits for %s: %s", id, r.Effect, r.Reason)
			}
		}
		if now := processes(); now != before {
			t.Fatalf("a session was disrupted: %s, and before %s", now, before)
		}
	}
	waits(d.apply(t, toml+rule), converge.NextSession, "none is set: say window in [schedule] of agent.toml")
	d.window(t, 2*time.Hour, 3*time.Hour)
	waits(d.apply(t, toml+rule), converge.Maintenance, "in the maintenance window")
	d.window(t, -time.Hour, time.Hour)
	waits(d.apply(t, toml), converge.NextSession, "user is logged in")
	d.apply(t, toml+rule).wants(t, map[policy.ID]converge.State{clipboard: converge.Corrected, gadget: converge.Corrected, accounts: converge.Corrected})
	after := processes()
	was, is := strings.Fields(before), strings.Fields(after)
	for i := range was {
		if was[i] == is[i] {
			t.Errorf("%s goes on", was[i])
		}
	}
	if r := d.apply(t, toml+rule).resource(clipboard); r.Disrupt != policy.DisruptInWindow {
		t.Errorf("the report says of disruption %q", r.Disrupt)
	}
	d.converged(t)
	if again := processes(); again != after {
		t.Errorf("it was disrupted twice: %s, and before %s", again, after)
	}
	if sessions := d.MustExec(t, "loginctl", "list-sessions", "--no-legend"); !strings.Contains(sessions, box.DesktopUser) {
		t.Errorf("the sessions are %q", sessions)
	}
}

func TestNothingIsEverRestartedInALiveSessionAndEverythingAfterIt(t *testing.T) {
	t.Logf("seed %d", *effectsSeed)
	for i := range 4 {
		t.Run(fmt.Sprint("desktop ", i), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, *effectsSeed+uint64(i))
			for range 26 {
				s.scenario(t)
			}
		})
	}
}
