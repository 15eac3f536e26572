package facts

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// An Identity tells one machine from another, and above all from its clones: the
// capture of an image keeps the machine-id, the registration of the managed node
// and the agent's state. What is empty is not known, or not yet.
type Identity struct {
	MachineID   string `json:"machine_id,omitempty"`
	Hostname    string `json:"hostname,omitempty"` // empty until the machine has a name of its own
	ManagedNode string `json:"managed_node,omitempty"`
	Disk        string `json:"disk,omitempty"`
}

// placeholder are the names of a machine before it is given one: by the kernel, by
// systemd, and by EC2, which makes it of the address.
var placeholder = regexp.MustCompile(`^(\(none\)|localhost|ip-\d+-\d+-\d+-\d+)?(\.|$)`)

// Identity is the machine's as far as it is known now: of one that is Unidentified
// nothing is.
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

// String is for people: "A-1 (machine-id 0123…, mi-0123…, disk vol0123…)".
func (i Identity) String() string {
	var marks []string
	for _, mark := range []struct{ prefix, value string }{{"machine-id ", i.MachineID}, {"", i.ManagedNode}, {"disk ", i.Disk}} {
		if mark.value != "" {
			marks = append(marks, mark.prefix+mark.value)
		}
	}
	return fmt.Sprintf("%s (%s)", cmp.Or(i.Hostname, "a machine without a name"), strings.Join(marks, ", "))
}

// Same says whether a machine that was i, perhaps years ago, is the one that is now.
// Another has another machine-id, or another name and with it another disk or
// managed node. So a machine that was renamed, or activated anew, or restored from
// a snapshot, which is another disk, is the same. Before it has its name again
// after a restore, only another disk and another managed node make it another. What
// is known of one alone decides nothing; and a machine without an id is an image
// that has not run yet, of which everything is the same that begins from it. One of
// which nothing is known now is no other.
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

// Renewed is the identity to remember of a machine that was i and is the Same now:
// the newer, and where that is silent the older. The disk stays the one known first:
// a clone may go by the name of its image until it gets its own, just as a restored
// machine does for good, and must not have become at home on its disk by then.
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

// rootDisk is the serial number of the disk that holds the root file system, such
// as "vol0123456789abcdef0" of an EBS volume; "" where the kernel does not tell.
func rootDisk(files system.FileReader) string {
	device := rootDevice(files)
	if device == "" {
		return ""
	}
	block := path.Join("/sys/dev/block", device)
	target, err := files.Readlink(block)
	if err != nil {
		return "" // such as an overlay, which has no block device
	}
	disk := path.Join(path.Dir(block), target)
	if _, err := files.Stat(path.Join(disk, "partition")); err == nil {
		disk = path.Dir(disk)
	}
	return firstLine(files, path.Join(disk, "serial"), path.Join(disk, "device/serial"))
}

// rootDevice is major:minor of the file system that is mounted at / last, and so on
// top (proc_pid_mountinfo(5)).
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
