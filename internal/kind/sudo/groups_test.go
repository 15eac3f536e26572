package sudo

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestWhatOnlyTheDirectoryCanTakeAwayIsReported(t *testing.T) {
	for _, test := range []struct{ nsswitch, want string }{
		{"group: files winbind\n", "bob is in wheel-of-the-directory by the directory"},
		{"group:\tfiles [SUCCESS=merge] systemd\n", ""}, // and nobody need be asked
	} {
		s := kindtest.Open(t, system.Options{Root: machine(t, map[string]string{"/etc/nsswitch.conf": test.nsswitch})})
		names := people()
		names.groups["wheel-of-the-directory"] = "wheel-of-the-directory:x:7000:alice,bob"
		s.Runner = names
		want := policy.Sudo{Allow: []string{"%admins"}, RootGroups: []string{"wheel-of-the-directory"}}
		k := New(&policy.Policy{}, s)
		for range 2 { // the second time nobody is asked again
			r := converge.Resource{State: converge.Compliant}
			k.checkGroups(t.Context(), want, []facts.Account{{Name: "bob", UID: 1000, GID: 1000}}, &r)
			if !strings.Contains(r.Reason, test.want) || (r.State == converge.Failed) != (test.want != "") {
				t.Errorf("%q: it is %s: %s", test.nsswitch, r.State, r.Reason)
			}
			delete(names.groups, "wheel-of-the-directory")
		}
	}
}
