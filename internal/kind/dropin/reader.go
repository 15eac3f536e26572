package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/dropindir"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// nobodys are directories that look like drop-in directories, are often written to, and are read by no
// program.
func nobodys() map[string]string {
	return map[string]string{
		"iptables.d":    "iptables-services reads /etc/sysconfig/iptables, and Debian's iptables-persistent /etc/iptables/rules.v4",
		"ip6tables.d":   "iptables-services reads /etc/sysconfig/ip6tables, and Debian's iptables-persistent /etc/iptables/rules.v6",
		"dnf.conf.d":    "dnf reads /etc/dnf/dnf.conf alone",
		"yum.conf.d":    "yum reads /etc/yum.conf alone",
		"sudo.conf.d":   "sudo reads /etc/sudo.conf alone",
		"resolv.conf.d": "the resolver reads /etc/resolv.conf alone",
		"hosts.d":       "the resolver reads /etc/hosts alone",
		"crontab.d":     "cron reads /etc/cron.d",
		"sshd.d":        "sshd reads /etc/ssh/sshd_config, and what that includes",
	}
}

// notRead begins the reason for a correct file that no program reads.
const notRead = "not read here: "

// unread returns why no program on this machine reads a file, or "".
func (k *Kind) unread(ctx context.Context, r *dropindir.Reader, want policy.Want[policy.Dropin]) (string, error) {
	name := fileOf(want.ID)
	if why := nobodys()[path.Base(path.Dir(name))]; why != "" && want.Spec.Activate == nil {
		return why, nil
	}
	if r == nil || slices.ContainsFunc(want.Spec.Activate, func(word string) bool { return strings.Contains(word, path.Dir(name)) }) {
		return "", nil // a command that names the file reads it
	}
	if there, err := k.firstOf(r.Programs); err != nil || there == "" && len(r.Programs) > 0 {
		by, unsure := "", err
		if err == nil && len(r.Units) > 0 {
			by, unsure = facts.Installed(ctx, k.system, path.Base(r.Programs[0]), r.Units...)
		}
		if by != "" {
			unsure = fmt.Errorf("there is no program %s, and yet %s: put it back, or install it anew", path.Base(r.Programs[0]), by)
		}
		return fmt.Sprintf("it is for %s, which is not installed", r.Who), unsure
	}
	if len(r.Mains) == 0 {
		return "", nil
	}
	main, err := k.firstOf(r.Mains)
	if err != nil || main == "" {
		return fmt.Sprintf("%s has no %s that includes it", r.Who, r.Mains[0]), err
	}
	included, err := k.included(r, main, name, 0)
	if err != nil || included {
		return "", err
	}
	return fmt.Sprintf("%s reads %s, and that does not include it", r.Who, main), nil
}

// isRead reports why a file that is right on disk is permanently without effect: no program reads it,
// or another setting overrides it.
func (k *Kind) isRead(ctx context.Context, scene *scene, want policy.Want[policy.Dropin], r *converge.Resource) {
	mark := k.Mark()
	why, err := k.unread(ctx, scene.readers[path.Dir(fileOf(want.ID))], want)
	if why == "" && err == nil && k.system.Running() {
		why, err = k.ask(ctx, scene, want, r)
	}
	switch {
	case err != nil:
		r.SetUnknownErr(public.Because("cannot tell whether it is in effect", err))
	case k.Since(mark) != nil:
		r.SetUnknownErr(k.Since(mark))
	case why != "":
		r.SetFailed(notRead + why).ReasonIsPublic()
	}
}

// ask asks the program that reads a file whether it is in effect, if it can be asked.
func (k *Kind) ask(ctx context.Context, scene *scene, want policy.Want[policy.Dropin], r *converge.Resource) (why string, err error) {
	name, content := fileOf(want.ID), want.Spec.Content
	switch dir := path.Dir(name); {
	case dir == "/etc/cron.d":
		unit, err := scene.cron(ctx)
		if unit == "" && err == nil {
			r.Note("cron does not run, and so none of its jobs; the policy may say running = true of it in [services]")
		}
		return "", err
	case dir == sysctlDir && want.Spec.Activate == nil:
		if why = unknownSysctls(k.system, content); why == "" {
			k.noteLaterSysctls(scene, name, r)
		}
		return why, nil
	case dir == "/etc/security/limits.d":
		return k.overruledLimits(name, content)
	case dir == sshdDir:
		return k.overruledSSHD(ctx, name)
	case dir == auditDir && !scene.untilReboot[name] && !scene.awaiting[name]:
		key, err := k.auditLacks(ctx, content)
		if key != "" {
			r.AddPublicDrift(converge.AspectEffect, "rules with the key "+key, "auditctl -l shows none")
		}
		return "", err
	case path.Dir(dir) == "/etc/systemd" && strings.HasSuffix(dir, ".conf.d"):
		return k.overruledSystemd(name, content)
	case dir == tmpfilesDir:
		return k.overruledTmpfiles(name, content)
	case path.Dir(dir) == unitDir:
		if why, err := k.missingUnit(ctx, name); why != "" || err != nil {
			return why, err
		}
		return k.overruledUnit(name, content)
	case dir == unitDir:
		return k.overruledUnit(name, content)
	}
	return "", nil
}

// firstOf returns the first of the paths that exists, or "".
func (k *Kind) firstOf(names []string) (string, error) {
	for _, name := range names {
		_, err := k.system.FS.Stat(name)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// mostIncludes limits the depth of nested includes.
const mostIncludes = 4

// included reports whether a file that the program reads includes another one.
func (k *Kind) included(r *dropindir.Reader, main, name string, depth int) (bool, error) {
	content, err := k.system.FS.ReadFile(main)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for line := range strings.SplitSeq(string(content), "\n") {
		match := r.Includes.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			continue
		}
		for _, pattern := range strings.FieldsFunc(match[1], func(c rune) bool { return strings.ContainsRune(" \t\r\"',;)", c) }) {
			if strings.HasPrefix(pattern, "#") {
				break
			}
			if !path.IsAbs(pattern) {
				pattern = path.Join(path.Dir(main), pattern)
			}
			pattern = path.Clean(pattern)
			matched, _ := path.Match(pattern, name)
			if matched || r.Whole && pattern == path.Dir(name) {
				return true, nil
			}
			if strings.ContainsAny(pattern, "*?[") || depth == mostIncludes {
				continue
			}
			if info, err := k.system.FS.Stat(pattern); err != nil || !info.IsRegular() {
				continue
			}
			if included, err := k.included(r, pattern, name, depth+1); err != nil || included {
				return included, err
			}
		}
	}
	return false, nil
}
