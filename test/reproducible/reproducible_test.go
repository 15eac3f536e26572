// Package reproducible_test builds the package as two people would who have nothing in
// common but the sources, Go and rpmbuild.
package reproducible_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A builder is a person, their machine and their habits.
type builder struct {
	dir      string // where they unpack the sources
	hostname string
	umask    string
	uid      string // whose the sources are
	modified string // when they came there, as touch(1) reads it
	clock    string // by how many seconds it is wrong
	env      []string
	macros   string // ~/.rpmmacros
}

// wrongClock answers the question for the time with another one.
const wrongClock = `#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long off(void) { const char *s = getenv("CLOCK_IS_WRONG_BY"); return s ? atol(s) : 0; }
time_t time(time_t *t) { struct timespec now; clock_gettime(CLOCK_REALTIME, &now); if (t) *t = now.tv_sec; return now.tv_sec; }
int clock_gettime(clockid_t id, struct timespec *ts) {
	int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
	int r = real(id, ts);
	if (id == CLOCK_REALTIME) ts->tv_sec += off();
	return r;
}
int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
	struct timespec now;
	int r = clock_gettime(CLOCK_REALTIME, &now);
	tv->tv_sec = now.tv_sec, tv->tv_usec = now.tv_nsec / 1000;
	return r;
}
`

func run(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// A source is one file of the sources.
type source struct {
	name    string
	content []byte
	mode    os.FileMode
}

// sources are those of the project as they are now, committed or not.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	tracked := run(t, "../..", nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimRight(tracked, "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has gone, and that is not committed yet
		}
		info, statErr := os.Stat(filepath.Join("../..", name))
		if err := errors.Join(err, statErr); err != nil {
			t.Fatal(err)
		}
		all = append(all, source{name, content, info.Mode().Perm()})
	}
	return all
}

// build has a builder make the package, and returns its file.
func build(t *testing.T, sources []source, b builder) string {
	t.Helper()
	for _, s := range sources {
		file := filepath.Join(b.dir, s.name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, s.content, s.mode)); err != nil {
			t.Fatal(err)
		}
	}
	const date = "2026-11-20T10:00:00Z"
	commit := []string{
		"GIT_AUTHOR_DATE=" + date, "GIT_COMMITTER_DATE=" + date, "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com",
	}
	run(t, b.dir, commit, "sh", "-c", "git init -q . && git add -A && git commit -qm all")
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".rpmmacros"), []byte(b.macros), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, b.dir, nil, "sh", "-c", "find . -exec touch -h -d '"+b.modified+"' {} +; chown -R "+b.uid+" .")
	clock := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(clock+".c", []byte(wrongClock), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "", nil, "gcc", "-shared", "-fPIC", "-o", clock+".so", clock+".c")
	env := append([]string{
		"HOME=" + home, "GOPATH=" + strings.TrimSpace(run(t, "", nil, "go", "env", "GOPATH")), "GIT_CONFIG_GLOBAL=/dev/null", "MAKEFLAGS=", "MAKELEVEL=",
		"CLOCK_IS_WRONG_BY=" + b.clock, "LD_PRELOAD=" + clock + ".so",
	}, b.env...)
	run(t, b.dir, env, "unshare", "--uts", "sh", "-c", "hostname "+b.hostname+"; umask "+b.umask+"; exec make rpm")
	found, err := filepath.Glob(filepath.Join(b.dir, "dist/*.rpm"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found[0]
}

func digest(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func TestWhoeverBuildsThePackageGetsTheSameBytes(t *testing.T) {
	elsewhere, err := os.MkdirTemp("/dev/shm", "elsewhere") // another file system
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(elsewhere) })
	all := sources(t)
	// What is compiled already is the same for both: -trimpath keeps the folder out of it, which
	// is seen at the end.
	cache := strings.TrimSpace(run(t, "", nil, "go", "env", "GOCACHE"))
	one := build(t, all, builder{
		dir: filepath.Join(t.TempDir(), "src"), hostname: "one", umask: "022", uid: "0", modified: "2026-11-28 12:00", clock: "0",
		env: []string{"TZ=UTC", "LC_ALL=C", "GOCACHE=" + cache},
	})
	two := build(t, all, builder{
		dir: filepath.Join(elsewhere, "a", "longer-path", "soe-agent"), hostname: "two.example.com", umask: "077", uid: "1234", modified: "2001-01-01 00:00", clock: "-300000000",
		env: []string{
			"TZ=Pacific/Auckland", "LC_ALL=C.UTF-8", "LANGUAGE=de", "GOCACHE=" + cache, "TMPDIR=" + t.TempDir(),
			"GOFLAGS=-tags=somebody -ldflags=-X=main.version=9", "GOAMD64=v3", "USER=somebody", "LOGNAME=somebody", "CDPATH=/",
		},
		macros: "%packager Somebody <somebody@example.com>\n%vendor Somebody\n%distribution Theirs\n%_binary_payload w1.gzdio\n%_buildhost theirs\n%_topdir /nowhere\n",
	})
	binary, err := os.ReadFile(filepath.Join(filepath.Dir(one), "soe-agent"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{one, two} {
		if dir := filepath.Dir(filepath.Dir(file)); bytes.Contains(binary, []byte(dir)) {
			t.Errorf("%s is in the binary", dir)
		}
	}
	if digest(t, one) != digest(t, two) {
		const all = `[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILEMTIMES} %{FILESIZES} %{FILEINODES} %{FILEDIGESTS}\n]`
		for _, file := range []string{one, two} {
			t.Log(run(t, "", nil, "rpm", "-qp", "--xml", file)[:3000])
			t.Log(run(t, "", nil, "rpm", "-qp", "--qf", all, file))
		}
		t.Error("the digests differ")
	}
}
