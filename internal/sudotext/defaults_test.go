package sudotext

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultsThatAskLessAreToldFromTheOthers(t *testing.T) {
	onlyAlice := func(users []Subject) bool { return len(users) == 1 && users[0].Name == "alice" }
	for source, want := range map[string][]string{
		"Defaults env_reset":                                   nil,
		"Defaults !env_reset":                                  {"env_reset"},
		"Defaults\t!authenticate, targetpw":                    {"authenticate", "!targetpw"},
		"Defaults !!authenticate":                              nil,
		"Defaults !!!authenticate":                             {"authenticate"},
		"Defaults timestamp_timeout=-1":                        {"timestamp_timeout = 5"},
		"Defaults timestamp_timeout = -0.5":                    {"timestamp_timeout = 5"},
		"Defaults timestamp_timeout=0":                         nil,
		"Defaults !timestamp_timeout":                          nil,
		"Defaults \\\n  !authenticate":                         {"authenticate"},
		"Defaults exempt_group=users, passprompt=\"a, b\"":     {"!exempt_group"},
		"Defaults:bob !authenticate":                           {"authenticate"},
		"Defaults:alice !authenticate":                         nil,
		"Defaults:alice !authenticate, rootpw":                 {"!rootpw"},
		"Defaults:alice, bob !authenticate":                    {"authenticate"},
		"Defaults:\"EXAMPLE\\some body\" !authenticate":        {"authenticate"},
		"Defaults>root !authenticate":                          {"authenticate"},
		"Defaults!/usr/bin/id, /bin/ls !authenticate":          {"authenticate"},
		"Defaults@host !authenticate":                          {"authenticate"},
		"Defaults passprompt=\"!authenticate, targetpw\"":      nil,
		"Defaults env_keep += \"LANG LC_ALL\", env_keep-=LANG": nil,
		"Defaults secure_path=/bin:/opt/b\\,c, rootpw":         {"!rootpw"},
	} {
		line := Parse([]byte(source))[0]
		if line.Sort != DefaultsLine {
			t.Errorf("%q is of sort %v", source, line.Sort)
		}
		if diff := cmp.Diff(want, Cures(line.Weakens(onlyAlice))); diff != "" {
			t.Errorf("%q: %s", source, diff)
		}
	}
}

