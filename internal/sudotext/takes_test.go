package sudotext

import "testing"

func TestWhatTakesTheAdministrationFromWhomItNamesIsToldFromWhatTakesSinglePrograms(t *testing.T) {
	aliases := map[string]string{"EVERYTHING": "ALL", "SHELLS": "/bin/sh, /bin/bash", "DIR": "/usr/bin/"}
	for rest, want := range map[string]bool{
		"ALL=!ALL":                                     true,
		"ALL = (ALL) !ALL":                             true,
		"ALL=(ALL:ALL) ALL, !ALL":                      true,
		"ALL=(ALL) ALL,!/usr/bin/":                     true,
		"ALL=(ALL) !/usr/*":                            true,
		"ALL=(root) NOPASSWD: !EVERYTHING":             true,
		"ALL=(root) !DIR":                              true,
		"ALL=(ALL) NOEXEC: ALL":                        true,
		"ALL=(ALL) NOEXEC: /usr/bin/id, ALL":           true,
		"ALL=(ALL) CHROOT=/srv ALL":                    true,
		"ALL=(ALL) !/usr/bin/su, !/usr/bin/, ! ALL":    true,
		"ALL=(ALL) !SHELLS":                            false,
		"ALL=(ALL) ALL, !SHELLS":                       false,
		"ALL=(ALL) ALL":                                false,
		"ALL=(ALL) !ALL, ALL":                          false,
		"ALL=(ALL) NOPASSWD: ALL":                      false,
		"ALL=(ALL) NOEXEC: /usr/bin/id, EXEC: ALL":     false,
		"ALL=(ALL) !!ALL":                              false,
		"ALL=(bob) !ALL":                               false,
		"ALL=(ALL, !root) !ALL":                        false,
		"web1=!ALL":                                    false,
		"ALL=(ALL) !/usr/bin/su, !/usr/bin/passwd bob": false,
		"ALL=(ALL) TIMEOUT=1h ALL":                     false,
	} {
		if got := Parse([]byte("%ops " + rest))[0].TakesMany(aliases); got != want {
			t.Errorf("%q takes many: %v", rest, got)
		}
	}
}
