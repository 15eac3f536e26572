// Package bench measures the agent on a whole machine: how long a walk takes that
// finds nothing to do, how soon drift is mended, and what the idle daemon costs.
// RESULTS.md keeps the figures.
//
// The workload is the one on which other configuration management was measured:
// 200 drop-ins, 40 packages, 20 users and groups, 40 locked dconf keys, 12 PCoIP
// settings, sudo for root and one group, 3 services.
package bench

import (
	"fmt"
	"strings"
)

// administrators is the group that keeps sudo; box.DomainAdmin is in it.
const administrators = "domain-admins"

// workload is the policy, as one fragment without its repository.
func workload(files, packages, accounts, keys int) string {
	var b strings.Builder
	b.WriteString("schema = 1\n")
	for i := range files {
		fmt.Fprintf(&b, "[dropins.%q]\ncontent = %q\n", dropinPath(i), dropinContent(i))
	}
	for i := range accounts {
		name, id := fmt.Sprintf("soeuser%03d", i), 5100+i
		fmt.Fprintf(&b, "[groups.%s]\ngid = %d\n[users.%s]\nuid = %d\ngroup = %q\nsystem = true\nhome = \"/nonexistent\"\nshell = \"/usr/sbin/nologin\"\n",
			name, id, name, id, name)
	}
	for i := range min(5, keys) {
		fmt.Fprintf(&b, "[dconf.\"org/soe/bench/s%d\"]\n", i)
		for j := i; j < keys; j += 5 {
			fmt.Fprintf(&b, "key%03d = \"value %d\"\n", j, j)
		}
	}
	b.WriteString(`[pcoip]
server_clipboard_state = 0
enable_audio = 1
enable_timezone_redirect = 1
desktop_session = "mate"
event_filter_mode = 2
enable_build_to_lossless = 0
maximum_frame_rate = 30
minimum_image_quality = 40
maximum_initial_image_quality = 80
max_link_rate = 90000
device_bandwidth_floor = 0
mtu_size = 1200
`)
	fmt.Fprintf(&b, "[sudo]\nallow = [\"root\", \"%%%s\"]\n", administrators)
	for _, unit := range []string{"systemd-logind", "dbus", "systemd-journald"} {
		fmt.Fprintf(&b, "[services.\"%s.service\"]\nrunning = true\n", unit)
	}
	b.WriteString("[packages]\n")
	for i := 1; i <= packages; i++ {
		fmt.Fprintf(&b, "soe-pkg-%02d = \"present\"\n", i)
	}
	return b.String()
}

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
