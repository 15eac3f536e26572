package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	sudoersDir = sudoers.Dir
	sysctlDir  = "/etc/sysctl.d"
	rsyslogDir = "/etc/rsyslog.d"
	sshdDir    = "/etc/ssh/sshd_config.d"
	auditDir   = "/etc/audit/rules.d"
	logindDir  = "/etc/systemd/logind.conf.d"

	nftablesDir   = "/etc/nftables.d"
	logrotateDir  = "/etc/logrotate.d"
	logrotateMain = "/etc/logrotate.conf"
)

// A family is a directory of drop-ins, or several that one program reads.
type family struct {
	dir        string // a pattern of path.Match
	mode       fs.FileMode
	check      checker // nil: nothing can be told before it is in place
	activation activation
}

// families are known by how their readers treat them: the manual page of each says which
// modes it accepts and when it reads the files. Whatever is not listed is read
// by whom it may concern, in time.
var families = []family{
	{sudoersDir, 0o440, checkSudoers, none},
	{sysctlDir, 0o644, checkSysctl, loadSysctls},
	{"/etc/profile.d", 0o644, checkShell, none},
	{"/etc/X11/xinit/xinitrc.d", 0o755, checkShell, awaitLogin},
	{"/etc/xdg/autostart", 0o644, checkDesktopEntry, awaitLogin},
	{"/etc/update-motd.d", 0o755, checkShell, none},
	{"/etc/cron.hourly", 0o755, checkJob, none},
	{"/etc/cron.daily", 0o755, checkJob, none},
	{"/etc/cron.weekly", 0o755, checkJob, none},
	{"/etc/cron.monthly", 0o755, checkJob, none},
	{"/etc/cron.d", 0o644, checkCron, none},
	{"/etc/security/limits.d", 0o644, checkLimits, awaitLogin},
	{logrotateDir, 0o644, checkLogrotate, none},
	{rsyslogDir, 0o644, checkRsyslog, restartRsyslog},
	{sshdDir, 0o644, checkSSHD, reloadSSHD},
	{unitDir, 0o644, checkUnit, reloadSystemd},
	{unitDir + "/*.d", 0o644, checkUnitSyntax, reloadSystemd},
	{logindDir, 0o644, checkUnitSyntax, awaitReboot},
	{"/etc/systemd/system.conf.d", 0o644, checkUnitSyntax, awaitReboot},
	{"/etc/systemd/user.conf.d", 0o644, checkUnitSyntax, awaitLogin},
	{"/etc/systemd/journald.conf.d", 0o644, checkUnitSyntax, restartJournald},
	{"/etc/systemd/timesyncd.conf.d", 0o644, checkUnitSyntax, restartTimesyncd},
	{"/etc/systemd/resolved.conf.d", 0o644, checkUnitSyntax, restartResolved},
	{"/etc/systemd/oomd.conf.d", 0o644, checkUnitSyntax, restartOomd},
	{"/etc/systemd/networkd.conf.d", 0o644, checkUnitSyntax, awaitReboot},
	{"/etc/systemd/*.conf.d", 0o644, checkUnitSyntax, none},
	{"/etc/environment.d", 0o644, checkEnvironment, awaitLogin},
	{"/etc/chrony.d", 0o644, checkChrony, restartChrony},
	{"/etc/chrony/conf.d", 0o644, checkChrony, restartChrony},
	{nftablesDir, 0o644, checkNft, awaitReboot},
	{auditDir, 0o640, checkAudit, loadAudit},
	{"/etc/modules-load.d", 0o644, checkModules, loadModules},
	{"/etc/polkit-1/rules.d", 0o644, checkScript, none},
	{tmpfilesDir, 0o644, checkWritten, createTmpfiles},
	{"/etc/sysusers.d", 0o644, checkWritten, createSysusers},
	{"/etc/udev/rules.d", 0o644, checkUdev, reloadUdev},
	{"/etc/ld.so.conf.d", 0o644, nil, runLdconfig},
	{"/etc/pki/ca-trust/source/anchors", 0o644, checkCertificates, extractCATrust},
	{"/usr/local/share/ca-certificates", 0o644, checkCertificates, updateCACertificates},
	{"/etc/firefox/policies", 0o644, checkJSON, none},
	{"/etc/opt/*/policies/managed", 0o644, checkJSON, none},
	{"/etc/chromium/policies/managed", 0o644, checkJSON, none},
}

// Families are patterns of the directories of which it is known how their readers treat files.
func Families() []string {
	dirs := make([]string, len(families))
	for i, f := range families {
		dirs[i] = f.dir
	}
	return dirs
}

// FamilyOf is the one of the Families that a file is of, "" when it is of none.
func FamilyOf(name string) string {
	if f := familyOf(name); slices.Contains(Families(), f.dir) {
		return f.dir
	}
	return ""
}

