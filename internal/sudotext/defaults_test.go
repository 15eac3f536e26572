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
		"Defaults secure_path=/a:/b\\,c, rootpw":               {"!rootpw"},
	} {
		line := Parse([]byte(source))[0]
		if line.Sort != DefaultsLine {
			t.Errorf("%q is of sort %v", source, line.Sort)
		}
		if diff := cmp.Diff(want, line.Weakens(onlyAlice)); diff != "" {
			t.Errorf("%q: %s", source, diff)
		}
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
		line := Parse([]byte("Defaults " + w.cure))[0]
		if line.Sort != DefaultsLine || line.Defaults.Settings[0].Name != name {
			t.Errorf("the cure of %s is read as %+v", name, line)
		}
		if left := line.Weakens(func([]Subject) bool { return false }); left != nil {
			t.Errorf("the cure of %s weakens: %s", name, left)
		}
	}
}
