package sudo

import (
	"fmt"
	"slices"
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

// Nothing may be said of the account that an image is made with; its rights are the policy's to say all the same.
func TestTheAccountThatAnImageIsMadeWithKeepsNoRightForItsName(t *testing.T) {
	names := people()
	passwd, member := "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\n", "ec2-user,gdm"
	for i, name := range []string{"ec2-user", "ubuntu", "rocky", "cloud-user"} {
		line := fmt.Sprintf("%s:x:%d:%d::/home/%s:/bin/bash", name, 2000+i, 2000+i, name)
		passwd, member = passwd+line+"\n", member+","+name
		names.users[name], names.member[name] = line, name+",wheel"
	}
	passwd += "gdm:x:120:120::/var/lib/gdm3:/bin/false\n"
	s := kindtest.Open(t, system.Options{Root: machine(t, map[string]string{"/etc/passwd": passwd, "/etc/group": "root:x:0:\nadmins:x:500:alice\nwheel:x:10:" + member + "\n"})})
	s.Runner = names
	r := converge.Resource{State: converge.Compliant}
	New(&policy.Policy{}, s).checkGroups(t.Context(), policy.Sudo{Allow: []string{"%admins"}, RootGroups: []string{"wheel"}}, nil, &r)
	var taken []string
	for _, d := range r.Diff {
		taken = append(taken, d.Got)
	}
	slices.Sort(taken)
	if !slices.Equal(taken, []string{"cloud-user", "rocky", "ubuntu"}) {
		t.Errorf("taken out of wheel: %q; %s", taken, r.Reason)
	}
}
