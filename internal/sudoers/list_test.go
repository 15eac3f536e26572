package sudoers

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// For these lines, the output of sudo 1.8.23, 1.9.13p3 and 1.9.15p5 differs only in the name of the
// source.
const listed = `Matching Defaults entries for daemon on vm:
    env_reset, secure_path=/usr/sbin\:/bin, !authenticate, env_keep+="TZ LANG", bogus_setting

Runas and Command-specific defaults for daemon:
    Defaults!/bin/ls !requiretty

User daemon may run the following commands on vm:

Sudoers entry: /etc/sudoers.d/a
    RunAsUsers: ALL
    RunAsGroups: ALL
    Options: !authenticate
    Commands:
	/bin/sh -c "a b"
	!/bin/su
	sudoedit /etc/x

Sudoers entry:
    RunAsUsers: ALL
    RunAsGroups: ALL
    Commands:
	!ALL

SSSD Role: admins
    RunAsUsers: root
    RunAsGroups: wheel, #5
    Options: setenv
    Role: sysadm_r
    Commands:
	ALL
`

func TestWhatSudoListsIsUnderstood(t *testing.T) {
	l, ok := parseListing(listed)
	want := Listing{
		Defaults: []sudotext.Setting{
			{Name: "env_reset"},
			{Name: "secure_path", Op: "=", Value: `/usr/sbin\:/bin`},
			{Negated: true, Name: "authenticate"},
			{Name: "env_keep", Op: "+=", Value: "TZ LANG"},
			{Name: "bogus_setting"},
		},
		Entries: []Entry{
			{"Sudoers entry: /etc/sudoers.d/a", []string{"ALL"}, []string{"ALL"}, []string{"!authenticate"}, []string{`/bin/sh -c "a b"`, "!/bin/su", "sudoedit /etc/x"}, nil},
			{"Sudoers entry", []string{"ALL"}, []string{"ALL"}, nil, []string{"!ALL"}, nil},
			{"SSSD Role: admins", []string{"root"}, []string{"wheel", "#5"}, []string{"setenv"}, []string{"ALL"}, []string{"Role"}},
		},
	}
	if diff := cmp.Diff(want, l); diff != "" || !ok {
		t.Error(ok, diff)
	}
	if diff := cmp.Diff([]Entry{want.Entries[2]}, l.Granted()); diff != "" {
		t.Errorf("granted is what stands behind the last denial of all: %s", diff)
	}
	if diff := cmp.Diff(map[string]bool{"!authenticate": true}, l.Weak()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatBoundsACommandThatSudoListsIsKnown(t *testing.T) {
	for line, want := range map[string][]string{
		"RunAsUsers: root":          nil,
		"Timeout: 60":               nil,
		"Timeout: 3600":             nil,
		"Timeout: 59":               {"Timeout"},
		"Timeout: 1m":               {"Timeout"}, // the unit is not documented
		"Role: 3600":                {"Role"},
		"NotAfter: 20990101000000Z": {"NotAfter"},
		"Chroot: /srv":              {"Chroot"},
		"Cwd: /srv":                 {inDir + "/srv"},
		"Cwd: ~":                    nil,
		"Cwd: *":                    nil,
	} {
		l, ok := parseListing("User bob may run the following commands on vm:\n\nSudoers entry:\n    " + line + "\n    Commands:\n\tALL\n")
		if !ok || len(l.Entries) != 1 {
			t.Fatalf("%s: %v %+v", line, ok, l)
		}
		if diff := cmp.Diff(want, l.Entries[0].Bounds); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
}

func TestWhatIsLeftIsWhatNoDenialOfAllIsBehind(t *testing.T) {
	deny := Entry{As: []string{"ALL"}, AsGroups: []string{"ALL"}, Commands: []string{"!ALL"}}
	grant := func(as string, commands ...string) Entry { return Entry{As: []string{as}, Commands: commands} }
	for name, test := range map[string]struct {
		entries     []Entry
		left        int
		administers bool
	}{
		"nothing":                          {nil, 0, false},
		"a grant that is denied":           {[]Entry{grant("ALL", "ALL"), deny}, 0, false},
		"a grant behind":                   {[]Entry{deny, grant("root", "/bin/ls")}, 1, false},
		"all as somebody else":             {[]Entry{deny, grant("bin", "ALL")}, 1, false},
		"a denial for another user":        {[]Entry{grant("root", "ALL"), {As: []string{"bin"}, Commands: []string{"!ALL"}}}, 1, true},
		"a denial of one command":          {[]Entry{grant("root", "ALL"), {As: []string{"ALL"}, Commands: []string{"!/bin/su"}}}, 1, true},
		"both in one":                      {[]Entry{grant("ALL", "ALL", "!ALL")}, 0, false},
		"both in one, the other way round": {[]Entry{grant("ALL", "!ALL", "ALL")}, 1, true},
		"only a denial":                    {[]Entry{grant("ALL", "!/bin/su")}, 0, false},
		"a denial as all but root":         {[]Entry{grant("root", "ALL"), {As: []string{"ALL", "!root"}, AsGroups: []string{"ALL"}, Commands: []string{"!ALL"}}}, 1, true},
		"a denial without groups":          {[]Entry{{AsGroups: []string{"disk"}, Commands: []string{"ALL"}}, {As: []string{"ALL"}, Commands: []string{"!ALL"}}}, 1, false},
		"a denial for a time":              {[]Entry{grant("root", "/bin/ls"), {As: []string{"ALL"}, AsGroups: []string{"ALL"}, Commands: []string{"!ALL"}, Bounds: []string{"NotAfter"}}}, 1, false},
		"a denial as root":                 {[]Entry{grant("ALL", "ALL"), grant("root", "!ALL")}, 1, false},
		"all as anybody but root":          {[]Entry{{As: []string{"ALL", "!root"}, Commands: []string{"ALL"}}}, 1, false},
		"all as a group's":                 {[]Entry{{AsGroups: []string{"disk"}, Commands: []string{"ALL"}}}, 1, false},
	} {
		l := Listing{Entries: test.entries}
		if got := len(l.Granted()); got != test.left || l.Administers() != test.administers {
			t.Errorf("%s: %d are left, administers is %t", name, got, l.Administers())
		}
	}
}

func TestWhatSudoSaysAndCannotBeUnderstoodIsNotTakenForNothing(t *testing.T) {
	for name, test := range map[string]struct {
		answer func() (system.Output, error)
		err    bool
		is     error
	}{
		"a refusal":           {says(0, "User daemon is not allowed to run sudo on vm.\n", ""), false, nil},
		"a refusal, later on": {says(1, "User daemon is not allowed to run sudo on vm.\n", ""), false, nil},
		"nothing":             {says(0, "", ""), true, nil},
		"half of it":          {says(0, "Matching Defaults entries for daemon on vm:\n    env_reset\n", ""), true, nil},
		"an error":            {says(1, "", "sudo: no valid sudoers sources found, quitting\n"), true, nil},
		"an unknown user":     {says(1, "", "sudo: unknown user: x\n"), true, ErrUnknownUser},
		"something new":       {says(0, "User daemon may run the following commands on vm:\n\nSudoers entry:\n  (ALL) ALL\n", ""), true, nil},
		"another language":    {says(0, "Der Benutzer darf:\n", ""), true, nil},
	} {
		_, err := List(t.Context(), &system.System{Runner: answers{"sudo": test.answer}}, "daemon", nil)
		if (err != nil) != test.err || (test.is != nil && !errors.Is(err, test.is)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatSomebodyMayRunIsNeitherMoreNorLessThanIsConceded(t *testing.T) {
	denial := Entry{As: []string{"ALL"}, AsGroups: []string{"ALL"}, Commands: []string{"!ALL"}}
	restart := Entry{As: []string{"root"}, Options: []string{"!authenticate"}, Commands: []string{"/usr/bin/systemctl restart x"}}
	logs := Entry{Source: "here", As: []string{"root"}, Commands: []string{"/usr/bin/dmesg"}}
	elsewhere, asked := logs, restart
	elsewhere.Source = "SSSD Role: x"
	asked.Options = nil
	both := Entry{As: []string{"root"}, Commands: []string{"/usr/bin/dmesg", "/usr/bin/vi"}}
	denied := func(command string) Entry { return Entry{As: []string{"root"}, Commands: []string{"!" + command}} }
	for name, test := range map[string]struct {
		entries, conceded []Entry
		more, less        int
	}{
		"as it is to be":                  {[]Entry{denied("/bin/su"), logs, denial, restart, logs}, []Entry{restart, logs}, 0, 0},
		"nothing":                         {[]Entry{logs, denial}, nil, 0, 0},
		"from another source":             {[]Entry{denial, elsewhere}, []Entry{logs}, 0, 0},
		"twice":                           {[]Entry{denial, logs, elsewhere}, []Entry{logs}, 1, 0},
		"one more":                        {[]Entry{denial, both}, []Entry{logs}, 1, 0},
		"one less":                        {[]Entry{denial, logs}, []Entry{restart, logs}, 0, 1},
		"twice and once":                  {[]Entry{denial, logs}, []Entry{logs, logs}, 0, 1},
		"a password that is asked for":    {[]Entry{denial, asked}, []Entry{restart}, 1, 1},
		"all denied behind it":            {[]Entry{denial, logs, denial}, []Entry{logs}, 0, 1},
		"denied behind it":                {[]Entry{denial, logs, denied("/bin/dmesg")}, []Entry{logs}, 0, 1},
		"denied behind it by a directory": {[]Entry{denial, logs, denied("/usr/bin/")}, []Entry{logs}, 0, 1},
		"denied behind it by a pattern":   {[]Entry{denial, logs, denied("/usr/bin/d*")}, []Entry{logs}, 0, 1},
		"another one denied behind it":    {[]Entry{denial, logs, denied("/usr/bin/su")}, []Entry{logs}, 0, 0},
	} {
		more, less := Compare(Listing{Entries: test.entries}, test.conceded)
		if len(more) != test.more || len(less) != test.less {
			t.Errorf("%s: more %v, less %v", name, more, less)
		}
	}
}

// Each case follows a grant of everything, with which the user administers.
func TestWhoeverMayDoEverythingAdministersUntilMoreThanSingleProgramsAreDenied(t *testing.T) {
	as := func(users string, commands ...string) Entry {
		return Entry{As: splitList(users), Commands: commands}
	}
	for name, test := range map[string]struct {
		behind      Entry
		administers bool
	}{
		"as root":                        {as("root", "!ALL"), false},
		"as root by number":              {as("#0", "!ALL"), false},
		"as nobody says whom":            {Entry{Commands: []string{"!ALL"}}, false},
		"as all but another":             {as("ALL, !bin", "!ALL"), false},
		"as whom of a group":             {as("%wheel", "!ALL"), false},
		"as whom of a netgroup":          {as("bin, +ops", "!ALL"), false},
		"as all but root":                {as("ALL, !root", "!ALL"), true},
		"as all but root by number":      {as("ALL, !#0", "!ALL"), true},
		"as another":                     {as("bin", "!ALL"), true},
		"all directories":                {as("ALL", "!/usr/bin/", "!/usr/sbin/", "!/bin/", "!/sbin/"), false},
		"one directory":                  {as("root", "!/usr/bin/"), false},
		"a pattern":                      {as("root", "!/usr/*bin/*"), false},
		"a pattern of another sort":      {as("root", "!^/usr/.*$"), false},
		"by digest":                      {as("root", "!sha224:AAAA ALL"), false},
		"one program":                    {as("ALL", "!/usr/bin/su"), true},
		"one program with any arguments": {as("ALL", "!/usr/bin/passwd *"), true},
		"a pattern with no meaning":      {as("ALL", `!/usr/bin/a\*`), true},
		"until some day":                 {Entry{As: []string{"root"}, Bounds: []string{"NotAfter"}, Commands: []string{"!ALL"}}, false},
		"what is run runs nothing":       {Entry{As: []string{"ALL"}, Options: []string{"noexec"}, Commands: []string{"ALL"}}, false},
		"what is run is elsewhere":       {Entry{As: []string{"ALL"}, Bounds: []string{"Chroot"}, Commands: []string{"ALL"}}, false},
		"what is run until some day":     {Entry{As: []string{"ALL"}, Bounds: []string{"NotAfter"}, Commands: []string{"ALL"}}, true},
		"as another, without a password": {Entry{As: []string{"bin"}, Options: []string{"!authenticate"}, Commands: []string{"ALL"}}, true},
	} {
		l := Listing{Entries: []Entry{as("ALL", "ALL"), test.behind}}
		if got := l.Administers(); got != test.administers {
			t.Errorf("%s: administers is %t", name, got)
		}
	}
}

// Each case follows grants of everything that nothing denies.
func TestADenialThatLeavesSomethingIsNotTheDenialOfEverything(t *testing.T) {
	all, none := []string{"ALL"}, []string{"!ALL"}
	for name, denial := range map[string]Entry{
		"all but root":            {As: []string{"ALL", "!root"}, AsGroups: all, Commands: none},
		"all but somebody":        {As: []string{"ALL", "!%ops"}, AsGroups: all, Commands: none},
		"root":                    {As: []string{"root"}, AsGroups: all, Commands: none},
		"nobody says whom":        {AsGroups: all, Commands: none},
		"a name with a comma":     {As: splitList(`x\, ALL`), AsGroups: all, Commands: none},
		"no group":                {As: all, Commands: none},
		"all groups but one":      {As: all, AsGroups: []string{"ALL", "!adm"}, Commands: none},
		"until some day":          {As: all, AsGroups: all, Bounds: []string{"NotAfter"}, Commands: none},
		"in a role":               {As: all, AsGroups: all, Bounds: []string{"Role"}, Commands: none},
		"a directory":             {As: all, AsGroups: all, Commands: []string{"!/usr/bin/"}},
		"by digest":               {As: all, AsGroups: all, Commands: []string{"!sha224:AAAA ALL"}},
		"what was denied":         {As: all, AsGroups: all, Commands: []string{"!ALL", "/bin/sh"}},
		"what one of two did not": {As: []string{"!ALL", "root"}, AsGroups: all, Commands: none},
	} {
		l := Listing{Entries: []Entry{{As: all, AsGroups: all, Commands: all}, denial}}
		if len(l.Granted()) == 0 {
			t.Errorf("%s: nothing is left", name)
		}
		if more, _ := Compare(l, nil); len(more) == 0 {
			t.Errorf("%s: it is no more than nothing", name)
		}
	}
	everything := Entry{As: []string{"!root", "ALL"}, AsGroups: all, Commands: none}
	if l := (Listing{Entries: []Entry{{As: all, AsGroups: all, Commands: all}, everything}}); len(l.Granted()) > 0 {
		t.Error("of a list the last that matches does not decide")
	}
}
