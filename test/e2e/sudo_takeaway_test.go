package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// sh runs a script in the machine.
func (d *desktop) sh(t *testing.T, script string) string {
	t.Helper()
	return d.MustExec(t, "sh", "-ec", script)
}

// keep notes how sudo and the groups are, for restore to bring them back.
func (d *desktop) keep(t *testing.T) {
	t.Helper()
	d.sh(t, "mkdir /root/kept; cp -a /etc/sudoers /etc/sudoers.d /etc/group /etc/gshadow /etc/passwd /etc/nsswitch.conf /root/kept")
}

func (d *desktop) restore(t *testing.T) {
	t.Helper()
	d.sh(t, "rm -rf /etc/sudoers.d; cp -a /root/kept/. /etc")
}

const person = `EXAMPLE\jo doe`

// knowsPerson makes somebody whose name is one of a directory.
const knowsPerson = `printf '%s\n' 'EXAMPLE\jo doe:x:1500:1500::/home/jo:/bin/bash' >> /etc/passwd
printf '%s\n' 'EXAMPLE\domain users:x:1500:' >> /etc/group
`

func TestWhateverGivesSudoIsTakenAway(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.keep(t)
	dropin := func(name, content string) string {
		return fmt.Sprintf("cat > /etc/sudoers.d/%s <<'END'\n%s\nEND\nchmod 440 /etc/sudoers.d/%s\n", name, content, name)
	}
	inMain := func(line string) string { return fmt.Sprintf("sed -i '1i %s' /etc/sudoers\n", line) }
	for name, test := range map[string]struct {
		gives string
		user  string // the desktop user when empty
	}{
		"the main file":                       {inMain("user ALL=(ALL) ALL"), ""},
		"a group in the main file":            {inMain("%wheel ALL=(ALL) ALL") + "gpasswd -a user wheel", ""},
		"what the main file includes":         {inMain("#include /etc/sudoers.local") + "echo 'user ALL=(ALL) ALL' > /etc/sudoers.local; chmod 440 /etc/sudoers.local", ""},
		"another directory":                   {dropin("50-x", "@includedir /opt/more") + "mkdir -p /opt/more; echo '#1000 ALL=(ALL) ALL' > /opt/more/x; chmod 440 /opt/more/x", ""},
		"AWS, again and without password":     {dropin("01-ws-admin-user", "#1000 ALL=(ALL:ALL) NOPASSWD:ALL"), ""},
		"a gid":                               {dropin("50-x", "%#27 ALL=(ALL) ALL"), ""},
		"an alias":                            {dropin("50-x", "User_Alias A = user : B = A\nB ALL=(ALL) ALL"), ""},
		"an alias in capitals as a name":      {dropin("50-x", "USER ALL=(ALL) ALL"), ""},
		"a name in another case":              {dropin("50-x", "User ALL=(ALL) ALL"), ""},
		"everybody":                           {dropin("50-x", "ALL ALL=(ALL) ALL"), ""},
		"everybody but somebody":              {dropin("50-x", "ALL, !nobody ALL=(ALL) ALL"), ""},
		"a netgroup":                          {dropin("50-x", "+ops ALL=(ALL) ALL") + "echo 'ops (,user,)' > /etc/netgroup; sed -i 's/^netgroup:.*/netgroup: files/' /etc/nsswitch.conf", ""},
		"a file that sorts last":              {dropin("zzzz", "user ALL=(ALL) ALL"), ""},
		"a continued line":                    {dropin("50-x", "user \\\n ALL = \\\n (ALL) ALL"), ""},
		"two in a line":                       {dropin("50-x", "dadmin ALL=(ALL) ALL : ALL=(root) ALL\nuser ALL=(ALL) ALL : ALL=(root) ALL"), ""},
		"one command that can do anything":    {dropin("50-x", "user ALL=(root) NOPASSWD: /usr/bin/id, /usr/bin/vi"), ""},
		"a file with another mode":            {dropin("50-x", "user ALL=(ALL) ALL") + "chmod 644 /etc/sudoers.d/50-x", ""},
		"a link":                              {"echo 'user ALL=(ALL) ALL' > /opt/target; ln -s /opt/target /etc/sudoers.d/50-x", ""},
		"a quoted name with a blank":          {knowsPerson + dropin("50-x", `"EXAMPLE\jo doe" ALL=(ALL) ALL`), person},
		"an escaped name with a blank":        {knowsPerson + dropin("50-x", `EXAMPLE\\jo\x20doe ALL=(ALL) ALL`), person},
		"immutable, a file that sorts last":   {dropin("zzzz", "user ALL=(ALL) ALL") + "chattr +i /etc/sudoers.d/zzzz", ""},
		"immutable, the directory":            {dropin("zzzz", "user ALL=(ALL) ALL") + "chattr +i /etc/sudoers.d", ""},
		"immutable, the end of the main file": {"echo 'user ALL=(ALL) ALL' >> /etc/sudoers; chattr +a /etc/sudoers", ""},
		"mounted over a file":                 {"echo 'user ALL=(ALL) ALL' > /root/zz; chmod 440 /root/zz; touch /etc/sudoers.d/zzm; mount --bind /root/zz /etc/sudoers.d/zzm", ""},
		"mounted over the directory":          {"cp -a /etc/sudoers.d /root/sd; echo 'user ALL=(ALL) ALL' > /root/sd/zz; chmod 440 /root/sd/zz; mount --bind /root/sd /etc/sudoers.d", ""},
		"mounted over the main file":          {"cp -a /etc/sudoers /root/so; echo 'user ALL=(ALL) ALL' >> /root/so; mount --bind /root/so /etc/sudoers", ""},
		"everybody of the directory":          {knowsPerson + dropin("50-x", `%EXAMPLE\\domain\ users ALL=(ALL) ALL`), person},
	} {
		t.Run(name, func(t *testing.T) {
			d.restore(t)
			d.sh(t, "sed -i '/^[#%]/d' /etc/sudoers.d/01-ws-admin-user; sed -i '/^%sudo/d' /etc/sudoers")
			d.sh(t, test.gives)
			defer d.sh(t, "umount /etc/sudoers.d/zzm /etc/sudoers.d /etc/sudoers 2>/dev/null || true; chattr -f -i -a /etc/sudoers.d/zzzz /etc/sudoers.d /etc/sudoers || true; rm -rf /root/sd /root/so /root/zz")
			user := test.user
			if user == "" {
				user = box.DesktopUser
			}
			if !d.maySudo(t, user) {
				t.Fatal("it gives nothing to begin with")
			}
			d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
			d.wantsSudo(t)
			if d.maySudo(t, user) {
				t.Errorf("%s can still use sudo", user)
			}
			d.converged(t)
		})
	}
}

