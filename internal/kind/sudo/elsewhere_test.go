package sudo

import (
	"testing"

	"github.com/soe-agent/soe-agent/internal/system"
)

func TestWhatHasSudoGoByOtherFilesThanItsOwnIsToldFromTheRest(t *testing.T) {
	for conf, want := range map[string]bool{
		"Plugin sudoers_policy sudoers.so\n":                                    false,
		"Plugin sudoers_policy sudoers.so sudoers_mode=0440 sudoers_uid=0\n":    false,
		"Plugin sudoers_policy sudoers.so sudoers_file=/etc/sudoers2\n":         true,
		"Plugin sudoers_policy sudoers.so \\\n sudoers_file=/etc/sudoers2\n":    true,
		"Plugin sudoers_policy sudoers.so sudoers_uid=1000\n":                   true,
		"Plugin sudoers_policy sudoers.so sudoers_gid=1000 sudoers_mode=0660\n": true,
		"Plugin sudoers_policy sudoers.so sudoers_mode=0666\n":                  true,
	} {
		m := newMemory(map[string]string{"/etc/sudo.conf": conf}, nil)
		k := &Kind{system: &system.System{FS: m.all()}}
		if got := k.goesElsewhere() != ""; got != want {
			t.Errorf("%q: %v", conf, got)
		}
	}
}
