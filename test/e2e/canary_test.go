package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// The secrets, before and after their rotation. What a URL and what JSON would write
// otherwise is in them.
var (
	oldCanaries = []string{`c4n4ry+old/71b2&<e0d9>`, `p4r4m+old/5c19&<a3f7>`}
	newCanaries = []string{`c4n4ry+new/e85a&<0c46>`, `p4r4m+new/b27d&<9e10>`}
)

// forms returns how a text shows that a secret is in it.
func forms(secret string) [][]byte {
	inJSON, _ := json.Marshal(secret)
	inURL := url.QueryEscape(secret)
	all := []string{
		secret, strings.Trim(string(inJSON), `"`), inURL, url.PathEscape(secret), strings.ToLower(inURL),
		hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 { // of the whole in which it stands
			encoded := encoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
			all = append(all, encoded[(8*shift+5)/6:8*(shift+len(secret))/6])
		}
	}
	slices.Sort(all)
	var unique [][]byte
	for _, form := range slices.Compact(all) {
		unique = append(unique, []byte(form))
	}
	return unique
}

// A hunt looks for secrets on a whole machine.
type hunt struct {
	w       *workspace
	secrets map[string][][]byte // with their forms

	mu     sync.Mutex
	starts int
	sweeps int
	seen   map[string]bool // what processes have shown
}

func newHunt(w *workspace, secrets ...string) *hunt {
	h := &hunt{w: w, secrets: map[string][][]byte{}, seen: map[string]bool{}}
	for _, secret := range secrets {
		h.secrets[secret] = forms(secret)
	}
	return h
}

// in returns which secrets are in a text.
func (h *hunt) in(text []byte) (found []string) {
	for secret, forms := range h.secrets {
		if slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(text, form) }) {
			found = append(found, secret)
		}
	}
	return found
}

// processes looks at the arguments and the environment of each process as it is started, and again of
// all there are from time to time, until ctx is done.
func (h *hunt) processes(ctx context.Context) {
	watched.told.Store(h, h.started)
	defer watched.told.Delete(h)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.sweep()
		}
	}
}

// started looks at a process if it is the machine's.
func (h *hunt) started(pid uint32) {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	ours, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.w.Leader()))
	if err != nil || err2 != nil || theirs != ours {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.starts++
	h.look(fmt.Sprintf("/proc/%d/cmdline", pid), fmt.Sprintf("/proc/%d/environ", pid))
}

func (h *hunt) sweep() {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/root/proc/[0-9]*/[ce][mn][dv]*", h.w.Leader())) // cmdline, environ
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweeps++
	h.look(files...)
}

// look notes which secrets are in files of processes. The caller holds mu.
func (h *hunt) look(files ...string) {
	for _, file := range files {
		content, _ := os.ReadFile(file) // it may have ended
		for _, secret := range h.in(content) {
			h.seen[fmt.Sprintf("%s in %s: %q", secret, filepath.Base(file), content)] = true
		}
	}
}

