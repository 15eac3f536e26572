package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// spoilt are what may be where a file is expected, and words of the error that says so.
func spoilt() map[string]struct {
	put func(name string) error
	why string
} {
	type spoil = struct {
		put func(name string) error
		why string
	}
	link := func(to string) func(string) error {
		return func(name string) error { return os.Symlink(to, name) }
	}
	return map[string]spoil{
		"a pipe":      {func(name string) error { return unix.Mkfifo(name, 0o600) }, "pipe"},
		"a socket":    {func(name string) error { return unix.Mknod(name, unix.S_IFSOCK|0o600, 0) }, "socket"},
		"a directory": {func(name string) error { return os.Mkdir(name, 0o700) }, "directory"},
		"a link to a pipe": {func(name string) error {
			return errors.Join(unix.Mkfifo(name+"-pipe", 0o600), os.Symlink(name+"-pipe", name))
		}, "pipe"},
		"a link to zeros":   {link("/dev/zero"), "device"},
		"a link to itself":  {func(name string) error { return os.Symlink(filepath.Base(name), name) }, "symbolic links"},
		"a link to nowhere": {link("nowhere"), "no such file"},
		"a waiting file":    {link("/proc/kmsg"), ""},
		"a large file": {func(name string) error {
			return errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 1<<40))
		}, "too large"},
	}
}

// printed is what lint prints for programs, as far as it is looked at here.
type printed struct {
	Accepted  bool
	Fragments int
	Problems  []struct{ File, Message string }
}

// ends runs a command, which must end by itself.
func ends(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	done := make(chan int, 1)
	go func() { done <- run(args, &out, &errs) }()
	select {
	case code = <-done:
		return code, out.String(), errs.String()
	case <-time.After(time.Minute):
		t.Fatalf("soe-agent %s does not end", strings.Join(args, " "))
		return 0, "", ""
	}
}

func TestWhateverIsInPlaceOfAFileOfThePolicyIsSaidAndWaitedForByNoCommand(t *testing.T) {
	const fine = "schema = 1\n[packages]\ngit = \"latest\"\n"
	for what, spoil := range spoilt() {
		dir := t.TempDir()
		bad, good, root := filepath.Join(dir, "bad"), filepath.Join(dir, "good"), filepath.Join(dir, "root")
		file := filepath.Join(bad, "50-x.toml")
		schemas := filepath.Join(dir, "schemas")
		if err := errors.Join(os.Mkdir(bad, 0o700), os.Mkdir(good, 0o700), os.MkdirAll(filepath.Join(root, "etc"), 0o755),
			os.WriteFile(filepath.Join(root, "etc/machine-id"), []byte("0123456789abcdef0123456789abcdef\n"), 0o644),
			os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644),
			os.WriteFile(filepath.Join(bad, "10-a.toml"), []byte(fine), 0o600), os.WriteFile(filepath.Join(good, "10-a.toml"), []byte(fine), 0o600),
			spoil.put(file), spoil.put(schemas)); err != nil {
			t.Fatal(err)
		}
		if what == "a waiting file" {
			if _, err := os.Stat("/proc/kmsg"); err != nil {
				continue
			}
		}
		commands := [][]string{
			{"policy", "lint", "--policy", bad},
			{"policy", "show", "--policy", bad},
			{"policy", "publish", "--dry-run", "--policy", bad},
			{"plan", "--root", root, "--policy", bad},
			{"apply", "--root", root, "--policy", bad},
			{"explain", "package/git", "--policy", bad},
		}
		if what == "a waiting file" {
			commands = commands[:1]
		}
		for _, args := range commands {
			code, stdout, stderr := ends(t, args...)
			if said := stdout + stderr; code != exitError || !strings.Contains(said, file) || !strings.Contains(said, spoil.why) {
				t.Errorf("%s: soe-agent %s exits with %d and says %s", what, strings.Join(args, " "), code, said)
			}
		}
		if what == "a waiting file" {
			continue
		}
		if what == "a directory" {
			schemas = filepath.Join(schemas, "gschemas.compiled")
		}
		for _, args := range [][]string{
			{"policy", "lint", "--policy", good, "--schemas", schemas},
			{"plan", "--root", root, "--policy", schemas},
			{"policy", "lint", "--policy", schemas},
			{"policy", "publish", "--policy", good, "--config", schemas},
			{"plan", "--root", "/", "--config", schemas, "--policy", good},
		} {
			code, stdout, stderr := ends(t, args...)
			if said := stdout + stderr; code != exitError || !strings.Contains(said, filepath.Base(schemas)) {
				t.Errorf("%s: soe-agent %s exits with %d and says %s", what, strings.Join(args, " "), code, said)
			}
		}
		_, stdout, _ := ends(t, "policy", "lint", "--json", "--policy", bad)
		var document printed
		if err := json.Unmarshal([]byte(stdout), &document); err != nil || document.Accepted || document.Fragments != 1 || len(document.Problems) != 1 ||
			document.Problems[0].File != file || !strings.Contains(document.Problems[0].Message, spoil.why) {
			t.Errorf("%s: %v: it prints %s", what, err, stdout)
		}
	}
}

func TestWhatCannotBeReadIsAmongTheProblemsThatLintPrintsForPrograms(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "10-a.toml")
	if err := errors.Join(os.WriteFile(broken, []byte("schema = 1\nnonsense = 1\n"), 0o600), os.Symlink("nowhere", filepath.Join(dir, "20-b.toml")), os.Mkdir(filepath.Join(dir, "empty"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args  []string
		files []string
	}{
		{[]string{"--policy", dir}, []string{filepath.Join(dir, "20-b.toml"), broken}},
		{[]string{"--policy", filepath.Join(dir, "none")}, []string{filepath.Join(dir, "none")}},
		{[]string{"--policy", filepath.Join(dir, "empty")}, []string{filepath.Join(dir, "empty")}},
		{[]string{"--policy", broken}, []string{broken}},
		{[]string{"--policy", filepath.Join(dir, "empty"), "--schemas", filepath.Join(dir, "none")}, []string{filepath.Join(dir, "empty"), filepath.Join(dir, "none")}},
	} {
		code, stdout, stderr := ends(t, append([]string{"policy", "lint", "--json"}, test.args...)...)
		var document printed
		if err := json.Unmarshal([]byte(stdout), &document); err != nil || code != exitError || document.Accepted || !strings.HasPrefix(stderr, "cannot accept the policy") {
			t.Errorf("%q: %v, exit code %d: %s%s", test.args, err, code, stdout, stderr)
		}
		var files []string
		for _, p := range document.Problems {
			if files = append(files, p.File); !strings.HasPrefix(p.Message, "cannot ") {
				t.Errorf("%q: %q", test.args, p.Message)
			}
		}
		if strings.Join(files, " ") != strings.Join(test.files, " ") {
			t.Errorf("%q: the problems are of %q", test.args, files)
		}
	}
}

func TestAnErrorAboutTheRootNamesIt(t *testing.T) {
	root := filepath.Join(t.TempDir(), "none")
	for _, args := range [][]string{{"plan"}, {"apply"}, {"purge"}, {"report"}, {"history"}, {"status"}, {"image", "audit"}, {"image", "seal"}, {"support-bundle"}, {"explain", "sudo/allow"}} {
		code, stdout, stderr := ends(t, append(args, "--root", root)...)
		if code != exitError || stdout != "" || !strings.Contains(stderr, "cannot open the root directory "+root+": no such file or directory") {
			t.Errorf("%q exits with %d and says %s%s", args, code, stdout, stderr)
		}
	}
}
