package sudoers

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

type file struct {
	content string
	mode    os.FileMode
	uid     int
	gid     int
}

func read(t *testing.T, files map[string]file) *Tree {
	t.Helper()
	root := t.TempDir()
	for name, f := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if f.mode == 0 {
			f.mode = 0o440
		}
		if err := os.WriteFile(name, []byte(f.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(name, f.uid, f.gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, f.mode); err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Read(s.FS, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func granted(tree *Tree) (names []string) {
	for _, line := range tree.Lines {
		for _, user := range line.Users {
			names = append(names, user.Name)
		}
	}
	return names
}

func TestFilesThatSudoPassesOverGrantNothing(t *testing.T) {
	tree := read(t, map[string]file{
		Main:                      {content: "root ALL=ALL\n#include /etc/sudoers.local\n#includedir /etc/sudoers.d\n"},
		"/etc/sudoers.local":      {content: "local ALL=ALL\n", mode: 0o666},
		Dir + "/10-ok":            {content: "ok ALL=ALL\n"},
		Dir + "/1_x":              {content: "between ALL=ALL\n", mode: 0o644},
		Dir + "/20-world":         {content: "world ALL=ALL\n", mode: 0o642},
		Dir + "/30-group":         {content: "group ALL=ALL\n", mode: 0o460, gid: 5},
		Dir + "/40-roots-group":   {content: "rootsgroup ALL=ALL\n", mode: 0o460},
		Dir + "/50-owner":         {content: "owner ALL=ALL\n", uid: 1000},
		Dir + "/60-dot.conf":      {content: "dot ALL=ALL\n"},
		Dir + "/70-backup~":       {content: "backup ALL=ALL\n"},
		Dir + "/.80-swp":          {content: "swp ALL=ALL\n"},
		Dir + "/90-nested/nested": {content: "nested ALL=ALL\n"},
	})
	if diff := cmp.Diff([]string{"root", "ok", "between", "rootsgroup"}, granted(tree)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/etc/sudoers.local"}, tree.Missing); diff != "" {
		t.Error(diff)
	}
}

// Two includes of a file in itself would be followed 2¹²⁸ times.
func TestACircleOfIncludesEnds(t *testing.T) {
	tree := read(t, map[string]file{
		Main:         {content: "root ALL=ALL\n#includedir /etc/sudoers.d\n"},
		Dir + "/10":  {content: "#include /etc/sudoers.d/10\n#include /etc/sudoers.d/10\n#includedir .\n"},
		Dir + "/20x": {content: "late ALL=ALL\n"},
	})
	if len(tree.Lines) > 10000 {
		t.Errorf("%d lines were read", len(tree.Lines))
	}
}

// said is a fake cvtsudoers with a fixed output. The real one is tested in boxes.
type said string

func (s said) Run(context.Context, system.Command) (system.Output, error) {
	return system.Output{Stdout: []byte(s)}, nil
}

func TestWhatCvtsudoersSaysIsUnderstood(t *testing.T) {
	specs, err := Specs(t.Context(), said(`{"User_Specs": [
{"User_List": [{"username": "ALL"}, {"username": "root", "negated": true}], "Host_List": [{"hostname": "ALL"}], "Cmnd_Specs": [{"runasusers": [{"username": "ALL"}], "runasgroups": [{"usergroup": "ALL"}], "Commands": [{"command": "ALL", "negated": true}]}]},
{"User_List": [{"username": "ALL"}], "Host_List": [{"hostname": "ALL"}], "Cmnd_Specs": [{"runasusers": [{"username": "ALL"}, {"username": "root", "negated": true}], "runasgroups": [{"usergroup": "ALL"}], "Commands": [{"command": "ALL", "negated": true}]}]},
{"User_List": [{"usergroup": "domain users"}, {"userid": 1000}, {"useralias": "A"}], "Cmnd_Specs": [{"Commands": [{"command": "ALL"}]}]}]}`))
	want := []Spec{
		{Users: []sudotext.Subject{{Form: sudotext.All}, {Form: sudotext.User, Name: "root", Negated: true}}, Denies: true, DeniesAll: true},
		{Users: []sudotext.Subject{{Form: sudotext.All}}, Denies: true},
		{Users: []sudotext.Subject{{Form: sudotext.Group, Name: "domain users"}, {Form: sudotext.UID, Name: "1000"}, {Form: sudotext.Named, Name: "A"}}},
	}
	if diff := cmp.Diff(want, specs); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := Specs(t.Context(), said("no")); err == nil {
		t.Error("what cannot be understood is no error")
	}
}

// Since 1.9.14 an include may name several files. sudo reads the first one that exists.
func TestOfSeveralThatAnIncludeNamesTheFirstThatIsThereIsRead(t *testing.T) {
	tree := read(t, map[string]file{
		Main:          {content: "@include /etc/a:/etc/b:/etc/c\n@includedir /usr/etc/sudoers.d:/etc/sudoers.d:/etc/more\n"},
		"/etc/b":      {content: "b ALL=ALL\n"},
		"/etc/c":      {content: "c ALL=ALL\n"},
		Dir + "/x":    {content: "x ALL=ALL\n"},
		"/etc/more/y": {content: "y ALL=ALL\n"},
	})
	if diff := cmp.Diff([]string{"b", "x"}, granted(tree)); diff != "" {
		t.Error(diff)
	}
	if last := tree.Lines[len(tree.Lines)-1]; last.File != Dir+"/x" {
		t.Errorf("it is of %s", last.File)
	}
}

func TestOfTwoAliasesOfANameTheFirstIsMeant(t *testing.T) {
	tree := read(t, map[string]file{
		Main:        {content: "User_Alias A = alice\nCmnd_Alias C = /bin/ls\n#includedir /etc/sudoers.d\n"},
		Dir + "/10": {content: "User_Alias A = bob : B = carol\nCmnd_Alias C = ALL : D = /bin/id\n"},
	})
	users := map[string][]sudotext.Subject{"A": {{Form: sudotext.User, Name: "alice"}}, "B": {{Form: sudotext.User, Name: "carol"}}}
	if diff := cmp.Diff(users, tree.Aliases()); diff != "" {
		t.Error(diff)
	}
	commands := tree.CommandAliases()
	for name, command := range commands {
		commands[name] = strings.TrimSpace(command)
	}
	if diff := cmp.Diff(map[string]string{"C": "/bin/ls", "D": "/bin/id"}, commands); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsReachedByALinkIsReadAndTheWayToItIsNoted(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		Main:                 "#include sudoers.local\n#include /etc/chain\n#include /etc/dangling\n@includedir by-name\n@includedir /etc/other\n",
		"/srv/local":         "local ALL=ALL\n",
		"/srv/deep/end":      "chain ALL=ALL\n",
		Dir + "/10":          "inside ALL=ALL\n",
		"/srv/other/10":      "other ALL=ALL\n",
		"/etc/sudoers.local": "-> ../srv/local", // relative to where the link is
		"/etc/chain":         "-> /srv/deep/next",
		"/srv/deep/next":     "-> end",
		"/etc/dangling":      "-> /srv/none",
		"/etc/by-name":       "-> ./sudoers.d",
		"/etc/other":         "-> /srv/other",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		err := os.WriteFile(file, []byte(content), 0o440)
		if target, isLink := strings.CutPrefix(content, "-> "); isLink {
			err = errors.Join(os.Remove(file), os.Symlink(target, file))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Read(s.FS, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"local", "chain", "inside", "other"}, granted(tree)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/etc/dangling"}, tree.Missing); diff != "" {
		t.Error(diff)
	}
	for _, line := range tree.Lines {
		if line.Sort == sudotext.IncludeDir && (line.Path == Dir) == (line.Path == "/etc/other") {
			t.Errorf("the directory is called %s", line.Path)
		}
		if len(line.Users) > 0 && line.Users[0].Name == "inside" && line.File != Dir+"/10" {
			t.Errorf("what is in %s is called %s", Dir, line.File)
		}
	}
	for _, place := range []Place{
		{"/etc", "sudoers"},
		{"/etc", "sudoers.local"},
		{"/srv", "local"},
		{"/etc", "chain"},
		{"/srv/deep", "next"},
		{"/srv/deep", "end"},
		{"/etc", "dangling"},
		{"/srv", "none"},
		{"/etc", "by-name"},
		{"/etc", "other"},
		{Dir: Dir},
		{Dir: "/etc/other"},
	} {
		if !slices.Contains(tree.Places, place) {
			t.Errorf("a change at %v is not seen", place)
		}
	}
}

func TestAChangeThatIsPlannedCountsAsIfItWereMade(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		Main: "root ALL=ALL\n#include /etc/extra\n#includedir /etc/sudoers.d\n", Dir + "/10": "ten ALL=ALL\n", Dir + "/20": "twenty ALL=ALL\n", "/etc/extra": "extra ALL=ALL\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Join(root, Dir), 0o755), os.WriteFile(filepath.Join(root, name), []byte(content), 0o440)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		changes map[string][]byte
		want    []string
	}{
		"another content":     {map[string][]byte{Dir + "/10": []byte("new ALL=ALL\n")}, []string{"root", "extra", "new", "twenty"}},
		"a file that is new":  {map[string][]byte{Dir + "/15": []byte("new ALL=ALL\n")}, []string{"root", "extra", "ten", "new", "twenty"}},
		"one that is skipped": {map[string][]byte{Dir + "/15.x": []byte("new ALL=ALL\n")}, []string{"root", "extra", "ten", "twenty"}},
		"a file that goes":    {map[string][]byte{Dir + "/10": nil, "/etc/extra": nil}, []string{"root", "twenty"}},
		"elsewhere":           {map[string][]byte{"/etc/10": []byte("new ALL=ALL\n")}, []string{"root", "extra", "ten", "twenty"}},
	} {
		tree, err := Read(s.FS, test.changes)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, granted(tree)); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	if _, err := Read(s.FS, map[string][]byte{Main: nil}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the main file: %v", err)
	}
}
