package dropin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/dropindir"
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

// A family is a directory of drop-ins, or several read by the same program: what package dropindir
// knows about it, and the functions for it.
type family struct {
	mode       fs.FileMode
	check      checker // nil: it cannot be checked before it is installed
	activation activation
}

// checkers are the functions of all checks.
func checkers() [dropindir.Checks]checker {
	return [...]checker{
		dropindir.NoCheck:      nil,
		dropindir.Sudoers:      checkSudoers,
		dropindir.Sysctl:       checkSysctl,
		dropindir.Shell:        checkShell,
		dropindir.DesktopEntry: checkDesktopEntry,
		dropindir.Job:          checkJob,
		dropindir.Cron:         checkCron,
		dropindir.Limits:       checkLimits,
		dropindir.Logrotate:    checkLogrotate,
		dropindir.Rsyslog:      checkRsyslog,
		dropindir.SSHD:         checkSSHD,
		dropindir.Unit:         checkUnit,
		dropindir.UnitSyntax:   checkUnitSyntax,
		dropindir.UnitPart:     checkUnitPart,
		dropindir.Environment:  checkEnvironment,
		dropindir.Chrony:       checkChrony,
		dropindir.Nft:          checkNft,
		dropindir.Audit:        checkAudit,
		dropindir.Modules:      checkModules,
		dropindir.Script:       checkScript,
		dropindir.Written:      checkWritten,
		dropindir.Udev:         checkUdev,
		dropindir.Certificates: checkCertificates,
		dropindir.JSON:         checkJSON,
	}
}

// familyOf returns the family of a file. A file of no known family takes effect when its reader next
// reads it.
func familyOf(name string) family {
	d := dropindir.Of(path.Dir(name))
	return family{cmp.Or(d.Mode, 0o644), checkers()[d.Check], activation(d.Effect)}
}

// An activation makes files of a family take effect.
type activation dropindir.Effect

const (
	none                 = activation(dropindir.None)
	loadSysctls          = activation(dropindir.LoadSysctls)
	createTmpfiles       = activation(dropindir.CreateTmpfiles)
	createSysusers       = activation(dropindir.CreateSysusers)
	reloadSystemd        = activation(dropindir.ReloadSystemd)
	reloadUdev           = activation(dropindir.ReloadUdev)
	restartRsyslog       = activation(dropindir.RestartRsyslog)
	runLdconfig          = activation(dropindir.RunLdconfig)
	extractCATrust       = activation(dropindir.ExtractCATrust)
	updateCACertificates = activation(dropindir.UpdateCACertificates)
	restartJournald      = activation(dropindir.RestartJournald)
	restartChrony        = activation(dropindir.RestartChrony)
	restartTimesyncd     = activation(dropindir.RestartTimesyncd)
	restartResolved      = activation(dropindir.RestartResolved)
	restartOomd          = activation(dropindir.RestartOomd)
	reloadSSHD           = activation(dropindir.ReloadSSHD)
	loadAudit            = activation(dropindir.LoadAudit)
	loadModules          = activation(dropindir.LoadModules)
	awaitReboot          = activation(dropindir.AwaitReboot)
	awaitLogin           = activation(dropindir.AwaitLogin)
)

// activate makes files take effect, all at once if possible, and returns an error for each that
// failed. If one is rejected, the others are tried one by one.
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

// run makes files take effect; some may be gone. In an image it does nothing.
func (a activation) run(ctx context.Context, s *system.System, names []string) error {
	if !s.Running() {
		return nil
	}
	present := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, err := s.FS.Stat(name)
		return err != nil
	})
	slices.Sort(present) // the order in which they are read at boot
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
	case none, loadSysctls, reloadSystemd, awaitReboot, awaitLogin: // handled elsewhere, or nothing to do
		return nil
	}
	return fmt.Errorf("cannot make files take effect: nothing is known of the effect %d of package dropindir; this is a bug of the agent", a)
}

// active returns the first of the units that runs, or "". A service has different names on different
// distributions.
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

// restart restarts a service if it runs, to make it read its configuration. None of these services
// carries a session.
func restart(ctx context.Context, s *system.System, units ...string) error {
	unit, err := active(ctx, s, units)
	if unit == "" {
		return err
	}
	return sessionguard.Restart(ctx, s, unit, sessionguard.Consent{})
}

// reloadService makes a service reload its configuration if it runs and the check succeeds. sshd exits
// when it is told to reload a broken one.
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

// unlessNotRunning ignores failures where systemd is not running and so has nothing to reload.
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
