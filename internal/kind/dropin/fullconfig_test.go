package dropin

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// refusing answers as a program that refuses whatever has "BAD" in it, or uses
// "$X" where nothing says "X=".
func refusing(root string) func(system.Command) (system.Output, error) {
	wrong := func(content []byte) (line int) {
		for i, line := range bytes.Split(content, []byte("\n")) {
			if bytes.Contains(line, []byte("BAD")) || bytes.Contains(line, []byte("$X")) && !bytes.Contains(content, []byte("X=")) {
				return i + 1
			}
		}
		return 0
	}
	return func(c system.Command) (system.Output, error) {
		if c.Argv[0] == "visudo" || c.Argv[0] == "sudo" {
			return oldSudo(root, c, wrong)
		}
		if c.Argv[0] == "sshd" || c.Argv[0] == "id" || c.Argv[0] == "getent" {
			return someSSHD(root, c, wrong)
		}
		content, err := c.Stdin, error(nil)
		if content == nil {
			content, err = os.ReadFile(filepath.Join(root, c.Argv[len(c.Argv)-1]))
		}
		if err != nil {
			return system.Output{}, err
		}
		if line := wrong(content); line > 0 {
			return system.Output{ExitCode: 1, Stderr: fmt.Appendf(nil, "stdin:%d:1: syntax error\n", line)}, nil
		}
		if c.Argv[0] == "rsyslogd" && !bytes.Contains(content, []byte("fine")) {
			return system.Output{ExitCode: 1, Stderr: []byte("rsyslogd: there are no active actions configured. Inputs would run\nrsyslogd: run failed with error -2103\n")}, nil
		}
		return system.Output{}, nil
	}
}

// oldSudo answers as visudo and sudo before 1.9, which one wrong line of any file
// keeps from working.
func oldSudo(root string, c system.Command, wrong func([]byte) int) (system.Output, error) {
	files := map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(root, "/etc/sudoers.d/*"))
	for _, name := range append(names, filepath.Join(root, "/etc/sudoers")) {
		content, err := os.ReadFile(name)
		if err != nil {
			return system.Output{}, err
		}
		files[strings.TrimPrefix(name, root)] = content
	}
	if _, alone := c.Staged["/etc/sudoers"]; alone {
		clear(files)
	}
	maps.Copy(files, c.Staged)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if line := wrong(files[name]); line > 0 {
			return system.Output{ExitCode: 1, Stderr: fmt.Appendf(nil, ">>> %s: syntax error near line %d <<<\n", name, line)}, err
		}
	}
	return system.Output{Stdout: []byte("User root may run the following commands on here:\n")}, err
}

// someSSHD answers as sshd, which ends with the first wrong line that it reads.
func someSSHD(root string, c system.Command, wrong func([]byte) int) (system.Output, error) {
	files := map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(root, "/etc/ssh/sshd_config.d/*.conf"))
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return system.Output{}, err
		}
		files[strings.TrimPrefix(name, root)] = content
	}
	if _, alone := c.Staged[sshdMain]; alone {
		clear(files)
	}
	maps.Copy(files, c.Staged)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if line := wrong(files[name]); line > 0 {
			return system.Output{ExitCode: 255, Stderr: fmt.Appendf(nil, "%s: line %d: Bad configuration option: BAD\n", name, line)}, err
		}
	}
	return (&kindtest.SSHD{Root: filepath.Join(root, "empty")}).Run(context.Background(), system.Command{Argv: c.Argv})
}

