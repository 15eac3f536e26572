package dconf

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSettingsAreWrittenByDirectoryAndReadBack(t *testing.T) {
	s := settings{
		"/org/mate/desktop/session/idle-delay":  {text: "10", locked: true},
		"/org/mate/desktop/background/opacity":  {text: "50"},
		"/org/mate/desktop/background/filename": {text: "'/a=b.png'", locked: true},
		"/org/mate/desktop-x/key":               {text: "true"},
		"/org/mate/desktop/key":                 {text: "@as []"},
	}
	const keyfile = `
[org/mate/desktop]
key=@as []

[org/mate/desktop-x]
key=true

[org/mate/desktop/background]
filename='/a=b.png'
opacity=50

[org/mate/desktop/session]
idle-delay=10
`
	if diff := cmp.Diff(keyfile, string(s.keyfile())); diff != "" {
		t.Error(diff)
	}
	const locks = "/org/mate/desktop/background/filename\n/org/mate/desktop/session/idle-delay\n"
	if diff := cmp.Diff(locks, string(s.locks())); diff != "" {
		t.Error(diff)
	}
	body, seal := cutSeal(withSeal(s.keyfile(), "abc"))
	if seal != "abc" {
		t.Errorf("the seal is %q", seal)
	}
	if diff := cmp.Diff(s, parse(body, s.locks()), cmp.AllowUnexported(setting{})); diff != "" {
		t.Error(diff)
	}
}

func TestTheSealTellsEveryPartFromTheOthers(t *testing.T) {
	seals := map[string]bool{}
	for _, parts := range [][3]string{{"a", "b", "c"}, {"ab", "", "c"}, {"a", "bc", ""}, {"", "abc", ""}, {"a", "b", "d"}} {
		seals[sealOf([]byte(parts[0]), []byte(parts[1]), []byte(parts[2]))] = true
	}
	if len(seals) != 5 {
		t.Errorf("there are %d seals", len(seals))
	}
}

func FuzzParse(f *testing.F) {
	f.Add("# c\n[org/a]\nk='v'\n", "/org/a/k\n")
	f.Add("[x\n[]\n=\n", "\n/")
	f.Fuzz(func(t *testing.T, keyfile, locks string) {
		s := parse([]byte(keyfile), []byte(locks))
		for path, entry := range s {
			if !strings.HasPrefix(path, "/") || strings.Contains(entry.text, "\n") {
				t.Errorf("%q = %q", path, entry.text)
			}
		}
	})
}

func TestTheDatabaseComesDirectlyAfterTheUsersOwn(t *testing.T) {
	for _, c := range []struct{ name, profile, want string }{
		{"no profile", "", "user-db:user\nsystem-db:soe\n"},
		{"the default", "user-db:user\n", "user-db:user\nsystem-db:soe\n"},
		{"right already", "user-db:user # mine\n\nsystem-db:soe\nsystem-db:local", "user-db:user # mine\n\nsystem-db:soe\nsystem-db:local"},
		{"others come first", "user-db:user\nsystem-db:local\nsystem-db:soe\n", "user-db:user\nsystem-db:soe\nsystem-db:local\n"},
		{"twice", "user-db:user\nsystem-db:soe\nsystem-db:local\nsystem-db:soe\n", "user-db:user\nsystem-db:soe\nsystem-db:local\n"},
		{"no line break at the end", "# x\nuser-db:user", "# x\nuser-db:user\nsystem-db:soe\n"},
		{"nothing can be written", "system-db:local\n", "user-db:user\nsystem-db:soe\nsystem-db:local\n"},
		{"ours comes first", "system-db:soe\nuser-db:user\n", "user-db:user\nsystem-db:soe\n"},
		{"a service", "service-db:keyfile/user\nfile-db:/x", "service-db:keyfile/user\nsystem-db:soe\nfile-db:/x\n"},
		{"nonsense", "garbage\nuser-db:user\n", "garbage\nuser-db:user\nsystem-db:soe\n"},
		{"commented out", "user-db:user\n#system-db:soe\n", "user-db:user\nsystem-db:soe\n#system-db:soe\n"},
	} {
		if diff := cmp.Diff(c.want, withDatabase(c.profile)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func FuzzProfile(f *testing.F) {
	f.Add("user-db:user\nsystem-db:local\n")
	f.Add("system-db:soe\nuser-db:user")
	f.Fuzz(func(t *testing.T, profile string) {
		once := withDatabase(profile)
		found := sources(once)
		if len(found) < 2 || !isWritable(found[0]) || found[1] != ourSource {
			t.Errorf("the sources of %q are %q", once, found)
		}
		if twice := withDatabase(once); twice != once {
			t.Errorf("%q becomes %q", once, twice)
		}
	})
}

func TestNoSourceOfAPersonsOwnProfileIsLostInTheMandatoryOne(t *testing.T) {
	for own, want := range map[string]string{
		"user-db:user\nsystem-db:kiosk\n":               "user-db:user\nsystem-db:soe\nsystem-db:kiosk\nsystem-db:site\n",
		"# hers\nuser-db:alice\nsystem-db:kiosk":        "# hers\nuser-db:alice\nsystem-db:soe\nsystem-db:kiosk\nsystem-db:site\n",
		"system-db:site\nfile-db:/opt/db\n":             "user-db:user\nsystem-db:soe\nsystem-db:site\nfile-db:/opt/db\n",
		"user-db:user\nsystem-db:a\nsystem-db:soe\n":    "user-db:user\nsystem-db:soe\nsystem-db:a\nsystem-db:site\n",
		"user-db:user\nsystem-db:soe\nsystem-db:site\n": "user-db:user\nsystem-db:soe\nsystem-db:site\n",
	} {
		if got := withSources(own, "user-db:user\nsystem-db:soe\nsystem-db:site\n"); got != want {
			t.Errorf("%q becomes %q and not %q", own, got, want)
		}
	}
}