func familyOf(name string) family {
	dir := path.Dir(name)
	for _, f := range families {
		if f.dir == dir {
			return f
		}
		if !strings.Contains(f.dir, "*") {
			continue
		}
		if matched, _ := path.Match(f.dir, dir); matched {
			return f
		}
	}
	return family{dir: dir, mode: 0o644}
}

// An activation is what makes files of a family take effect.
type activation int

const (
	none activation = iota // their reader looks by itself
	loadSysctls
	createTmpfiles
	createSysusers
	reloadSystemd // and restart the service, when nobody is disturbed
	reloadUdev
	restartRsyslog
	runLdconfig
	extractCATrust
	updateCACertificates
	restartJournald
	restartChrony
	restartTimesyncd
	restartResolved
	restartOomd
	reloadSSHD
	loadAudit
	loadModules
	awaitReboot // their reader looks when it starts, and is never restarted
	awaitLogin  // they concern those who log in from now on
)

// activate makes files take effect, all at once if that works, and says of which it
// did not: one that the kernel refuses must not be held against the others.
func (a activation) activate(ctx context.Context, s *system.System, names []string) map[string]error {
	err := a.run(ctx, s, names)
	if err == nil {
		return nil
	}
	failures := map[string]error{}
	for _, name := range names {
		if len(names) > 1 && (a == createTmpfiles || a == createSysusers) {
			err = a.run(ctx, s, []string{name})
		}
		failures[name] = err
	}
	return failures
}

// run makes files take effect, of which some may be gone. In an image there is
// nobody to tell.
func (a activation) run(ctx context.Context, s *system.System, names []string) error {
	if !s.Running() {
		return nil
	}
	present := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, err := s.FS.Stat(name)
		return err != nil
	})
	slices.Sort(present) // the order in which they count at boot
	switch a {
	case createTmpfiles:
		return runFor(ctx, s, present, "systemd-tmpfiles", "--create")
	case createSysusers:
		return runFor(ctx, s, present, "systemd-sysusers")
	case reloadUdev:
		return command(ctx, s, "udevadm", "control", "--reload")
	case runLdconfig:
		return command(ctx, s, "ldconfig")
	case extractCATrust:
		return command(ctx, s, "update-ca-trust", "extract")
	case updateCACertificates:
		return command(ctx, s, "update-ca-certificates")
	case restartRsyslog:
		return restart(ctx, s, "rsyslog.service")
	case restartJournald:
		return restart(ctx, s, "systemd-journald.service")
	case restartChrony:
		return restart(ctx, s, "chronyd.service", "chrony.service")
	case restartTimesyncd:
		return restart(ctx, s, "systemd-timesyncd.service")
	case restartResolved:
		return restart(ctx, s, "systemd-resolved.service")
	case restartOomd:
		return restart(ctx, s, "systemd-oomd.service")
	case reloadSSHD:
		return reloadService(ctx, s, []string{"sshd", "-t"}, "sshd.service", "ssh.service")
	case loadAudit:
		return loadAuditRules(ctx, s)
	case loadModules:
		return loadKernelModules(ctx, s, present)
	}
	return nil
}

// active is the first of the units that runs, or "": a service has a name for each
// family of systems.
func active(ctx context.Context, s *system.System, units []string) (string, error) {
	for _, name := range units {
		unit, err := s.Units.Unit(ctx, name)
		if err != nil {
			return "", unlessNotRunning(err)
		}
		if unit.ActiveState == "active" {
			return name, nil
		}
	}
	return "", nil
}

// restart makes a service read its configuration, if it runs. None of those that it
// is called for carries a session.
func restart(ctx context.Context, s *system.System, units ...string) error {
	unit, err := active(ctx, s, units)
	if unit == "" {
		return err
	}
	return sessionguard.Restart(ctx, s, unit, sessionguard.Consent{})
}

// reloadService makes a service read its configuration, if it runs and the check says that
// all is well: sshd ends when it is told to read one that is not.
func reloadService(ctx context.Context, s *system.System, check []string, units ...string) error {
	unit, err := active(ctx, s, units)
	if unit == "" {
		return err
	}
	if err := command(ctx, s, check...); err != nil {
		return err
	}
	return command(ctx, s, "systemctl", "reload", unit)
}

// unlessNotRunning passes over what cannot be done where systemd does not run
// and thus has nothing to read again.
func unlessNotRunning(err error) error {
	if errors.Is(err, system.ErrNotRunning) {
		return nil
	}
	return err
}

func runFor(ctx context.Context, s *system.System, names []string, argv ...string) error {
	if len(names) == 0 {
		return nil
	}
	return command(ctx, s, append(argv, names...)...)
}

func command(ctx context.Context, s *system.System, argv ...string) error {
	out, err := s.Runner.Run(ctx, system.Command{Argv: argv})
	if err != nil {
		return err
	}
	if out.ExitCode != 0 {
		return fmt.Errorf("%s: %s", strings.Join(argv, " "), out.LastLine())
	}
	return nil
}
