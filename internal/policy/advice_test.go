package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// advised returns the advice about fragments a.toml, b.toml … on a given day.
func advised(t *testing.T, day string, texts ...string) string {
	t.Helper()
	now, err := time.Parse(time.DateTime, day)
	if err != nil {
		t.Fatal(err)
	}
	var fragments []Fragment
	for i, text := range texts {
		fragments = append(fragments, mustParse(t, string(rune('a'+i))+".toml", "schema = 1\n"+text))
	}
	problems := Advise(fragments, now)
	for _, p := range problems {
		if p.Gravity == Error {
			t.Errorf("advice is no error: %v", p)
		}
	}
	if len(problems) == 0 {
		return ""
	}
	return problems.Error() + "\n"
}

func TestAnAuthorIsToldOfADirectoryWhoseReaderIsNotKnown(t *testing.T) {
	for document, told := range map[string]bool{
		"[dropins.\"/etc/unheard-of.d/a\"]\ncontent = \"a\"\n":                   true,
		"[dropins.\"/etc/unheard-of.d/a\"]\ncontent = \"a\"\nactivate = []\n":    false,
		"[dropins.\"/etc/unheard-of.d/a\"]\nensure = \"absent\"\n":               false,
		"[dropins.\"/etc/modprobe.d/a.conf\"]\ncontent = \"a\"\n":                false,
		"[dropins.\"/etc/systemd/system/a.service.d/a.conf\"]\ncontent = \"\"\n": false,
	} {
		f, err := Parse(Source{Name: "a.toml", Text: "schema = 1\n" + document})
		if err != nil {
			t.Fatal(err)
		}
		advice := Advise([]Fragment{f}, time.Now())
		if (len(advice) == 1 && advice[0].Gravity == Notice && strings.Contains(advice[0].Message, "not known who reads")) != told {
			t.Errorf("%s: %v", document, advice)
		}
	}
}

