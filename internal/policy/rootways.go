package policy

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sudotext"
)

// A rootWay is a reason why whoever may run certain programs as root may do anything as root.
type rootWay struct {
	why      string
	programs string // names, separated by blanks, without version numbers
	harmless fixed
	// runs says whether the program starts another one: "only" means that NOEXEC prevents the way
	// to root, "any" that it runs the program named in its arguments, which may be a way to root
	// too.
	runs string
}

// fixed says which arguments make a program harmless, if the policy fixes them.
type fixed int

const (
	never    fixed = iota // none: it can be controlled interactively
	whenSome              // any arguments; without arguments it can be controlled interactively
	always                // any arguments, or none
	noPager               // --no-pager
	whenFile              // arguments other than options
)

// rootWays returns the programs with which one can become root, and the reasons. A program that is
// not listed may still be one, such as a program of the site.
func rootWays() []rootWay {
	return []rootWay{
		{"it is a shell", "sh bash rbash dash ash zsh ksh mksh pdksh csh tcsh fish busybox toybox", whenFile, "any"},
		{"it opens a shell as somebody else", "su sudo runuser login newgrp sg pkexec doas run0 machinectl sulogin ld.so", never, ""},
		{"an editor writes any file, and starts a shell", "vi vim vimdiff view rvim rview ex nvim nano rnano pico emacs emacsclient ed red joe jed mcedit mg micro editor gedit gnome-text-editor xed pluma kate kwrite mousepad vipw vigr visudo crontab select-editor", never, ""},
		{"a pager starts a shell (!sh)", "less more most pg pager man info whatis lesspipe zless bzless xzless", never, "only"},
		{"it shows what is long in a pager, which starts a shell (!sh)", "journalctl loginctl timedatectl hostnamectl localectl git", noPager, "only"},
		{"its option -H shows what is long in a pager, which starts a shell (!sh)", "dmesg", always, "only"},
		{"an interpreter runs any program text", "python perl ruby irb node nodejs php lua luajit tclsh wish expect gawk awk mawk nawk gdb lldb java jshell jrunscript groovy scala guile octave ghci erl elixir iex julia R Rscript bpftrace stap pwsh gjs", whenFile, ""},
		{"it runs what its files say, and people may write these", "make gmake cmake ninja meson ant mvn gradle rake cargo go gcc g++ cc c++ ld npm npx yarn pnpm bundle bundler composer ansible ansible-playbook puppet chef-client chef-solo salt-call terraform", whenSome, ""},
		{"it installs packages, whose scripts are run by root", "yum dnf microdnf rpm rpmbuild zypper pkcon amazon-linux-extras snap flatpak pip pipx gem cpan cpanm alien easy_install conda", whenSome, ""},
		{"it asks what to do with a file, and offers a shell; and packages' scripts are run by root", "apt apt-get aptitude dpkg dpkg-reconfigure synaptic", never, ""},
		{"it runs whatever program it is given", "find fd xargs parallel env nice ionice chrt taskset timeout time nohup setsid stdbuf watch flock script unbuffer strace ltrace perf valgrind chroot unshare nsenter setpriv capsh systemd-run systemd-inhibit start-stop-daemon run-parts setarch linux64 linux32 numactl cpulimit dbus-run-session xvfb-run rlwrap at batch watchexec entr logsave ssh-agent catchsegv ip", whenSome, "any"},
		{"it is told what to do while it runs, and starts a shell", "screen tmux byobu mc ranger nnn lynx links w3m elinks mutt top htop atop nmon fdisk cfdisk parted gparted ftp sftp telnet bc dc xterm uxterm rxvt urxvt konsole gnome-terminal mate-terminal xfce4-terminal x-terminal-emulator nautilus caja thunar dolphin nemo psql mysql mariadb sqlite firefox chromium chromium-browser google-chrome", never, ""},
		{"it can run a program, or write any file, by its options", "tar bsdtar gtar star zip unzip cpio pax rsync scp ssh 7z 7za 7zr gzip gunzip bzip2 xz zstd sed tcpdump tshark wireshark dumpcap nmap socat nc ncat netcat openssl curl wget aria2c svn hg bzr restic borg duplicity dar rclone sort csplit iconv nginx httpd apachectl postfix sendmail openvpn wpa_supplicant dnsmasq pppd logrotate rsyslogd named snmpd ffmpeg gs convert", whenSome, ""},
		{"it writes any file, such as /etc/passwd or a unit", "tee cp mv dd install ln truncate shred touch patch rename mkfs mknod sponge xxd split uuencode uudecode unlink rm mkdir rmdir logger dosfsck debugfs e2fsck fsck lvcreate dmsetup losetup cryptsetup", whenSome, ""},
		{"it gives away any file, or makes a program one that runs as root", "chmod chown chgrp setfacl chattr setcap chcon restorecon semanage setsebool setenforce", whenSome, ""},
		{"it puts another file system in the place of a directory, with programs that run as root", "mount umount swapon fusermount pmount udisksctl mount.cifs mount.nfs mount.fuse kpartx", whenSome, ""},
		{"it reads any file, such as /etc/shadow and keys", "cat tac head tail nl od hexdump strings grep egrep fgrep zgrep cut paste diff cmp comm join base32 base64 basenc column fold fmt pr rev uniq wc file look date ar cksum md5sum sha1sum sha256sum ps2pdf readelf objdump nm tr", always, ""},
		{"it changes accounts, groups and passwords", "passwd chpasswd chgpasswd usermod useradd adduser userdel groupadd addgroup groupmod gpasswd newusers chsh chfn chage pwconv pwunconv lpasswd lusermod luseradd lgroupmod kpasswd realm adcli sss_override", whenSome, ""},
		{"who may start a container, or a virtual machine, is root outside of it", "docker dockerd docker-compose podman nerdctl ctr crictl runc crun containerd buildah skopeo lxc lxd lxc-start lxc-attach incus systemd-nspawn virsh virt-install qemu-system-x kubectl kubelet minikube vagrant VBoxManage", whenSome, ""},
		{"it has systemd, or another service of root's, do anything", "busctl dbus-send gdbus qdbus service initctl init telinit chkconfig insmod modprobe rmmod kmod depmod kexec sysctl ldconfig alternatives update-alternatives nmcli nmtui iptables-restore auditctl augenrules udevadm systemd-tmpfiles systemd-sysusers dracut mkinitrd grubby grub-mkconfig update-grub aws amazon-ssm-agent soe-agent", whenSome, ""},
	}
}

