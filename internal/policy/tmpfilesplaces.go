package policy

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/dropindir"
	"github.com/soe-agent/soe-agent/internal/protected"
)

var (
	// machinesOwn are specifiers whose values differ from machine to machine (tmpfiles.d(5)).
	machinesOwn = regexp.MustCompile(`%[abHlmov]`)
	// emptySpecifier are those whose values may be empty or are not known.
	emptySpecifier = regexp.MustCompile(`%[^abHlmov]`)
)

const makesDirectories = "dDvqQe"

// forbiddenMode refuses modes with which somebody gets rights, and those that are none.
func (l TmpfilesLine) forbiddenMode(name string) string {
	mode, is, why := l.wantedMode()
	if !is || why != "" {
		return why
	}
	switch {
	case mode&0o4000 != 0, mode&0o2000 != 0 && !l.of(makesDirectories):
		return "its mode has setuid or setgid, which no policy gives to a program"
	case mode&0o002 != 0 && (mode&0o1000 == 0 || !l.of(makesDirectories+"z") || inAny(name, []string{"/etc", "/opt", "/usr"})):
		return "its mode lets everybody write it"
	}
	return ""
}

func (l TmpfilesLine) wantedMode() (mode fs.FileMode, is bool, wrong string) {
	digits := strings.TrimLeft(l.mode, "~:")
	if digits == "" || digits == "-" {
		return 0, false, ""
	}
	n, err := strconv.ParseUint(digits, 8, 12)
	if err != nil {
		return 0, false, "its mode is none"
	}
	return fs.FileMode(n), true, ""
}

// roots reports whether the line leaves a path to root, or says nothing of its owner.
func (l TmpfilesLine) roots() bool {
	return slices.Contains([]string{"", "-", "root", "0"}, strings.TrimLeft(l.user, ":"))
}

// forbiddenAt asks the question of the sections: whether a policy may write a path anyway.
func (l TmpfilesLine) forbiddenAt(name string, below bool) string {
	const systems = "the system, and people, need it as it is"
	first, inside, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	switch first {
	case "etc":
		return l.forbiddenInEtc(name, below)
	case "opt", "srv", "mnt", "media":
		if inside == "" {
			return systems
		}
		return forbiddenBegin(name, below, forbiddenContent())
	case "run":
		if strings.HasPrefix(inside, "lock/") {
			return ""
		}
		return forbiddenOwn(inside, systemsRuntime(), "the system, or how people get in, has its own there")
	case "tmp":
		return l.forbiddenInTmp("/tmp", name)
	case "usr":
		if why := usrLocal(name, below); why != "" || !l.of("fFwLCp") {
			return why
		}
		return ForbiddenContent(name)
	case "var":
		return l.forbiddenInVar(name)
	case "sys":
		for _, pattern := range []string{"/sys/kernel/mm/*/*", "/sys/block/*/queue/*", "/sys/module/*/parameters/*"} {
			if matched, _ := path.Match(pattern, name); matched && l.of("w") {
				return ""
			}
		}
		return "it changes the running kernel, or its devices"
	case "proc":
		return "write it in a drop-in of /etc/sysctl.d, which is checked"
	case "bin", "boot", "dev", "efi", "home", "lib", "lib32", "lib64", "libx32", "lost+found", "root", "sbin", "snap", "":
		return systems
	}
	if strings.ContainsAny(first, "*?[") {
		return systems
	}
	return ""
}

// usrLocal takes what is below /usr/local, where a site has its own, but for programs.
func usrLocal(name string, below bool) string {
	inside, is := strings.CutPrefix(name, "/usr/local/")
	first, _, deeper := strings.Cut(inside, "/")
	switch {
	case !is || inside == "":
		return "the system, and people, need it as it is"
	case slices.Contains([]string{"bin", "sbin", "lib", "lib64", "libexec", "games"}, first) || strings.ContainsAny(first, "*?["):
		return "programs are found there, root's too"
	case !deeper && slices.Contains([]string{"etc", "share", "src", "include", "man"}, first):
		return "the system, and people, need it as it is"
	}
	return forbiddenBegin(name, below, []forbidding{{"/usr/local/share/ca-certificates", trustsOthers}, {"/usr/local/lib/systemd", startsUnits}})
}