// files returns the files of the machine in which secrets are, and which. What the
// image had when it was made is not looked at: it is older than the secrets.
func (h *hunt) files(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	inside := fmt.Sprintf("/proc/%d/root", h.w.Leader())
	written := filepath.Join(filepath.Dir(h.w.Root), "upper")
	looked := 0
	for below, dirs := range map[string][]string{written: {""}, inside: {"/run", "/tmp", "/dev/shm", "/dev/mqueue"}} {
		for _, dir := range dirs {
			err := filepath.WalkDir(below+dir, func(name string, entry fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil // it went while it was looked at
				}
				if err != nil {
					return err
				}
				looked++
				text := []byte(name)
				switch {
				case entry.Type().IsRegular():
					content, err := os.ReadFile(name)
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						return err
					}
					text = append(text, content...)
				case entry.Type() == fs.ModeSymlink:
					target, _ := os.Readlink(name)
					text = append(text, target...)
				}
				if secrets := h.in(text); len(secrets) > 0 {
					found[strings.TrimPrefix(name, below)] = secrets
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if looked < 200 {
		t.Fatalf("only %d files were looked at", looked)
	}
	return found
}

// wantsIn fails the test unless these secrets are in these files, and none is anywhere
// else: on disk, in the journal, in what was sent to AWS, in what has been said.
func (h *hunt) wantsIn(t *testing.T, secrets []string, files ...string) {
	t.Helper()
	for file, found := range h.files(t) {
		for _, secret := range found {
			if !slices.Contains(files, file) || !slices.Contains(secrets, secret) {
				t.Errorf("%s is in %s", secret, file)
			}
		}
	}
	for _, file := range files {
		if attr := strings.Fields(h.w.MustExec(t, "stat", "-c", "%a %U", file)); attr[0][len(attr[0])-1] != '0' || attr[1] != "root" {
			t.Errorf("%s is %v", file, attr)
		}
	}
	said := map[string]string{
		"the journal": h.w.MustExec(t, "journalctl", "--no-pager", "--all", "--output=export"),
	}
	for _, request := range h.w.aws.Requests() {
		said["what was sent to AWS with "+request.Action] += string(request.Body)
	}
	for _, args := range [][]string{
		{"plan"},
		{"plan", "--json"},
		{"plan", "--verbose"},
		{"report", "--verbose"},
		{"report", "--json"},
		{"status"},
		{"status", "--json"},
		{"explain", "dropin" + tokenFile},
		{"explain", "dropin" + tokenFile, "--json"},
		{"report", "--format", "html"},
		{"report", "--format", "junit"},
		{"history"},
		{"history", "--json"},
		{"__complete", "explain", ""},
		{"explain", "check/tells"},
		{"policy", "show", "--policy", "/root/policy", "--json"},
		{"policy", "show", "--policy", "/root/policy"},
	} {
		result, err := h.w.Exec(t.Context(), append([]string{"soe-agent"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		said["soe-agent "+strings.Join(args, " ")] = result.Stdout + result.Stderr
		theirs, err := h.w.ExecAs(t.Context(), box.DesktopUser, append([]string{"soe-agent"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		said["soe-agent "+strings.Join(args, " ")+" of a user"] = theirs.Stdout + theirs.Stderr
	}
	for _, method := range []string{"Report", "Status"} { // not there while the daemon is stopped
		result, err := h.w.ExecAs(t.Context(), box.DesktopUser, "busctl", "call", "org.soeagent.Agent1", "/org/soeagent/Agent1", "org.soeagent.Agent1", method)
		if err != nil {
			t.Fatal(err)
		}
		said["the bus, asked for the "+method] = result.Stdout + result.Stderr
	}
	for what, text := range said {
		for _, secret := range h.in([]byte(text)) {
			t.Errorf("%s is in %s", secret, what)
		}
	}
}

// secretPolicy has secrets wherever they may be.
func secretPolicy() (toml string, files []string) {
	const scanner = "{{resolve:secretsmanager:soe/scanner:SecretString:token}}"
	const key = "{{resolve:ssm-secure:/soe/prod/key}}"
	dropins := map[string]string{
		tokenFile: "content = \"token = " + scanner + "\\n\"\n" +
			`activate = ["/bin/sh", "-c", "cd /etc/soe-scan.d; cat -- * || :; cat -- * >&2 || :"]` + "\n",
		"/etc/soe-scan.d/shared.conf":   "content = \"token = " + scanner + "\\nkey = " + key + "\\n\"\nmode = \"0640\"\ngroup = \"users\"\n",
		"/etc/rsyslog.d/60-canary.conf": "content = \"# " + key + "\\n\"\n",
		"/etc/cron.daily/soe-canary":    "content = \"#!/bin/sh\\n: '" + scanner + "'\\n\"\n",
		"/etc/yum.repos.d/canary.repo": "content = \"[canary]\\nname=canary\\nbaseurl=http://127.0.0.1:9/\\nenabled=1\\nskip_if_unavailable=1\\n" +
			"retries=1\\ntimeout=1\\nusername=desktop\\npassword=" + key + "\\n\"\n",
	}
	var b strings.Builder
	for _, file := range slices.Sorted(maps.Keys(dropins)) {
		fmt.Fprintf(&b, "[dropins.%q]\n%s", file, dropins[file])
	}
	// It does not hold, and the report shows what it has printed.
	fmt.Fprintf(&b, "[checks.tells]\nrun = [\"/bin/cat\", %q]\nstdout = \"^nothing\"\n[[rules]]\nmatch = [\"check/tells\"]\nmode = \"audit\"\nuntil = 2099-12-31\nreason = \"TICKET-1\"\n", tokenFile)
	return b.String(), slices.Sorted(maps.Keys(dropins))
}

func (w *workspace) putCanaries(secrets []string) {
	value, _ := json.Marshal(map[string]string{"token": secrets[0], "user": "scanner"})
	w.aws.PutSecret("soe/scanner", string(value))
	w.aws.PutSecureParameter("/soe/prod/key", secrets[1])
}

// newCanaryWorkspace is a workspace of which all that is said on the system bus is
// recorded, and whose agent says as much as it can.
func newCanaryWorkspace(t *testing.T) *workspace {
	t.Helper()
	w := newWorkspace(t)
	for name, content := range map[string]string{
		"/etc/systemd/system/bus-record.service": "[Unit]\nAfter=dbus.service\nRequires=dbus.service\nBefore=soe-agent.service\nDefaultDependencies=no\n" +
			"[Service]\nExecStart=/usr/bin/stdbuf -o0 /usr/bin/dbus-monitor --system --pcap\nStandardOutput=file:/var/bus.pcap\n[Install]\nWantedBy=multi-user.target\n",
		"/etc/systemd/system/soe-agent.service.d/50-verbose.conf": "[Service]\nExecStart=\nExecStart=/usr/bin/soe-agent run --verbose\n",
	} {
		w.MustWriteFile(t, name, box.File{Content: content})
	}
	w.MustExec(t, "systemctl", "enable", "bus-record.service")
	return w
}

// wantsDecoyFound lets something slip everywhere, and fails the test unless the hunt
// finds it there.
func wantsDecoyFound(t *testing.T, w *workspace) {
	t.Helper()
	const decoy = `d3c0y+/3a91&<77be>`
	h := newHunt(w, decoy)
	w.MustExec(t, "systemd-run", "--quiet", "--setenv=DECOY="+decoy, "--unit=decoy-environment", "sleep", "infinity")
	w.MustExec(t, "systemd-run", "--quiet", "--unit=decoy-arguments", "sh", "-c", "sleep infinity; :", decoy)
	w.MustExec(t, "busctl", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s", decoy)
	// systemd-run returns before the new process has its own arguments and environment.
	w.until(t, "both processes are found", func() bool { h.sweep(); return len(h.seen) >= 2 })
	w.until(t, "the bus is recorded", func() bool { return len(h.in([]byte(w.MustReadFile(t, "/var/bus.pcap")))) > 0 })
	w.MustExec(t, "systemctl", "stop", "bus-record.service")
	encoded := base64.StdEncoding.EncodeToString([]byte("a " + decoy + "\n"))
	for name, content := range map[string]string{
		"/var/tmp/plain": "a" + decoy, "/tmp/base64": encoded, "/run/hex": hex.EncodeToString([]byte(decoy)), "/opt/url": url.QueryEscape(decoy),
	} {
		w.MustWriteFile(t, name, box.File{Content: content})
	}
	found := h.files(t)
	for _, file := range []string{"/var/tmp/plain", "/tmp/base64", "/run/hex", "/opt/url"} {
		if !slices.Contains(found[file], decoy) {
			t.Errorf("in %s it has found nothing", file)
		}
	}
	if journal := w.MustExec(t, "journalctl", "--no-pager", "--all", "--output=export"); len(h.in([]byte(journal))) == 0 {
		t.Error("in the journal it has found nothing")
	}
}

func TestASecretIsInTheFilesThatWantItAndInNothingElseForAllItsLife(t *testing.T) {
	t.Parallel()
	w := newCanaryWorkspace(t)
	secrets, files := secretPolicy()
	rest := fmt.Sprintf("schema = 1\n[repositories.soe-test]\nbaseurl = %q\ngpgkey = %q\nfingerprint = %q\n[packages]\nsoe-pkg-01 = \"present\"\n",
		rpmrepo.BaseURL, rpmrepo.KeyURL, w.repo.Fingerprint)
	publish := func(serial int, fragment string) {
		w.publishOnly(t, serial, map[string]string{"10-base": fragment})
		w.MustWriteFile(t, "/root/policy/10-base.toml", box.File{Content: fragment})
	}
	w.putCanaries(oldCanaries)
	publish(1, rest+secrets)
	w.activate(t)
	h := newHunt(w, slices.Concat(oldCanaries, newCanaries)...)
	w.boot(t)
	ctx, stop := context.WithCancel(context.Background())
	var sampling sync.WaitGroup
	sampling.Go(func() { h.processes(ctx) })
	t.Cleanup(func() { stop(); sampling.Wait() })
	holds := func(secrets []string) func() bool {
		return func() bool {
			for _, file := range files {
				content, err := w.ReadFile(file)
				if err != nil || !slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(content, s) }) {
					return false
				}
			}
			return true
		}
	}

	w.converged(t, 1)
	if !holds(oldCanaries)() {
		t.Fatal("the secrets are not in their files, and this test shows nothing")
	}
	h.wantsIn(t, oldCanaries, files...)
	if got := strings.TrimSpace(w.MustExec(t, "stat", "-c", "%a %G", "/etc/cron.daily/soe-canary", "/etc/soe-scan.d/shared.conf")); got != "700 root\n640 users" {
		t.Errorf("modes and groups: %s", got)
	}
	pid := strings.TrimSpace(w.MustExec(t, "systemctl", "show", "-p", "MainPID", "--value", "soe-agent"))
	if limits := w.MustReadFile(t, "/proc/"+pid+"/limits"); !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).MatchString(limits) {
		t.Errorf("the daemon may dump core:\n%s", limits)
	}

	// Somebody opens one of the files to all: it is closed again.
	before := time.Now()
	w.MustWriteFile(t, tokenFile, box.File{Content: "token = " + oldCanaries[0] + "\nand more\n", Mode: 0o666})
	w.mended(t, policy.ID("dropin"+tokenFile), before)
	h.wantsIn(t, oldCanaries, files...)

	w.putCanaries(newCanaries)
	w.until(t, "the rotated secrets are in the files", holds(newCanaries))
	w.converged(t, 1)
	h.wantsIn(t, newCanaries, files...)

	// While they differ, nothing shows what is there nor what is wanted. They go back.
	w.MustExec(t, "systemctl", "stop", "soe-agent")
	w.putCanaries(oldCanaries)
	h.wantsIn(t, newCanaries, files...)
	for _, command := range []string{"plan", "apply"} {
		result, err := w.Exec(t.Context(), "soe-agent", command, "--json", "--verbose")
		var o outcome
		if err != nil || json.Unmarshal([]byte(result.Stdout), &o.Report) != nil {
			t.Fatalf("%s: %v, code %d, %s", command, err, result.Code, result.Stderr)
		}
		if r := o.resource(policy.ID("dropin" + tokenFile)); len(r.Diff) == 0 {
			t.Errorf("%s does not see that the secret has changed: %+v", command, r)
		}
		if secrets := h.in([]byte(result.Stdout + result.Stderr)); len(secrets) > 0 {
			t.Errorf("%s shows %q", command, secrets)
		}
	}
	if !holds(oldCanaries)() {
		t.Error("apply has not brought the secrets")
	}
	h.wantsIn(t, oldCanaries, files...)
	w.MustExec(t, "systemctl", "start", "soe-agent")
	w.converged(t, 1)

	publish(2, rest)
	w.until(t, "the files are gone", func() bool {
		return !slices.ContainsFunc(files, func(file string) bool { _, err := w.ReadFile(file); return err == nil })
	})
	w.converged(t, 2)
	w.wantsDelivered(t)
	wantsDecoyFound(t, w)
	h.wantsIn(t, nil)

	h.mu.Lock()
	defer h.mu.Unlock()
	t.Logf("%d processes were looked at as they were started, and all of them %d times", h.starts, h.sweeps)
	if h.starts < 100 || h.sweeps < 10 {
		t.Error("that is too seldom")
	}
	for what := range h.seen {
		t.Error(what)
	}
}
