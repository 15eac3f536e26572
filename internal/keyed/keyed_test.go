package keyed

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyTheKeyThatIsSetChanges(t *testing.T) {
	for _, c := range []struct {
		name          string
		format        Format
		key           string
		before, after string
	}{
		{"an empty file", Equals, "k", "", "k = 1\n"},
		{"at the end", Equals, "k", "# c\n\nx=2\n", "# c\n\nx=2\nk = 1\n"},
		{"where it stands", Equals, "k", "a = 1\n  k=0 \nb = 2\n", "a = 1\nk = 1\nb = 2\n"},
		{"as it is written, if it is right", Equals, "k", "k=   1\t\n", "k=   1\t\n"},
		{"not in a comment", Equals, "k", "#k = 1\n # k = 1\n", "#k = 1\n # k = 1\nk = 1\n"},
		{"below the comment that shows it", Equals, "k", "# k = 8\n\n# b = 2\nb = 2\n", "# k = 8\nk = 1\n\n# b = 2\nb = 2\n"},
		{"not below one that speaks of it", Equals, "k", "# set k = 8\nb = 2\n", "# set k = 8\nb = 2\nk = 1\n"},
		{"once", Equals, "k", "k = 0\na = 1\nk = 1\n", "k = 1\na = 1\n"},
		{"once, the first being right", Equals, "k", "k =1\na = 1\nk = 1\nk = 2\n", "k =1\na = 1\n"},
		{"after a last line without a break", Equals, "k", "a = 1", "a = 1\nk = 1\n"},
		{"in the place of a last line without a break", Equals, "k", "a = 1\nk = 0", "a = 1\nk = 1\n"},
		{"with the line breaks of Windows", Equals, "k", "a = 1\r\nk = 0\r\n", "a = 1\r\nk = 1\r\n"},
		{"with the line breaks of Windows, at the end", Equals, "k", "a = 1\r\nb = 2", "a = 1\r\nb = 2\r\nk = 1\r\n"},
		{"not one of a longer name", Equals, "k", "k2 = 0\nxk = 0\n", "k2 = 0\nxk = 0\nk = 1\n"},
		{"beside what is no key", Equals, "k", "[section]\nsome nonsense\n", "[section]\nsome nonsense\nk = 1\n"},
		{"in its section", INI, "a/k", "[a]\nx=1\n\n[b]\nk=0\n", "[a]\nx=1\nk=1\n\n[b]\nk=0\n"},
		{"in the last section", INI, "b/k", "k=0\n[a]\nk=0\n[b]\n", "k=0\n[a]\nk=0\n[b]\nk=1\n"},
		{"below the comment of its section", INI, "b/k", "[a]\n#k=0\n[b]\n;k=0\nx: 1\n", "[a]\n#k=0\n[b]\n;k=0\nk=1\nx: 1\n"},
		{"by either sign", INI, "a/k", "[a]\nk : 0\n", "[a]\nk=1\n"},
		{"an assignment", Shell, "K", "# K=8\nX=\"a b\"\nexport K='0'\n", "# K=8\nX=\"a b\"\nK=1\n"},
		{"a right one in quotes", Shell, "K", "K=\"1\"\n", "K=\"1\"\n"},
		{"one that is empty", Shell, "K", "K=\nX=1\n", "K=1\nX=1\n"},
		{"a word", Words, "K", "#\n# K is so\n#K\t0\nX 1\n", "#\n# K is so\n#K\t0\nK 1\nX 1\n"},
		{"the first of two words", Words, "K", "K\t\t0\nX 1\nK 1\n", "K 1\nX 1\n"},
		{"a right word as it is written", Words, "K", "  K\t\t1 \n", "  K\t\t1 \n"},
		{"a word without a value", Words, "K", "K\n", "K 1\n"},
		{"in the way of sshd", SSHD, "Key", "# Key says\n#Key 0\nX=1\n", "# Key says\n#Key 0\nKey 1\nX=1\n"},
		{"in other capitals", SSHD, "Key", "kEY yes\nX 1\nKEY=1\n", "Key 1\nX 1\n"},
		{"by any sign", SSHD, "Key", "key = \"1\"\n", "key = \"1\"\n"},
		{"before what holds for some", SSHD, "Key", "X 1\nMatch User a\n  Key 0\n#Key 0\nMatch all\n", "X 1\nKey 1\nMatch User a\n  Key 0\n#Key 0\nMatch all\n"},
		{"not for some", SSHD, "Key", "key 0\nmatch=all\nKey 0\n", "Key 1\nmatch=all\nKey 0\n"},
		{"before what holds for some, in quotes", SSHD, "Key", "X 1\n\"Match\" user root\nKey 0\n", "X 1\nKey 1\n\"Match\" user root\nKey 0\n"},
		{"before what holds for some, in quotes that end within", SSHD, "Key", "X 1\nMa\"tch\" user root\n", "X 1\nKey 1\nMa\"tch\" user root\n"},
		{"before what holds for some, behind a sign", SSHD, "Key", "X 1\n\t=MATCH all\r\n", "X 1\nKey 1\n\t=MATCH all\r\n"},
		{"in quotes", SSHD, "Key", "\"Key\" 0\nX 1\n", "Key 1\nX 1\n"},
		{"as it is written, if it is right, with quotes of its own", SSHD, "Key", "\"kEy\" \"1\"\nX 1\n", "\"kEy\" \"1\"\nX 1\n"},
		{"behind a quote that does not end", SSHD, "Key", "\"Match all\nX 1\n", "\"Match all\nX 1\nKey 1\n"},
		{"in the way of chrony", Chrony, "key", "! key 0\n%key 0\nserver a\nserver b\n", "! key 0\n%key 0\nkey 1\nserver a\nserver b\n"},
	} {
		f := Parse(c.format, c.before)
		if why := f.Unsure(c.key); why != "" {
			t.Errorf("%s: %s", c.name, why)
		}
		was := f.Lines(c.key)
		f.Set(c.key, "1")
		if diff := cmp.Diff(c.after, f.String()); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		f = Parse(c.format, c.after)
		f.Put(c.key, was)
		if was == "" && strings.HasSuffix(c.before, "\n") && f.String() != c.before {
			t.Errorf("%s: given back it is %q", c.name, f.String())
		}
	}
}

