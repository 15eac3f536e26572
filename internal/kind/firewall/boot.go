package firewall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

const (
	bootDir   = "/etc/soe-agent" // files there are part of an image
	unitDir   = "/etc/systemd/system"
	wantsDir  = unitDir + "/multi-user.target.wants"
	unitFile  = unitDir + "/" + policy.FirewallUnit
	wantsLink = wantsDir + "/" + policy.FirewallUnit
	dropinDir = unitFile + ".d"
	firewalld = "firewalld.service"
)

// A backend is a tool that loads rules into the kernel.
type backend interface {
	// look reads the rules in force and returns a view for each rule set.
	look(ctx context.Context) ([]view, error)
	// load replaces the rules that look has found with those of a plan.
	load(ctx context.Context, p plan, now []view) error
	// unload removes everything that load has loaded.
	unload(ctx context.Context, now []view) error
	// files returns the files that hold a plan for the boot, by name. commands returns the commands
	// that load them.
	files(p plan) map[string]string
	commands() []string
}

// observed is the tool and the rules that were found.
type observed struct {
	backend backend
	views   []view
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// observe finds the tool and the rules in force. Below a root no rules are in force. The error is
// an errAnswer if it is known that there can be no rules.
func (k *Kind) observe(ctx context.Context, wanted bool) (found observed, err error) {
	if wanted && k.system.Running() {
		states, err := k.system.Units.States(ctx, []string{firewalld})
		if err != nil {
			return found, err
		}
		for _, unit := range states {
			if unit.Err != nil {
				return found, fmt.Errorf("cannot tell whether firewalld runs: %w", unit.Err)
			}
			if slices.Contains([]string{"active", "activating", "reloading"}, unit.ActiveState) {
				return found, errAnswer("firewalld runs, and takes all rules for its own: take it off with [services.\"firewalld.service\"] running = false, masked = true, or leave [firewall] out")
			}
		}
	}
	if found.backend, err = k.tool(); err != nil {
		return found, err
	}
	if !k.system.Running() {
		for _, f := range familiesOf(found.backend) {
			found.views = append(found.views, newView(f))
		}
		return found, nil
	}
	found.views, err = found.backend.look(ctx)
	return found, err
}

func familiesOf(b backend) (families []family) {
	if i, is := b.(iptables); is {
		for _, f := range i.families {
			families = append(families, f.family)
		}
		return families
	}
	return []family{both}
}

// tool returns nft if it is installed, and otherwise iptables.
func (k *Kind) tool() (backend, error) {
	program, err := k.program("nft")
	if err != nil {
		return nil, err
	}
	if program != "" {
		return nft{k.system, program}, nil
	}
	return k.iptables()
}

func (k *Kind) iptables() (backend, error) {
	i := iptables{system: k.system}
	for _, f := range []iptablesFamily{
		{ip4, "iptables-save", "iptables-restore", ip4File},
		{ip6, "ip6tables-save", "ip6tables-restore", ip6File},
	} {
		if f.family == ip6 && k.system.Running() {
			if _, err := k.system.FS.Stat("/proc/sys/net/ipv6"); isMissing(err) {
				continue // the kernel has no IPv6
			} else if err != nil {
				return nil, err
			}
		}
		for _, program := range []*string{&f.save, &f.restore} {
			found, err := k.program(*program)
			if err != nil {
				return nil, err
			}
			if found == "" {
				return nil, errAnswer(fmt.Sprintf("neither nft nor %s is installed, and no rule can be loaded: have [packages] install nftables, or iptables", *program))
			}
			*program = found
		}
		i.families = append(i.families, f)
	}
	return i, nil
}

// program returns the path of a program, or "".
func (k *Kind) program(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin"} {
		switch _, err := k.system.FS.Stat(path.Join(dir, name)); {
		case err == nil:
			return path.Join(dir, name), nil
		case !isMissing(err):
			return "", fmt.Errorf("cannot tell whether there is %s: %w", name, err)
		}
	}
	return "", nil
}