func TestSomebodyElsesBrokenFileBlocksNoneOfOursAndIsNamed(t *testing.T) {
	for dir, main := range map[string]map[string]string{
		"/etc/rsyslog.d":         {"/etc/rsyslog.conf": "main\n$IncludeConfig /etc/rsyslog.d/*.conf\n"},
		"/etc/ssh/sshd_config.d": {"/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n"},
		"/etc/sudoers.d":         {"/etc/sudoers": "@includedir /etc/sudoers.d\n"},
	} {
		suffix := ".conf"
		if dir == "/etc/sudoers.d" {
			suffix = ""
		}
		theirs, good, bad := dir+"/50-theirs"+suffix, dir+"/60-good"+suffix, dir+"/70-bad"+suffix
		m := &running{root: machine(t, main)}
		m.reads = refusing(m.root)
		kindtest.Put(t, m.root, dir+"/10-fine"+suffix, "fine\n")
		kindtest.Put(t, m.root, theirs, "BAD\n")
		kindtest.Put(t, m.root, dir+"/80-gone"+suffix, "gone\n")
		p := files(map[string]policy.Dropin{
			good: {Content: "good\n"}, bad: {Content: "BAD\n"}, dir + "/80-gone" + suffix: {Ensure: policy.Absent},
		})
		for i := range 2 {
			found := m.pass(t, p)
			r := found[policy.NewID("dropin", good)]
			if r.State != converge.Failed || !strings.Contains(r.Reason, theirs+", which is somebody else's, is broken already") || kindtest.Read(t, m.root, good) != "good\n" {
				t.Errorf("%s: pass %d: the good one is %s: %s", dir, i, r.State, r.Reason)
			}
			if r := found[policy.NewID("dropin", bad)]; r.State != converge.Failed || strings.Contains(r.Reason, "somebody") {
				t.Errorf("%s: pass %d: the bad one is %s: %s", dir, i, r.State, r.Reason)
			}
		}
		if got := strings.Join(names(t, m.root, dir), " "); strings.Contains(got, "bad") || strings.Contains(got, "gone") {
			t.Errorf("%s holds %s", dir, got)
		}
		kindtest.Put(t, m.root, theirs, "mended\n")
		for id, r := range m.pass(t, p) {
			want := converge.Corrected
			if id == policy.NewID("dropin", bad) {
				want = converge.Failed
			}
			if r.State != want {
				t.Errorf("%s: once it is mended, %s is %s: %s", dir, id, r.State, r.Reason)
			}
		}
	}
}

func TestAFileOfThePolicyThatSomebodyBrokeBlocksNoOtherOne(t *testing.T) {
	m := &running{root: machine(t, map[string]string{
		"/etc/rsyslog.conf": "$IncludeConfig /etc/rsyslog.d/*.conf\n", "/etc/rsyslog.d/20-b.conf": "BAD\n",
	})}
	m.reads = refusing(m.root)
	p := files(map[string]policy.Dropin{"/etc/rsyslog.d/10-a.conf": {Content: "a\n"}, "/etc/rsyslog.d/20-b.conf": {Content: "b\n"}})
	wants(t, m.pass(t, p), map[policy.ID]converge.State{
		"dropin/etc/rsyslog.d/10-a.conf": converge.Corrected, "dropin/etc/rsyslog.d/20-b.conf": converge.Corrected,
	})
}

func TestWhatBreaksAWholeThatWasWellIsToBlame(t *testing.T) {
	const file = "/etc/rsyslog.d/10-defines.conf"
	m := &running{root: machine(t, map[string]string{
		"/etc/rsyslog.conf": "$IncludeConfig /etc/rsyslog.d/*.conf\n", file: "X=1\n", "/etc/rsyslog.d/20-uses.conf": "$X\n",
	})}
	m.reads = refusing(m.root)
	for what, d := range map[string]policy.Dropin{"removed": {Ensure: policy.Absent}, "changed": {Content: "nothing\n"}} {
		r := m.pass(t, files(map[string]policy.Dropin{file: d}))["dropin"+file]
		if r.State != converge.Failed || strings.Contains(r.Reason, "somebody") || kindtest.Read(t, m.root, file) != "X=1\n" {
			t.Errorf("%s: it is %s: %s", what, r.State, r.Reason)
		}
	}
}

