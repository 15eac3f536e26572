package sudotext

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultsByWhichAnAdministratorCannotBecomeRootAreToldFromTheOthers(t *testing.T) {
	alice := func(users []Subject) bool { return users[0].Name == "alice" || users[0].Form == All }
	aliases := map[string]string{}
	for _, line := range Parse([]byte("Cmnd_Alias MOST = /usr/bin/id, ALL : EDITORS = /usr/bin/vi, sha224:0GomF8mNN3wlDt1HD9XldjJ3SNgpFdbjO1+NsQ== /usr/bin/nano\n" +
		"Cmnd_Alias INDIRECT = EDITORS, MOST : CIRCLE = CIRCLE\nCmd_Alias DIRS = /usr/bin/\nCmnd_Alias FEW = /usr/bin/id : MANY = ALL\n")) {
		maps.Copy(aliases, line.Commands)
	}
	for source, want := range map[string][]string{
		"Defaults passwd_tries=0":                           {"passwd_tries = 3"},
		"Defaults passwd_tries = 2":                         nil,
		"Defaults:alice noexec, passwd_tries=0":             {"!noexec", "passwd_tries = 3"},
		"Defaults:ALL runas_default=nobody":                 {"runas_default = root"},
		"Defaults:bob noexec, passwd_tries=0, !root_sudo":   nil,
		"Defaults runas_default=root, root_sudo, !noexec":   nil,
		"Defaults !root_sudo":                               {"root_sudo"},
		"Defaults requiretty":                               nil,
		"Defaults>root noexec":                              {"!noexec"},
		"Defaults!ALL noexec":                               {"!noexec"},
		"Defaults!/usr/bin/ noexec":                         {"!noexec"},
		"Defaults!/usr/bin/vim, /usr/bin/less noexec":       nil,
		"Defaults passwd_timeout=0.01":                      {"passwd_timeout = 5"},
		"Defaults passwd_timeout=0":                         nil,
		"bob ALL = ALL":                                     nil,
		"Defaults:alice runcwd=/nowhere, rlimit_as=1":       {"!runcwd", "rlimit_as = default"},
		"Defaults runcwd=/srv, runcwd=~, runcwd=*, !runcwd": nil,
		"Defaults runchroot=/srv, rlimit_nproc=\"1,2\"":     {"!runchroot", "rlimit_nproc = default"},
		"Defaults rlimit_nproc=4096, rlimit_as=user, rlimit_core=0, rlimit_fsize=infinity": nil,
		"Defaults command_timeout=1":     {"!command_timeout"},
		"Defaults command_timeout = 30S": {"!command_timeout"},
		"Defaults command_timeout=1h30m, command_timeout=2d, !command_timeout, command_timeout=0": nil,
		"Defaults!MOST noexec":              {"!noexec"},
		"Defaults!EDITORS, INDIRECT noexec": {"!noexec"},
		"Defaults!DIRS noexec":              {"!noexec"},
		"Defaults!EDITORS noexec":           nil,
		"Defaults!UNKNOWN noexec":           nil,
		"Defaults!FEW noexec":               nil,
		"Defaults!MANY noexec":              {"!noexec"},
		"Defaults !passwd_tries":            {"passwd_tries = 3"},
		"Defaults passwd_tries=-1":          {"passwd_tries = 3"},
		"Defaults!CIRCLE noexec":            nil,
	} {
		line := Parse([]byte(source))[0]
		if diff := cmp.Diff(want, Cures(line.Hinders(alice, aliases, isDir))); diff != "" {
			t.Errorf("%q: %s", source, diff)
		}
	}
	settings := []Setting{{Name: "noexec"}, {Negated: true, Name: "noexec"}, {Name: "passwd_tries", Op: "=", Value: "0"}}
	if diff := cmp.Diff([]string{"passwd_tries = 0"}, Hindrances(settings, isDir)); diff != "" {
		t.Error(diff)
	}
	settings = append(settings, Setting{Negated: true, Name: "root_sudo"}, Setting{Name: "command_timeout", Op: "=", Value: "1"}, Setting{Name: "runcwd", Op: "=", Value: "/none"}, Setting{Name: "noexec"})
	if diff := cmp.Diff([]string{"!root_sudo", "command_timeout = 1", "noexec", "passwd_tries = 0", "runcwd = /none"}, Hindrances(settings, isDir)); diff != "" {
		t.Error(diff)
	}
}

func isDir(name string) bool { return name == "/srv" }

// What undoes a hindrance must itself be none, and no weakness.
func TestWhatUndoesAHindranceIsNone(t *testing.T) {
	for name, h := range hindrances() {
		line := Parse([]byte("Defaults " + h.cure))[0]
		if line.Sort != DefaultsLine || line.Defaults.Settings[0].Name != name {
			t.Errorf("the cure of %s is read as %+v", name, line)
		}
		nobody := func([]Subject) bool { return false }
		if line.Hinders(nobody, nil, isDir) != nil || line.Weakens(nobody) != nil {
			t.Errorf("the cure of %s does harm", name)
		}
	}
}

func TestAGrantThatHidesBehindQuotesIsNoListOfDenials(t *testing.T) {
	for source, want := range map[string]bool{
		`u ALL = !ALL`: true,
		`u ALL = (ALL:ALL) !/bin/su, ! /bin/sh a`: true,
		`ALL, !a ALL=(ALL, !root) !ALL`:           true,
		`u ALL, "x=!y" = ALL`:                     false,
		`u ALL, x\=!y = ALL`:                      false,
		`u ALL = (root, "a)!b") ALL`:              false,
		`u ALL = (root, a\)!b) ALL`:               false,
		`u ALL = ("ALL":"ALL") !ALL`:              false,
		`u ALL = !/bin/su, /bin/sh`:               false,
		`u ALL = !/bin/su a\, ALL`:                false,
		`u ALL = !/bin/su : h = /bin/sh`:          false,
		`u ALL = !A, !B`:                          true,
		`u ALL = !A, !C`:                          false,
		`u ALL = !D`:                              false,
		`u ALL = !E`:                              false,
		`u ALL = !!/bin/sh`:                       false,
		`u ALL = NOTBEFORE=20990101000000Z !ALL`:  false,
		`u ALL = !/bin/su, NOPASSWD: !/bin/sh`:    false,
		`User_Alias A = b`:                        false,
	} {
		if got := Parse([]byte(source))[0].OnlyDenies(map[string]string{"A": "/bin/su, B", "B": "/bin/sh", "C": "A, D", "D": "/bin/x, ! /bin/sh", "E": "E"}); got != want {
			t.Errorf("%s: it is %t", source, got)
		}
	}
}
