package facts

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// An Identity distinguishes a machine from others, above all from its clones: the capture of an
// image keeps the machine-id, the registration of the managed node and the agent's state. An empty
// field is not known, or not known yet.
type Identity struct {
	MachineID   string `json:"machine_id,omitempty"`
	Hostname    string `json:"hostname,omitempty"` // empty until the machine gets its own name
	ManagedNode string `json:"managed_node,omitempty"`
	Disk        string `json:"disk,omitempty"`
}

// placeholder matches the names of a machine before it gets its own: those from the kernel, from
// systemd, and from EC2, which derives it from the address.
var placeholder = regexp.MustCompile(`^(\(none\)|localhost|ip-\d+-\d+-\d+-\d+)?(\.|$)`)

// Identity returns the machine's identity as far as it is known. It is empty if the machine is
// Unidentified.
func (f Facts) Identity() Identity {
	if f.Unidentified {
		return Identity{}
	}
	i := Identity{MachineID: f.MachineID, Hostname: f.Hostname, ManagedNode: f.ManagedNode, Disk: f.Disk}
	if placeholder.MatchString(strings.ToLower(i.Hostname)) {
		i.Hostname = ""
	}
	return i
}

// String returns the identity for people: "A-1 (machine-id 0123…, mi-0123…, disk vol0123…)".
func (i Identity) String() string {
	var marks []string
	for _, mark := range []struct{ prefix, value string }{{"machine-id ", i.MachineID}, {"", i.ManagedNode}, {"disk ", i.Disk}} {
		if mark.value != "" {
			marks = append(marks, mark.prefix+mark.value)
		}
	}
	return fmt.Sprintf("%s (%s)", cmp.Or(i.Hostname, "a machine without a name"), strings.Join(marks, ", "))
}

// Same reports whether the machine that was i, perhaps years ago, is the machine that is now.
//
// A machine is another one if it has another machine-id, or another name together with another disk
// or managed node. So a machine that was renamed, activated again, or restored from a snapshot
// (which is another disk) is the same. After a restore, until the machine has its name again, it is
// another one only if both disk and managed node differ. A field that only one of the two has
// decides nothing. A machine without an id is an image that has never run, and every machine that
// starts from it is the same. An empty now is the same as any machine.
func (i Identity) Same(now Identity) bool {
	if now == (Identity{}) {
		return true
	}
	otherDisk, otherNode := differ(i.Disk, now.Disk), differ(i.ManagedNode, now.ManagedNode)
	switch {
	case i.MachineID != now.MachineID:
		return i.MachineID == ""
	case now.Hostname == "":
		return !otherDisk || !otherNode
	case strings.EqualFold(i.Hostname, now.Hostname):
		return true
	}
	return !otherDisk && !otherNode
}

func differ(a, b string) bool { return a != "" && b != "" && a != b }

// Renewed returns the identity to store for a machine that was i and is the Same now: the newer
// fields, or the older ones where the newer are empty. The disk stays the first one known. A clone
// may have the name of its image until it gets its own, just as a restored machine has it for good.
// In that time the clone's disk must not become part of the stored identity.
func (i Identity) Renewed(now Identity) Identity {
	if now == (Identity{}) {
		return i
	}
	return Identity{
		MachineID:   now.MachineID,
		Hostname:    cmp.Or(now.Hostname, i.Hostname),
		ManagedNode: cmp.Or(now.ManagedNode, i.ManagedNode),
		Disk:        cmp.Or(i.Disk, now.Disk),
	}
}

// rootDisk returns the serial number of the disk with the root file system, such as
// "vol0123456789abcdef0" for an EBS volume. It is "" if the kernel does not provide it.
func rootDisk(files system.FileReader) string {
	device := rootDevice(files)
	if device == "" {
		return ""
	}
	block := path.Join("/sys/dev/block", device)
	target, err := files.Readlink(block)
	if err != nil {
		return "" // for example an overlay, which has no block device
	}
	disk := path.Join(path.Dir(block), target)
	if _, err := files.Stat(path.Join(disk, "partition")); err == nil {
		disk = path.Dir(disk)
	}
	return firstLine(files, path.Join(disk, "serial"), path.Join(disk, "device/serial"))
}

// rootDevice returns major:minor of the last file system mounted at /, which is the visible one
// (proc_pid_mountinfo(5)).
func rootDevice(files system.FileReader) (device string) {
	content, err := files.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == "/" {
			device = fields[2]
		}
	}
	return device
}