var programVersion = regexp.MustCompile(`^([A-Za-z_+-]*?[A-Za-z_+])[-0-9.]*(\.(basic|tiny|nox|gtk|gtk3|athena|traditional|openbsd|ubuntu))?$`)

// MakesRoot reports whether whoever may run a program as root, with any arguments, may do anything
// as root, as far as the program is known.
func MakesRoot(program string) bool {
	root := []sudotext.Subject{{Form: sudotext.User, Name: "root"}}
	return len(waysToRoot(sudotext.Command{As: root, Program: program})) > 0
}

// CommandMakesRoot is MakesRoot for a command with fixed arguments, as pkexec(1) passes it to
// polkit.
func CommandMakesRoot(command string) bool {
	words := strings.Fields(command)
	if len(words) < 2 {
		return MakesRoot(command)
	}
	root := []sudotext.Subject{{Form: sudotext.User, Name: "root"}}
	return len(waysToRoot(sudotext.Command{As: root, Program: words[0], Args: words[1:]})) > 0
}

// waysToRoot returns the reasons why whoever may run a command may run anything as root, without
// duplicates.
func waysToRoot(c sudotext.Command) []string {
	if !asRoot(c) {
		return nil
	}
	var ways []string
	add := func(when bool, why string) {
		if when && !slices.Contains(ways, why) {
			ways = append(ways, why)
		}
	}
	add(c.Has("SETENV"), "SETENV takes over any variable of the environment, such as LD_PRELOAD and PATH")
	switch {
	case c.Program == sudotext.SudoEdit:
		for _, file := range c.Args {
			add(sudotext.IsPattern(file), "sudoedit of a pattern writes files in any place that it matches, a slash included")
			add(inAny(path.Dir(file), peoplesPlaces()), "sudoedit writes in a directory where people may put a link to another file")
			add(inAny(file, rootsPlaces()), "what is written to "+file+" is run, or heeded, by root")
		}
		add(c.Has("FOLLOW"), "FOLLOW lets sudoedit write what a link leads to")
	case strings.HasSuffix(c.Program, "/"):
		add(true, "a directory stands for all programs in it, and for those that come to it")
	case sudotext.IsPattern(c.Program):
		add(true, "a pattern stands for all programs that it matches, and for those that come to it")
	default:
		add(c.Digest == "" && inAny(c.Program, peoplesPlaces()), "people may write where the program is, and put another one in its place")
		add(slices.ContainsFunc(c.Args, sudotext.IsPattern), "a pattern in the arguments stands for any text, blanks and slashes included, and so for other arguments and paths too")
		for _, way := range rootWays() {
			add(way.leads(c), way.why)
		}
		for _, why := range systemctlWays(c) {
			add(true, why)
		}
	}
	if len(ways) > 0 && c.Has("NOPASSWD") {
		ways[len(ways)-1] += "; and it asks for no password"
	}
	return ways
}

