package sshd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/sshd"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestAFileThatSSHDMustNotShowOrObeyIsKnownByItsModeAndOwner(t *testing.T) {
	s, fake := world(t, map[string]string{
		"/etc/issue.net": "x", "/etc/closed": "x", "/etc/loose": "x", "/etc/anns": "x", "/etc/dark/x": "x", "/etc/wide/x": "x", "/usr/lib/issue": "x", "/etc/ssh/sshd_config": "Banner /etc/closed\n",
	})
	at := func(name string) string { return filepath.Join(fake.Root, name) }
	for name, mode := range map[string]os.FileMode{
		"/etc/issue.net": 0o644, "/usr/lib/issue": 0o644, "/etc/closed": 0o640, "/etc/loose": 0o646, "/etc/anns": 0o644, "/etc/dark": 0o700, "/etc/dark/x": 0o644, "/etc/wide": 0o777, "/etc/wide/x": 0o644, "/etc/ssh": 0o755, "/etc": 0o755, "/usr": 0o755, "/usr/lib": 0o755,
	} {
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"/etc/issue": "../usr/lib/issue", "/etc/leads": "closed", "/etc/round": "round", "/etc/through": "dark"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(at("/etc/anns"), 1001, 0); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"Banner /etc/issue.net": "", "Banner /etc/issue": "", "Banner /etc/not-yet": "", "Banner none": "", "Banner /etc/closed": "", // that one is there already
		"banner  /etc/closed": "not everybody may read /etc/closed", "Match User bob\n\tBanner=/etc/closed": "not everybody may read", "Banner /etc/leads": "not everybody may read /etc/closed",
		"Banner /etc/loose": "others than root may write /etc/loose", "Banner /etc/anns": "others than root may write", "Banner /etc/dark/x": "not everybody may read /etc/dark",
		"Banner /etc/through/x": "not everybody may read /etc/dark", "Banner /etc/wide/x": "others than root may write /etc/wide", "Banner /etc/wide/none": "others than root may write /etc/wide",
		"Banner /etc/round": "is one link too many", "Banner /etc/ssh": "is no file", "Include /etc/closed": "not everybody may read",
		"TrustedUserCAKeys /etc/closed": "", "TrustedUserCAKeys /etc/anns": "others than root may write", "HostKey /etc/dark/x": "", "RevokedKeys /etc/wide/x": "others than root may write",
		"Subsystem sftp /etc/loose": "others than root may write", "MaxAuthTries 3": "", "X /etc/closed": "",
	} {
		why, err := sshd.Misuses(s, system.Staged{sshd.Main: []byte("# c\n" + line + "\n")})
		if err != nil || want == "" && why != "" || !strings.Contains(why, want) {
			t.Errorf("%q: %q, %v", line, why, err)
		}
	}
}
