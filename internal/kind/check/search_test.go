package check_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/check"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

const allSearches = `
[checks]
duplicate-users  = { find = "duplicate-users" }
duplicate-uids   = { find = "duplicate-uids" }
duplicate-groups = { find = "duplicate-groups" }
duplicate-gids   = { find = "duplicate-gids" }
unknown-groups   = { find = "unknown-groups" }
other-roots      = { find = "other-roots" }
empty-passwords  = { find = "empty-passwords" }
homes            = { find = "homes" }
`

// tidy are the files of accounts of which nothing is to be said.
func tidy() map[string]string {
	return map[string]string{
		"etc/passwd": "# people\nroot:x:0:0:root:/root:/bin/bash\nsync:x:5:0:sync:/sbin:/bin/sync\nann:x:1000:1000:Ann:/home/ann:/bin/bash\n+::::::\nsvc:x:1001:01000::/nowhere:/sbin/nologin\n",
		"etc/group":  "root:x:0:\npeople:x:1000:ann\n",
		"etc/shadow": "root:*:19000:0:99999:7:::\nsync:!:1::::::\nann:$6$x:19000:0:99999:7:::\nsvc:!!:1::::::\n",
		"home/ann/":  "",
	}
}

func ownsHome(t *testing.T, root, home string, uid int, mode os.FileMode) {
	t.Helper()
	name := filepath.Join(root, home)
	if err := errors.Join(os.MkdirAll(name, 0o700), os.Lchown(name, uid, uid), os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
}

func searched(t *testing.T, root, toml string) map[string]converge.Resource {
	t.Helper()
	s := kindtest.Open(t, system.Options{Root: root, Gate: system.ReadOnly})
	found := map[string]converge.Resource{}
	for _, r := range kindtest.Check(t, check.New(kindtest.Policy(t, toml), s, noLedger())) {
		found[r.ID.Name()] = r
	}
	return found
}

func TestNothingIsFoundAmongAccountsThatAreAsTheyShouldBe(t *testing.T) {
	root := kindtest.Root(t, tidy())
	ownsHome(t, root, "home/ann", 1000, 0o750)
	found := searched(t, root, allSearches)
	if len(found) != 8 {
		t.Errorf("%d searches", len(found))
	}
	for name, r := range found {
		if r.State != converge.Compliant || r.Reason != "" {
			t.Errorf("%s is %s: %s", name, r.State, r.Reason)
		}
	}
	kindtest.Put(t, root, "etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
	if err := os.Remove(filepath.Join(root, "etc/shadow")); err != nil {
		t.Fatal(err)
	}
	if r := searched(t, root, allSearches)["empty-passwords"]; r.State != converge.Compliant {
		t.Errorf("without /etc/shadow: %s %s", r.State, r.Reason)
	}
}

// What a strict reader passes over, another one may let in: lines that are cut short count.
func TestEachSearchNamesWhatItFindsAndPassesOverWhatIsExcepted(t *testing.T) {
	root := kindtest.Root(t, map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/bash\nann:x:1000:1000:Ann:/home/ann:/bin/bash\nann:x:1002:1000:Ann:/home/ann2:/bin/bash\nbob:x:1000:77:Bob:/home/bob:/bin/bash\n" +
			"open::1005:1000::/home/open:/bin/bash\nlink:x:1006:1000::/home/link:/bin/sh\nrel:x:1007:1000::rel:/bin/sh\nneg:x:1008:-1:::/sbin/nologin\n half::\nlegacy::00:1:::\n",
		"etc/group":   "root:x:0:\npeople:x:1000:ann\nold:x:1000:\nbad:x:x:\npeople:x:1001:\nlegacy:x:1:\n",
		"etc/shadow":  "root:*:19000:0:99999:7:::\nbob::19000:0:99999:7:::\ncut:\nann:$6$x:1::::::\n",
		"home/link":   "-> /etc",
		"home/ann2":   "a file",
		"home/ann/":   "",
		"home/open/x": "",
	})
	ownsHome(t, root, "home/ann", 1000, 0o755)
	found := searched(t, root, strings.NewReplacer(`"empty-passwords" }`, `"empty-passwords", except = ["legacy"] }`, `"other-roots" }`, `"other-roots", except = ["legacy"] }`, `"duplicate-uids" }`, `"duplicate-uids", except = ["toor", "legacy"] }`).Replace(allSearches))
	for name, want := range map[string]string{
		"duplicate-users":  "ann is more than once in /etc/passwd",
		"duplicate-uids":   "ann, bob have the uid 1000",
		"duplicate-groups": "people is more than once in /etc/group",
		"duplicate-gids":   "people, old have the gid 1000",
		"unknown-groups":   "bob has the group 77, which there is not; neg has the group -1, which there is not",
		"other-roots":      "toor has the uid 0",
		"empty-passwords":  "open has an empty password; half has an empty password; bob has an empty password; cut has an empty password",
		"homes": "/home/ann, the home of ann, has the mode 0755, and 0750 is the most; /home/ann2, the home of ann, is no directory; bob has no home: there is no /home/bob; " +
			"/home/open, the home of open, belongs to the uid 0; /home/link, the home of link, is no directory; rel has the home \"rel\"",
	} {
		r := found[name]
		if r.State != converge.Failed || r.Reason != "the check does not hold: "+want {
			t.Errorf("%s is %s:\n%s\nwant\n%s", name, r.State, r.Reason, want)
		}
		whole := r.Public().Reason == r.Reason
		if private := name == "homes" || name == "empty-passwords"; private == whole {
			t.Errorf("everybody reads of %s: %s", name, r.Public().Reason)
		}
	}
}

func TestAThousandFindingsAndAHostileNameSayNoMoreThanARowOfThem(t *testing.T) {
	var passwd, shadow strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&passwd, "p%d\x1b[31m%s:x:1:1::/h:/bin/sh\n", i, strings.Repeat("long", 100))
		fmt.Fprintf(&shadow, "p%d::\n", i)
	}
	root := kindtest.Root(t, map[string]string{"etc/passwd": passwd.String(), "etc/group": "", "etc/shadow": shadow.String()})
	for name, r := range searched(t, root, allSearches) {
		if len(r.Reason) > 20*200+200 || strings.Contains(r.Reason, "\x1b") {
			t.Errorf("%s says %d bytes: %.300q", name, len(r.Reason), r.Reason)
		}
		if name == "empty-passwords" && !strings.HasSuffix(r.Reason, "; and 980 more") {
			t.Errorf("it does not say how many there are: %s", r.Reason)
		}
	}
}

