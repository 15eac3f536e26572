package dropin

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// auditOption matches the start of a line of audit.rules(7), which is an option of auditctl(8).
var auditOption = regexp.MustCompile(`^(-[aAbcdDefikrsStwW]|--(backlog_wait_time|reset-lost|reset_backlog_wait_time_actual|loginuid-immutable))(\s|$)`)

// checkAudit follows audit.rules(7). auditctl can only check rules by loading them.
func checkAudit(_ context.Context, c candidate) error {
	return eachLine(c.content, "#", func(line string) string {
		if !auditOption.MatchString(line) {
			return "it does not begin with an option of auditctl"
		}
		return ""
	})
}

// loadAuditRules merges all files into one set of rules and loads it.
func loadAuditRules(ctx context.Context, s *system.System) error {
	out, err := s.Runner.Run(ctx, system.Command{Argv: []string{"augenrules", "--load"}})
	said := string(out.Stdout) + string(out.Stderr)
	switch {
	case errors.Is(err, system.ErrNotInstalled):
		return nil // auditd is not installed either
	case err != nil:
		return err
	case strings.Contains(said, "immutable mode"), strings.Contains(said, "is locked"):
		return errLocked
	case out.ExitCode != 0:
		return fmt.Errorf("augenrules --load: %s", out.LastLine())
	}
	return nil
}

var moduleName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// moduleNames returns the modules that a file of modules-load.d(5) names.
func moduleNames(content []byte) []string {
	var modules []string
	_ = eachLine(content, "#;", func(line string) string {
		modules = append(modules, line)
		return ""
	})
	return modules
}

// checkModules follows modules-load.d(5), and checks that the modules exist: a missing one makes a
// unit of systemd fail at each start.
func checkModules(ctx context.Context, c candidate) error {
	if err := eachLine(c.content, "#;", func(line string) string {
		if !moduleName.MatchString(line) {
			return "it is not the name of one module"
		}
		return ""
	}); err != nil || !c.system.Running() {
		return err
	}
	for _, module := range moduleNames(c.content) {
		out, err := c.system.Runner.Run(ctx, system.Command{Argv: []string{"modinfo", "-n", module}, ReadOnly: true})
		if errors.Is(err, system.ErrNotInstalled) {
			return nil
		}
		if err != nil {
			return err
		}
		if out.ExitCode != 0 {
			return fmt.Errorf("the running kernel has no module %s", module)
		}
	}
	return nil
}

// loadKernelModules loads the modules that files name. Modules that are no longer named stay until the
// reboot: they may be in use.
func loadKernelModules(ctx context.Context, s *system.System, names []string) error {
	var modules []string
	for _, name := range names {
		content, err := s.FS.ReadFile(name)
		if err != nil {
			return err
		}
		modules = append(modules, moduleNames(content)...)
	}
	return runFor(ctx, s, modules, "modprobe", "-a", "-b", "--")
}

var udevRule = regexp.MustCompile(`^([A-Z][A-Za-z_]*(\{[^}]*\})?\s*(==|!=|\+=|-=|:=|=)\s*[ie]*"([^"\\]|\\.)*"[\s,]*)+$`)

// checkUdev follows udev(7): a rule is a list of keys, operators and quoted values. udevadm is asked
// as well if it can verify, since systemd 254.
func checkUdev(ctx context.Context, c candidate) error {
	if c.content == nil {
		return nil
	}
	joined := strings.ReplaceAll(string(c.content), "\\\n", " ")
	if err := eachLine([]byte(joined), "#", func(line string) string {
		if !udevRule.MatchString(line) {
			return "it is not a list of keys, operators and values in quotes"
		}
		return ""
	}); err != nil {
		return err
	}
	out, found, err := c.staged(ctx, "60-candidate.rules", c.content, "udevadm", "verify", "--no-summary")
	if err != nil || !found || out.ExitCode == 0 || strings.Contains(string(out.Stderr), "nknown command") || strings.Contains(string(out.Stderr), "nrecognized option") {
		return err
	}
	return fmt.Errorf("udev would not read it: %s", c.quoted(out.LastLine()))
}
