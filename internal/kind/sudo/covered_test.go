package sudo

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestWhatIsMountedOverSudosFilesIsTakenAway(t *testing.T) {
	root := machine(t, map[string]string{
		"/proc/1/stat": stat(1), "/root/zz": "bob ALL=(ALL) NOPASSWD: ALL\n", "/etc/sudoers.d/zzz": "",
		"/proc/self/mountinfo": "25 1 0:1 / / rw - ext4 /dev/x rw\n40 25 0:1 /root/zz /etc/sudoers.d/zzz rw - ext4 /dev/x rw\n",
	})
	over := filepath.Join(root, "etc/sudoers.d/zzz")
	if err := unix.Mount(filepath.Join(root, "root/zz"), over, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("this test mounts, which only root may: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(over, unix.MNT_DETACH) })
	s := kindtest.Open(t, system.Options{Root: root})
	s.Root = "/"
	runner := people()
	runner.files = s.FS
	s.Runner, s.Sessions, s.Authority, s.Clock = runner, sickSessions{}, standIn{root: root}, hasty{s.Clock}
	p := &policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: []string{"%admins"}}}}}
	k := New(p, s)
	if !slices.ContainsFunc(k.Watches(), func(w converge.Watch) bool { return w.Mounts }) {
		t.Error("a mount is noticed only by the next verify")
	}
	r := kindtest.Check(t, k)[0]
	if r.State != converge.Drifted || !slices.ContainsFunc(r.Diff, func(d converge.Difference) bool { return strings.Contains(d.Aspect, "mounted over /etc/sudoers.d/zzz") }) {
		t.Errorf("it is %s: %+v", r.State, r.Diff)
	}
	for _, o := range k.Repair(t.Context(), []converge.Resource{r}) {
		t.Errorf("the repair: %v", o.Err)
	}
	if got, err := os.ReadFile(over); err != nil || len(got) > 0 {
		t.Errorf("what was mounted is still there: %q %v", got, err)
	}
}
