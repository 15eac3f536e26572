package dropindir

import "regexp"

// jobs are those of what is started from time to time.
func jobs() []Directory {
	return []Directory{
		{
			Dir:        "/etc/cron.d",
			Names:      Names{Reads: anyName, Skips: regexp.MustCompile(`^#|~$|\.(rpmsave|rpmorig|rpmnew)$`), Why: "cron skips names that begin with # or end in ~, .rpmsave, .rpmorig or .rpmnew (cron(8))"},
			Modes:      Modes{Forbidden: 0o133, Needed: 0o400, Why: "cron passes over files that are executable, or that others than their owner may write (cron(8))"},
			RootsAlone: true,
			Check:      Cron,
			Reader:     &Reader{Who: "cron", Programs: sbin("crond", "cron")},
			Seen:       "cron writes the commands that it runs into the log",
		},
		cronJobs("daily"),
		cronJobs("hourly"),
		cronJobs("monthly"),
		cronJobs("weekly"),
		{
			Dir:        "/etc/logrotate.d",
			Names:      Names{Reads: anyName, Skips: regexp.MustCompile(`(~|,v|\.(rpmsave|rpmorig|rpmnew|disabled|dpkg-(old|dist|new)|cfsaved|ucf-(old|dist|new)|swp)|\.rhn-cfg-tmp-.*)$`), Why: "logrotate skips names with such an ending (logrotate(8), tabooext)"},
			Modes:      Modes{Forbidden: 0o22, Needed: 0o400, Why: "logrotate passes over files that others than their owner may write"},
			RootsAlone: true,
			Check:      Logrotate,
			Reader:     &Reader{Who: "logrotate", Programs: sbin("logrotate"), Mains: []string{"/etc/logrotate.conf"}, Includes: regexp.MustCompile(`^include[\s=]+(.*)$`), Whole: true},
		},
		{Dir: "/etc/cron.*ly", Names: runPartsNames(), Modes: executable(), Reader: runParts()},
	}
}

// access are those of who may do what, and come in how.
//
// The polkit of policykit-1, before 0.106, of Debian and Ubuntu, reads no rules.
func access() []Directory {
	return []Directory{
		{Dir: "/etc/pam.d", Seen: "the screen lockers of all people read it"},
		{Dir: "/etc/polkit-1/localauthority.conf.d", NoPurge: "say in [sudo] who may administer the machine"},
		{
			Dir:     "/etc/polkit-1/rules.d",
			Names:   Names{Reads: endsInRules, Why: "polkit reads only names that end in .rules (polkit(8))"},
			Check:   Script,
			Reader:  &Reader{Who: "polkit, since 0.106", Programs: []string{"/usr/lib/polkit-1/polkitd", "/usr/libexec/polkit-1/polkitd", "/usr/libexec/polkitd"}},
			Seen:    "polkit, which is not root, reads it",
			NoPurge: "say in [sudo] who may administer the machine",
		},
		{
			Dir:    "/etc/security/limits.d",
			Names:  Names{Reads: endsInConf, Why: "pam_limits reads only names that end in .conf (limits.conf(5))"},
			Check:  Limits,
			Effect: AwaitLogin,
		},
		{
			Dir:    "/etc/ssh/ssh_config.d",
			Reader: &Reader{Who: "ssh", Programs: sbin("ssh"), Mains: []string{"/etc/ssh/ssh_config"}, Includes: regexp.MustCompile(`(?i)^Include[\s=]+(.*)$`)},
			Seen:   "the ssh of all people reads it",
		},
		{
			Dir:     "/etc/ssh/sshd_config.d",
			Names:   Names{Reads: endsInConf, Why: "sshd includes only names that end in .conf"},
			Check:   SSHD,
			Effect:  ReloadSSHD,
			Reader:  &Reader{Who: "sshd", Programs: sbin("sshd"), Units: []string{"ssh.service", "sshd.service", "ssh.socket", "sshd.socket"}, Mains: []string{"/etc/ssh/sshd_config"}, Includes: regexp.MustCompile(`(?i)^[\s="]*Include[\s="]+(.*)$`)},
			Seen:    "a mistake in it keeps people out, so all of it is checked, and no secret is shown to a checker",
			NoPurge: "people log in by it",
		},
		{
			Dir:        "/etc/sudoers.d",
			Names:      Names{Reads: anyName, Skips: regexp.MustCompile(`\.|~$`), Why: "sudo skips files whose name has a dot or ends in ~ (sudoers(5))"},
			Mode:       0o440,
			Modes:      Modes{Forbidden: 0o22, Needed: 0o400, Why: "sudo passes over files that others than their owner may write (sudoers(5))"},
			RootsAlone: true,
			Check:      Sudoers,
			Reader:     &Reader{Who: "sudo", Programs: sbin("sudo"), Mains: []string{"/etc/sudoers"}, Includes: regexp.MustCompile(`^[#@]include(?:dir)?\s+(.*)$`), Whole: true},
			Seen:       "sudo shows its rules to those whom they concern",
			NoPurge:    "say in [sudo] who may administer the machine",
		},
	}
}

