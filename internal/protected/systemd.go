package protected

import (
	"path"
	"slices"
	"strings"
)

// ofSystem says why a unit of systemd's own must not be taken away, or "" when it may be: the machine starts by
// it, mounts what it needs, or ends in order. Those that a machine does without are named; what systemd may
// come to have is protected.
func ofSystem(name string) string {
	kind, base := path.Ext(name), stem(name)
	switch kind {
	case ".target":
		if slices.Contains(systemTargets(), base) || strings.HasPrefix(base, "initrd-") || strings.HasPrefix(base, "runlevel") {
			return noMachine
		}
		return ""
	case ".slice":
		if strings.HasPrefix(base, "user-") || strings.HasPrefix(base, "system-") {
			return noMachine
		}
		return ""
	case ".mount", ".automount":
		return ofMount(strings.TrimSuffix(name, kind))
	}
	if rest, is := strings.CutPrefix(base, "systemd-"); is && !isOptional(rest) {
		return noMachine
	}
	if slices.Contains([]string{"emergency", "kmod", "kmod-static-nodes", "modprobe", "procps", "rescue", "udev"}, base) || strings.HasPrefix(base, "initrd-") || strings.HasPrefix(base, "dracut-") {
		return noMachine
	}
	return ""
}

func systemTargets() []string {
	return []string{
		"boot-complete", "cloud-config", "cloud-init", "cryptsetup", "cryptsetup-pre", "emergency", "exit", "final", "first-boot-complete", "halt", "initrd",
		"integritysetup", "integritysetup-pre", "poweroff", "reboot", "remote-fs", "remote-fs-pre", "rescue", "shutdown", "soft-reboot", "swap",
		"system-update", "system-update-pre", "time-set", "time-sync", "umount", "veritysetup", "veritysetup-pre",
	}
}

// isOptional reports whether a machine does without a service of systemd's.
func isOptional(name string) bool {
	return entry{names: `ask-password-* backlight battery-check binfmt boot-* bootchart* bsod confext* coredump* creds* firstboot growfs* hibernate* homed*
		hostnamed hwdb-update hybrid-sleep import* initctl journal-cat* journal-gatewayd journal-remote journal-upload journald-audit kexec localed
		machine-id-commit machined* mountfsd* network-generator networkd-wait-online* nspawn nsresourced* oomd* pcr* portabled pstore quotacheck* random-seed
		readahead* repart rfkill ssh-* storagetm suspend* sysext* sysupdate* time-wait-sync timedated timesyncd tmpfiles-clean tpm2* update-done update-utmp*
		userdbd* vconsole-setup vmspawn volatile-root`}.covers(name)
}

// ofMount is ofSystem for what is mounted at the path of a unit's name (systemd.unit(5)).
func ofMount(name string) string {
	if slices.Contains([]string{
		"dev-hugepages", "dev-mqueue", "dev-shm", "proc-fs-nfsd", "proc-sys-fs-binfmt_misc", "sys-fs-fuse-connections", "sys-kernel-config", "sys-kernel-debug",
		"sys-kernel-tracing", "tmp", "var-lib-machines", "var-lib-nfs-rpc_pipefs", "var-tmp",
	}, name) {
		return ""
	}
	point := "/" + strings.ReplaceAll(name, "-", "/")
	if why := Mount(point); why != "" {
		return why
	}
	if under(point, []string{"/boot", "/efi", "/sysroot"}) || slices.Contains([]string{"/opt", "/root", "/var", "/var/lib", "/var/log"}, point) {
		return noMachine
	}
	return ""
}

// AddsTo says why what a file adds to units from a ".d" directory must not be able to keep one from starting or
// to end it, or "": by its name the directory is for one that is needed, and maybe for others too.
func AddsTo(file string) string {
	for _, dir := range unitDirs() {
		below, is := strings.CutPrefix(merged(path.Clean(file)), dir)
		unit, _, inside := strings.Cut(below, "/")
		unit, addition := strings.CutSuffix(unit, ".d")
		if !is || !inside || !addition {
			continue
		}
		if strings.HasSuffix(dir, "/user/") {
			return reaches(unit, sessionUnits())
		}
		entries := []entry{{names: "session-*.scope user-*.slice", why: "the sessions of people run in it"}, {names: "user-runtime-dir run-user-*.mount", why: noLogin}}
		for _, c := range slices.Concat(theirs(), needed()) {
			entries = append(entries, c.entry)
		}
		if why := reaches(unit, entries); why != "" {
			return why
		}
		if stem(unit) == "rescue" || stem(unit) == "emergency" {
			return "" // how an administrator gets in there is a policy's to say
		}
		return ofSystem(unit)
	}
	return ""
}

// reaches says why a ".d" directory of a name is for one of the units of entries, or "": for that unit, for all
// that begin as it does ("cloud-.service"), or for all of a type ("service"). See systemd.unit(5).
func reaches(unit string, entries []entry) string {
	base := stem(unit)
	if !strings.Contains(unit, ".") {
		return "units of that type are needed: " + noMachine
	}
	for _, e := range entries {
		if e.covers(base) || e.covers(unit) {
			return e.why
		}
		if !strings.HasSuffix(base, "-") || base == "-" {
			continue
		}
		for name := range e.each {
			kind := path.Ext(name)
			if slices.Contains([]string{".automount", ".mount", ".scope", ".slice", ".target"}, kind) && kind != path.Ext(unit) {
				continue
			}
			fixed, _, more := strings.Cut(name, "*")
			if strings.HasPrefix(fixed, base) || more && strings.HasPrefix(base, fixed) {
				return e.why
			}
		}
	}
	return ""
}
