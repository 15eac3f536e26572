package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	selinuxConfig  = "/etc/selinux/config"
	selinuxEnforce = "/sys/fs/selinux/enforce"
	selinuxTag     = "SELINUX="

	enforcing  = "enforcing"
	permissive = "permissive"
	disabled   = "disabled"
)

// selinuxModes are the modes of SELinux that were found. Running is empty in an image. Configured
// is "disabled" where SELinux was never installed.
type selinuxModes struct{ running, configured string }

func (k *Kind) selinux() (selinuxModes, error) {
	var modes selinuxModes
	config, err := k.system.FS.ReadFile(selinuxConfig)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return modes, err
	}
	modes.configured = configuredMode(string(config))
	if !k.system.Running() {
		return modes, nil
	}
	flag, err := k.system.FS.ReadFile(selinuxEnforce)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		modes.running = disabled
	case err != nil:
		return modes, err
	case strings.TrimSpace(string(flag)) == "1":
		modes.running = enforcing
	default:
		modes.running = permissive
	}
	return modes, nil
}

// configuredMode reads selinux_config(5) as libselinux does: the first line that
// begins with the tag and one of the modes counts.
func configuredMode(config string) string {
	for line := range strings.SplitSeq(config, "\n") {
		value, tagged := strings.CutPrefix(line, selinuxTag)
		if !tagged {
			continue
		}
		for _, mode := range []string{enforcing, permissive, disabled} {
			if strings.HasPrefix(strings.ToLower(value), mode) {
				return mode
			}
		}
	}
	return disabled
}

// withMode returns the configuration with another mode, and all else as it was.
func withMode(config, mode string) string {
	var lines []string
	set := false
	for line := range strings.SplitSeq(strings.TrimSuffix(config, "\n"), "\n") {
		if strings.HasPrefix(line, selinuxTag) {
			if set {
				continue
			}
			line, set = selinuxTag+mode, true
		}
		lines = append(lines, line)
	}
	if !set {
		lines = append(lines, selinuxTag+mode)
	}
	return strings.Join(lines, "\n") + "\n"
}

func (k *Kind) checkSELinux(r *converge.Resource, want string) error {
	modes, err := k.selinux()
	if err != nil {
		return err
	}
	k.compareSELinux(r, want, modes)
	return nil
}

func (k *Kind) compareSELinux(r *converge.Resource, want string, modes selinuxModes) {
	if modes.configured != want {
		r.AddPublicDrift("configured", want, modes.configured)
	}
	if modes.running != want && modes.running != "" && want != disabled {
		r.AddPublicDrift("running", want, modes.running)
	}
	without := modes.running == disabled || modes.running == "" && modes.configured == disabled
	switch {
	case want != disabled && without:
		r.SetFailed("SELinux is off, so files have no labels, and with it nobody could log in; turn it on by hand: set permissive, relabel (fixfiles onboot), reboot").ReasonIsPublic()
	case want == disabled && modes.configured == disabled && modes.running != disabled && modes.running != "":
		r.SetPending(converge.Reboot, "SELinux is off from the next boot on; until then the kernel is "+modes.running+
			"; what is written while it is off has no labels, so before it is turned on again all files must be relabelled (fixfiles onboot)").ReasonIsPublic()
	}
}

// setSELinux sets the mode for the next boot, and the running mode if that is safe. If the machine
// was enforcing under this policy before, it is made enforcing again at once. If it never was, its
// files must have labels first, and it waits until nobody is logged in, since with wrong labels
// open programs would fail.
func (k *Kind) setSELinux(ctx context.Context, r converge.Resource, want string) converge.Outcome {
	outcome := converge.Outcome{ID: r.ID}
	modes, err := k.selinux()
	if err != nil {
		outcome.Err = err
		return outcome
	}
	if want == enforcing && modes.running == permissive && r.Cause != converge.Corrective {
		if outcome.Err = k.labelled(ctx); outcome.Err != nil {
			return outcome
		}
	}
	if modes.configured != want {
		if outcome.Err = k.configureSELinux(want); outcome.Err != nil {
			return outcome
		}
	}
	if modes.running == "" || modes.running == want || want == disabled {
		return outcome
	}
	if want == enforcing && r.Cause != converge.Corrective {
		person, err := facts.LoggedIn(ctx, k.system)
		if err != nil {
			outcome.Err = err
			return outcome
		}
		if person != "" {
			outcome.Postponed = converge.NextSession
			outcome.Reason = person + " is logged in, and SELinux was not enforcing so far"
			return outcome
		}
	}
	outcome.Err = k.setenforce(ctx, want)
	return outcome
}

// labelled returns an error if a file that logins need does not have the label of the SELinux policy.
// If the policy were enforced then, nobody could log in.
func (k *Kind) labelled(ctx context.Context) error {
	out, err := k.system.Runner.Run(ctx, system.Command{ReadOnly: true, Argv: []string{
		"restorecon", "-i", "-n", "-v", "/etc/passwd", "/etc/shadow", "/usr/bin/bash", "/usr/sbin/sshd", "/usr/lib/systemd/systemd",
	}})
	if err != nil {
		return fmt.Errorf("it cannot be told whether files have labels: %w", err)
	}
	if len(out.Stdout) > 0 || out.ExitCode != 0 {
		return fmt.Errorf("files that a login needs have other labels than the policy of SELinux wants, so that nobody could log in; "+
			"relabel (fixfiles onboot) and reboot (%s)", out.LastLine())
	}
	return nil
}

func (k *Kind) configureSELinux(mode string) error {
	config, err := k.system.FS.ReadFile(selinuxConfig)
	if err != nil {
		return err
	}
	info, err := k.system.FS.Stat(selinuxConfig)
	if err != nil {
		return err
	}
	return k.system.FS.WriteFile(selinuxConfig, []byte(withMode(string(config), mode)), info.Attr)
}

func (k *Kind) setenforce(ctx context.Context, mode string) error {
	flag := map[string]string{enforcing: "1", permissive: "0"}[mode]
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: []string{"setenforce", flag}})
	if err != nil {
		return err
	}
	if out.ExitCode != 0 {
		return fmt.Errorf("setenforce exited with %d: %s", out.ExitCode, out.LastLine())
	}
	return nil
}
