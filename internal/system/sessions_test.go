package system

import "testing"

func TestASessionOfUnspecifiedTypeIsAPersons(t *testing.T) {
	for _, test := range []struct {
		class, service string
		uid            uint32
		want           bool
	}{
		{"user", "gdm-password", 1000, true},
		{"user", "login", 0, true},
		{"user-light", "sshd", 1000, true},
		{"background", "pcoip-session", 1000, true},
		{"background", "", 3000001, true},
		{"background", "crond", 1000, false},
		{"background", "pcoip-session", 65534, false},
		{"background", "cron", 0, false},
		{"greeter", "lightdm-greeter", 112, false},
		{"lock-screen", "", 1000, false},
		{"manager", "systemd-user", 1000, false},
	} {
		if got := isPersons(test.class, test.service, test.uid); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
