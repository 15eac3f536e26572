// Package systemd_test holds the unit files to what systemd 219 of Amazon Linux 2
// knows. A later systemd judges them in a machine of its own, in test/e2e.
package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// known are directives of systemd.unit(5), systemd.service(5), systemd.exec(5),
// systemd.kill(5) and systemd.resource-control(5) of version 219, by section.
func known() map[string][]string {
	return map[string][]string{
		"Unit": {"Description", "Documentation", "After", "Before", "Wants", "Requires", "Conflicts", "DefaultDependencies", "ConditionPathExists", "RequiresMountsFor", "OnFailure"},
		"Service": {
			"Type", "ExecStart", "ExecReload", "ExecStartPre", "ExecStop", "ExecStopPost", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "WatchdogSec",
			"StartLimitInterval", "StartLimitBurst", "KillMode", "SendSIGHUP", "UMask", "LimitCORE", "LimitNOFILE", "OOMScoreAdjust", "Nice", "TasksMax",
			"IOSchedulingClass", "IOSchedulingPriority", "Environment", "EnvironmentFile", "NotifyAccess", "CapabilityBoundingSet", "NoNewPrivileges",
		},
		"Install": {"WantedBy", "RequiredBy", "Alias", "Also"},
	}
}

func TestEveryDirectiveIsOneThatSystemd219Knows(t *testing.T) {
	files, err := filepath.Glob("*.[st]*")
	if err != nil {
		t.Fatal(err)
	}
	units := 0
	for _, file := range files {
		if ext := filepath.Ext(file); ext != ".service" && ext != ".target" {
			continue
		}
		units++
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		section := ""
		for line := range strings.Lines(string(content)) {
			line = strings.TrimSpace(line)
			switch {
			case line == "" || line[0] == '#':
			case line[0] == '[':
				section = strings.Trim(line, "[]")
			default:
				directive, _, _ := strings.Cut(line, "=")
				if !slices.Contains(known()[section], directive) {
					t.Errorf("%s: systemd 219 does not know %s in [%s]", file, directive, section)
				}
			}
		}
	}
	if units != 2 {
		t.Errorf("%d units looked at", units)
	}
}

// Nothing may make the desktop wait for the network.
func TestTheAgentIsOrderedBeforeTheDesktopAndNeverAfterTheNetwork(t *testing.T) {
	content, err := os.ReadFile("soe-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := string(content)
	for _, line := range strings.Split(unit, "\n") {
		if (strings.HasPrefix(line, "After=") || strings.HasPrefix(line, "Wants=")) && strings.Contains(line, "network") {
			t.Errorf("it waits for the network: %s", line)
		}
	}
	if !strings.Contains(unit, "After=local-fs.target") {
		t.Error("it does not wait for the file systems of this machine")
	}
	for _, desktop := range []string{"systemd-user-sessions.service", "display-manager.service", "pcoip.service", "dcvserver.service"} {
		if !strings.Contains(unit, desktop) {
			t.Errorf("it is not ordered before %s", desktop)
		}
	}
}

// Systemd 219 warns of directives it does not know: whatever is newer is put where it looks
// only where systemd is newer too, and is for no unit but the agent's.
func TestWhatSystemd219DoesNotKnowIsWhereItDoesNotLook(t *testing.T) {
	dirs, err := filepath.Glob("*.d")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(dirs, []string{"soe-agent.service.d"}) {
		t.Errorf("drop-ins are in %v", dirs)
	}
	spec, err := os.ReadFile("../packaging/rpm/soe-agent.spec")
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(spec), "\n%posttrans\n")
	script, _, _ = strings.Cut(script, "systemctl daemon-reload")
	const file = "/usr/lib/systemd/system/soe-agent.service.d/50-newer.conf"
	if !strings.Contains(string(spec), "\n%ghost "+file+"\n") || !strings.Contains(script, "newer="+file+"\n") {
		t.Fatal("the package itself brings the directives, or its script does not know where they belong")
	}
	for version, want := range map[string]bool{"systemd 219": false, "systemd 239 (239-82.el8)": true, "systemd 252 (252.39-1~deb12u2)": true, "": false} {
		root := t.TempDir()
		script := strings.NewReplacer("$(systemctl --version 2>/dev/null", "$(echo '"+version+"'", "newer="+file, "newer="+root+"/50-newer.conf").Replace(script)
		if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if _, err := os.Lstat(root + "/50-newer.conf"); (err == nil) != want {
			t.Errorf("with %q the directives are there: %v", version, err == nil)
		}
	}
}

// Package transactions inherit what is set here, and with them the scripts of packages.
func TestNothingIsHardenedThatKeepsAPackageFromBeingInstalled(t *testing.T) {
	files, err := filepath.Glob("soe-agent.service.d/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	harmful := []string{
		"NoNewPrivileges", "Private", "Protect", "ReadOnly", "Inaccessible", "Bind", "RootDirectory", "MemoryDenyWriteExecute",
		"RestrictSUIDSGID", "RestrictNamespaces", "SystemCallArchitectures", "DynamicUser", "User", "Group", "SecureBits", "AmbientCapabilities",
	}
	needed := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP", "CAP_SETPCAP",
		"CAP_MKNOD", "CAP_SYS_CHROOT", "CAP_SYS_ADMIN", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SYS_MODULE",
		"CAP_SYS_PTRACE", "CAP_KILL", "CAP_NET_ADMIN", "CAP_LINUX_IMMUTABLE", "CAP_SYS_RESOURCE", "CAP_SYS_NICE",
	}
	for _, file := range append(files, "soe-agent.service") {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			directive, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			for _, word := range harmful {
				if strings.HasPrefix(directive, word) {
					t.Errorf("%s: %s", file, line)
				}
			}
			if directive != "CapabilityBoundingSet" {
				continue
			}
			without, isTakenAway := strings.CutPrefix(value, "~")
			for _, capability := range needed {
				if !isTakenAway || slices.Contains(strings.Fields(without), capability) {
					t.Errorf("%s: %s is taken away", file, capability)
				}
			}
		}
	}
}
