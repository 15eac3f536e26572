package sudoers

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/system"
)

func TestTheSourcesAreThoseThatSudoReads(t *testing.T) {
	files, sss := source{name: "files"}, source{name: "sss"}
	final := func(s source) source { s.ifFound = true; return s }
	for text, want := range map[string][]source{
		"":                     {files},
		"passwd: files sss\n":  {files},
		"sudoers: files sss\n": {files, sss},
		"  SUDOERS:\tSSS  [Success=Return] Files # x\nsudoers: sss\n": {final(sss), files},
		"#sudoers: sss\nsudoers:sss\n":                                {sss},
		"sudoers: files [NOTFOUND=return] sss":                        {{name: "files", ifNotFound: true}, sss},
		"sudoers: sss dns [SUCCESS=return] files":                     {sss, files},
		"sudoers: sss [SUCCESS=continue] [SUCCESS=return] files":      {sss, files},
		"sudoers: files files [SUCCESS=return] sss":                   {files, sss},
		"sudoers : sss\n": {files},
		"sudoers: nis\n":  {files},
	} {
		if diff := cmp.Diff(want, parseSources([]byte(text)), cmp.AllowUnexported(source{})); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

type memory struct {
	system.FileReader
	files map[string]string
}

func (m memory) ReadFile(name string) ([]byte, error) { return []byte(m.files[name]), nil }

type sudoOf string

func (s sudoOf) Run(context.Context, system.Command) (system.Output, error) {
	return system.Output{Stdout: []byte("Sudo version " + string(s) + "\nSudoers policy plugin version 1\n")}, nil
}

// sudo lists every source, one after the other, but evaluates them as nsswitch.conf says. This was
// tried with sudo 1.9.13p3; for 1.8.23 it is from the source code.
func TestWhatIsInForceGoesByWhatEndsTheSearch(t *testing.T) {
	all := []string{"ALL"}
	grant := func(source string) Entry { return Entry{Source: source, As: all, AsGroups: all, Commands: all} }
	deny := func(source string) Entry {
		return Entry{Source: source, As: all, AsGroups: all, Commands: []string{"!ALL"}}
	}
	const files, sss = "Sudoers entry", "LDAP Role: admins"
	for name, test := range map[string]struct {
		nsswitch, version string
		entries           []Entry
		want              string // "granted", "denied", or a part of an error
	}{
		"one after the other":                     {"sss files", "1.9.13p3", []Entry{grant(sss), deny(files)}, "denied"},
		"the directory ends it":                   {"sss [SUCCESS=return] files", "1.9.13p3", []Entry{grant(sss), deny(files)}, "granted"},
		"the directory would":                     {"sss [SUCCESS=return] files", "1.9.13p3", []Entry{deny(files)}, "denied"},
		"the directory denies, and ends it":       {"sss [SUCCESS=return] files", "1.9.13p3", []Entry{deny(sss), grant(files)}, "denied"},
		"the files end it":                        {"files [SUCCESS=return] sss", "1.9.13p3", []Entry{deny(files), grant(sss)}, "denied"},
		"the files end it, long since":            {"files [SUCCESS=return] sss", "1.8.23", []Entry{deny(files), grant(sss)}, "granted"},
		"the directory ends it, long since":       {"sss [SUCCESS=return] files", "1.8.23", []Entry{grant(sss), deny(files)}, "granted"},
		"two directories":                         {"sss [SUCCESS=return] ldap files", "1.9.13p3", []Entry{grant(sss), deny(files)}, "two directories"},
		"the directory alone, and may not end it": {"sss [NOTFOUND=return] files", "1.9.13p3", []Entry{grant(files)}, "remove that"},
		"the directory says all":                  {"sss [NOTFOUND=return] files", "1.9.13p3", []Entry{grant(sss), deny(files)}, "denied"},
		"the files say all":                       {"files [NOTFOUND=return] sss", "1.9.13p3", []Entry{deny(files), grant(sss)}, "granted"},
		"the files say all, long since":           {"files [NOTFOUND=return] sss", "1.8.23", []Entry{deny(files), grant(sss)}, "denied"},
		"a sudo that does not say what it is":     {"files [SUCCESS=return] sss", "x", []Entry{deny(files), grant(sss)}, "version of sudo"},
		"nothing is granted":                      {"files [SUCCESS=return] sss", "1.9.13p3", nil, "denied"},
	} {
		s := &system.System{FS: system.FS{FileReader: memory{files: map[string]string{nsswitch: "sudoers: " + test.nsswitch + "\n"}}}, Runner: sudoOf(test.version)}
		entries, err := asTheyCount(t.Context(), s, test.entries)
		got := "denied"
		switch {
		case err != nil:
			got = err.Error()
		case len(Listing{Entries: entries}.Granted()) > 0:
			got = "granted"
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: it is %s", name, got)
		}
	}
}
