package facts_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/facts"
)

// life is a sequence of facts that a machine shows.
func TestStateStaysWithItsMachineAndNotWithItsClones(t *testing.T) {
	known := facts.Facts{MachineID: "m", Hostname: "A-1", ManagedNode: "mi-1", Disk: "vol1"}
	with := func(changes ...func(*facts.Facts)) facts.Facts {
		f := known
		for _, change := range changes {
			change(&f)
		}
		return f
	}
	named := func(name string) func(*facts.Facts) { return func(f *facts.Facts) { f.Hostname = name } }
	node := func(id string) func(*facts.Facts) { return func(f *facts.Facts) { f.ManagedNode = id } }
	disk := func(serial string) func(*facts.Facts) { return func(f *facts.Facts) { f.Disk = serial } }
	unidentified := func(f *facts.Facts) { f.Unidentified = true }
	id := func(id string) func(*facts.Facts) { return func(f *facts.Facts) { f.MachineID = id } }

	for _, test := range []struct {
		name string
		life []facts.Facts
		same bool // for the last facts; all before must be the same machine
	}{
		{"reboot", []facts.Facts{known, known}, true},
		{"rebuild from an image without state, whose clones get ids of their own", []facts.Facts{known, with(id("m2"), disk("vol2"), node(""))}, false},
		{"rebuild from an image that was captured from the machine itself", []facts.Facts{known, with(disk("vol2"), node(""))}, true},
		{"restore", []facts.Facts{known, with(disk("vol2"))}, true},
		{"restore, and the name comes late", []facts.Facts{known, with(disk("vol2"), named("ip-10-0-1-2")), with(disk("vol2"))}, true},
		{"restore, and activated anew since the key is too old", []facts.Facts{known, with(disk("vol2")), with(disk("vol2"), node("mi-2"))}, true},
		{"restored twice", []facts.Facts{known, with(disk("vol2")), with(disk("vol3"))}, true},
		{"migrate to an image with state in it", []facts.Facts{known, with(named("R-7"), disk("vol7"), node(""))}, false},
		{"image with state, and its registration", []facts.Facts{known, with(named("A-2"), disk("vol2"))}, false},
		{"image with state, where the kernel names no disk", []facts.Facts{with(disk("")), with(disk(""), named("A-2"), node("mi-2"))}, false},
		{"image with state, before the clone is named", []facts.Facts{known, with(named("localhost"), disk("vol2")), with(named("A-2"), disk("vol2"))}, false},
		{"image with state, and the clone first has the image's name", []facts.Facts{known, with(disk("vol2")), with(named("A-2"), disk("vol2"))}, false},
		{"image with state, and the clone is activated before it is named", []facts.Facts{known, with(named("ip-10-0-0-2"), disk("vol2"), node("mi-2"))}, false},
		{"image that was built before it had a name", []facts.Facts{with(named("ip-10-0-0-1"), node("")), with(named("ip-10-0-0-2"), node(""), disk("vol2")), with(named("A-2"), node(""), disk("vol2"))}, false},
		{"image that was converged while it did not run", []facts.Facts{{Hostname: "image"}, known, with(node("mi-2"))}, true},
		{"and its clones, once they ran", []facts.Facts{{Hostname: "image"}, known, with(named("A-2"), disk("vol2"))}, false},
		{"rename at the domain join", []facts.Facts{with(named("localhost.localdomain"), node("")), with(node(""))}, true},
		{"rename by its owner", []facts.Facts{known, with(named("desk-1")), with(named("desk-1"), node("mi-2"))}, true},
		{"rename where neither disk nor node is known", []facts.Facts{with(disk(""), node("")), with(disk(""), node(""), named("A-2"))}, true},
		{"rename to the full name, and capitals", []facts.Facts{known, with(named("a-1")), with(named("a-1.example.com"))}, true},
		{"first boot before the name is set", []facts.Facts{with(named("(none)"), node("")), with(named("ip-10-0-0-1.eu-west-1.compute.internal"), node("")), with(node("")), known}, true},
		{"activation after the state was written", []facts.Facts{with(node("")), known}, true},
		{"activated anew year after year", []facts.Facts{known, with(node("mi-2")), with(node("mi-3"))}, true},
		{"activated anew and renamed, one after the other", []facts.Facts{known, with(node("mi-2")), with(node("mi-2"), named("A-9"))}, true},
		{"registration cleared for a while", []facts.Facts{known, with(node("")), with(node(""), named("")), known}, true},
		{"state written with the id alone", []facts.Facts{{MachineID: "m"}, known, with(disk("vol2"))}, true},
		{"another id", []facts.Facts{{MachineID: "m"}, with(id("m2"))}, false},
		{"an id taken away, as a sealed image has it", []facts.Facts{known, with(id(""))}, false},
		{"an id that cannot be told for a while", []facts.Facts{known, with(id(""), unidentified), known}, true},
		{"a clone whose id could not be told for a while", []facts.Facts{known, with(id(""), unidentified), with(named("A-2"), disk("vol2"))}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			remembered := test.life[0].Identity()
			for i, f := range test.life[1:] {
				now := f.Identity()
				if want := test.same || i < len(test.life)-2; remembered.Same(now) != want {
					t.Fatalf("look %d: %+v and %+v: same is %v", i+1, remembered, now, !want)
				}
				remembered = remembered.Renewed(now)
			}
		})
	}
}