// leads reports whether a command is one of these programs with arguments that do not make it
// harmless.
func (w rootWay) leads(c sudotext.Command) bool {
	if w.runs == "only" && c.Has("NOEXEC") || !isOneOf(c.Program, w.programs) {
		return false
	}
	open := len(c.Args) == 0 && !c.NoArgs || slices.ContainsFunc(c.Args, func(a string) bool {
		at := strings.IndexByte(a, '/')
		return sudotext.IsPattern(a) || at >= 0 && inAny(a[at:], peoplesPlaces())
	})
	switch w.harmless {
	case whenSome:
		return open || c.NoArgs || w.runs == "any" && leadsOn(c)
	case whenFile:
		onlyOptions := !slices.ContainsFunc(c.Args, func(a string) bool { return !strings.HasPrefix(a, "-") })
		return open || onlyOptions || w.runs == "any" && leadsOn(c)
	case always:
		return open
	case noPager:
		return open || !slices.Contains(c.Args, "--no-pager")
	}
	return true
}

// leadsOn reports whether a command has another program in its arguments with which one can become
// root.
func leadsOn(c sudotext.Command) bool {
	for i, word := range c.Args {
		given := sudotext.Command{Program: word, Args: c.Args[i+1:], NoArgs: i+1 == len(c.Args), Tags: c.Tags}
		if slices.ContainsFunc(rootWays(), func(w rootWay) bool { return w.leads(given) }) || len(systemctlWays(given)) > 0 {
			return true
		}
	}
	return false
}

// systemctlWays returns the ways of systemctl, which is harmless only with a verb and units.
func systemctlWays(c sudotext.Command) (ways []string) {
	if !isOneOf(c.Program, "systemctl") {
		return nil
	}
	var words []string
	for _, a := range c.Args {
		if !strings.HasPrefix(a, "-") {
			words = append(words, a)
		}
	}
	switch verb := append(words, "")[0]; verb {
	case "start", "stop", "restart", "try-restart", "reload", "reload-or-restart", "try-reload-or-restart", "kill", "enable", "disable",
		"mask", "unmask", "is-active", "is-enabled", "is-failed", "reset-failed", "daemon-reload":
		if len(words) < 2 && verb != "daemon-reload" && verb != "reset-failed" {
			ways = append(ways, "systemctl "+verb+" without a unit is for any unit, one in a directory of the person's included")
		}
	case "poweroff", "reboot", "halt", "suspend", "hibernate":
	case "status", "show", "cat", "list-units", "list-unit-files", "list-timers", "list-sockets", "list-jobs", "list-dependencies", "help":
		if !slices.Contains(c.Args, "--no-pager") && !c.Has("NOEXEC") {
			ways = append(ways, "systemctl "+verb+" shows what is long in a pager, which starts a shell (!sh); add --no-pager")
		}
	case "":
		ways = append(ways, "systemctl without a verb and a unit edits, links and starts any unit")
	default:
		ways = append(ways, "systemctl "+verb+" makes systemd run anything")
	}
	return ways
}

