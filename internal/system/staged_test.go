package system

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// stagedIn runs a command on the running machine, with files of a temporary directory replaced, and
// returns its output.
func stagedIn(t *testing.T, staged Staged, argv ...string) string {
	t.Helper()
	s, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Runner.Run(t.Context(), Command{Argv: argv, ReadOnly: true, Staged: staged})
	if err != nil || out.ExitCode != 0 {
		t.Fatalf("%v, exit code %d: %s", err, out.ExitCode, out.Stderr)
	}
	return string(out.Stdout)
}

// tree returns a directory with entries of every type.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "a as it is\n", 0o440)
	write("b", "b as it is\n", 0o640)
	write("below/c", "c as it is\n", 0o440)
	if err := os.Symlink("b", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// listing lists a directory with the contents of its files.
const listing = `cd "$1"; stat -c '. %a %u' .; for f in $(find . -mindepth 1 ! -type d | sort); do stat -c '%N %a' $f; cat $f; done`

func TestACommandSeesStagedFilesAndEverythingElseAsItIs(t *testing.T) {
	dir := tree(t)
	before := stagedIn(t, nil, "sh", "-c", listing, "sh", dir)
	got := stagedIn(t, Staged{
		dir + "/a":       nil,
		dir + "/b":       []byte("b as it would be\n"),
		dir + "/new":     []byte("new\n"),
		dir + "/gone":    nil,
		dir + "/below/c": []byte("c as it would be\n"),
	}, "sh", "-c", listing, "sh", dir)
	want := `. 750 0
'./b' 440
b as it would be
'./below/c' 440
c as it would be
'./link' -> 'b' 777
b as it would be
'./new' 440
new
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, stagedIn(t, nil, "sh", "-c", listing, "sh", dir)); diff != "" {
		t.Errorf("it is not as it was: %s", diff)
	}
}

func TestWhereOnlyContentsDifferNothingElseIsCovered(t *testing.T) {
	dir := tree(t)
	got := stagedIn(t, Staged{dir + "/a": []byte("a as it would be\n")}, "sh", "-c", `cat "$1/a"; grep -c "$1" /proc/self/mountinfo`, "sh", dir)
	if got != "a as it would be\n1\n" {
		t.Errorf("it printed %q", got)
	}
}

func TestAStagedLinkIsAFileAndWhatItLedToStays(t *testing.T) {
	dir := tree(t)
	got := stagedIn(t, Staged{dir + "/link": []byte("no link\n")}, "sh", "-c", `cat "$1/link" "$1/b"`, "sh", dir)
	if got != "no link\nb as it is\n" {
		t.Errorf("it printed %q", got)
	}
}

func TestADirectoryThatIsNotThereIsSeenWithWhatIsStagedInIt(t *testing.T) {
	dir := tree(t)
	got := stagedIn(t, Staged{dir + "/x/y/new": []byte("new\n"), dir + "/x/gone": nil}, "sh", "-c", `cd "$1"; ls; cat x/y/new b`, "sh", dir)
	if got != "a\nb\nbelow\nlink\nx\nnew\nb as it is\n" {
		t.Errorf("it printed %q", got)
	}
	if _, err := os.Lstat(dir + "/x"); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
}
