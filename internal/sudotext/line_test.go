package sudotext

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinesAreToldApartAsSudoDoes(t *testing.T) {
	user := func(name string) Subject { return Subject{Form: User, Name: name} }
	for name, test := range map[string]struct {
		source string
		sort   Sort
		users  []Subject
	}{
		"a comment":                            {"# bob ALL=(ALL) ALL", Idle, nil},
		"a comment without a blank":            {"#bob ALL=(ALL) ALL", Idle, nil},
		"a uid looks like a comment":           {"#1000 ALL=(ALL:ALL) NOPASSWD:ALL", Grant, []Subject{{Form: UID, Name: "1000"}}},
		"a gid":                                {"%#10 ALL=(ALL) ALL", Grant, []Subject{{Form: GID, Name: "10"}}},
		"a group":                              {"%wheel ALL=(ALL) ALL", Grant, []Subject{{Form: Group, Name: "wheel"}}},
		"a group of the directory":             {`%EXAMPLE\\Domain\ Admins ALL=(ALL) ALL`, Grant, []Subject{{Form: Group, Name: `EXAMPLE\Domain Admins`}}},
		"a quoted group, one backslash":        {`"%EXAMPLE\Domain Admins" ALL=(ALL) ALL`, Grant, []Subject{{Form: Group, Name: `EXAMPLE\Domain Admins`}}},
		"a name in hexadecimal":                {`EXAMPLE\x5cbob\x20b ALL=(ALL) ALL`, Grant, []Subject{user(`EXAMPLE\bob b`)}},
		"the last letter in hexadecimal":       {`%admin\x73 ALL=ALL`, Grant, []Subject{{Form: Group, Name: "admins"}}},
		"too few digits":                       {`bo\x6 ALL=ALL`, Grant, []Subject{user("box6")}},
		"no digits":                            {`b\x+1b ALL=ALL`, Grant, []Subject{user("bx+1b")}},
		"an x that is escaped":                 {`bob\\x41 ALL=ALL`, Grant, []Subject{user(`bob\x41`)}},
		"a sign in hexadecimal is a letter":    {`\x25wheel ALL=ALL`, Grant, []Subject{{Form: Group, Name: "wheel"}}},
		"capitals in hexadecimal are a user":   {`\x42OB ALL=ALL`, Grant, []Subject{user("BOB")}},
		"hexadecimal within quotes is itself":  {`"b\x6fb" ALL=ALL`, Grant, []Subject{user(`b\x6fb`)}},
		"a hash that is escaped":               {`bob\#1 ALL=ALL`, Grant, []Subject{user("bob#1")}},
		"a negative uid":                       {"#-1 ALL=ALL", Grant, []Subject{{Form: UID, Name: "-1"}}},
		"nothing behind a backslash":           {`User_Alias A = bob\`, Unclear, nil},
		"an alias that ends in hexadecimal":    {`User_Alias A = b\x6f`, Alias, nil},
		"a line that goes on within a word":    {"bob\\\nALL = ALL\n", Grant, []Subject{user("bob")}},
		"a line that goes on within quotes":    {"\"bo\\\nb\" ALL = ALL\n", Grant, []Subject{user("bob")}},
		"a line of Windows that goes on":       {"bob, \\\r\n carol ALL = ALL\r\n", Grant, []Subject{user("bob"), user("carol")}},
		"an open string in a command":          {`bob ALL=/bin/echo "x`, Unclear, nil},
		"a hash within quotes, and it goes on": {"alice ALL=/bin/echo \"#\", \\\n /bin/sh\n", Unclear, nil},
		"a hash in quotes in one line":         {`bob ALL=/bin/echo "#"`, Grant, []Subject{user("bob")}},
		"a netgroup":                           {"+admins ALL=(ALL) ALL", Grant, []Subject{{Form: NetGroup, Name: "admins"}}},
		"a group of a plug-in":                 {"%:admins ALL=(ALL) ALL", Grant, []Subject{{Form: Foreign, Name: "admins"}}},
		"an alias":                             {"ADMINS ALL=(ALL) ALL", Grant, []Subject{{Form: Named, Name: "ADMINS"}}},
		"a quoted name in capitals is a user":  {`"ADMINS" ALL=(ALL) ALL`, Grant, []Subject{user("ADMINS")}},
		"everybody":                            {"ALL ALL=(ALL) ALL", Grant, []Subject{{Form: All}}},
		"several with exceptions":              {"ALL, !root,!!bob ALL=(ALL) ALL", Grant, []Subject{{Form: All}, {Negated: true, Form: User, Name: "root"}, user("bob")}},
		"a continued grant":                    {"bob, \\\n  carol ALL = \\\n ALL\n", Grant, []Subject{user("bob"), user("carol")}},
		"blanks behind the backslash":          {"bob \\  \n ALL = ALL\n", Grant, []Subject{user("bob")}},
		"a grant with a comment":               {"bob ALL=ALL # for the audit\n", Grant, []Subject{user("bob")}},
		"defaults":                             {`Defaults:bob !requiretty`, DefaultsLine, nil},
		"an alias of commands":                 {`Cmnd_Alias X = sha224:0GomF8mNN3wlDt1HD9XldjJ3SNgpFdbjO1+NsQ== /bin/ls`, Idle, nil},
		"two aliases of hosts":                 {`Host_Alias A = h1, h2 : B = 2001:db8::1`, Idle, nil},
		"a second grant in the same line":      {"root ALL=ALL bob ALL=ALL", Unclear, nil},
		"a grant behind an alias":              {"Runas_Alias X = root bob ALL=ALL", Unclear, nil},
		"several hosts":                        {"bob h1, h2 = (ALL) ALL : h3 = NOPASSWD: /bin/ls -l, !/bin/", Grant, []Subject{user("bob")}},
		"options":                              {"bob ALL = (root) CWD=/x TIMEOUT=1h NOTAFTER=20990101000000Z ROLE=a_r TYPE=\"b_t\" NOEXEC: ALL", Grant, []Subject{user("bob")}},
		"a digest and a denial":                {"bob ALL = sha224:0GomF8mNN3wlDt1HD9XldjJ3SNgpFdbjO1+NsQ== /bin/ls, ! /bin/su : h = CMDS", Grant, []Subject{user("bob")}},
		"a grant behind several hosts":         {"bob ALL = ALL : h = ALL carla ALL = ALL", Unclear, nil},
		"a grant behind a directory":           {"bob CWD = /usr/bin/ carla ALL = ALL", Unclear, nil},
		"a grant behind an alias of commands":  {"bob ALL = CMDS carla ALL = ALL", Unclear, nil},
		"a grant behind an option":             {"bob ALL = CWD=/x carla ALL = ALL", Unclear, nil},
		"nonsense":                             {"bob may do anything", Unclear, nil},
		"an open string":                       {`"bob ALL=ALL`, Unclear, nil},
		"a hash in quotes in a continued line": {"alice ALL=/bin/echo \" # \\\nbob ALL=ALL\n", Unclear, nil},
	} {
		t.Run(name, func(t *testing.T) {
			lines := Parse([]byte(test.source))
			if len(lines) != 1 {
				t.Fatalf("got %d lines, want 1: %+v", len(lines), lines)
			}
			if lines[0].Sort != test.sort {
				t.Fatalf("got sort %v, want %v: %+v", lines[0].Sort, test.sort, lines[0])
			}
			if diff := cmp.Diff(test.users, lines[0].Users); test.sort == Grant && diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestACommentThatEndsInABackslashDoesNotHideTheNextLine(t *testing.T) {
	for _, source := range []string{
		"# a comment \\\nbob ALL=ALL\n", "alice ALL=ALL # a comment \\\nbob ALL=ALL\n", "#\\\nbob ALL=ALL\n", "  # a comment\\\nbob ALL=ALL\n",
		"alice, \\\n carol ALL=ALL # a comment \\\nbob ALL=ALL\n", "User_Alias A = alice # a comment \\\nbob ALL=ALL\n", "Defaults insults # \"a \\\nbob ALL=ALL\n",
	} {
		lines := Parse([]byte(source))
		if len(lines) != 2 || lines[1].Sort != Grant || lines[1].Users[0].Name != "bob" {
			t.Errorf("%q: got %+v", source, lines)
		}
	}
}

func TestACommentThatEndsInABackslashIsNotReadAsItsNextLine(t *testing.T) {
	lines := Parse([]byte("alice ALL = \\\n# bob ALL=ALL \\\nALL\ncarol ALL=ALL\n"))
	if len(lines) != 3 || lines[0].Last != 2 || lines[1].Sort != Unclear || lines[2].First != 4 || lines[2].Sort != Grant {
		t.Errorf("got %+v", lines)
	}
}

func TestIncludesAreFound(t *testing.T) {
	for source, want := range map[string]Line{
		"#includedir /etc/sudoers.d\n": {Sort: IncludeDir, Path: "/etc/sudoers.d"},
		"@includedir /etc/sudoers.d":   {Sort: IncludeDir, Path: "/etc/sudoers.d"},
		"  @include \"/etc/my file\"":  {Sort: Include, Path: "/etc/my file"},
		"#include /etc/my\\ file":      {Sort: Include, Path: "/etc/my file"},
		"  #include /etc/comment":      {Sort: Idle},
		"\\\n@includedir /etc/x\n":     {Sort: Unclear},
		"\\\n  @include /etc/x\n":      {Sort: Unclear},
		"#includes are explained here": {Sort: Idle},
	} {
		got := Parse([]byte(source))[0]
		if got.Sort != want.Sort || got.Path != want.Path {
			t.Errorf("%q: got sort %v of %q, want %v of %q", source, got.Sort, got.Path, want.Sort, want.Path)
		}
	}
}

func TestAliasesOfUsersAreRead(t *testing.T) {
	line := Parse([]byte("User_Alias ADMINS = alice, %wheel : OTHERS = !bob : HEX = a, b\\x6f"))[0]
	want := map[string][]Subject{
		"ADMINS": {{Form: User, Name: "alice"}, {Form: Group, Name: "wheel"}},
		"OTHERS": {{Negated: true, Form: User, Name: "bob"}},
		"HEX":    {{Form: User, Name: "a"}, {Form: User, Name: "bo"}},
	}
	if diff := cmp.Diff(want, line.Aliases); diff != "" {
		t.Error(diff)
	}
}

func TestDisablingALineLeavesTheOthersAlone(t *testing.T) {
	source := "# keep \\\nbob ALL = \\\n  ALL\nalice ALL=ALL\n"
	lines := Parse([]byte(source))
	got := string(Disable([]byte(source), lines[1:2], "# off: "))
	want := "# keep \\\n# off: bob ALL = \\\n# off:   ALL\nalice ALL=ALL\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNamesSurviveQuoting(t *testing.T) {
	for _, name := range []string{
		"root", "alice", "%wheel", `%EXAMPLE\Linux Admins`, `EXAMPLE\bob`, "BOB", "bob@example.com", "-dash",
		"a#b", "#1", "x=y", "ende\\", "ünï", "%A:b", "tab\there", `a\x20b`, "ALL", "a!b,c(d)",
	} {
		line := Parse([]byte(Quote(name) + " ALL = ALL"))[0]
		if line.Sort != Grant || len(line.Users) != 1 {
			t.Errorf("%q is written %s and read as %+v", name, Quote(name), line)
			continue
		}
		if want := subjectOf(name); line.Users[0] != want {
			t.Errorf("%q is written %s and read as %+v", name, Quote(name), line.Users[0])
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"root ALL=(ALL:ALL) ALL\n#1000 ALL=ALL\n@includedir /etc/sudoers.d\n",
		"User_Alias A = b, %c \\\n : D = \"e f\"\n# x \\\nb\\ c ALL = ALL # d",
		"Defaults:a, \"b c\" !authenticate, x = \\", "Defaults!/a\\ b !!y,z+=\"\"", "Defaults>", "Defaults\t:a",
		"Defaults x=\"# \\\n\"\n\"a\\\"b\" ALL=ALL\r\n", "\\", "\\\n", "\"", "a\\x2", "!", "%", "#include ",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		lines := Parse(source)
		next := 1
		for _, line := range lines {
			line.Weakens(func([]Subject) bool { return false }) // must not panic
			if line.First != next || line.Last < line.First {
				t.Fatalf("line %d-%d follows line %d", line.First, line.Last, next-1)
			}
			next = line.Last + 1
		}
		if physical := strings.Count(strings.TrimSuffix(string(source), "\n"), "\n") + 1; len(source) > 0 && next-1 != physical {
			t.Fatalf("%d of %d physical lines are in logical ones", next-1, physical)
		}
		for _, line := range Parse(Disable(source, lines, "# off: ")) {
			if line.Sort != Idle {
				t.Fatalf("a disabled line is still a line: %+v", line)
			}
		}
		if len(lines) > 0 && !bytes.Equal(Disable(source, nil, "# off: "), source) {
			t.Fatal("disabling nothing changed something")
		}
	})
}