// packages are those of what brings packages, and of the keys by which it trusts them.
func packages() []Directory {
	return []Directory{
		{Dir: "/etc/dnf/vars", Holds: true},
		{
			Dir:     "/etc/pki/rpm-gpg",
			Holds:   true,
			Seen:    "keys of packages are for everybody",
			NoPurge: "the keys of repositories lie there",
		},
		{
			Dir:     "/etc/yum.repos.d",
			Names:   Names{Reads: regexp.MustCompile(`\.repo$`), Why: "yum and dnf read only names that end in .repo (yum.conf(5))"},
			NoPurge: "say in [repositories] which there are",
		},
		{Dir: "/etc/yum/pluginconf.d", Names: Names{Reads: endsInConf, Why: "yum reads only names that end in .conf"}},
		{Dir: "/etc/yum/protected.d", Names: Names{Reads: endsInConf, Why: "yum reads only names that end in .conf"}},
		{Dir: "/etc/yum/vars", Holds: true},
		{Dir: "/etc/apt/*.d", NoPurge: "say in [repositories] which there are"},
	}
}

// services are those of all other programs that serve or guard the machine.
func services() []Directory {
	return []Directory{
		{
			Dir:    "/etc/audit/rules.d",
			Names:  Names{Reads: endsInRules, Why: "augenrules reads only names that end in .rules (augenrules(8))"},
			Mode:   0o640,
			Check:  Audit,
			Effect: LoadAudit,
			Reader: &Reader{Who: "auditd", Programs: sbin("augenrules")},
		},
		chronyConf("/etc/chrony.d"),
		chronyConf("/etc/chrony/conf.d"),
		{Dir: "/etc/nftables", Reader: nftables()},
		{
			Dir:    "/etc/nftables.d",
			Check:  Nft,
			Effect: AwaitReboot,
			Reader: nftables(),
		},
		{
			Dir:    "/etc/pki/ca-trust/source/anchors",
			Holds:  true,
			Names:  Names{Reads: regexp.MustCompile(`\.(crt|pem)$`), Why: "a certificate ends in .crt or .pem"},
			Check:  Certificates,
			Effect: ExtractCATrust,
			Reader: &Reader{Who: "update-ca-trust", Programs: sbin("update-ca-trust")},
			Seen:   "certificates are for everybody",
		},
		{
			Dir:    "/usr/local/share/ca-certificates",
			Holds:  true,
			Names:  Names{Reads: regexp.MustCompile(`\.crt$`), Why: "update-ca-certificates reads only names that end in .crt"},
			Check:  Certificates,
			Effect: UpdateCACertificates,
			Reader: &Reader{Who: "update-ca-certificates", Programs: sbin("update-ca-certificates")},
			Seen:   "certificates are for everybody",
		},
		{
			Dir:    "/etc/rsyslog.d",
			Names:  Names{Reads: endsInConf, Why: "rsyslog includes only names that end in .conf"},
			Check:  Rsyslog,
			Effect: RestartRsyslog,
			Reader: &Reader{Who: "rsyslog", Programs: sbin("rsyslogd"), Units: []string{"rsyslog.service"}, Mains: []string{"/etc/rsyslog.conf"}, Includes: regexp.MustCompile(`(?i)^(?:\$IncludeConfig\s+|include\s*\(.*\bfile\s*=\s*)(.*)$`)},
		},
		{Dir: "/etc/chrony/*.d", Reader: chronyd()},
	}
}

func chronyConf(dir string) Directory {
	return Directory{
		Dir:    dir,
		Names:  Names{Reads: endsInConf, Why: "chronyd includes only names that end in .conf"},
		Check:  Chrony,
		Effect: RestartChrony,
		Reader: chronyd(),
	}
}

func chronyd() *Reader {
	return &Reader{
		Who: "chronyd", Programs: sbin("chronyd"), Units: []string{"chrony.service", "chronyd.service"}, Mains: []string{"/etc/chrony.conf", "/etc/chrony/chrony.conf"},
		Includes: regexp.MustCompile(`(?i)^(?:include|confdir|sourcedir)\s+(.*)$`), Whole: true,
	}
}

// cronJobs is the directory of the jobs that cron has run-parts start so often.
func cronJobs(often string) Directory {
	return Directory{
		Dir:    "/etc/cron." + often,
		Holds:  true,
		Names:  runPartsNames(),
		Mode:   0o755,
		Modes:  executable(),
		Check:  Job,
		Reader: runParts(),
	}
}

func runPartsNames() Names {
	return Names{
		Reads: anyName, Skips: regexp.MustCompile(`[~,]$|,v$|\.(rpmsave|rpmorig|rpmnew|swp|cfsaved)$`),
		Why: "run-parts skips names that end in ~ or a comma, and what editors and rpm leave behind (run-parts(4))",
	}
}

func executable() Modes {
	return Modes{Needed: 0o100, Why: "run-parts passes over files that are not executable"}
}

func runParts() *Reader { return &Reader{Who: "cron", Programs: sbin("crond", "cron", "anacron")} }

func nftables() *Reader {
	return &Reader{
		Who: "nftables", Programs: sbin("nft"), Mains: []string{"/etc/sysconfig/nftables.conf", "/etc/nftables.conf"},
		Includes: regexp.MustCompile(`^include\s+(.*)$`),
	}
}
