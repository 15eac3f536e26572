package dropin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// directory is a name service that knows dora and her group, or fails.
type directory struct{ fails error }

func (d directory) Run(_ context.Context, c system.Command) (system.Output, error) {
	switch {
	case c.Argv[0] != "getent":
		return system.Output{}, system.ErrNotInstalled
	case d.fails != nil:
		return system.Output{}, d.fails
	case c.Argv[1] == "passwd" && c.Argv[len(c.Argv)-1] == "dora":
		return system.Output{Stdout: []byte("dora:x:5001:5002::/home/dora:/bin/sh\n")}, nil
	case c.Argv[1] == "group" && c.Argv[len(c.Argv)-1] == "dora":
		return system.Output{Stdout: []byte("dora:x:5002:\n")}, nil
	}
	return system.Output{ExitCode: 2}, nil
}

func TestAnotherOwnerOrGroupThanThePolicySaysIsDriftAndIsMended(t *testing.T) {
	const name = "/etc/modprobe.d/a.conf"
	for what, test := range map[string]struct {
		owner, group string
		uid, gid     int      // that it has
		drift        []string // aspects
		wantUID      int
		wantGID      int
		want         string // of the drift
		fails        error
		state        converge.State // after it is mended
	}{
		"root's, as nothing is said":              {state: converge.Compliant},
		"root's by name":                          {owner: "root", group: "root", state: converge.Compliant},
		"root's by number":                        {owner: "0", group: "0", state: converge.Compliant},
		"somebody's that is to be root's":         {uid: 5101, drift: []string{"owner"}, want: "root", state: converge.Corrected},
		"a group's that is to be root's":          {gid: 5101, drift: []string{"group"}, want: "root", state: converge.Corrected},
		"a user's that is his":                    {owner: "scan", uid: 5101, wantUID: 5101, state: converge.Compliant},
		"a group's that is its":                   {group: "mail", gid: 5102, wantGID: 5102, state: converge.Compliant},
		"root's that is to be a user's":           {owner: "scan", drift: []string{"owner"}, want: "scan", wantUID: 5101, state: converge.Corrected},
		"root's that is to be a group's":          {group: "mail", drift: []string{"group"}, want: "mail", wantGID: 5102, state: converge.Corrected},
		"another's that is to be a user's":        {owner: "scan", uid: 5109, drift: []string{"owner"}, want: "scan", wantUID: 5101, state: converge.Corrected},
		"another's that is to be a group's":       {group: "mail", gid: 5109, drift: []string{"group"}, want: "mail", wantGID: 5102, state: converge.Corrected},
		"a user's, and the group's id is not his": {owner: "scan", group: "scan", uid: 5101, gid: 5101, drift: []string{"group"}, want: "scan", wantUID: 5101, wantGID: 5105, state: converge.Corrected},
		"by number":                              {owner: "5107", group: "5108", uid: 5107, gid: 5108, wantUID: 5107, wantGID: 5108, state: converge.Compliant},
		"another's by number":                    {owner: "5107", uid: 5101, drift: []string{"owner"}, want: "5107", wantUID: 5107, state: converge.Corrected},
		"of the directory":                       {owner: "dora", group: "dora", uid: 5001, gid: 5002, wantUID: 5001, wantGID: 5002, state: converge.Compliant},
		"to be of the directory":                 {owner: "dora", drift: []string{"owner"}, want: "dora", wantUID: 5001, state: converge.Corrected},
		"nobody's":                               {owner: "nova", drift: []string{"owner"}, want: "nova", state: converge.Failed},
		"a group's that there is not":            {group: "nova", drift: []string{"group"}, want: "nova", state: converge.Failed},
		"a negative number":                      {owner: "-1", drift: []string{"owner"}, want: "-1", state: converge.Failed},
		"nobody says whose":                      {owner: "dora", fails: errors.New("it fails"), state: converge.Unknown},
		"nobody says which group's":              {group: "dora", fails: errors.New("it fails"), state: converge.Unknown},
		"a local one's, and the directory fails": {owner: "scan", group: "mail", uid: 5101, gid: 5102, wantUID: 5101, wantGID: 5102, fails: errors.New("it fails"), state: converge.Compliant},
	} {
		root := machine(t, map[string]string{
			name: "x\n", "/etc/group": "root:x:0:\nscan:x:5105:\nmail:x:5102:\n", "/etc/passwd": "root:x:0:0::/root:/bin/sh\nmail:x:5106:5106::/:/bin/false\nscan:x:5101:5101::/:/bin/false\n",
		})
		file := filepath.Join(root, name)
		if err := os.Chown(file, test.uid, test.gid); err != nil {
			t.Fatal(err)
		}
		s := kindtest.Open(t, system.Options{Root: root})
		s.Runner = directory{test.fails}
		ledger := kindtest.LedgerIn(t, s.FS)
		p := files(map[string]policy.Dropin{name: {Content: "x\n", Owner: test.owner, Group: test.group}})
		k := New(p, s, ledger, schedule.Window{})
		found := kindtest.Check(t, k)
		var aspects []string
		for _, d := range found[0].Diff {
			aspects = append(aspects, d.Aspect)
			if test.fails == nil && d.Want != test.want {
				t.Errorf("%s: %s is wanted for %s", what, d.Want, d.Aspect)
			}
		}
		if found[0].State != converge.Unknown && !slices.Equal(aspects, test.drift) {
			t.Errorf("%s: %v has drifted: %v", what, aspects, found[0].Diff)
		}
		r := kindtest.Engine(p, k, ledger, s.Clock).Pass(t.Context()).Resources[0]
		if r.State != test.state || test.state == converge.Failed && !strings.Contains(r.Reason, "there is no ") {
			t.Errorf("%s: it is %s: %s", what, r.State, r.Reason)
		}
		if info, err := s.FS.Stat(name); err != nil || r.State.InLine() && (info.UID != test.wantUID || info.GID != test.wantGID) || info.Mode != 0o644 {
			t.Errorf("%s: then it is of %d and %d, %v: %v", what, info.UID, info.GID, info.Mode, err)
		}
	}
}
