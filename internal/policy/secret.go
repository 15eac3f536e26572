package policy

import "path"

// whereSecretsGo ends every refusal of a secret.
const whereSecretsGo = "only the content of a drop-in can hold one, in a directory of which root or a service alone is the reader"

// noPlaceForSecrets says why a drop-in can hold no secret, or "" when it can: most often
// because everybody sees what it holds, or must for it to be of use. Its mode would
// either let the secret out or keep its readers from it.
func noPlaceForSecrets(file string) string {
	dir := path.Dir(file)
	for _, place := range []struct{ dir, why string }{
		{"/etc/profile.d", "the shells of all people read it"},
		{"/etc/environment.d", "the sessions of all people read it"},
		{"/etc/X11/xinit/xinitrc.d", "the sessions of all people read it"},
		{"/etc/xdg/autostart", "the sessions of all people read it"},
		{"/etc/skel", "everybody gets a copy of it"},
		{"/usr/share/applications", "the desktops of all people read it"},
		{"/usr/share/backgrounds", "the desktops of all people read it"},
		{"/etc/firefox/policies", "the browsers of all people read it"},
		{"/etc/opt/*/policies/managed", "the browsers of all people read it"},
		{"/etc/chromium/policies/managed", "the browsers of all people read it"},
		{"/etc/ssh/ssh_config.d", "the ssh of all people reads it"},
		{"/etc/ssh/sshd_config.d", "a mistake in it keeps people out, so all of it is checked, and no secret is shown to a checker"},
		{"/etc/pam.d", "the screen lockers of all people read it"},
		{"/etc/sysctl.d", "the kernel shows its settings to everybody (proc(5))"},
		{"/etc/modprobe.d", "the kernel shows the parameters of its modules to everybody, and so does modprobe"},
		{"/etc/modules-load.d", "the kernel shows its modules to everybody"},
		{"/etc/udev/rules.d", "udev shows what it knows of devices to everybody"},
		{"/etc/systemd/system", "systemd shows its units to everybody over D-Bus; have EnvironmentFile= name a drop-in elsewhere"},
		{"/etc/systemd/system/*.d", "systemd shows its units to everybody over D-Bus; have EnvironmentFile= name a drop-in elsewhere"},
		{"/etc/systemd/*.conf.d", "systemd shows its settings to everybody over D-Bus"},
		{"/etc/cron.d", "cron writes the commands that it runs into the log"},
		{"/etc/sudoers.d", "sudo shows its rules to those whom they concern"},
		{"/etc/polkit-1/rules.d", "polkit, which is not root, reads it"},
		{"/etc/ld.so.conf.d", "it is for programs of all people"},
		{"/etc/pki/ca-trust/source/anchors", "certificates are for everybody"},
		{"/usr/local/share/ca-certificates", "certificates are for everybody"},
		{"/etc/pki/rpm-gpg", "keys of packages are for everybody"},
	} {
		if matched, _ := path.Match(place.dir, dir); matched {
			return place.why
		}
	}
	return ""
}