// What sudo passes over is not in effect, and to mend it would put it there.
func TestAFileThatSudoPassesOverIsLeftAlone(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	const grant = "user ALL=(ALL) ALL\ndadmin ALL=(ALL) NOPASSWD: ALL\n"
	for name, file := range map[string]box.File{
		"50-world": {Mode: 0o646}, "50-owner": {Mode: 0o440, UID: 1000}, "50-group": {Mode: 0o460, GID: 1000},
		"zzz.rpmsave": {Mode: 0o440}, "zzz~": {Mode: 0o440},
	} {
		file.Content = grant
		d.MustWriteFile(t, "/etc/sudoers.d/"+name, file)
	}
	d.converged(t)
	if d.maySudo(t, box.DesktopUser) || !d.maySudo(t, box.DomainAdmin) {
		t.Error("sudo does not pass over them")
	}
	if got := d.sh(t, "cat /etc/sudoers.d/50-* /etc/sudoers.d/zzz.rpmsave /etc/sudoers.d/zzz~"); got != strings.Repeat(grant, 5) {
		t.Errorf("they hold\n%s", got)
	}
	d.sh(t, "chmod 440 /etc/sudoers.d/50-world")
	d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
	if d.maySudo(t, box.DesktopUser) || d.asks(t, box.DomainAdmin) {
		t.Error("a file that sudo reads again is not looked at again")
	}
}

func TestTheAgentsOwnFilesAreKeptSuchThatSudoReadsThem(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	for _, harm := range []string{
		"chmod 666 /etc/sudoers.d/zz-soe-sudo", "chown user /etc/sudoers.d/0-soe-sudo", "rm /etc/sudoers.d/zz-soe-sudo",
		"chmod 777 /etc/sudoers.d", "rm -rf /etc/sudoers.d",
		"mv /etc/sudoers.d/zz-soe-sudo /opt/moved; ln -s /opt/moved /etc/sudoers.d/zz-soe-sudo",
	} {
		d.sh(t, harm)
		d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
		d.wantsSudo(t)
		d.converged(t)
		if got := d.sh(t, "stat -c '%a %u %g' /etc/sudoers.d /etc/sudoers.d/0-soe-sudo /etc/sudoers.d/zz-soe-sudo"); !strings.HasSuffix(got, "440 0 0\n440 0 0\n") || strings.HasPrefix(got, "777") {
			t.Errorf("%s: got %s", harm, got)
		}
	}
	if got := d.sh(t, "stat -c %a /etc/sudoers.d"); got != "750\n" {
		t.Errorf("the directory that was made again has mode %s", got)
	}
}