// unit returns the unit file that loads the rules at boot: before the network is up, and after
// units that would flush the rules.
func unit(commands []string) string {
	return `# Kept by soe-agent, for [firewall].
[Unit]
Description=Firewall rules of soe-agent, as they were in force last
DefaultDependencies=no
RequiresMountsFor=` + bootDir + `
After=nftables.service iptables.service ip6tables.service netfilter-persistent.service ufw.service
Before=network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + strings.Join(commands, "\nExecStart=") + `

[Install]
WantedBy=multi-user.target
`
}

func bootFiles() []string { return []string{nftFile, ip4File, ip6File} }

// isTouched reports whether somebody has changed the rules since they were last loaded. The files
// for the boot have what was loaded.
func (k *Kind) isTouched(found observed) (bool, error) {
	for name, text := range found.backend.files(inForceOf(found)) {
		content, err := k.system.FS.ReadFile(name)
		if err != nil && !isMissing(err) {
			return false, err
		}
		if string(content) != text {
			return true, nil
		}
	}
	return false, nil
}

func inForceOf(found observed) plan {
	p := plan{}
	for _, v := range found.views {
		p[v.family] = v.chains
	}
	return p
}

// judgeBoot compares the rules loaded at boot with those in force and those planned. It accepts
// either, because a difference between the two is drift of its own.
func (k *Kind) judgeBoot(found observed, planned plan) (differences []converge.Difference, err error) {
	wanted, alike := found.backend.files(planned), found.backend.files(inForceOf(found))
	differs := func(name, got string) {
		differences = append(differences, converge.Difference{Aspect: "boot", Want: "the rules are loaded at boot", Got: name + " " + got})
	}
	for _, name := range bootFiles() {
		content, err := k.system.FS.ReadFile(name)
		want, is := wanted[name]
		switch {
		case err != nil && !isMissing(err):
			return nil, err
		case isMissing(err) && is:
			differs(name, "is not there")
		case err == nil && !is:
			differs(name, "is of another tool than the one that is there now")
		case err == nil && string(content) != want && string(content) != alike[name]:
			differs(name, "has other rules")
		}
	}
	switch info, err := k.system.FS.Stat(unitFile); {
	case isMissing(err):
		differs(unitFile, "is not there")
	case err != nil:
		return nil, err
	case !info.IsRegular():
		differs(unitFile, "is no file")
	default:
		content, err := k.system.FS.ReadFile(unitFile)
		if err != nil {
			return nil, err
		}
		if string(content) != unit(found.backend.commands()) {
			differs(unitFile, "says something else")
		}
	}
	switch leads, err := k.isEnabled(); {
	case err != nil:
		return nil, err
	case !leads:
		differs(wantsLink, "does not lead to "+unitFile)
	}
	others, err := k.overrides()
	for _, name := range others {
		differs(name, "says otherwise")
	}
	return differences, err
}

// overrides returns drop-ins of the unit. They are not the agent's.
func (k *Kind) overrides() (files []string, err error) {
	names, err := k.system.FS.ReadDir(dropinDir)
	if isMissing(err) {
		return nil, nil
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".conf") {
			files = append(files, path.Join(dropinDir, name))
		}
	}
	return files, err
}

// isEnabled reports whether the unit is started at boot.
func (k *Kind) isEnabled() (bool, error) {
	target, err := k.system.FS.Readlink(wantsLink)
	if isMissing(err) || errors.Is(err, syscall.EINVAL) { // it does not exist, or is not a link
		return false, nil
	}
	return target == unitFile, err
}

// keepAtBoot makes the rules of a plan be loaded at boot.
func (k *Kind) keepAtBoot(b backend, p plan) error {
	files := b.files(p)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := k.write(name, files[name], 0o600); err != nil {
			return err
		}
	}
	if info, err := k.system.FS.Stat(unitFile); err == nil && !info.IsRegular() {
		if err := k.system.FS.Remove(unitFile); err != nil {
			return err
		}
	}
	if err := k.write(unitFile, unit(b.commands()), 0o644); err != nil {
		return err
	}
	if leads, err := k.isEnabled(); err != nil {
		return err
	} else if !leads {
		if err := k.system.FS.Symlink(unitFile, wantsLink); err != nil {
			return err
		}
	}
	others, err := k.overrides()
	if err != nil {
		return err
	}
	for _, name := range bootFiles() {
		if _, is := files[name]; !is {
			others = append(others, name)
		}
	}
	return k.remove(others)
}

func (k *Kind) remove(files []string) error {
	for _, name := range files {
		if err := k.system.FS.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
