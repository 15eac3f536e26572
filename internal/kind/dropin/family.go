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

// A family is a directory of drop-ins, or several that one program reads: what package
// dropindir knows of it, with what is done here.
type family struct {
	mode       fs.FileMode
	check      checker // nil: nothing can be told before it is in place
	activation activation
}

// checkers are what is done for each check that there is.
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

// familyOf is what is done with a file. Whatever is not known is read by whom it may concern,
// in time.
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
	case none, loadSysctls, reloadSystemd, awaitReboot, awaitLogin: // by nothing, or by more than this
		return nil
	}
	return fmt.Errorf("cannot make files take effect: nothing is known of the effect %d of package dropindir; this is a bug of the agent", a)
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