func TestTheDiskIsTheOneThatHoldsTheRootFileSystem(t *testing.T) {
	const before, after = "23 28 0:21 / /proc rw shared:5 - proc proc rw\n", "40 28 259:9 / /home rw - ext4 /dev/nvme1n1 rw\n"
	root := func(device string) string { return "28 1 " + device + " / / rw,relatime shared:1 - ext4 /dev/x rw\n" }
	const nvme = "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1"
	for _, test := range []struct {
		name, mounts, link string // link is the target of /sys/dev/block/MAJOR:MINOR
		files              map[string]string
		want               string
	}{
		{
			"a partition of an EBS volume", root("259:1"), "259:1=../../devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1/nvme0n1p1",
			map[string]string{nvme + "/nvme0n1p1/partition": "1\n", nvme + "/device/serial": "vol0123456789abcdef0 \n"},
			"vol0123456789abcdef0",
		},
		{
			"a whole disk", root("254:0"), "254:0=../../devices/pci0000:00/virtio1/block/vda",
			map[string]string{"sys/devices/pci0000:00/virtio1/block/vda/serial": "rootdisk\n"},
			"rootdisk",
		},
		{
			"what is mounted over the initial root", root("0:1") + root("254:0"), "254:0=../../devices/pci0000:00/virtio1/block/vda",
			map[string]string{"sys/devices/pci0000:00/virtio1/block/vda/serial": "rootdisk\n"},
			"rootdisk",
		},
		{
			"a disk without a number", root("202:1"), "202:1=../../devices/vbd-768/block/xvda/xvda1",
			map[string]string{"sys/devices/vbd-768/block/xvda/xvda1/partition": "1\n"},
			"",
		},
		{"an overlay", root("0:47"), "", nil, ""},
		{"no mounts to be seen", "", "", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := map[string]string{"proc/self/mountinfo": before + test.mounts + after}
			for name, content := range test.files {
				files[name] = content
			}
			if got := gather(t, files, blockLink(test.link)).Disk; got != test.want {
				t.Errorf("the disk is %q and not %q", got, test.want)
			}
		})
	}
}

func blockLink(link string) map[string]string {
	device, target, found := strings.Cut(link, "=")
	if !found {
		return nil
	}
	return map[string]string{"sys/dev/block/" + device: target}
}

func TestAnImageThatDoesNotRunHasNoDisk(t *testing.T) {
	if diff := cmp.Diff(facts.Identity{Hostname: "image"}, gather(t, map[string]string{"etc/hostname": "image\n"}, nil).Identity()); diff != "" {
		t.Error(diff)
	}
}
