package protected

// An account is an entry of the accounts and groups.
type account struct {
	entry
	level level
}

// A level is how much of an account is protected.
type level int

const (
	group   level = iota // the group of that name is neither removed nor gets another id
	service              // nor is anything else of the account changed; its id may be registered, for software makes it
	login                // nor may a policy say anything of it
	admin                // and AWS needs its rights
)

// Account says why a local account must not be created, changed or removed, or
// "" when it may be.
func Account(name string) string {
	if why, level := lookupAccount(name); level >= service {
		return why
	}
	return ""
}

// Registered says why not even the id of an account, or of its group, is a policy's to say, or "" when it is.
func Registered(name string) string {
	if why, level := lookupAccount(name); level >= login {
		return why
	}
	return ""
}

// Group says why a local group must not be removed or get another id, or "" when it may.
func Group(name string) string {
	why, _ := lookupAccount(name)
	return why
}

// KeepsRights reports whether AWS needs what rights an account has, so that none are taken from it. The
// names by which people first log in to other images are not among them: their rights are the policy's to say.
func KeepsRights(name string) bool {
	why, level := lookupAccount(name)
	return why != "" && level == admin
}

func lookupAccount(name string) (string, level) {
	for _, a := range accounts() {
		if a.covers(name) {
			return a.why, a.level
		}
	}
	return "", group
}

func accounts() []account {
	const (
		lastResort = "it is the administrator of last resort"
		streaming  = "it belongs to the streaming agent"
		firstLogin = "it is the account that the image is made with, and cloud-init sees to it"
		ofDesktop  = "the screen at which people log in runs as it"
		ofSystemd  = "systemd does not work without it"
	)
	return []account{
		{entry{"root", every, lastResort, system}, admin},
		{entry{"pcoip", amzn, streaming, "Teradici Cloud Access Software, Graphics Agent for Linux"}, admin},
		{entry{"dcv dcvsmagent", rhel | debian, streaming, dcvGuide}, admin},
		{entry{"ec2-user", amzn | rhel, wayIn, "Amazon EC2 User Guide, default user names"}, admin},
		{entry{"ssm-user", every, wayIn, ssmGuide}, admin},
		{entry{"rocky cloud-user", rhel, firstLogin, "cloud-init, default_user of the distributions"}, login},
		{entry{"ubuntu", debian, firstLogin, "cloud-init, default_user of the distributions"}, login},

		{entry{"lightdm", amzn, ofDesktop, system}, service},
		{entry{"gdm", every, ofDesktop, system}, service},
		{entry{"Debian-gdm", debian, ofDesktop, system}, service},
		{entry{"bin daemon nobody nogroup nfsnobody dbus messagebus polkitd sshd sssd wbpriv", every, noMachine, system}, service},
		{entry{"chrony", amzn | rhel, "the clock runs as it, and without the right time nobody logs in", dependence}, service},
		{entry{"_chrony", debian, "the clock runs as it, and without the right time nobody logs in", dependence}, service},
		{entry{"_apt", debian, "packages are fetched as it", system}, service},
		{entry{"systemd-*", every, ofSystemd, system}, service},

		{entry{"wheel adm tty disk kmem mem utmp users input video audio render lock lp cdrom tape dialout kvm", every, noMachine, system}, group},
		{entry{"ssh_keys", amzn | rhel, noMachine, system}, group},
		{entry{"sudo shadow _ssh sgx", debian, noMachine, system}, group},
	}
}
