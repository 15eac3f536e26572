package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
)

var injectFor = flag.Duration("inject.for", 50*time.Second, "how long system calls of a plan are made to fail")

// withStrace has strace of this machine in the box, with the libraries that it was made for.
func withStrace() box.Option {
	return box.WithSetup(func(root string) error {
		program, err := exec.LookPath("strace")
		if err != nil {
			return err
		}
		libraries, err := exec.Command("ldd", program).Output()
		if err != nil {
			return err
		}
		files := []string{program}
		for word := range strings.FieldsSeq(string(libraries)) {
			if strings.HasPrefix(word, "/") {
				files = append(files, word)
			}
		}
		dir := filepath.Join(root, "opt/strace")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, filepath.Base(file)), content, 0o755)
			}
			if err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(dir, "run"), []byte("#!/bin/sh\nexec $(ls /opt/strace/ld-linux*) --library-path /opt/strace /opt/strace/strace \"$@\"\n"), 0o755)
	})
}

// Whatever system call of the agent, or of a program that it asks, fails: what has drifted
// is never called anything better, and nor is the machine.
func TestNoSystemCallThatFailsMakesAPlanBetterThanTheTruth(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, withStrace(), box.WithNetwork(), box.WithFiles(map[string]box.File{unitDir + "kept.service": unit(stays, wanted)}))
	d.sh(t, "systemctl start kept.service; useradd -m leaver; groupadd -g 991 disk2; gpasswd -a leaver disk2; echo x >/etc/cron.d/gone; echo 'leaver ALL=(ALL) ALL' >/etc/sudoers.d/50-leaver; chmod 440 /etc/sudoers.d/50-leaver; echo leaver:x | chpasswd")
	d.sh(t, "mount -o remount,bind,dev none /dev/shm")
	d.setPolicy(t, d.repository()+onlyDomainAdmins+`
root_groups = ["disk2"]
[system]
timezone = "Europe/Berlin"
[groups]
soe-here = { gid = 5101 }
[users]
leaver = { ensure = "absent" }
[ageing.people]
warn_days = 9
[packages]
soe-pkg-01 = "present"
[dropins."/etc/cron.d/gone"]
ensure = "absent"
[dropins."/etc/profile.d/soe.sh"]
content = "umask 027\n"
[files."/etc/shadow-"]
mode = "0400"
[firewall.inbound]
action = "deny"
[mounts."/dev/shm"]
options = ["nodev"]
[pcoip]
server_clipboard_state = 0
[dconf."org/mate/screensaver"]
lock-enabled = { value = true, lock = true }
[services."kept.service"]
running = false
[checks.fails]
run = ["/bin/false"]
`)
	truth := map[policy.ID]converge.State{}
	kinds := map[string]bool{}
	for _, r := range d.plan(t).Resources {
		truth[r.ID] = r.State
		kinds[r.ID.Kind()] = kinds[r.ID.Kind()] || !r.State.InLine()
	}
	for _, kind := range policy.Kinds() {
		if kind != "patch" && !kinds[kind] {
			t.Fatalf("nothing of %s has drifted, and this test shows nothing of it: %v", kind, truth)
		}
	}
	faults := []string{
		"openat2:error=EIO", "openat:error=EMFILE", "newfstatat:error=EIO", "statx,fstat:error=ENOMEM", "read:error=EIO", "getdents64:error=EIO",
		"readlinkat,readlink:error=EIO", "execve:error=EIO", "connect:error=EACCES", "mmap:error=ENOMEM", "pread64:error=EIO", "clone,clone3,vfork:error=EAGAIN",
	}
	begun, runs, told := time.Now(), 0, 0
	for n := 1; time.Since(begun) < *injectFor; n = n + 1 + n/3 {
		for _, fault := range faults {
			for _, when := range []string{fmt.Sprint(n), fmt.Sprintf("%d+", n)} {
				if time.Since(begun) > *injectFor {
					break
				}
				runs++
				result, err := d.Exec(t.Context(), "timeout", "60", "/opt/strace/run", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "inject="+fault+":when="+when,
					"soe-agent", "--json", "plan", "--policy", policyDir)
				if err != nil {
					t.Fatal(err)
				}
				if result.Code == 0 {
					t.Errorf("%s, from the %s on: plan exits with 0", fault, when)
				}
				var said report.Report
				if json.Unmarshal([]byte(result.Stdout), &said) != nil {
					continue
				}
				told++
				if said.Compliant {
					t.Errorf("%s, the %s: the machine is called compliant", fault, when)
				}
				for _, r := range said.Resources {
					if r.State.InLine() && !truth[r.ID].InLine() {
						t.Errorf("%s, the %s: %s is called %s (%s), and is %s", fault, when, r.ID, r.State, r.Reason, truth[r.ID])
					}
				}
			}
		}
	}
	t.Logf("%d plans, of which %d have made a report", runs, told)
	if told == 0 {
		t.Error("with no fault it said anything, and this test shows nothing")
	}
}