func TestNoAccountIsSearchedByALookThatFailedOrOnAnotherMachine(t *testing.T) {
	for _, untidy := range []bool{false, true} {
		faultwalk.Walk(t, "check", faultwalk.Scene{
			Name: fmt.Sprintf("untidy: %v", untidy),
			Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
				files := tidy()
				if untidy {
					files["etc/passwd"] += "ann::0:7::/home/ann:/bin/sh\n"
				}
				root := kindtest.Root(t, files)
				ownsHome(t, root, "home/ann", 1000, 0o750)
				s := kindtest.Open(t, system.Options{Root: root, Look: look})
				p := kindtest.Policy(t, allSearches)
				ledger := kindtest.Ledger(t, root)
				k := check.New(p, s, ledger)
				return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, ledger, s.Clock)}
			},
		})
	}
}

// An id is what glibc makes of it, for by that people are let in.
func TestAnIDThatIsWrittenInAnUnusualWayIsThatOne(t *testing.T) {
	root := kindtest.Root(t, map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\nplus:x:+0:0::/root:/bin/bash\n\vminus:x:-0:00::/root:/bin/bash\nann:x:+1000:0100::/home/ann:/bin/bash\nbob:x:1000:+100::/home/bob:/bin/false\n" +
			"lost:x:1003:-1::/home/lost:/bin/false\ncut:x:1004:100\nround:x:-18446744073709551614:100::/:/bin/false\nbin:x:2:100:::\n",
		"etc/group": "root:x:0:\nusers:x:0100:\nnone:x::\ntwice:x: 100:\n",
	})
	found := searched(t, root, allSearches)
	for name, says := range map[string]string{
		"other-roots":    "the check does not hold: plus has the uid 0; minus has the uid 0",
		"duplicate-uids": "the check does not hold: root, plus, minus have the uid 0; ann, bob have the uid 1000; round, bin have the uid 2",
		"duplicate-gids": "the check does not hold: users, twice have the gid 100",
		"unknown-groups": "the check does not hold: lost has the group -1, which there is not",
		"homes":          `the check does not hold: ann has no home: there is no /home/ann; cut has the home ""`,
	} {
		if r := found[name]; r.State != converge.Failed || r.Reason != says {
			t.Errorf("%s is %s: %q, and not %q", name, r.State, r.Reason, says)
		}
	}
}
