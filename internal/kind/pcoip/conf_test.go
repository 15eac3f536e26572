package pcoip

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyTheDirectiveThatIsSetChanges(t *testing.T) {
	for _, c := range []struct{ name, before, after string }{
		{"an empty file", "", "pcoip.k = 1\n"},
		{"at the end", "# c\n\npcoip.x=2\n", "# c\n\npcoip.x=2\npcoip.k = 1\n"},
		{"where it stands", "pcoip.a = 1\n  pcoip.k=0 \npcoip.b = 2\n", "pcoip.a = 1\npcoip.k = 1\npcoip.b = 2\n"},
		{"as it is written, if it is right", "pcoip.k=   1\t\n", "pcoip.k=   1\t\n"},
		{"not in a comment", "#pcoip.k = 1\n # pcoip.k = 1\n", "#pcoip.k = 1\n # pcoip.k = 1\npcoip.k = 1\n"},
		{"once", "pcoip.k = 0\npcoip.a = 1\npcoip.k = 1\n", "pcoip.k = 1\npcoip.a = 1\n"},
		{"once, the first being right", "pcoip.k =1\npcoip.a = 1\npcoip.k = 1\npcoip.k = 2\n", "pcoip.k =1\npcoip.a = 1\n"},
		{"after a last line without a break", "pcoip.a = 1", "pcoip.a = 1\npcoip.k = 1\n"},
		{"with the line breaks of Windows", "pcoip.a = 1\r\npcoip.k = 0\r\n", "pcoip.a = 1\r\npcoip.k = 1\r\n"},
		{"with the line breaks of Windows, at the end", "pcoip.a = 1\r\npcoip.b = 2", "pcoip.a = 1\r\npcoip.b = 2\r\npcoip.k = 1\r\n"},
		{"not one of a longer name", "pcoip.k2 = 0\nxpcoip.k = 0\n", "pcoip.k2 = 0\nxpcoip.k = 0\npcoip.k = 1\n"},
		{"beside what is no directive", "[section]\nnonsense\n", "[section]\nnonsense\npcoip.k = 1\n"},
	} {
		f := parse(c.before)
		f.set("pcoip.k", "1")
		if diff := cmp.Diff(c.after, f.String()); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func FuzzConf(f *testing.F) {
	f.Add("# c\r\npcoip.a = 1\npcoip.a=2")
	f.Add("pcoip.server_clipboard_state= 1\n\n\n#x")
	f.Add("=\n = \npcoip.a")
	f.Fuzz(func(t *testing.T, content string) {
		c := parse(content)
		if c.String() != content {
			t.Fatalf("%q comes out as %q", content, c.String())
		}
		foreign := others(c)
		c.set("pcoip.a", "7")
		if got := parse(c.String()).values("pcoip.a"); !slices.Equal(got, []string{"7"}) {
			t.Errorf("%q has the values %q", c.String(), got)
		}
		if got := others(parse(c.String())); !slices.Equal(got, foreign) {
			t.Errorf("the other lines of %q were %q and are %q", content, foreign, got)
		}
		once := c.String()
		c.set("pcoip.a", "7")
		if c.String() != once {
			t.Errorf("set again, %q becomes %q", once, c.String())
		}
	})
}

// others are the lines that are not pcoip.a's, without their breaks.
func others(c conf) []string {
	var rest []string
	for _, l := range c.all {
		if l.key != "pcoip.a" {
			rest = append(rest, strings.TrimRight(l.raw, "\r\n"))
		}
	}
	return rest
}
