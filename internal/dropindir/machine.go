package dropindir

import "regexp"

// boot are those by which the machine starts.
func boot() []Directory {
	return []Directory{
		{Dir: "/etc/grub.d", NoPurge: "the machine starts by what lies there"},
		{Dir: "/etc/init.d", NoPurge: "the machine starts by what lies there"},
		{Dir: "/etc/rc*.d", NoPurge: "the machine starts by what lies there"},
		{Dir: "/etc/rc.d/*", NoPurge: "the machine starts by what lies there"},
	}
}

// kernel are those of the kernel, and of what every program is loaded with.
func kernel() []Directory {
	return []Directory{
		{
			Dir:    "/etc/ld.so.conf.d",
			Names:  Names{Reads: endsInConf, Why: "ldconfig includes only names that end in .conf"},
			Effect: RunLdconfig,
			Reader: &Reader{Who: "ldconfig", Programs: sbin("ldconfig"), Mains: []string{"/etc/ld.so.conf"}, Includes: regexp.MustCompile(`^include\s+(.*)$`)},
			Seen:   "it is for programs of all people",
		},
		{
			Dir:   "/etc/modprobe.d",
			Names: Names{Reads: endsInConf, Why: "modprobe reads only names that end in .conf (modprobe.d(5))"},
			Seen:  "the kernel shows the parameters of its modules to everybody, and so does modprobe",
		},
		{
			Dir:    "/etc/modules-load.d",
			Names:  Names{Reads: endsInConf, Why: "systemd reads only names that end in .conf (modules-load.d(5))"},
			Check:  Modules,
			Effect: LoadModules,
			Seen:   "the kernel shows its modules to everybody",
		},
		{
			Dir:    "/etc/sysctl.d",
			Names:  Names{Reads: endsInConf, Why: "sysctl reads only names that end in .conf (sysctl.d(5))"},
			Check:  Sysctl,
			Effect: LoadSysctls,
			Seen:   "the kernel shows its settings to everybody (proc(5))",
		},
		{
			Dir:    "/etc/udev/rules.d",
			Names:  Names{Reads: endsInRules, Why: "udev reads only names that end in .rules (udev(7))"},
			Check:  Udev,
			Effect: ReloadUdev,
			Reader: &Reader{Who: "udev", Programs: sbin("udevadm")},
			Seen:   "udev shows what it knows of devices to everybody",
		},
	}
}

// systemd are those of systemd and its programs.
func systemd() []Directory {
	return []Directory{
		systemdConf("coredump", None, systemdProgram("coredump")),
		systemdConf("journald", RestartJournald, nil),
		systemdConf("logind", AwaitReboot, nil),
		systemdConf("networkd", AwaitReboot, systemdProgram("networkd")),
		systemdConf("oomd", RestartOomd, systemdProgram("oomd")),
		systemdConf("resolved", RestartResolved, systemdProgram("resolved")),
		{
			Dir:     "/etc/systemd/system",
			Holds:   true,
			Names:   Names{Reads: regexp.MustCompile(`\.(service|socket|timer|path|target|mount|automount|slice|swap|device|scope)$`), Why: "it is not the name of a unit (systemd.unit(5))"},
			Check:   Unit,
			Effect:  ReloadSystemd,
			Seen:    "systemd shows its units to everybody over D-Bus; have EnvironmentFile= name a drop-in elsewhere",
			NoPurge: "the links by which units are enabled lie there",
		},
		systemdConf("system", AwaitReboot, nil),
		systemdConf("timesyncd", RestartTimesyncd, systemdProgram("timesyncd")),
		systemdConf("user", AwaitLogin, nil),
		{
			Dir:    "/etc/sysusers.d",
			Names:  Names{Reads: endsInConf, Why: "systemd-sysusers reads only names that end in .conf (sysusers.d(5))"},
			Check:  Written,
			Effect: CreateSysusers,
		},
		{
			Dir:    "/etc/tmpfiles.d",
			Names:  Names{Reads: endsInConf, Why: "systemd-tmpfiles reads only names that end in .conf (tmpfiles.d(5))"},
			Check:  Written,
			Effect: CreateTmpfiles,
		},
		systemdConf("*", None, nil),
		{
			Dir:     "/etc/systemd/system/*.d",
			Names:   Names{Reads: endsInConf, Why: "systemd reads only names that end in .conf (systemd.unit(5))"},
			Check:   UnitPart,
			Effect:  ReloadSystemd,
			Seen:    "systemd shows its units to everybody over D-Bus; have EnvironmentFile= name a drop-in elsewhere",
			NoPurge: "AWS may add to its units there",
		},
	}
}

// systemdConf is the directory of the settings of one program of systemd. Those without a reader
// are on every machine.
func systemdConf(program string, effect Effect, reader *Reader) Directory {
	return Directory{
		Dir:    "/etc/systemd/" + program + ".conf.d",
		Names:  Names{Reads: endsInConf, Why: "systemd reads only names that end in .conf"},
		Check:  UnitSyntax,
		Effect: effect,
		Reader: reader,
		Seen:   "systemd shows its settings to everybody over D-Bus",
	}
}

func systemdProgram(name string) *Reader {
	return &Reader{Who: "systemd-" + name, Programs: []string{"/usr/lib/systemd/systemd-" + name, "/lib/systemd/systemd-" + name}}
}
