package sudo

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// gpasswds notes what is asked of gpasswd.
type gpasswds struct {
	directory
	ran *[]string
}

func (g gpasswds) Run(ctx context.Context, c system.Command) (system.Output, error) {
	if c.Argv[0] == "gpasswd" {
		*g.ran = append(*g.ran, strings.Join(c.Argv[1:], " "))
		return system.Output{}, nil
	}
	return g.directory.Run(ctx, c)
}

func TestNobodyGetsByThemselvesIntoAGroupThatGivesRootWhateverItIsCalled(t *testing.T) {
	const group = "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\nbosses:x:500:\ndocker:x:990:alice\ndocker:x:990:\nempty:x:501:\n"
	for what, test := range map[string]struct {
		group, gshadow, passwd, more string
		ran                          []string // by gpasswd, for the groups that are as good as root and for the allowed
		allowedRan                   []string
		stuck                        string
	}{
		"nothing":                   {},
		"another name":              {group: "moby:x:990:bob\n", ran: []string{"--delete bob moby"}},
		"another line":              {group: "docker:x:990:bob\n", ran: []string{"--delete bob docker"}},
		"gshadow alone":             {gshadow: "docker:!::bob\n", ran: []string{"--delete bob docker"}},
		"an administrator":          {gshadow: "docker:!:bob,root:\n", ran: []string{"--administrators  docker"}},
		"one of another name":       {group: "moby:x:990:\n", gshadow: "moby:!:bob:\n", ran: []string{"--administrators  moby"}},
		"a password":                {gshadow: "docker:$6$x$y::\n", ran: []string{"--restrict docker"}},
		"one in /etc/group":         {group: "moby:$6$x$y:990:\n", ran: []string{"--restrict moby"}},
		"none":                      {gshadow: "docker:*::\nmoby:!$6$x::\nwheel:::\n"},
		"an allowed's":              {gshadow: "admins:$6$x$y:bob:\n", allowedRan: []string{"--administrators  admins", "--restrict admins"}},
		"an allowed's, other name":  {gshadow: "bosses:!:alice:\n", allowedRan: []string{"--administrators  bosses"}},
		"another's":                 {gshadow: "empty:$6$x$y:bob:\n"},
		"a primary group, no shell": {passwd: "kiosk:x:1007:990::/:/usr/sbin/nologin\n", stuck: "primary group of kiosk"},
		"a second name":             {passwd: "bob2:x:1000:990::/:/bin/sh\n", stuck: "primary group of bob2"},
		"given at login":            {more: "*;*;bob;Al0000-2400;audio, docker # x\n", stuck: "group.conf gives docker"},
		"given no more":             {more: "# *;*;bob;Al0000-2400;docker\n"},
	} {
		root := machine(t, map[string]string{
			"/etc/group": group + test.group, "/etc/gshadow": test.gshadow, "/etc/security/group.conf": test.more, "/etc/pam.d/login": "auth optional pam_group.so\n",
			"/etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n" + test.passwd,
		})
		s := kindtest.Open(t, system.Options{Root: root})
		var ran []string
		names := people()
		names.member["kiosk"], names.member["bob2"] = "docker", "docker"
		s.Runner = gpasswds{names, &ran}
		want := policy.Sudo{Allow: []string{"%admins"}, RootGroups: []string{"docker"}}
		k := New(&policy.Policy{}, s)
		groups, sudo := converge.Resource{State: converge.Compliant}, converge.Resource{State: converge.Compliant}
		k.checkGroups(t.Context(), want, nil, &groups)
		k.checkOpenings(t.Context(), allowed(want), &sudo)
		if (groups.State == converge.Drifted) != (test.ran != nil) || (sudo.State == converge.Drifted) != (test.allowedRan != nil) {
			t.Errorf("%s: they are %s and %s: %v %v", what, groups.State, sudo.State, groups.Diff, sudo.Diff)
		}
		if (groups.State == converge.Failed) != (test.stuck != "") || !strings.Contains(groups.Reason, test.stuck) {
			t.Errorf("%s: it is %s: %s", what, groups.State, groups.Reason)
		}
		for _, d := range slices.Concat(groups.Diff, sudo.Diff) {
			if strings.Contains(d.Got, "$6$") {
				t.Errorf("%s: it tells the password: %v", what, d)
			}
		}
		if err := k.repairGroups(t.Context(), want); err != nil || !slices.Equal(ran, test.ran) {
			t.Errorf("%s: gpasswd ran %q: %v", what, ran, err)
		}
		ran = nil
		if err := k.closeAllowed(t.Context(), allowed(want)); err != nil || !slices.Equal(ran, test.allowedRan) {
			t.Errorf("%s: of the allowed gpasswd ran %q: %v", what, ran, err)
		}
	}
}
