package file_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/file"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// sum is what the ledger has of a content.
func sum(content string) string {
	digest := sha256.Sum256([]byte(content))
	return hex.EncodeToString(digest[:])
}

func sickScene(name, toml string, owned map[string]map[string]converge.Retouch, modes map[string]uint32) faultwalk.Scene {
	build := func(t *testing.T, look system.Looker) faultwalk.Machine {
		files := map[string]string{"/etc/passwd": "root:x:0:0::/root:/bin/sh\n", "/etc/group": "root:x:0:\nlogs:x:13:\n"}
		for entry := range modes { // a name, or NAME=CONTENT
			name, content, _ := strings.Cut(entry, "=")
			files[name] = cmp.Or(content, "x") + "\n"
		}
		root := kindtest.Root(t, files)
		for entry, mode := range modes {
			name, _, _ := strings.Cut(entry, "=")
			if err := os.Chmod(filepath.Join(root, name), os.FileMode(mode)); err != nil {
				t.Fatal(err)
			}
		}
		ledger := kindtest.Ledger(t, root)
		for name, aspects := range owned {
			ledger.Own(policy.NewID("file", name))
			ledger.Retouch(name, aspects)
		}
		s := kindtest.Open(t, system.Options{Root: root, Look: look})
		s.Runner = faultwalk.Runner(nameService{nil}, look)
		p := kindtest.Policy(t, toml)
		k := file.New(p, s, ledger)
		return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, ledger, s.Clock)}
	}
	return faultwalk.Scene{Name: name, Build: build, Believes: func(command string, _ system.Output) bool {
		return !strings.HasPrefix(command, "getent")
	}}
}

// sshdScene returns a scene of a running machine with sshd.
func sshdScene(name, toml, config string, retouched map[string]converge.Retouch) faultwalk.Scene {
	build := func(t *testing.T, look system.Looker) faultwalk.Machine {
		s := newServer(t, config)
		ledger := kindtest.Ledger(t, s.root)
		if retouched != nil {
			ledger.Own(policy.NewID("file", sshdFile))
			ledger.Retouch(sshdFile, retouched)
		}
		m := kindtest.Open(t, system.Options{Root: s.root, Look: look})
		m.Root, m.Runner, m.Sessions = "/", faultwalk.Runner(s.sshd, look), faultwalk.Sessions(kindtest.Sessions{}, look)
		m.Units = faultwalk.Units(system.Units{UnitStates: s.sshd, UnitJobs: s.sshd}, look)
		p := kindtest.Policy(t, toml)
		k := file.New(p, m, ledger)
		return faultwalk.Machine{Kind: k, Root: s.root, Engine: kindtest.Engine(p, k, ledger, m.Clock)}
	}
	return faultwalk.Scene{Name: name, Build: build, Believes: func(command string, _ system.Output) bool {
		return !strings.HasPrefix(command, "getent") && !strings.HasPrefix(command, "id ")
	}}
}

func TestNoFilesAttributesAreJudgedByALookThatFailed(t *testing.T) {
	const wanted = "[files.\"/etc/crontab\"]\nowner = \"root\"\ngroup = \"logs\"\nmode = \"at most 0600\"\n[files.\"/etc/cron.d\"]\nmode = \"0755\"\n[files.\"/etc/at/x\"]\ngroup = \"logs\"\nif_exists = true\n"
	const keys = "[files.\"/etc/audit/auditd.conf\"]\nkeys = { num_logs = 5 }\n[files.\"/etc/default/useradd\"]\nkeys = { INACTIVE = 30 }\n"
	modes := func(crontab uint32) map[string]uint32 {
		return map[string]uint32{"/etc/crontab": crontab, "/etc/cron.d/x": 0o644}
	}
	touched := map[string]map[string]converge.Retouch{"/etc/crontab": {"mode": {Was: "0640", Made: "0600"}}}
	const content = wantsMotd + "mode = \"0640\"\n"
	written := map[string]map[string]converge.Retouch{"/etc/motd": {"content": {Was: "nothing", Made: sum(banner)}}}
	edited := "[files.\"/etc/shells\"]\nlines = [\"/bin/fish\"]\nabsent_lines = [\"/sbin/nologin\"]\n"
	faultwalk.Walk(t, "file",
		sickScene("content in line", content, nil, map[string]uint32{"/etc/motd=Authorized use only": 0o640}),
		sickScene("content drifted", content, nil, map[string]uint32{"/etc/motd": 0o644}),
		sickScene("content not there", content, nil, map[string]uint32{"/etc/x": 0o644}),
		sickScene("there though it is to be absent", motdIsGone, nil, map[string]uint32{"/etc/motd": 0o644}),
		sickScene("absent as it is to be", motdIsGone, nil, map[string]uint32{"/etc/x": 0o644}),
		sickScene("content wanted no more", "", written, map[string]uint32{"/etc/motd=Authorized use only": 0o644}),
		sickScene("content of somebody else wanted no more", "", written, map[string]uint32{"/etc/motd": 0o644}),
		sickScene("lines drifted", edited, nil, map[string]uint32{"/etc/shells=/bin/sh\n/sbin/nologin": 0o644}),
		sickScene("lines in line", edited, nil, map[string]uint32{"/etc/shells=/bin/sh\n/bin/fish": 0o644}),
		sickScene("lines wanted no more", "", map[string]map[string]converge.Retouch{"/etc/shells": {"line /bin/fish": {Made: "/bin/fish\n"}}}, map[string]uint32{"/etc/shells=/bin/sh\n/bin/fish": 0o644}),
		sickScene("terminals drifted", "[files.\"/etc/securetty\"]\nabsent_lines = [\"tty2\"]\n", nil, map[string]uint32{"/etc/securetty=tty1\ntty2": 0o644, "/etc/shadow=root:*:1:::::": 0o600}),
		sickScene("in line", wanted, nil, modes(0o600)),
		sickScene("drifted", wanted, nil, modes(0o644)),
		sickScene("keys in line", keys, nil, map[string]uint32{"/etc/audit/auditd.conf=num_logs = 5": 0o640, "/etc/default/useradd=INACTIVE=30": 0o644}),
		sickScene("keys drifted", keys+"[files.\"/etc/yum.conf\"]\nabsent = [\"main/x\"]\n", nil, map[string]uint32{"/etc/audit/auditd.conf": 0o640, "/etc/default/useradd=SHELL=/bin/sh": 0o644, "/etc/yum.conf=[main]\nx=1": 0o644}),
		sickScene("keys wanted no more", "", map[string]map[string]converge.Retouch{"/etc/audit/auditd.conf": {"key x": {Was: "y = 1\n", Made: "x\n"}}}, map[string]uint32{"/etc/audit/auditd.conf": 0o640}),
		sshdScene("sshd in line", wantsSSHD, ourSSHD, nil),
		sshdScene("sshd drifted", wantsSSHD, theirSSHD, nil),
		sshdScene("a key of sshd wanted no more", "", "UsePAM yes\nMaxAuthTries 4\n", map[string]converge.Retouch{"key MaxAuthTries": {Was: "MaxAuthTries 6\n", Made: "MaxAuthTries 4\n"}}),
		sickScene("not there", wanted, nil, map[string]uint32{"/etc/motd": 0o644}),
		sickScene("there though wanted no more", "", touched, modes(0o600)),
		sickScene("changed by somebody else and wanted no more", "", touched, modes(0o604)),
	)
}