// isOneOf reports whether a list names a program, regardless of a version number in its name.
func isOneOf(program, names string) bool {
	base := path.Base(program)
	plain := base
	if m := programVersion.FindStringSubmatch(base); m != nil {
		plain = m[1]
	}
	listed := strings.Fields(names)
	return slices.Contains(listed, base) || slices.Contains(listed, plain)
}

// asRoot reports whether a command runs as root, or with a group that is equivalent.
func asRoot(c sudotext.Command) bool {
	return slices.ContainsFunc(c.As, func(s sudotext.Subject) bool {
		return s.Form == sudotext.All || s.Name == "root" || s.Form == sudotext.UID && strings.Trim(s.Name, "0") == "" || s.Form == sudotext.GID && strings.Trim(s.Name, "0") == ""
	}) || slices.ContainsFunc(c.AsGroups, func(s sudotext.Subject) bool {
		return s.Form == sudotext.All || slices.Contains(strings.Fields("root disk docker lxd libvirt shadow kmem sudo wheel adm"), s.Name)
	})
}

// peoplesPlaces returns directories in which people can write.
func peoplesPlaces() []string {
	return []string{"/home", "/tmp", "/var/tmp", "/dev/shm", "/run/user", "/media", "/mnt", "/run/media", "/var/crash"}
}

// rootsPlaces returns directories whose files control root's programs or people's access.
func rootsPlaces() []string {
	return []string{
		"/bin", "/sbin", "/lib", "/lib64", "/usr", "/boot", "/root", "/etc/sudoers", "/etc/sudoers.d", "/etc/sudo.conf", "/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow",
		"/etc/pam.d", "/etc/security", "/etc/polkit-1", "/etc/dbus-1", "/etc/systemd", "/etc/init.d", "/etc/rc.d", "/etc/rc.local", "/etc/crontab", "/etc/cron.d",
		"/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly", "/var/spool/cron", "/etc/anacrontab", "/etc/profile", "/etc/profile.d", "/etc/bashrc", "/etc/bash.bashrc", "/etc/environment",
		"/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/nsswitch.conf", "/etc/ssh", "/etc/sssd", "/etc/samba", "/etc/krb5.conf",
		"/etc/udev", "/etc/modprobe.d", "/etc/modules-load.d", "/etc/sysctl.conf", "/etc/sysctl.d", "/etc/tmpfiles.d", "/etc/logrotate.d", "/etc/logrotate.conf", "/etc/yum", "/etc/yum.repos.d", "/etc/yum.conf", "/etc/dnf", "/etc/apt",
		"/etc/modprobe.conf", "/etc/modules", "/etc/rsyslog.conf", "/etc/rsyslog.d", "/etc/audit", "/etc/at.allow", "/etc/at.deny", "/etc/cron.allow", "/etc/cron.deny", "/etc/update-motd.d",
		"/etc/default", "/etc/sysconfig", "/etc/libuser.conf", "/etc/chrony.conf", "/etc/chrony", "/etc/sysusers.d", "/etc/inittab", "/etc/aliases", "/etc/pki", "/etc/ssl", "/etc/hosts.allow", "/etc/hosts.deny",
		"/etc/fstab", "/etc/exports", "/etc/skel", "/etc/shells", "/etc/X11", "/etc/xdg", "/etc/NetworkManager", "/etc/dhcp", "/etc/cloud", "/etc/soe-agent", "/etc/alternatives", "/etc/docker",
	}
}

// inAny reports whether a path is one of some places, or below one.
func inAny(name string, places []string) bool {
	return slices.ContainsFunc(places, func(place string) bool { return name == place || strings.HasPrefix(name, place+"/") })
}