// What sudo, as root, reads, writes and runs by them is not what somebody without root can put there.
func TestDefaultsThatLeadWhereOthersWriteAreWeak(t *testing.T) {
	for _, harmful := range []string{
		"lecture=always, lecture_file=/etc/shadow", "lecture_file=/home/user/lecture", "logfile=/home/user/log", "logfile=/var/log/../../home/user/log",
		"env_file=/home/user/env", "env_file = \"/tmp/env\"", "restricted_env_file=/tmp/e", "runchroot=*", "runchroot=/home/user/root", "runcwd=*",
		"env_keep += \"BASH_ENV\"", "env_keep+=\"LANG LD_PRELOAD\"", "env_keep = *", "env_keep += \"LC_ALL PERL5*\"", "env_check += PYTHONPATH", "env_keep+=\"A=()*\"",
		"secure_path=/home/user/bin:/usr/bin", "secure_path=\"/usr/bin:.\"", "secure_path=/usr/bin:bin", "!secure_path", "pam_service=permit", "pam_login_service=other",
		"timestamp_timeout=99999999", "timestamp_timeout=-1", "timestampdir=/home/user/ts", "timestampowner=user", "lecture_status_dir=/tmp/l", "iolog_dir=/tmp/io",
		"iolog_file=../../tmp/x", "mailerpath=/tmp/mailer", "editor=/usr/bin/vi:/tmp/vi", "group_plugin=\"/tmp/x.so\"", "group_plugin=\"group_file.so /home/user/group\"",
		"umask=0000", "!umask", "fast_glob", "stay_setuid", "setenv", "!env_reset", "timestampdir=/run/user/1000/ts",
	} {
		if weak := Parse([]byte("Defaults " + harmful))[0].Weakens(func([]Subject) bool { return false }); len(weak) != 1 {
			t.Errorf("%q is weak by %q", harmful, weak)
		}
	}
	// Those of the sudoers files of Amazon Linux 2, Enterprise Linux, Debian and Ubuntu, as they are and as sudo lists them.
	for _, harmless := range []string{
		"!visiblepw", "always_set_home", "match_group_by_gid", "always_query_group_plugin", "env_reset", "mail_badpass", "use_pty",
		`env_keep =  "COLORS DISPLAY HOSTNAME HISTSIZE KDEDIR LS_COLORS"`, `env_keep += "MAIL PS1 PS2 QTDIR USERNAME LANG LC_ADDRESS LC_CTYPE"`,
		`env_keep += "LC_COLLATE LC_IDENTIFICATION LC_MEASUREMENT LC_MESSAGES"`, `env_keep += "LC_MONETARY LC_NAME LC_NUMERIC LC_PAPER LC_TELEPHONE"`,
		`env_keep += "LC_TIME LC_ALL LANGUAGE LINGUAS _XKB_CHARSET XAUTHORITY"`, "secure_path = /sbin:/bin:/usr/sbin:/usr/bin", "secure_path=/usr/local/sbin\\:/usr/local/bin\\:/usr/sbin",
		`secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"`, `logfile="/var/log/sudo.log"`, "iolog_dir=/var/log/sudo-io/%{user}", "iolog_file=%{seq}",
		"passwd_tries=2", "timestamp_timeout=60", "lecture=always", "lecture_file=/etc/sudo_lecture", "umask=0077", "umask_override", "env_keep -= HOME",
		"editor=/usr/bin/vim", "pam_service=sudo", "pam_login_service=sudo-i", "log_input,log_output", "insults", "syslog=authpriv", "!lecture_file", "!logfile",
	} {
		if weak := Parse([]byte("Defaults " + harmless))[0].Weakens(func([]Subject) bool { return false }); len(weak) != 0 {
			t.Errorf("%q is weak by %q", harmless, weak)
		}
	}
}

func TestDefaultsByWhichRootWritesWhereFilesDecideAreWeak(t *testing.T) {
	for _, harmful := range []string{
		"logfile=/etc/sudoers.d/zzz", "logfile=/etc/cron.d/x", "logfile = \"/usr/lib/systemd/system/x.service\"", "logfile=/var/log/../../etc/sudoers", "logfile=/run/systemd/system/x.service",
		"logfile=/var/lib/cloud/scripts/x", "logfile=/boot/x", "logfile=/opt/x/etc/y", "logfile=/opt/log", `logfile=/var/log/\x2e\x2e/\x2e\x2e/etc/sudoers.d/x`,
		"iolog_dir=/etc/sudoers.d", "iolog_dir=/usr/share/polkit-1/rules.d", "iolog_file=/../../../../etc/sudoers.d/x", "iolog_dir=/etc/cron.hourly, iolog_file=x",
		"lecture_status_dir=/etc/sudoers.d", "timestampdir=/etc/sudoers.d", "timestampdir=/var/lib/AccountsService/users",
		"mailerpath=/usr/bin/tee", "mailerpath=/bin/sh", "mailerflags=/etc/sudoers.d/zzz", "mailerflags=\"-t -X /etc/sudoers.d/x\"", "mailerflags=-X/etc/x", "mailerflags=\"-t -C x.cf\"",
		"mailto=/etc/sudoers.d/x", "mailto=\"|/usr/bin/x\"",
	} {
		line := Parse([]byte("Defaults " + harmful))[0]
		if weak := line.Weakens(func([]Subject) bool { return true }); len(weak) == 0 {
			t.Errorf("%q is not weak", harmful)
		}
		if len(Weak(line.Defaults.Settings)) == 0 {
			t.Errorf("%q is not weak as sudo lists it", harmful)
		}
	}
	for _, harmless := range []string{
		"logfile=/var/log/sudo.log", "logfile=/var/adm/sudo.log", "logfile=/opt/siem/log/sudo.log", "iolog_dir=/var/log/sudo-io/%{hostname}/%{user}", "iolog_file=%Y/%m/%{seq}", "!logfile", "!iolog_dir",
		"timestampdir=/run/sudo/ts", "timestampdir=/var/db/sudo/ts", "lecture_status_dir=/var/lib/sudo/lectured", "mailerpath=/usr/sbin/sendmail", "mailerpath=/usr/sbin/sendmail.postfix", "!mailerpath",
		"mailerflags=-t", "mailerflags=\"-t -oi -f root@example.com\"", "mailto=root", "mailto=\"ops@example.com\"", "!mailto",
	} {
		if weak := Parse([]byte("Defaults " + harmless))[0].Weakens(func([]Subject) bool { return false }); len(weak) != 0 {
			t.Errorf("%q is weak by %q", harmless, weak)
		}
	}
}