func TestALineIsInAFileOnceAndAllElseStays(t *testing.T) {
	for _, c := range []struct{ name, before, after, gone string }{
		{"an empty file", "", "/bin/x y\n", ""},
		{"at the end", "# /bin/sh\n/bin/sh", "# /bin/sh\n/bin/sh\n/bin/x y\n", "# /bin/sh\n/bin/sh\n"},
		{"as it is written", "\t/bin/x  y \n/BIN/X y\n", "\t/bin/x  y \n/BIN/X y\n", "/BIN/X y\n"},
		{"once", "a\n/bin/x y\nb\n/bin/x\ty\n", "a\n/bin/x y\nb\n", "a\nb\n"},
		{"below the comment that shows it", "#/bin/x y\n# /bin/x y z\nb\n", "#/bin/x y\n/bin/x y\n# /bin/x y z\nb\n", "#/bin/x y\n# /bin/x y z\nb\n"},
		{"with the line breaks of Windows", "a\r\nb", "a\r\nb\r\n/bin/x y\r\n", "a\r\nb\r\n"},
		{"not a part of another", "/bin/x\n/bin/x y z\n", "/bin/x\n/bin/x y z\n/bin/x y\n", "/bin/x\n/bin/x y z\n"},
	} {
		f := Parse(Lines, c.before)
		f.Set("/bin/x y", "")
		if diff := cmp.Diff(c.after, f.String()); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		f.Put("/bin/x y", "")
		if diff := cmp.Diff(c.gone, f.String()); diff != "" {
			t.Errorf("%s, gone: %s", c.name, diff)
		}
	}
}

