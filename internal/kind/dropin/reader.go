package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/sudoers"
)

// A reader is who takes in the files of a directory.
type reader struct {
	dir      string   // a pattern of path.Match
	who      string   // a program's or a package's name, as people know it
	programs []string // of which one is there where it is installed; none: it always is
	mains    []string // what it reads itself, the first that is there; none: it knows the directory
	// includes are the words of a main file behind which stands what else is read: files,
	// patterns of files or directories.
	includes *regexp.Regexp
	// whole says that a directory is included by its bare name.
	whole bool
}

// whoReads tells of directories whether anybody here reads them. What is not listed is
// read on every machine, or nothing is known of it.
var whoReads = []reader{
	{dir: sshdDir, who: "sshd", programs: sbin("sshd"), mains: []string{sshdMain}, includes: regexp.MustCompile(`(?i)^Include[\s=]+(.*)$`)},
	{dir: "/etc/ssh/ssh_config.d", who: "ssh", programs: sbin("ssh"), mains: []string{"/etc/ssh/ssh_config"}, includes: regexp.MustCompile(`(?i)^Include[\s=]+(.*)$`)},
	{dir: "/etc/chrony.d", who: "chronyd", programs: sbin("chronyd"), mains: chronyMains(), includes: chronyIncludes, whole: true},
	{dir: "/etc/chrony/*.d", who: "chronyd", programs: sbin("chronyd"), mains: chronyMains(), includes: chronyIncludes, whole: true},
	{dir: rsyslogDir, who: "rsyslog", programs: sbin("rsyslogd"), mains: []string{"/etc/rsyslog.conf"}, includes: regexp.MustCompile(`(?i)^(?:\$IncludeConfig\s+|include\s*\(.*\bfile\s*=\s*)(.*)$`)},
	{dir: logrotateDir, who: "logrotate", programs: sbin("logrotate"), mains: []string{logrotateMain}, includes: regexp.MustCompile(`^include[\s=]+(.*)$`), whole: true},
	{dir: "/etc/ld.so.conf.d", who: "ldconfig", programs: sbin("ldconfig"), mains: []string{"/etc/ld.so.conf"}, includes: regexp.MustCompile(`^include\s+(.*)$`)},
	{dir: nftablesDir, who: "nftables", programs: sbin("nft"), mains: []string{"/etc/sysconfig/nftables.conf", "/etc/nftables.conf"}, includes: regexp.MustCompile(`^include\s+(.*)$`)},
	{dir: "/etc/nftables", who: "nftables", programs: sbin("nft"), mains: []string{"/etc/sysconfig/nftables.conf", "/etc/nftables.conf"}, includes: regexp.MustCompile(`^include\s+(.*)$`)},
	{dir: sudoersDir, who: "sudo", programs: sbin("sudo"), mains: []string{sudoers.Main}, includes: regexp.MustCompile(`^[#@]include(?:dir)?\s+(.*)$`), whole: true},
	{dir: auditDir, who: "auditd", programs: sbin("augenrules")},
	{dir: "/etc/udev/rules.d", who: "udev", programs: sbin("udevadm")},
	{dir: "/etc/cron.d", who: "cron", programs: sbin("crond", "cron")},
	{dir: "/etc/cron.*ly", who: "cron", programs: sbin("crond", "cron", "anacron")},
	{dir: "/etc/update-motd.d", who: "update-motd", programs: append(sbin("update-motd"), "/etc/debian_version")},
	{dir: "/etc/X11/xinit/xinitrc.d", who: "xinit", programs: []string{"/etc/X11/xinit/xinitrc-common", "/etc/X11/xinit/Xsession"}},
	// The one of policykit-1 reads no rules (polkit before 0.106, of Debian and Ubuntu).
	{dir: "/etc/polkit-1/rules.d", who: "polkit, since 0.106", programs: []string{"/usr/lib/polkit-1/polkitd", "/usr/libexec/polkit-1/polkitd", "/usr/libexec/polkitd"}},
	{dir: "/etc/firefox/policies", who: "Firefox", programs: append(sbin("firefox", "firefox-esr"), elsewhere("firefox/firefox", "firefox", "org.mozilla.firefox")...)},
	{dir: "/etc/chromium/policies/managed", who: "Chromium", programs: append(sbin("chromium", "chromium-browser"), elsewhere("chromium/chromium", "chromium", "org.chromium.Chromium")...)},
	{dir: "/etc/opt/chrome/policies/managed", who: "Chrome", programs: append(sbin("google-chrome", "google-chrome-stable"), elsewhere("google/chrome/chrome", "google-chrome", "com.google.Chrome")...)},
	{dir: "/etc/opt/edge/policies/managed", who: "Edge", programs: append(sbin("microsoft-edge", "microsoft-edge-stable"), elsewhere("microsoft/msedge/msedge", "microsoft-edge", "com.microsoft.Edge")...)},
	{dir: "/etc/pki/ca-trust/source/anchors", who: "update-ca-trust", programs: sbin("update-ca-trust")},
	{dir: "/usr/local/share/ca-certificates", who: "update-ca-certificates", programs: sbin("update-ca-certificates")},
	{dir: "/etc/environment.d", who: "the user's systemd, since 233", programs: []string{
		"/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator",
		"/lib/systemd/user-environment-generators/30-systemd-environment-d-generator",
	}},
	{dir: "/etc/systemd/timesyncd.conf.d", who: "systemd-timesyncd", programs: systemdProgram("timesyncd")},
	{dir: "/etc/systemd/resolved.conf.d", who: "systemd-resolved", programs: systemdProgram("resolved")},
	{dir: "/etc/systemd/networkd.conf.d", who: "systemd-networkd", programs: systemdProgram("networkd")},
	{dir: "/etc/systemd/coredump.conf.d", who: "systemd-coredump", programs: systemdProgram("coredump")},
	{dir: "/etc/systemd/oomd.conf.d", who: "systemd-oomd", programs: systemdProgram("oomd")},
}

