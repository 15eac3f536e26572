package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountsThatCannotBeReadAreNoneThatMayStayWritable(t *testing.T) {
	mountinfo := "36 35 0:5 / /over rw - overlay overlay rw,lowerdir=" + strings.Repeat("/layer:", 200_000) + "\n"
	if err := makeReadOnly(strings.NewReader(mountinfo)); err == nil {
		t.Error("the rest of the mounts was passed over")
	}
}

// Containers, for example, are mounted where only the machine's own root can go.
func TestAMountThatIsOutOfReachHoldsUpNoCheckAndAnyOtherThatStaysWritableDoes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"closed": 0o700, "open": 0o755} {
		err := errors.Join(os.MkdirAll(filepath.Join(dir, name, "mount"), 0o755), os.Chmod(filepath.Join(dir, name), mode))
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]error{"closed": nil, "open": unix.EPERM} {
		mountinfo := fmt.Sprintf("36 35 98:0 / %s/%s/mount rw,noatime master:1 - ext4 /dev/root rw\n", dir, name)
		result := make(chan error)
		spend(func() { // the thread keeps its other user
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 1, 1, 1); errno != 0 {
				result <- errno
				return
			}
			result <- makeReadOnly(strings.NewReader(mountinfo))
		})
		if err := <-result; !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}
