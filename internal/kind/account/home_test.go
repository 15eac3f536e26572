package account_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/account"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

const workspaceFstab = "# /etc/fstab\nUUID=1 / xfs defaults 0 0\n/dev/xvdf1 /home ext4 defaults,nofail 0 2\n"

// starting makes a desk look like a WorkSpace that is booting and whose user volume is not mounted
// yet. mount mounts it.
func (d *desk) starting(t *testing.T) (mount func()) {
	t.Helper()
	root := d.system.Root
	put := func(name, content string) { kindtest.Put(t, root, name, content) }
	const disk = "/dev/xvda1 / xfs rw 0 0\n"
	put("etc/fstab", workspaceFstab)
	put("proc/self/mounts", disk)
	d.system.Root = "/" // it is running
	return func() { put("proc/self/mounts", disk+"/dev/xvdf1 /home ext4 rw 0 0\n") }
}

func TestNothingThatConcernsAHomeIsDoneBeforeItsVolumeIsMounted(t *testing.T) {
	const away = ": /home is a volume that is not mounted yet"
	for toml, refused := range map[string]string{
		`users.bob = {}`:                                    "cannot create user bob" + away,
		`users.bob = { home = "/home/bob" }`:                "cannot create user bob" + away,
		`users.bob = { home = "/srv/bob" }`:                 "",
		`users.bob = { system = true }`:                     "",
		`users.alice = { uid = 5200 }`:                      "cannot change user alice" + away,
		`users.alice = { uid = 5200, shell = "/bin/sh" }`:   "cannot change user alice" + away,
		`users.alice = { shell = "/bin/sh" }`:               "",
		`groups.docker = { gid = 5300 }`:                    "cannot change group docker" + away,
		`groups.staff = { gid = 5300 }`:                     "",
		`users.soe-scan = { ensure = "absent" }`:            "",
		`users.alice = { groups = ["docker"], uid = 5200 }`: "cannot change user alice" + away,
	} {
		d := newDesk(t, toml)
		mount := d.starting(t)
		_, outcomes := d.walk(t)
		if got := errorOf(outcomes); (got == "") != (refused == "") || !strings.HasPrefix(got, refused) {
			t.Errorf("%s: %s", toml, got)
		}
		for _, command := range d.tools.ran {
			if refused != "" && (strings.HasPrefix(command, "useradd") || strings.Contains(command, "5200") || strings.Contains(command, "5300")) {
				t.Errorf("%s: ran %s", toml, command)
			}
		}
		mount()
		if _, outcomes := d.walk(t); errorOf(outcomes) != "" {
			t.Errorf("%s, with the volume: %v", toml, outcomes)
		}
	}
}

// The same applies to any other volume in fstab.
func TestNoHomeIsMadeOrMissedOnAVolumeThatIsNotMountedYet(t *testing.T) {
	d := newDesk(t, "users.bob = { home = \"/data/people/bob\" }\nusers.alice = { home = \"/home/alice\" }\n")
	root := d.system.Root
	mount := d.starting(t)
	fstab := filepath.Join(root, "etc/fstab")
	if err := os.WriteFile(fstab, []byte("/dev/xvdf1 /home ext4\nnas:/people /data/people nfs\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	found, outcomes := d.walk(t)
	if got := errorOf(outcomes); got != "cannot create user bob: /data/people is a volume that is not mounted yet, and would hide a home that is created now" {
		t.Error(got)
	}
	if alice := found[0]; alice.State != converge.Unknown || !strings.Contains(alice.Reason, "cannot tell whether its home /home/alice is there: /home is a volume that is not mounted yet") {
		t.Errorf("%s is %s: %s", alice.ID, alice.State, alice.Reason)
	}
	mount()
	if found, _ := d.walk(t); found[0].State != converge.Compliant {
		t.Errorf("%+v", found[0])
	}
}

func errorOf(outcomes []converge.Outcome) string {
	for _, o := range outcomes {
		if o.Err != nil {
			return o.Err.Error()
		}
	}
	return ""
}

// The walk for a former id is not complete without these files.
func TestAWalkWaitsForTheVolumeOfTheHomes(t *testing.T) {
	d, walks := renumbered(t, "users.alice = { uid = 5200 }")
	walks.err = context.Canceled
	d.walk(t)
	walks.err, walks.asked = nil, nil
	mount := d.starting(t)
	found, outcomes := d.walk(t)
	if len(walks.asked) > 0 || len(outcomes) != 1 || !strings.Contains(errorOf(outcomes), "files there would keep the old id") || found[0].State != converge.Drifted {
		t.Errorf("%+v, %v, walked %+v", found, outcomes, walks.asked)
	}
	mount()
	d.walk(t)
	if len(walks.asked) != 2 || walks.asked[0].Dir != "/" || walks.asked[1].Dir != "/home" {
		t.Errorf("walked %+v", walks.asked)
	}
	if found, _ := d.walk(t); found[0].State != converge.Compliant {
		t.Errorf("%+v", found)
	}
	for _, kind := range []converge.Watcher{account.NewUsers(&policy.Policy{}, d.system, d.ledger), account.NewGroups(&policy.Policy{}, d.system, d.ledger)} {
		watched := false
		for _, w := range kind.Watches() {
			watched = watched || w.Unit == "home.mount"
		}
		if !watched {
			t.Error("nobody notices that the volume is mounted")
		}
	}
}