// forbiddenBegin returns why a path, or pattern, must not be touched that begins as a forbidden one does; or,
// with all below it, stands above one.
func forbiddenBegin(name string, below bool, forbidden []forbidding) string {
	glob := strings.IndexAny(name, "*?[")
	fixed := name
	if glob >= 0 {
		fixed = name[:glob]
	}
	lower := strings.ToLower(name)
	for _, p := range forbidden {
		switch {
		case strings.HasPrefix(lower, p.begins), below && strings.HasPrefix(p.begins, strings.TrimSuffix(fixed, "/")+"/"):
			return p.why
		case glob >= 0 && strings.HasPrefix(p.begins, fixed) && protected.Meets(name, strings.TrimSuffix(p.begins, "/"), below):
			return p.why
		}
	}
	return ""
}

// forbiddenOwn refuses names, and patterns of names, in a directory in which the system has its own.
func forbiddenOwn(inside string, systems []string, why string) string {
	first, _, _ := strings.Cut(inside, "/")
	fixed := first
	if glob := strings.IndexAny(first, "*?["); glob >= 0 {
		fixed = first[:glob]
	}
	if fixed == "" || path.Ext(first) == ".d" {
		return why
	}
	for _, name := range systems {
		begins, more := strings.CutSuffix(name, "*")
		after, is := strings.CutPrefix(fixed, begins)
		if is && (more || after == "" || !isLetter(after[0])) || fixed != first && strings.HasPrefix(begins, fixed) {
			return why
		}
	}
	return ""
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// systemsRuntime are the first words of names below /run that belong to the system, to AWS, or to what gives
// root's rights to whoever speaks with it; with a star, what they begin with.
func systemsRuntime() []string {
	return strings.Fields(`.containerenv NetworkManager Xauth* agetty amazon* apparmor auditd blkid cloud-init console containerd credentials crio crond
		cryptsetup dbus dcv* dhclient dhcpcd dmeventd docker dockerd ecs* faillock firewalld gdm gdm3 gssproxy host hostname initctl initramfs initrd incus
		irqbalance krb5* libvirt* lightdm lock lockdev log lvm lvmetad lxc lxcfs lxd machine-id mdadm media motd mount multipath multipathd netns network
		nologin nscd nslcd oddjobd pcoip* pcscd plymouth podman polkit polkitd reboot-required resolvconf rpc* rsyslogd samba screen screens sendsigs
		setrans shm skylight* snap* soe-agent soe-firewall ssh sshd sss* sudo systemd tmux tmpfiles udev udisks* user utmp uuidd virt* winbindd
		wpa_supplicant wsp* xdcv* xrdp xtables`)
}

// systemsState are the same of /var/lib.
func systemsState() []string {
	return strings.Fields(`AccountsService NetworkManager PackageKit alsa alternatives amazon* apparmor apt authselect aws* boltd ca-certificates chrony cloud
		color containerd containers dbus dcv* debconf dhclient dhcp dhcpcd dkms dnf docker dpkg ecs* ecryptfs fwupd gdm gdm3 geoclue grub hibinit*
		initramfs initscripts iscsi kdump krb5* libvirt* lightdm lightdm-data logrotate lxc lxd nfs nss_db nvidia* pam pam_* pcoip* plymouth polkit
		portables private realmd rpcbind rpm rsyslog samba sddm selinux sepolgen skylight* snapd soe-agent sss* stateless sudo systemd tpm* tuned ubuntu*
		udisks* unattended update-* urandom usb* winbindd_privileged wpa_supplicant wsp* xdcv* xkb xrdp yum`)
}

// systemsSpool are the same of /var/spool.
func systemsSpool() []string {
	return strings.Fields("abrt anacron at atjobs atspool cron crontabs mail")
}

// forbiddenInVar takes what is below the directories in which programs have their own.
func (l TmpfilesLine) forbiddenInVar(name string) string {
	const systems = "the system, or a service of its, has its own there"
	_, inside, _ := strings.Cut(name[1:], "/")
	first, inside, _ := strings.Cut(inside, "/")
	switch {
	case first == "tmp":
		return l.forbiddenInTmp("/var/tmp", name)
	case inside == "":
		return systems
	case first == "lib":
		return forbiddenOwn(inside, systemsState(), systems)
	case first == "spool":
		return forbiddenOwn(inside, systemsSpool(), "jobs, or the mail of people, lie there")
	case first == "log":
		return forbiddenOwn(inside, strings.Fields("AmazonWorkSpaces amazon aws dcv* journal pcoip* private sssd sudo sudo-io"), systems)
	case first == "cache":
		return forbiddenOwn(inside, strings.Fields("ldconfig pcoip* private sss* dcv*"), systems)
	case slices.Contains([]string{"opt", "www", "local", "srv"}, first):
		return ""
	}
	return systems
}

var longAge = regexp.MustCompile(`^~?([aAbBcCmM]+:)?[1-9][0-9]*(h|hours?|hr|d|days?|w|weeks?|month|months|M|y|years?)$`)

// forbiddenInTmp keeps a directory of everybody's as it is: only for how long files stay is the policy's.
func (l TmpfilesLine) forbiddenInTmp(dir, name string) string {
	inside, isBelow := strings.CutPrefix(name, dir+"/")
	if !isBelow {
		mode, is, _ := l.wantedMode()
		switch {
		case !l.of(makesDirectories+"z") || is && mode != 0o1777 || !l.roots() || !slices.Contains([]string{"", "-", "root", "0"}, strings.TrimLeft(l.group, ":")):
			return "sessions need it as it is: mode 1777, and root's"
		case l.Age != "" && !longAge.MatchString(l.Age):
			return "what sessions need would go while they use it: say its age in hours, days or weeks"
		}
		return ""
	}
	first, _, _ := strings.Cut(inside, "/")
	if slices.ContainsFunc([]string{".", "systemd-private-", "snap", "ssh-", "dbus-", "krb5cc", "tmux-", "*", "?", "["}, func(begins string) bool { return strings.HasPrefix(first, begins) }) && !l.Boot {
		return "sessions have their own there"
	}
	return ""
}

// forbiddenInEtc asks [files] and, for what is in directories of drop-ins, refuses what these would check.
func (l TmpfilesLine) forbiddenInEtc(name string, below bool) string {
	deciding := etcNames()
	if name == "/etc" || l.Age != "" {
		return "the system, and people, need it as it is"
	}
	if strings.ContainsAny(name, "*?[") || below {
		for _, p := range deciding {
			if protected.Meets(name, strings.TrimSuffix(p.begins, "/"), below) || below && strings.HasPrefix(p.begins, name+"/") {
				return p.why
			}
		}
	}
	if l.of("fFwLCprRbc") && !strings.ContainsAny(name, "*?[") {
		if why := ForbiddenContent(name); why != "" {
			return why
		}
	}
	if l.of("w") && strings.ContainsAny(name, "*?[") {
		return "nobody can tell which files a pattern means: name them"
	}
	if why := ForbiddenFile(name); why != "" {
		return why
	}
	if l.of("aA") {
		return "whom it lets write there can make root do anything: say owner, group and mode"
	}
	return l.forbiddenAttributes(name, deciding)
}

// forbiddenAttributes asks [files] of owner, group and mode.
func (l TmpfilesLine) forbiddenAttributes(name string, deciding []forbidding) string {
	mode, is, _ := l.wantedMode()
	wanted := File{Ensure: Present, Owner: unlessDefault(l.user), Group: unlessDefault(l.group)}
	if is {
		wanted.Mode = &mode
	}
	if !is && wanted.Owner == "" && wanted.Group == "" {
		return ""
	}
	v := validator{name: strings.TrimPrefix(name, "/"), resolved: true}
	if wanted.validate(&v); len(v.messages) > 0 {
		return v.messages[0]
	}
	holds := slices.ContainsFunc(deciding, func(p forbidding) bool { return strings.HasPrefix(p.begins, name+"/") })
	isFile := strings.Contains(path.Base(name), ".")
	closes := is && (mode&0o444 != 0o444 || mode&0o111 != 0o111 && !isFile)
	if (holds || isEverybodys(name)) && !IsRootsDirectory(name) && (closes || !l.roots()) {
		return "sessions, or programs that these need, begin with what is there"
	}
	return ""
}

func unlessDefault(field string) string {
	if field = strings.TrimLeft(field, ":"); field != "-" {
		return field
	}
	return ""
}

// etcNames are paths below /etc that decide something, or beginnings of them.
func etcNames() []forbidding {
	all := slices.Concat(forbiddenContent(), forbiddenFiles(), decidingPlaces())
	for _, k := range KeyFiles() {
		all = append(all, forbidding{k.Path, "say its keys"})
	}
	for _, a := range attrFiles() {
		all = append(all, forbidding{strings.ReplaceAll(a.pattern, "*", ""), "people need it as it is"})
	}
	for _, d := range dropindir.All() {
		all = append(all, forbidding{strings.ReplaceAll(d.Dir, "*", ""), "write it in [dropins], which knows who reads it"})
	}
	for _, begins := range everybodys() {
		all = append(all, forbidding{begins, startsSession})
	}
	for _, place := range rootsPlaces() {
		all = append(all, forbidding{place, "it makes root do things"})
	}
	return slices.DeleteFunc(all, func(p forbidding) bool { return !strings.HasPrefix(p.begins, "/etc/") })
}