var chronyIncludes = regexp.MustCompile(`(?i)^(?:include|confdir|sourcedir)\s+(.*)$`)

func chronyMains() []string { return []string{"/etc/chrony.conf", "/etc/chrony/chrony.conf"} }

func sbin(names ...string) (all []string) {
	for _, name := range names {
		all = append(all, "/usr/sbin/"+name, "/usr/bin/"+name, "/sbin/"+name, "/bin/"+name)
	}
	return all
}

// elsewhere is where a program of people's is that no package of the distribution has brought.
func elsewhere(opt, snap, flatpak string) []string {
	return []string{"/opt/" + opt, "/usr/local/bin/" + snap, "/usr/lib64/" + opt, "/usr/lib/" + opt, "/snap/bin/" + snap, "/var/lib/flatpak/exports/bin/" + flatpak}
}

func systemdProgram(name string) []string {
	return []string{"/usr/lib/systemd/systemd-" + name, "/lib/systemd/systemd-" + name}
}

// nobodys are names of directories that look like those of others and that no program
// reads, however often they are written to.
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

func readerOf(dir string) *reader {
	for i := range whoReads {
		if matched, _ := path.Match(whoReads[i].dir, dir); matched {
			return &whoReads[i]
		}
	}
	return nil
}

// notRead begins the reason of a file that is as it should be, and that nobody takes in.
const notRead = "not read here: "

// unread says why nobody on this machine reads a file, or "".
func (k *Kind) unread(r *reader, want policy.Want[policy.Dropin]) (string, error) {
	name := fileOf(want.ID)
	if why := nobodys()[path.Base(path.Dir(name))]; why != "" && want.Spec.Activate == nil {
		return why, nil
	}
	if r == nil || slices.ContainsFunc(want.Spec.Activate, func(word string) bool { return strings.Contains(word, path.Dir(name)) }) {
		return "", nil // a command that names the file itself reads it
	}
	if there, err := k.firstOf(r.programs); err != nil || there == "" && len(r.programs) > 0 {
		return fmt.Sprintf("it is for %s, which is not installed", r.who), err
	}
	if len(r.mains) == 0 {
		return "", nil
	}
	main, err := k.firstOf(r.mains)
	if err != nil || main == "" {
		return fmt.Sprintf("%s has no %s that includes it", r.who, r.mains[0]), err
	}
	included, err := k.included(r, main, name, 0)
	if err != nil || included {
		return "", err
	}
	return fmt.Sprintf("%s reads %s, and that does not include it", r.who, main), nil
}

// isRead says of a file that is right on disk what keeps it out of effect for good: nobody
// reads it, or who does says otherwise.
func (k *Kind) isRead(ctx context.Context, scene *scene, want policy.Want[policy.Dropin], r *converge.Resource) {
	mark := k.Mark()
	why, err := k.unread(scene.readers[path.Dir(fileOf(want.ID))], want)
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

// ask has who reads a file say whether it is in effect, as far as somebody can be asked.
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
		return unknownSysctls(k.system, content), nil
	case dir == sshdDir:
		return k.overruledSSHD(ctx, name, content)
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
		return k.missingUnit(ctx, name)
	}
	return "", nil
}

// firstOf is the first of the names under which something is, or "".
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

// mostIncludes is how deep files that include others are followed.
const mostIncludes = 4

// included says whether a file that a reader reads includes another one.
func (k *Kind) included(r *reader, main, name string, depth int) (bool, error) {
	content, err := k.system.FS.ReadFile(main)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for line := range strings.SplitSeq(string(content), "\n") {
		match := r.includes.FindStringSubmatch(strings.TrimSpace(line))
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
			if matched || r.whole && pattern == path.Dir(name) {
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
