package system

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The policy may set another time zone while the agent is running.
func TestTheClockTellsTheTimeInTheZoneThatTheMachineHasNow(t *testing.T) {
	if zone, given := os.LookupEnv("TZ"); given {
		t.Setenv("TZ", zone) // so that the test restores it
		os.Unsetenv("TZ")
	}
	file := filepath.Join(t.TempDir(), "localtime")
	c := wallClock{&zone{file: file}}
	set := func(name string) {
		t.Helper()
		if err := os.Symlink("/usr/share/zoneinfo/"+name, file+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"Asia/Tokyo", "America/New_York", "Asia/Tokyo", "UTC"} {
		set(name)
		deadline := time.Now().Add(10 * time.Second)
		for c.here().Location().String() != name {
			if time.Now().After(deadline) {
				t.Fatalf("it is %s, and not %s", c.here().Location(), name)
			}
			time.Sleep(zoneLasts / 10)
		}
		want, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		if now := c.here(); now.Format(time.RFC3339) != now.In(want).Format(time.RFC3339) {
			t.Errorf("it is %s", now)
		}
	}
	if err := os.Remove(file); err != nil { // while somebody changes it
		t.Fatal(err)
	}
	if got := c.here().Location().String(); got != "UTC" {
		t.Errorf("without a zone it is %s", got)
	}
}