func TestOfAListThatSudoListsEachPartCounts(t *testing.T) {
	line := Parse([]byte(`Defaults env_keep="LANG", env_keep+="BASH_ENV LC_ALL", env_keep+="TZ"`))[0]
	if weak := Weak(line.Defaults.Settings); len(weak) != 1 {
		t.Errorf("it is weak by %v", weak)
	}
	line = Parse([]byte(`Defaults env_keep+="BASH_ENV LC_ALL", env_keep+="TZ", env_keep-="BASH_ENV"`))[0]
	if weak := Weak(line.Defaults.Settings); len(weak) != 0 {
		t.Errorf("it is weak by %v", weak)
	}
}

func TestDefaultsThatCannotBeReadAreTakenForTheWorst(t *testing.T) {
	for source, want := range map[string]Sort{
		"Defaults rootpw targetpw":            Unclear,
		"Defaults:\"open !authenticate":       Unclear,
		"Defaults INSULTS":                    Idle,
		"Defaults passprompt=a b":             Idle,
		"Defaults!sha224:0Gom= /bin/x rootpw": Unclear,
	} {
		if got := Parse([]byte(source))[0].Sort; got != want {
			t.Errorf("%q is of sort %v, want %v", source, got, want)
		}
	}
}

// What undoes a weakness must itself be none.
func TestWhatUndoesAWeaknessIsNoWeakness(t *testing.T) {
	for name, w := range weaknesses() {
		cure := w.undoes(Setting{Name: name, Op: "+=", Value: "BASH_ENV LANG"})
		if cure == "" {
			continue
		}
		line := Parse([]byte("Defaults " + cure))[0]
		if line.Sort != DefaultsLine || line.Defaults.Settings[0].Name != name {
			t.Errorf("the cure of %s is read as %+v", name, line)
		}
		if left := line.Weakens(func([]Subject) bool { return false }); left != nil {
			t.Errorf("the cure of %s weakens: %s", name, left)
		}
	}
}

func TestWhatIsLeftOfALineOfDefaultsIsAsItIsWritten(t *testing.T) {
	for source, want := range map[string]string{
		"Defaults !rootpw":           "",
		"Defaults env_reset, rootpw": "Defaults env_reset",
		`Defaults:alice, "a b"  rootpw , passprompt = "x, # y",!x`: `Defaults:alice, "a b" passprompt = "x, # y", !x`,
		`Defaults!/usr/bin/a\ b secure_path=/bin:/b\,c, rootpw`:    `Defaults!/usr/bin/a\ b secure_path=/bin:/b\,c`,
		"Defaults \\\n  insults, \\\n  !!rootpw\n":                 "Defaults insults",
		`Defaults passprompt="a, \"rootpw\"", rootpw`:              `Defaults passprompt="a, \"rootpw\""`,
		"Defaults>root rootpw, !lecture ":                          "Defaults>root !lecture",
	} {
		line := Parse([]byte(source))[0]
		if got := line.Without(func(s Setting) bool { return s.Name == "rootpw" }); got != want {
			t.Errorf("%s: got %s", source, got)
		}
	}
}
