package system

import (
	"slices"
	"testing"

	"github.com/soe-agent/soe-agent/internal/mounts"
)

func TestWhereAServerOrSomebodysProgramAnswersALookMayHang(t *testing.T) {
	points := hanging(mounts.Parse(`22 1 0:20 / / rw shared:1 - nfs4 server:/root rw
23 22 0:21 / /home rw shared:1 - autofs systemd-1 rw
24 23 8:1 / /home rw shared:1 - ext4 /dev/sda1 rw
25 22 0:22 / /srv/theirs rw shared:1 - fuse.sshfs them: rw
26 22 0:23 / /srv/a\040b rw shared:1 - nfs server:/ rw
27 22 0:24 / /net rw shared:1 - autofs systemd-1 rw
28 22 0:25 / /run rw shared:1 - tmpfs tmpfs rw
29 22 0:26 / /sys/fs/fuse/connections rw shared:1 - fusectl fusectl rw
`))
	slices.Sort(points)
	if want := []string{"/net", "/srv/a b", "/srv/theirs"}; !slices.Equal(points, want) {
		t.Errorf("got %q, want %q", points, want)
	}
}
