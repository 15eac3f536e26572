// Package bench measures the agent on a whole machine: how long a walk takes that
// finds nothing to do, how soon drift is mended, and what the idle daemon costs.
// Its command peers measures it side by side with other configuration management.
// RESULTS.md keeps the figures.
//
// The workload is a desired state of many drop-ins (200 where nothing else is
// said), 40 packages, 20 users and groups, 40 locked dconf keys, 12 PCoIP settings,
// sudo for root and one group, and 3 services.
package bench

import (
	"fmt"
	"strings"
)

// A Workload is one desired state, which can be told to each tool in its own
// language. Its value is the number of its drop-ins; all else is fixed.
type Workload int

// What a Workload holds besides drop-ins.
const (
	packages = 40
	accounts = 20
	keys     = 40
	folders  = 5 // of keys
)

// administrators is the group that keeps sudo; box.DomainAdmin is in it.
const administrators = "domain-admins"

var services = []string{"systemd-logind", "dbus", "systemd-journald"}

// pcoip are the settings of pcoip-agent.conf; numbers are not quoted in TOML.
var pcoip = []struct{ key, value string }{
	{"server_clipboard_state", "0"},
	{"enable_audio", "1"},
	{"enable_timezone_redirect", "1"},
	{"desktop_session", "mate"},
	{"event_filter_mode", "2"},
	{"enable_build_to_lossless", "0"},
	{"maximum_frame_rate", "30"},
	{"minimum_image_quality", "40"},
	{"maximum_initial_image_quality", "80"},
	{"max_link_rate", "90000"},
	{"device_bandwidth_floor", "0"},
	{"mtu_size", "1200"},
}

// Policy is the workload as the agent's policy, without the packages' repository.
func (w Workload) Policy() string {
	var b strings.Builder
	b.WriteString("schema = 1\n")
	for i := range int(w) {
		fmt.Fprintf(&b, "[dropins.%q]\ncontent = %q\n", dropinPath(i), dropinContent(i))
	}
	for i := range accounts {
		name, id := account(i)
		fmt.Fprintf(&b, "[groups.%s]\ngid = %d\n[users.%s]\nuid = %d\ngroup = %q\nsystem = true\nhome = \"/nonexistent\"\nshell = \"/usr/sbin/nologin\"\n",
			name, id, name, id, name)
	}
	for i := range folders {
		fmt.Fprintf(&b, "[dconf.%q]\n", dconfFolder(i))
		for j := i; j < keys; j += folders {
			fmt.Fprintf(&b, "key%03d = { gvariant = \"'value %d'\" }\n", j, j) // no schema is installed for them
		}
	}
	b.WriteString("[pcoip]\n")
	for _, setting := range pcoip {
		if setting.value[0] > '9' {
			fmt.Fprintf(&b, "%s = %q\n", setting.key, setting.value)
		} else {
			fmt.Fprintf(&b, "%s = %s\n", setting.key, setting.value)
		}
	}
	fmt.Fprintf(&b, "[sudo]\nallow = [\"root\", \"%%%s\"]\n", administrators)
	for _, unit := range services {
		fmt.Fprintf(&b, "[services.\"%s.service\"]\nrunning = true\n", unit)
	}
	b.WriteString("[packages]\n")
	for i := range packages {
		fmt.Fprintf(&b, "%s = \"present\"\n", packageName(i))
	}
	return b.String()
}

func packageName(i int) string { return fmt.Sprintf("soe-pkg-%02d", i+1) }

// account is a group, and a user in it with the same number.
func account(i int) (name string, id int) { return fmt.Sprintf("soeuser%03d", i), 5100 + i }

func dconfFolder(i int) string { return fmt.Sprintf("org/soe/bench/s%d", i) }

func dropinPath(i int) string {
	switch i % 4 {
	case 0, 1:
		return fmt.Sprintf("/etc/profile.d/soe-%04d.sh", i)
	case 2:
		return fmt.Sprintf("/etc/modprobe.d/soe-%04d.conf", i)
	}
	return fmt.Sprintf("/etc/sysctl.d/soe-%04d.conf", i)
}

func dropinContent(i int) string {
	switch i % 4 {
	case 0, 1:
		return fmt.Sprintf("# managed\nexport SOE_%04d='value %04d'\n", i, i)
	case 2:
		return fmt.Sprintf("# managed\nblacklist soe_dummy_%04d\n", i)
	}
	return fmt.Sprintf("# managed\n# net.soe.dummy_%04d = 1\n", i)
}
