package policy

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file. With -update it writes the file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func mustParse(t *testing.T, name, text string) Fragment {
	t.Helper()
	f, err := Parse(Source{Name: name, Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustMerge(t *testing.T, personas []string, fragments ...Fragment) *Policy {
	t.Helper()
	p, err := Merge(fragments, personas, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ids(p *Policy) []ID {
	var all []ID
	for _, r := range p.Resources {
		all = append(all, r.ID)
	}
	return all
}

func TestTheExampleOfTheReferenceHoldsEveryKind(t *testing.T) {
	text, err := os.ReadFile("testdata/design.toml")
	if err != nil {
		t.Fatal(err)
	}
	p := mustMerge(t, []string{"base", "developer"}, mustParse(t, "design.toml", string(text)))
	want := []ID{
		"check/home-encrypted",
		"dconf/com/example/tool/limits",
		"dconf/org/mate/desktop/background/picture-filename",
		"dconf/org/mate/desktop/background/picture-options",
		"dconf/org/mate/desktop/session/idle-delay",
		"dropin/etc/rsyslog.d/60-forward.conf",
		"dropin/etc/sysctl.d/60-soe.conf",
		"group/apache", "group/soe-scan",
		"package/firefox", "package/gimp", "package/git", "package/libreoffice", "package/nodejs",
		"pcoip/server_clipboard_state",
		"repository/corp",
		"service/chronyd.service",
		"sudo/allow",
		"system/selinux", "system/timezone",
		"user/apache", "user/soe-scan",
	}
	if diff := cmp.Diff(want, ids(p)); diff != "" {
		t.Errorf("IDs (-want +got):\n%s", diff)
	}
	yes, n := true, 48
	for id, want := range map[ID]Spec{
		"package/libreoffice": Package{Ensure: Present, Topic: "libreoffice"},
		"package/nodejs":      Package{Ensure: "16.20.2-1.el7"},
		"dconf/org/mate/desktop/background/picture-options": Dconf{Value: "zoom"},
		"dconf/org/mate/desktop/session/idle-delay":         Dconf{Value: int64(10), Lock: true},
		"dconf/com/example/tool/limits":                     Dconf{GVariant: "(uint32 3, 'soft')", Lock: true},
		"user/apache":                                       User{Ensure: Present, UID: &n, System: true, Registered: true},
		"sudo/allow":                                        Sudo{Allow: []string{"root", `%EXAMPLE\Linux_WorkSpaces_Admins`}},
		"service/chronyd.service":                           Service{Enabled: &yes, Running: &yes},
		"pcoip/server_clipboard_state":                      PCoIP{Value: "0"},
		"repository/corp": Repository{
			Ensure: Present, BaseURL: "https://rpm.example.com/al2/$basearch", GPGKeys: []string{"https://rpm.example.com/KEY"},
			Fingerprints: []string{"123456789ABCDEF0123456789ABCDEF012345678"},
		},
		"check/home-encrypted": Check{
			Run: []string{"/usr/bin/findmnt", "-no", "SOURCE", "/home"}, Stdout: "^/dev/mapper/", Timeout: defaultCheckTimeout,
		},
	} {
		r, _ := p.Lookup(id)
		if diff := cmp.Diff(want, r.Spec); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
		if r.Origin.Fragment != "design.toml" || r.Origin.Line == 0 || r.Origin.Persona != "developer" {
			t.Errorf("%s comes from %+v", id, r.Origin)
		}
	}
}

// Each file of testdata/problems has the expected problems beside it.
func TestAnAuthorIsToldOfEveryProblemWhereItIs(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.toml")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(Source{Name: filepath.Base(file), Text: string(text)})
			if err == nil {
				t.Fatal("nothing is wrong with it")
			}
			golden(t, strings.TrimSuffix(file, ".toml")+".golden", err.Error()+"\n")
			for _, p := range AsProblems(err) {
				if !strings.HasPrefix(p.Message, "cannot ") || strings.Contains(p.Message, "\n") {
					t.Errorf("message %q", p.Message)
				}
			}
		})
	}
}

// For this text, the TOML decoder returns a position before the beginning.
func TestAFragmentThatBeginsWithAControlCharacterIsRefusedLikeAnyOther(t *testing.T) {
	_, err := Parse(Source{Name: "a.toml", Text: "\x02schema = 1\n"})
	if problems := AsProblems(err); len(problems) != 1 || problems[0].Line != 1 {
		t.Errorf("the problems are %v", err)
	}
}

func TestTheProblemsOfAllFragmentsAreReportedAtOnce(t *testing.T) {
	_, err := ParseAll([]Source{
		{Name: "a.toml", Text: "schema = 1\nfoo = 1\n"},
		{Name: "b.toml", Text: "schema = 1\n[packages]\ngit = \"latest\"\n"},
		{Name: "c.toml", Text: "schema = 1\n[packages\n"},
		{Name: "d.toml", Text: ""},
	})
	var places []string
	for _, p := range AsProblems(err) {
		place, _, _ := strings.Cut(p.Error(), ": ")
		places = append(places, place)
	}
	if diff := cmp.Diff([]string{"a.toml:2", "c.toml:2", "d.toml"}, places); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
}

func TestAKeyIsFoundOnItsLineHoweverItIsWritten(t *testing.T) {
	document := strings.Join([]string{
		/* 1 */ `# a = 1`,
		/* 2 */ `a . "b.c" . 'd\e' = 1 # [no.table]`,
		/* 3 */ `text = """`,
		/* 4 */ `[not.a.table]`,
		/* 5 */ `key = 1 \""" ""`,
		/* 6 */ `"""`,
		/* 7 */ `literal = '''`,
		/* 8 */ `other = "x`,
		/* 9 */ `''''`,
		/* 10 */ `inline = { x = 1, y = { "z]" = [1, "}"] } }`,
		/* 11 */ `list = [ # one`,
		/* 12 */ `  "a]", # two`,
		/* 13 */ `  { in = 1 },`,
		/* 14 */ `]`,
		/* 15 */ `[ t . "q\"uo\u0074e\\" ]`,
		/* 16 */ `k = 1979-05-27 07:32:00`,
		/* 17 */ ``,
		/* 18 */ `[[many]]`,
		/* 19 */ `a = 1`,
		/* 20 */ `  [[many]] # again`,
		/* 21 */ `  a = 2`,
		/* 22 */ `[super.sub]`,
		/* 23 */ `[super]`,
		/* 24 */ `own = true`,
	}, "\n")
	for ending, text := range map[string]string{"LF": document, "CRLF": strings.ReplaceAll(document, "\n", "\r\n")} {
		found := locate(text)
		for _, want := range []struct {
			path []string
			line int
		}{
			{[]string{"a"}, 2},
			{[]string{"a", "b.c", `d\e`}, 2},
			{[]string{"text"}, 3},
			{[]string{"literal"}, 7},
			{[]string{"inline", "y", "z]"}, 10},
			{[]string{"list"}, 11},
			{[]string{"list", "in"}, 13},
			{[]string{"t", `q"uote\`}, 15},
			{[]string{"t", `q"uote\`, "k"}, 16},
			{[]string{"many", element(0), "a"}, 19},
			{[]string{"many", element(1)}, 20},
			{[]string{"many", element(1), "a"}, 21},
			{[]string{"many", element(1), "unknown"}, 20},
			{[]string{"super", "sub"}, 22},
			{[]string{"super", "own"}, 24},
			{[]string{"nowhere"}, 0},
			{[]string{"not"}, 0},
			{[]string{"key"}, 0},
			{[]string{"other"}, 0},
		} {
			if line := found.at(want.path); line != want.line {
				t.Errorf("%s: %q is on line %d, want %d", ending, want.path, line, want.line)
			}
		}
	}
}

func TestTheSameFragmentMayBeWrittenInManyWays(t *testing.T) {
	want := mustParse(t, "f", "schema = 1\n[packages]\ngit = \"latest\"\n[services.\"a.service\"]\nrunning = true\n")
	for name, text := range map[string]string{
		"dotted keys":        "schema = 1\npackages.git = \"latest\"\nservices.\"a.service\".running = true\n",
		"inline tables":      "schema = 1\npackages = { git = 'latest' }\nservices = { \"a.service\" = { running = true } }\n",
		"escapes":            "schema = 1\n[packages]\n\"\\u0067it\" = \"latest\"\n[services.'a.service']\nrunning = true\n",
		"CRLF":               "schema = 1\r\n[packages]\r\ngit = \"latest\"\r\n[services.\"a.service\"]\r\nrunning = true\r\n",
		"a table's own form": "schema = 1\n[packages.git]\nensure = \"latest\"\n[services.\"a.service\"]\nrunning = true\n",
		"a byte order mark":  "\ufeffschema = 1\n[packages]\ngit = \"latest\"\n[services.\"a.service\"]\nrunning = true\n",
	} {
		got := mustParse(t, "f", text)
		for i := range got.Settings {
			if got.Settings[i].Line == 0 {
				t.Errorf("%s: %s has no line", name, got.Settings[i].ID)
			}
			got.Settings[i].Line = want.Settings[i].Line
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// mapped are the files of a test.
type mapped struct{ fstest.MapFS }

func (m mapped) ReadDir(dir string) ([]string, error) {
	entries, err := m.MapFS.ReadDir(dir)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, err
}

func TestADirectoryGivesItsFragmentsInOrderOfName(t *testing.T) {
	files := mapped{fstest.MapFS{
		"p/20-b.toml": {Data: []byte("b")}, "p/10-a.toml": {Data: []byte("a")},
		"p/.hidden.toml": {}, "p/README": {}, "p/30.toml.rpmsave": {},
	}}
	got, err := ReadDir(files, "p", Local)
	if err != nil {
		t.Fatal(err)
	}
	want := []Source{
		{Name: "p/10-a.toml", Layer: Local, Text: "a"},
		{Name: "p/20-b.toml", Layer: Local, Text: "b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := ReadDir(files, "missing", Seed); got != nil || err != nil {
		t.Errorf("a directory that is not there: %v, %v", got, err)
	}
	files.MapFS["p/40.toml/x"] = &fstest.MapFile{}
	if got, err := ReadDir(files, "p", Seed); err == nil || len(got) != 2 {
		t.Errorf("a directory in the place of a fragment: %v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.toml")
	for _, file := range append(files, "testdata/design.toml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("[ }")
	f.Add("a = { ]")
	f.Add("\x02")
	f.Fuzz(func(t *testing.T, text string) {
		lineCount := strings.Count(text, "\n") + 1
		for path, line := range locate(text) { // invalid documents too
			if line < 1 || line > lineCount {
				t.Errorf("%q is on line %d of %d", path, line, lineCount)
			}
		}
		fragment, err := Parse(Source{Name: "f", Text: text})
		for _, p := range AsProblems(err) {
			if p.Line < 0 || p.Line > lineCount || p.Message == "" {
				t.Errorf("problem %+v", p)
			}
		}
		if err != nil {
			return
		}
		p, err := Merge([]Fragment{fragment}, fragment.Personas, nil)
		if err != nil {
			return
		}
		if !slices.IsSorted(ids(p)) {
			t.Error("not sorted")
		}
		readAgain(t, p)
		for _, s := range fragment.Settings {
			if s.Line < 1 || s.ID.Kind() != s.Spec.Kind() || s.ID.Name() == "" {
				t.Errorf("setting %+v", s)
			}
			if _, ok := p.Lookup(s.ID); !ok {
				t.Errorf("%s is lost", s.ID)
			}
		}
	})
}
