// Package systemd_test holds the unit files to what systemd 219 of Amazon Linux 2
// knows. A later systemd judges them in a machine of its own, in test/e2e.
package systemd_test

import (
	"os"
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
			"Type", "ExecStart", "ExecReload", "ExecStartPre", "ExecStop", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "WatchdogSec",
			"StartLimitInterval", "StartLimitBurst", "KillMode", "SendSIGHUP", "UMask", "LimitCORE", "LimitNOFILE", "OOMScoreAdjust", "Nice",
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
	for _, desktop := range []string{"display-manager.service", "pcoip.service", "dcvserver.service"} {
		if !strings.Contains(unit, desktop) {
			t.Errorf("it is not ordered before %s", desktop)
		}
	}
}