func TestAKeyThatIsGivenBackStandsWhereItStood(t *testing.T) {
	for _, c := range []struct {
		format       Format
		key          string
		before, gone string
	}{
		{Equals, "k", "k = 0\na = 1\n", "a = 1\n"},
		{Equals, "k", "a = 1\n\nk = 0\n\nb = 2\n", "a = 1\n\n\nb = 2\n"},
		{Equals, "k", "# c\na = 1\nk = 0\nk = 1\n# c\n", "# c\na = 1\n# c\n"},
		{INI, "b/k", "[a]\nx=1\n[b]\nx=1\nk=0\ny=1\n", "[a]\nx=1\n[b]\nx=1\ny=1\n"},
		{SSHD, "K", "a 1\nk 0\nb 1\nMatch all\na 1\nK 2\n", "a 1\nb 1\nMatch all\na 1\nK 2\n"},
	} {
		earlier, f := Parse(c.format, c.before), Parse(c.format, c.gone)
		if f.GiveBack(c.key, earlier); f.String() != c.before {
			t.Errorf("%q is given back as %q", c.before, f.String())
		}
		f.GiveBack(c.key, earlier)
		if f.String() != c.before {
			t.Errorf("%q is given back again as %q", c.before, f.String())
		}
	}
	f := Parse(Equals, "x = 1\n")
	if f.GiveBack("k", Parse(Equals, "a = 1\nk = 0\n")); f.String() != "x = 1\nk = 0\n" {
		t.Errorf("among others it is %q", f.String())
	}
}

func TestAKeyThatComesStandsBehindOneThatWasGivenBackInItsSection(t *testing.T) {
	f := Parse(INI, "[a]\nk=0\n\n[b]\n")
	f.Put("a/k", "k=1\n")
	f.Set("a/x", "1")
	if got, want := f.String(), "[a]\nk=1\nx=1\n\n[b]\n"; got != want {
		t.Errorf("it is %q and not %q", got, want)
	}
}

func TestWhatNotEveryReaderWouldTakeAlikeIsNotTouched(t *testing.T) {
	for _, c := range []struct {
		format        Format
		key, is, want string
	}{
		{Equals, "minlen", "minlen = 8 # bytes\n", "line 1 has a comment behind the value"},
		{Equals, "minlen", "x = 8 # bytes\nminlen = 8\n", ""},
		{Equals, "minlen", "a = b\nMinLen = 8\n", "line 2 has MinLen, which some readers take for minlen"},
		{Equals, "minlen", "\ufeffa = b\nminlen = 8\n", "it begins with a byte order mark"},
		{Shell, "K", "\ufeff# c\nK=1\n", "it begins with a byte order mark"},
		{SSHD, "K", "K 1\n#" + strings.Repeat("x", 5000) + "Match all\n", "line 2 is longer than 4095 letters"},
		{SSHD, "K", "K 1\n#" + strings.Repeat("x", 4000) + "\n", ""},
		{INI, "main/k", "[other]\nk=1\n", "it has no section [main]"},
		{INI, "main/k", "", "it has no section [main]"},
		{INI, "main/k", "[main]\nk=1\n  2\n", "line 3 begins with a blank"},
		{INI, "main/k", "[main]\nx=1\n  k=2\n", "line 3 begins with a blank"},
		{INI, "main/k", "[main]\nx=1\n  y=2\nk=1\n", ""},
		{Shell, "K", "if true; then\nK=1\nfi\n", "line 1 is more than an assignment"},
		{Shell, "K", "X=\"a\nK=2\nb\"\n", "line 1 is more than an assignment"},
		{Shell, "K", "X=a\\\nK=2\n", "line 1 is more than an assignment"},
		{Shell, "K", "X=a K=2\n", "line 1 is more than an assignment"},
		{Shell, "K", "X=$(a)\n", "line 1 is more than an assignment"},
		{Shell, "K", " K=2\n", "line 1 is more than an assignment"},
		{Shell, "K", "K=2 # two\n", "line 1 has a comment behind the value"},
		{Shell, "K", "k=2\n", "line 1 has k"},
		{Words, "K", "X 1\nk 2\n", "line 2 has k"},
		{Words, "K", "K=2\n", "line 1 has K=2, which some readers take for K"},
		{Words, "K", "K 2 # two\n", "line 1 has a comment behind the value"},
		{Words, "K", "K \"2\"\n", "line 1 has quotes"},
		{Words, "K", "KK=2\nK a=b\n", ""},
		{SSHD, "K", "k 2 # two\n", "line 1 has a comment behind the value"},
		{SSHD, "K", "K a;b\nMatch all\nK 2 # two\n", ""},
	} {
		f := Parse(c.format, c.is)
		if got := f.Unsure(c.key); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("of %s in %q it is said %q", c.key, c.is, got)
		}
	}
}