func TestAnAuthorIsWarnedOfWhatHasNoEffect(t *testing.T) {
	const day = "2026-11-21 12:00:00"
	for name, test := range map[string]struct {
		texts []string
		want  string
	}{
		"a rule that matches nothing": {
			[]string{"[packages]\ngit = \"latest\"\n[[rules]]\nmatch = [\"package/gti\", \"package/*\", \"user/*\"]\nseverity = \"low\"\n"},
			"a.toml:4: warning: the rule matches nothing by \"package/gti\": no fragment sets such a resource; did you mean \"package/git\"?\n" +
				"a.toml:4: warning: the rule matches nothing by \"user/*\": no fragment sets such a resource; look at the IDs with: soe-agent policy show\n",
		},
		"a rule about what another persona's fragment sets": {
			[]string{"personas = [\"a\"]\n[packages]\ngit = \"latest\"\n", "personas = [\"b\"]\n[[rules]]\nmatch = [\"package/git\"]\nseverity = \"low\"\n"},
			"",
		},
		"a rule about what may lie in a purged directory": {
			[]string{"[directories.\"/etc/modprobe.d\"]\npurge = true\n[[rules]]\nmatch = [\"dropin/etc/modprobe.d/stray.conf\", \"dropin/etc/mod*.bak\"]\nseverity = \"low\"\n"},
			"",
		},
		"a rule about what stands in the report beside the settings of dconf": {
			[]string{"[dconf.\"org/x\"]\na = 1\n[[rules]]\nmatch = [\"dconf/profile\"]\nseverity = \"low\"\n"},
			"",
		},
		"a rule that says nothing": {
			[]string{"[packages]\ngit = \"latest\"\n[[rules]]\nmatch = [\"*\"]\n[[rules]]\nmatch = [\"*\"]\nreason = \"T\"\n[[rules]]\nmatch = [\"*\"]\nseverity = \"low\"\nreason = \"T\"\n"},
			"a.toml:4: warning: the rule says nothing of what it matches\n" +
				"a.toml:6: warning: the rule says nothing of what it matches\n" +
				"a.toml:9: warning: the reason has no effect: it is that of mode = \"audit\"\n",
		},
		"a rule of which all is said anew": {
			[]string{"[packages]\ngit = \"latest\"\n[[rules]]\nmatch = [\"package/g*t\"]\nseverity = \"low\"\ncontrols = [\"C\"]\n[[rules]]\nmatch = [\"service/*\", \"package/*\"]\nseverity = \"high\"\n[[rules]]\nmatch = [\"package/git\"]\npending = \"3d\"\n[services.\"a.service\"]\nrunning = true\n"},
			"a.toml:4: warning: the rule's severity has no effect: the rule in line 8 says another of all that it matches, and the later one is believed\n",
		},
		"a narrower rule after a wider one": {
			[]string{"[packages]\ngit = \"latest\"\n[[rules]]\nmatch = [\"package/*\"]\nseverity = \"low\"\n[[rules]]\nmatch = [\"package/git\"]\nseverity = \"high\"\n"},
			"",
		},
		"what is absent and more": {
			[]string{"[groups.a]\nensure = \"absent\"\ngid = 5\n[groups.b]\nensure = \"absent\"\n[dropins.\"/etc/profile.d/a.sh\"]\nensure = \"absent\"\nmode = \"0644\"\n[dropins.\"/etc/x/a.conf\"]\nensure = \"absent\"\nactivate = []\n"},
			"a.toml:2: warning: group/a is to be absent, and what else is said of it has no effect\n" +
				"a.toml:7: warning: dropin/etc/profile.d/a.sh is to be absent, and what else is said of it has no effect\n",
		},
		"a fragment without anything": {[]string{"personas = [\"a\"]\n"}, "a.toml: warning: it sets nothing and has no rules\n"},
	} {
		if diff := cmp.Diff(test.want, advised(t, day, test.texts...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAnAuthorIsToldOfAWaiversEndBeforeItAndAfterIt(t *testing.T) {
	const fragment = "[packages]\ntelnet = \"absent\"\n[[rules]]\nmatch = [\"package/telnet\"]\nmode = \"audit\"\nuntil = 2026-12-31\nreason = \"T\"\n"
	const ends = "a.toml:4: notice: the waiver ends soon: 2026-12-31 is its last day\n"
	const ended = "a.toml:4: warning: the waiver has ended: 2026-12-31 was its last day; take the rule out, or give it another day\n"
	for day, want := range map[string]string{
		"2026-12-01 23:59:59": "", "2026-12-02 00:00:00": ends, "2026-12-31 23:59:59": ends, "2027-01-01 00:00:00": ended,
	} {
		if diff := cmp.Diff(want, advised(t, day, fragment)); diff != "" {
			t.Errorf("on %s (-want +got):\n%s", day, diff)
		}
	}
}

func TestTheNextEndOfAWaiverIsThatOfAKindsOwnResources(t *testing.T) {
	var text strings.Builder
	text.WriteString("schema = 1\n[packages]\ntelnet = \"absent\"\n[pcoip]\nenable_audio = 0\n")
	for glob, until := range map[string]string{"package/*": "2026-12-31", "pcoip/*": "2026-12-30", "*/telnet": "2026-12-29", "user/*": "2026-12-28"} {
		text.WriteString("[[rules]]\nmatch = [\"" + glob + "\"]\nmode = \"audit\"\nreason = \"T\"\nuntil = " + until + "\n")
	}
	p := mustMerge(t, nil, mustParse(t, "a.toml", text.String()))
	day := func(n int) time.Time { return time.Date(2026, 12, n, 0, 0, 0, 0, time.UTC) }
	for _, test := range []struct {
		kind        string
		after, want time.Time
	}{
		{"package", day(1), day(30)},
		{"package", day(30), day(32)},
		{"package", day(32), time.Time{}},
		{"pcoip", day(1), day(31)},
		{"user", day(1), time.Time{}},
	} {
		if got := p.NextWaiverEnd(test.kind, test.after); !got.Equal(test.want) {
			t.Errorf("of %s after %s: %s", test.kind, test.after, got)
		}
	}
}