func TestDefaultsThatWeakenSudoAreUndone(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.keep(t)
	// By which the administrator is asked for no password.
	asked := func() bool { return d.asks(t, box.DomainAdmin) }
	for _, weak := range []string{
		"Defaults !authenticate", "Defaults:%domain-admins !authenticate, rootpw", "Defaults>root !authenticate",
		"Defaults!/usr/bin/id !authenticate", "Defaults exempt_group = domain-admins", "Defaults@ALL !authenticate",
	} {
		for _, place := range []string{"/etc/sudoers.d/50-x", "/etc/sudoers.d/zzz", "/etc/sudoers"} {
			d.restore(t)
			if place == "/etc/sudoers" {
				d.sh(t, fmt.Sprintf("sed -i '1i %s' /etc/sudoers", weak))
			} else {
				d.sh(t, fmt.Sprintf("echo '%s' > %s", weak, place))
			}
			if asked() && !strings.Contains(weak, "rootpw") {
				t.Errorf("%s in %s weakens nothing to begin with", weak, place)
			}
			d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
			if !asked() && !strings.Contains(weak, "rootpw") {
				t.Errorf("%s in %s: sudo still asks for no password", weak, place)
			}
			d.wantsSudo(t)
			d.converged(t)
		}
	}
	// Those by which sudo, as root, goes by what the user can put there.
	astray := []string{
		"lecture_file=/etc/shadow", "logfile=/home/user/log", "env_file=/home/user/env", "runchroot=*", "env_keep+=BASH_ENV", "secure_path=/home/user/bin\\\\:/usr/bin",
		"umask=0000", "timestampdir=/tmp/ts", "iolog_dir=/tmp/io", "mailerpath=/tmp/m", "editor=/tmp/vi", "timestamp_timeout=99999999",
	}
	for _, place := range []string{"/etc/sudoers.d/50-x", "/etc/sudoers"} {
		d.restore(t)
		for _, one := range astray {
			if place == "/etc/sudoers" {
				d.sh(t, fmt.Sprintf("sed -i '1i Defaults %s' /etc/sudoers", one))
			} else {
				d.sh(t, fmt.Sprintf("printf '%%b\\n' 'Defaults %s' >> %s", one, place))
			}
		}
		d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
		d.wantsSudo(t)
		d.converged(t)
	}
	// sudo's own word for those that cannot be tried so simply.
	d.restore(t)
	d.sh(t, `sed -i '1i Defaults targetpw, rootpw, !env_reset, timestamp_timeout = -1, setenv' /etc/sudoers`)
	d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
	said := d.MustExec(t, "sudo", "-V")
	for _, wrong := range []string{"Prompt for root's password", "Prompt for the target user's password", "Allow users to set arbitrary environment", "-1.0 minutes"} {
		if strings.Contains(said, wrong) {
			t.Errorf("sudo says: %s", wrong)
		}
	}
	if !strings.Contains(said, "Reset the environment to a default set of variables") {
		t.Errorf("sudo does not reset the environment:\n%s", said)
	}
}

// asks says whether sudo asks a user for a password.
func (d *desktop) asks(t *testing.T, user string) bool {
	t.Helper()
	result, err := d.ExecAs(t.Context(), user, "sudo", "-n", "/usr/bin/id")
	if err != nil {
		t.Fatal(err)
	}
	return result.Code != 0
}

func TestWhoeverLosesSudoLosesThePasswordThatWasGivenToo(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, "mkdir -p -m 700 /run/sudo/ts; for u in user dadmin 1000 5001; do echo record > /run/sudo/ts/$u; done")
	d.apply(t, onlyDomainAdmins).wants(t, sudoInLine)
	if got := d.sh(t, "ls /run/sudo/ts"); got != "5001\ndadmin\n" {
		t.Errorf("what is left is %q", got)
	}
}