func TestABlankThatReadersTakeForALetterIsNone(t *testing.T) {
	for is, want := range map[string]string{
		"minlen = 14\u00a0\n":   "minlen = 14\n",
		"minlen\u00a0= 14\n":    "minlen\u00a0= 14\nminlen = 14\n",
		"\u2003minlen = 14\n":   "\u2003minlen = 14\nminlen = 14\n",
		"minlen =\u0085 14\r\n": "minlen = 14\r\n",
		"\t\vminlen =\f14 \n":   "\t\vminlen =\f14 \n",
	} {
		f := Parse(Equals, is)
		if f.Set("minlen", "14"); f.String() != want {
			t.Errorf("%q becomes %q and not %q", is, f.String(), want)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add(0, "# c\r\na = 1\na=2")
	f.Add(1, "[s]\na= 1\n\n\n#x\n[t]\n b")
	f.Add(2, "a=1\nexport a='2'\n# a=3")
	f.Add(0, "=\n = \na")
	f.Add(3, "#a 1\na\t2\nA=3\na")
	f.Add(4, "A=1\na 2\nInclude x\nmatch all\na 3")
	f.Add(5, "!a\na\nb c d")
	f.Add(6, " a\t \nb\r\n#a\nA\na")
	f.Fuzz(func(t *testing.T, format int, content string) {
		how := Format(uint(format) % 7)
		key, value := "a", "7"
		if how == Lines {
			value = ""
		}
		if how == INI {
			key = "s/a"
		}
		c := Parse(how, content)
		if c.String() != content {
			t.Fatalf("%q comes out as %q", content, c.String())
		}
		if c.Unsure(key) != "" {
			return
		}
		foreign, was := others(c, key), c.Lines(key)
		c.Set(key, value)
		once := c.String()
		again := Parse(how, once)
		if got := again.Values(key); !slices.Equal(got, []string{value}) {
			t.Errorf("%q has the values %q", once, got)
		}
		if got := others(again, key); !slices.Equal(got, foreign) {
			t.Errorf("the other lines of %q were %q and are %q", content, foreign, got)
		}
		again.Set(key, value)
		if again.String() != once {
			t.Errorf("set again, %q becomes %q", once, again.String())
		}
		again.Put(key, was)
		back := Parse(how, again.String())
		if got := others(back, key); back.Lines(key) != was || !slices.Equal(got, foreign) {
			t.Errorf("given back, %q is %q", content, again.String())
		}
		again.Put(key, "")
		gone := Parse(how, again.String())
		if got := others(gone, key); len(gone.Values(key)) > 0 || !slices.Equal(got, foreign) {
			t.Errorf("without it, %q is %q", content, gone.String())
		}
	})
}

// others returns the lines that are not the key's, without line breaks.
func others(f File, key string) (rest []string) {
	for _, l := range f.lines {
		if l.key != key {
			rest = append(rest, strings.TrimRight(l.raw, "\r\n"))
		}
	}
	return rest
}
