package system_test

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A process cannot undo this, so the test runs another one.
func TestMemoryIsKeptOutOfCoreDumpsAndTheDoorStaysOpen(t *testing.T) {
	const another = "SOE_TEST_KEEP_MEMORY_IN"
	if os.Getenv(another) == "" {
		test := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		test.Env = append(os.Environ(), another+"=1")
		if out, err := test.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := system.KeepMemoryIn(); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit != (unix.Rlimit{}) {
		t.Errorf("the limit is %+v, %v", limit, err)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("dumpable is %d, %v", dumpable, err)
	}
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.FS.WriteFile("/etc/x.d/x", []byte("x"), system.Attr{Mode: 0o640, UID: os.Getuid(), GID: os.Getgid()}); err != nil {
		t.Error(err)
	}
	if err := s.FS.SetAttr("/etc/x.d/x", system.Attr{Mode: 0o600, UID: -1, GID: -1}); err != nil {
		t.Error(err)
	}
	if content, info, err := s.FS.Inspect("/etc/x.d/x"); err != nil || string(content) != "x" || info.Mode != 0o600 {
		t.Errorf("got %q, %+v, %v", content, info, err)
	}
}