func TestAFileWithASecretIsCheckedWhereRootAloneReadsItAndWhatIsSaidOfItIsNotShown(t *testing.T) {
	for file, text := range map[string]string{
		"/etc/rsyslog.d/60-x.conf": "%s\n", "/etc/chrony/conf.d/x.conf": "%s\n", "/etc/chrony.d/x.conf": "%s\n", "/etc/logrotate.d/x": "%s\n", "/etc/nftables.d/x.nft": "%s\n",
		"/etc/systemd/system/x.service": "[Service]\nX=%s\n", "/etc/systemd/system/y.service.d/x.conf": "[Service]\nX=%s\n", "/etc/udev/rules.d/60-x.rules": "ENV{X}=\"%s\"\n",
		"/etc/profile.d/x.sh": "%s\n",
	} {
		for _, bad := range []bool{true, false} {
			m := &running{root: machine(t, map[string]string{
				"/etc/rsyslog.conf": "fine\n$IncludeConfig /etc/rsyslog.d/*.conf\n", "/etc/nftables.conf": "include \"/etc/nftables.d/*.nft\"\n", "/etc/sysconfig/nftables.conf": "include \"/etc/nftables.d/*.nft\"\n",
			})}
			asked := false
			m.reads = func(c system.Command) (system.Output, error) {
				said := string(c.Stdin) + string(c.Staged[file])
				if last := c.Argv[len(c.Argv)-1]; strings.HasPrefix(last, stageDir) {
					said += kindtest.Read(t, m.root, last)
					for name, want := range map[string]os.FileMode{last: 0o600, stageDir: 0o700} {
						if info, err := os.Stat(filepath.Join(m.root, name)); err != nil || info.Mode().Perm() != want {
							t.Errorf("%s: of %s: %v, %v", file, name, info, err)
						}
					}
				}
				asked = asked || strings.Contains(said, "hunter2")
				if !strings.Contains(said, "BAD") {
					return system.Output{}, nil
				}
				return system.Output{ExitCode: 1, Stderr: fmt.Appendf(nil, "error: x:1 Error: x.service y.service lacks %s\n", strings.ReplaceAll(said, "\n", " "))}, nil
			}
			content := "hunter2"
			if bad {
				content += " BAD"
			}
			p := files(map[string]policy.Dropin{file: {Content: fmt.Sprintf(text, content), Activate: []string{}}})
			p.Resources[0].Secrets = []string{"hunter2"}
			r := m.pass(t, p)[policy.NewID("dropin", file)]
			_, err := os.Lstat(filepath.Join(m.root, file))
			if !asked || bad != (r.State == converge.Failed) || bad != os.IsNotExist(err) || bad != strings.Contains(r.Reason, "what it says may hold a secret") || strings.Contains(fmt.Sprintf("%+v", r), "hunter2") {
				t.Errorf("%s, bad %v: asked %v, %+v, %v", file, bad, asked, r, err)
			}
			if left, _ := os.ReadDir(filepath.Join(m.root, stageDir)); len(left) > 0 {
				t.Errorf("%s: it stays in %s", file, stageDir)
			}
		}
	}
}

func TestWhatIsSaidOfAFileBesideASecretIsNotShown(t *testing.T) {
	const token, beside = "/etc/rsyslog.d/60-token.conf", "/etc/rsyslog.d/70-beside.conf"
	m := &running{root: machine(t, map[string]string{"/etc/rsyslog.conf": "fine\n$IncludeConfig /etc/rsyslog.d/*.conf\n", token: "hunter2\n"})}
	m.reads = func(c system.Command) (system.Output, error) {
		if content := kindtest.Read(t, m.root, c.Argv[len(c.Argv)-1]); strings.Contains(content, "BAD") {
			return system.Output{ExitCode: 1, Stderr: []byte(strings.ReplaceAll(content, "\n", " "))}, nil
		}
		return system.Output{}, nil
	}
	for _, content := range []string{"none\n", "not known\n"} { // the secret is to go, or the new one is not known yet
		p := files(map[string]policy.Dropin{token: {Content: content}, beside: {Content: "BAD\n"}})
		for i, r := range p.Resources {
			if r.ID == policy.NewID("dropin", token) && content != "none\n" {
				p.Resources[i].Missing = []policy.Reference{{Service: "ssm-secure", Name: "/token"}}
			} else if r.ID == policy.NewID("dropin", token) {
				p.Resources[i].Secrets = []string{"other"}
			}
		}
		if r := m.pass(t, p)[policy.NewID("dropin", beside)]; r.State != converge.Failed || strings.Contains(fmt.Sprintf("%+v", r), "hunter2") {
			t.Errorf("%s: %+v", content, r)
		}
	}
}

func TestAClosedFileOfSSHDKeepsNothingFromBeingChecked(t *testing.T) {
	const closed, wrong = "/etc/ssh/sshd_config.d/10-closed.conf", "/etc/ssh/sshd_config.d/20-wrong.conf"
	m := &running{root: machine(t, map[string]string{"/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n"})}
	m.reads = refusing(m.root)
	m.pass(t, files(map[string]policy.Dropin{closed: {Content: "fine\n"}}))
	if err := os.Chmod(filepath.Join(m.root, closed), 0o600); err != nil {
		t.Fatal(err)
	}
	found := m.pass(t, files(map[string]policy.Dropin{closed: {Content: "fine\n"}, wrong: {Content: "BAD\n"}}))
	wants(t, found, map[policy.ID]converge.State{policy.NewID("dropin", closed): converge.Corrected, policy.NewID("dropin", wrong): converge.Failed})
	if _, err := os.Lstat(filepath.Join(m.root, wrong)); !os.IsNotExist(err) {
		t.Errorf("the wrong file is there: %v", err)
	}
}
