package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/test/box"
)

// waysIn are the ways in which people and AWS come to a machine, each as a command that succeeds if it works.
func waysIn() map[string][]string {
	return map[string][]string{
		"sudo with a password":        {"su", "-", box.DomainAdmin, "-c", "echo " + box.UserPassword + " | sudo -S -k -p '' true"},
		"ssh with a key":              {"ssh", "-i", "/root/id", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", box.DesktopUser + "@127.0.0.1", "true"},
		"su with a password":          {"su", "-", box.DomainAdmin, "-c", "echo " + box.UserPassword + " | su " + box.DesktopUser + " -c true"},
		"login on a terminal":         {"sh", "-c", `(sleep 1; echo 'touch "$HOME/in"; exit') | script -qec 'login -f ` + box.DesktopUser + `' /dev/null >/dev/null; rm ~` + box.DesktopUser + `/in`},
		"what Session Manager begins": {"su", "-", box.DomainAdmin, "-c", "true"},
	}
}

// comesIn fails the test unless each way in is open, and the ports of the stream and those to AWS are.
func (d *desktop) comesIn(t *testing.T, when string) {
	t.Helper()
	for way, command := range waysIn() {
		if result, err := d.Exec(t.Context(), command...); err != nil || result.Code != 0 {
			t.Errorf("%s: %s fails: %v %d %s%s", when, way, err, result.Code, result.Stdout, result.Stderr)
		}
	}
	for _, port := range []int{4172, 4195, 8200} {
		if !d.connects(port, soon) {
			t.Errorf("%s: nobody reaches port %d", when, port)
		}
	}
	for _, port := range []int{443, 80} { // Systems Manager, and the metadata: nobody listens on the host, which refuses
		script := fmt.Sprintf("import socket\ntry:\n  socket.create_connection((%q, %d), 5)\nexcept OSError as e:\n  print(e.errno)", d.HostAddr.String(), port)
		if said := d.MustExec(t, "/usr/bin/python3", "-c", script); said != "111\n" {
			t.Errorf("%s: port %d of others is not reached: %s", when, port, said)
		}
	}
}

func TestEverybodyComesInBeforeWhileAndAfterABenchmarkIsApplied(t *testing.T) {
	t.Parallel()
	d := newFirewalled(t)
	d.MustExec(t, "systemctl", "stop", "answers")
	d.MustWriteFile(t, "/root/answers.py", box.File{Content: strings.Replace(answers, "22, 2222, ", "", 1)}) // sshd has its port
	d.MustExec(t, "systemd-run", "--quiet", "--unit=answers2", "/usr/bin/python3", "/root/answers.py")
	d.untilAnswers(t, 4172)
	lives := d.serveSSH(t)
	d.comesIn(t, "before")
	files, err := filepath.Glob("../../policies/cis-al2/*.toml")
	if err != nil || len(files) < 5 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d.MustWriteFile(t, filepath.Join(policyDir, filepath.Base(file)), box.File{Content: strings.Replace(string(content), `"ssm-user"]`, `"ssm-user", "dadmin"]`, 1)})
	}
	ended := make(chan outcome, 1)
	go func() {
		result, err := d.Exec(t.Context(), "soe-agent", "--json", "apply", "--policy", policyDir)
		if err != nil {
			t.Error(err)
		}
		ended <- outcome{Code: result.Code, Stderr: result.Stderr}
	}()
	times := 0
	for {
		d.comesIn(t, "while it is applied")
		times++
		select {
		case o := <-ended:
			if o.Code != 2 { // not everything of it can be had here
				t.Errorf("it ends with %d: %s", o.Code, o.Stderr)
			}
			d.comesIn(t, "after")
			if !lives() {
				t.Error("a session that was there has ended")
			}
			if d.connects(9000, soon/10) {
				t.Error("the firewall is not in force")
			}
			o = d.command(t, "plan", "--policy", policyDir)
			for _, id := range []string{"file/etc/ssh/sshd_config", "firewall/inbound"} {
				for _, r := range o.Resources {
					if string(r.ID) == id && !r.State.InLine() {
						t.Errorf("%s is %s: %s", id, r.State, r.Reason)
					}
				}
			}
			t.Logf("everybody came in %d times while it was applied", times)
			return
		default:
		}
	}
}
