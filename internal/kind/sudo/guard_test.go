package sudo

import (
	"context"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestWhetherAnAdministratorIsComingTheRepairSaysAndWhetherNoneIsTheCheck(t *testing.T) {
	resource := func(id policy.ID, spec policy.Spec) policy.Resource { return policy.Resource{ID: id, Spec: spec} }
	user := policy.User{Ensure: policy.Present}
	group := policy.Group{Ensure: policy.Present}
	in := func(group string) policy.User { return policy.User{Ensure: policy.Present, Groups: []string{group}} }
	for what, test := range map[string]struct {
		allow  []string
		brings []policy.Resource // sorted, as Merge leaves them
		coming bool
		audits string // what a rule leaves alone
	}{
		"nobody":                         {allow: []string{"nova"}},
		"the user":                       {[]string{"nova"}, []policy.Resource{resource("user/nova", user)}, true, ""},
		"the group and who is in it":     {[]string{"%nova"}, []policy.Resource{resource("group/nova", group), resource("user/stella", in("nova"))}, true, ""},
		"whose first group it is":        {[]string{"%nova"}, []policy.Resource{resource("group/nova", group), resource("user/stella", policy.User{Ensure: policy.Present, Group: "nova"})}, true, ""},
		"who is in a group that is here": {[]string{"%empty"}, []policy.Resource{resource("user/stella", in("empty"))}, true, ""},
		"the group alone":                {allow: []string{"%nova"}, brings: []policy.Resource{resource("group/nova", group)}},
		"who is in a group of nobody's":  {allow: []string{"%nova"}, brings: []policy.Resource{resource("user/stella", in("nova"))}},
		"a user to be absent":            {allow: []string{"nova"}, brings: []policy.Resource{resource("user/nova", policy.User{Ensure: policy.Absent})}},
		"a group to be absent":           {allow: []string{"%nova"}, brings: []policy.Resource{resource("group/nova", policy.Group{Ensure: policy.Absent}), resource("user/stella", in("nova"))}},
		"a group that is here to go":     {allow: []string{"%empty"}, brings: []policy.Resource{resource("group/empty", policy.Group{Ensure: policy.Absent}), resource("user/stella", in("empty"))}},
		"somebody in it to be absent":    {allow: []string{"%nova"}, brings: []policy.Resource{resource("group/nova", group), resource("user/stella", policy.User{Ensure: policy.Absent, Groups: []string{"nova"}})}},
		"a user whose id alone is kept":  {allow: []string{"nova"}, brings: []policy.Resource{resource("user/nova", policy.User{Ensure: policy.Present, Registered: true})}},
		"a group whose id alone is kept": {allow: []string{"%nova"}, brings: []policy.Resource{resource("group/nova", policy.Group{Ensure: policy.Present, Registered: true}), resource("user/stella", in("nova"))}},
		"a user that is only looked at":  {allow: []string{"nova"}, brings: []policy.Resource{resource("user/nova", user)}, audits: "user/*"},
		"a group that is looked at":      {allow: []string{"%nova"}, brings: []policy.Resource{resource("group/nova", group), resource("user/stella", in("nova"))}, audits: "group/*"},
		"what is not in any registry":    {allow: []string{"unregistered"}, brings: []policy.Resource{resource("user/unregistered", policy.Registry{Of: "user"})}},
		"a user of the group's name":     {allow: []string{"%nova"}, brings: []policy.Resource{resource("user/nova", user)}},
		"a group of the user's name":     {allow: []string{"nova"}, brings: []policy.Resource{resource("group/nova", group)}},
		"somebody else":                  {allow: []string{"nova"}, brings: []policy.Resource{resource("user/stella", user)}},
		"one of two":                     {[]string{"%none", "nova"}, []policy.Resource{resource("user/nova", user)}, true, ""},
		"nobody of two, and another one": {allow: []string{"%none", "nova"}, brings: []policy.Resource{resource("group/empty", group), resource("user/stella", user)}},
	} {
		root := machine(t, map[string]string{"/etc/sudoers.d/50-x": "bob ALL=ALL\n"})
		recorder := &system.Recorder{}
		s := kindtest.Open(t, system.Options{Root: root, Gate: recorder.Gate})
		runner := people()
		runner.files = s.FS
		s.Runner = runner
		p := &policy.Policy{}
		if test.audits != "" {
			p.Rules = []policy.Rule{{Match: []string{test.audits}, Audit: true}}
		}
		for _, r := range test.brings {
			if r.ID < "sudo/allow" {
				p.Resources = append(p.Resources, r)
			}
		}
		p.Resources = append(p.Resources, resource("sudo/allow", policy.Sudo{Allow: test.allow}))
		for _, r := range test.brings {
			if r.ID > "sudo/allow" {
				p.Resources = append(p.Resources, r)
			}
		}
		k := New(p, s)
		found := kindtest.Check(t, k)
		want := converge.Failed
		if test.coming {
			want = converge.Drifted
		}
		for _, r := range found {
			if r.State != want || !test.coming && !strings.Contains(r.Reason, "no administrator") {
				t.Errorf("%s: %s is %s: %s", what, r.ID, r.State, r.Reason)
			}
		}
		// Should he not have come, nobody loses anything.
		outcomes := k.Repair(t.Context(), found)
		for _, o := range outcomes {
			if o.Err == nil || !strings.Contains(o.Err.Error(), "no administrator") {
				t.Errorf("%s: the repair of %s says %v", what, o.ID, o.Err)
			}
		}
		if changes := recorder.Changes(); len(changes) > 0 || len(outcomes) != len(found) {
			t.Errorf("%s: it changed %v and says of %d of %d", what, changes, len(outcomes), len(found))
		}
	}
}

// failing is a name service that fails, but for what the files say.
type failing struct{ err error }

func (f failing) Run(context.Context, system.Command) (system.Output, error) {
	return system.Output{}, f.err
}

func TestAnAdministratorIsWhoeverCanLogInAndAGroupWithSomebodyInIt(t *testing.T) {
	dir := people()
	dir.users["dora"] = "dora:x:5001:5001::/home/dora:/bin/sh"
	dir.groups["far"] = "far:x:6001:" // who is in it the directory does not always say
	dir.groups["filled"] = "filled:x:502:dora"
	silent, broken := failing{context.DeadlineExceeded}, failing{system.ErrNotRunning}
	lockdown := func(allow ...string) map[string]string {
		return map[string]string{denialPath: string(denial(append([]string{"root"}, allow...), nil, nil))}
	}
	services := map[string]string{
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\ngames:x:12:990::/:/usr/sbin/nologin\n",
		"/etc/group":  "root:x:0:\nservices:x:991:games\nfirst:x:990:\nboth:x:992:games,alice\n",
	}
	for _, line := range []string{"services:x:991:games", "first:x:990:"} {
		name, _, _ := strings.Cut(line, ":")
		dir.groups[name] = line
	}
	for what, test := range map[string]struct {
		allow  []string
		runner system.Runner
		files  map[string]string
		want   string // "": there is one
	}{
		"a user of the machine":                       {allow: []string{"alice"}, runner: broken},
		"a user of the directory":                     {allow: []string{"dora"}, runner: dir},
		"a user whom nobody knows":                    {[]string{"nova"}, dir, nil, "the user nova is not known"},
		"root alone":                                  {nil, dir, nil, "no administrator"},
		"a group with a member":                       {allow: []string{"%admins"}, runner: broken},
		"a group that is somebody's first":            {allow: []string{"%first"}, runner: broken, files: map[string]string{"/etc/group": "root:x:0:\nfirst:x:1001:\n"}},
		"a group with a service in it":                {[]string{"%services"}, dir, services, "nobody who can log in is in the group services"},
		"a group that is a service's first":           {[]string{"%first"}, dir, services, "nobody who can log in is in the group first"},
		"a group with a service and somebody":         {allow: []string{"%both"}, runner: dir, files: services},
		"a service":                                   {[]string{"games"}, dir, services, "the user games cannot log in"},
		"a group with nobody in it":                   {[]string{"%empty"}, dir, nil, "nobody who can log in is in the group empty"},
		"one that the directory fills":                {allow: []string{"%filled"}, runner: dir, files: map[string]string{"/etc/group": "root:x:0:\nfilled:x:502:\n"}},
		"a group of the directory":                    {allow: []string{"%far"}, runner: dir},
		"a group that nobody knows":                   {[]string{"%nova"}, dir, nil, "the group nova is not known"},
		"one after one who is none":                   {allow: []string{"%empty", "nova", "dora"}, runner: dir},
		"none of several":                             {[]string{"%empty", "nova"}, dir, nil, "nobody who can log in is in the group empty, the user nova"},
		"an error":                                    {[]string{"nova"}, broken, nil, "cannot tell"},
		"an error, locked down":                       {[]string{"nova"}, broken, lockdown("nova"), "cannot tell"},
		"silence":                                     {[]string{"nova"}, silent, nil, "cannot tell"},
		"silence about a group":                       {[]string{"%nova"}, silent, nil, "cannot tell"},
		"silence, locked down for him":                {allow: []string{"nova"}, runner: silent, files: lockdown("nova")},
		"silence about a group, locked down for it":   {allow: []string{"%nova"}, runner: silent, files: lockdown("%nova")},
		"silence, locked down for another":            {[]string{"nova"}, silent, lockdown("stella"), "cannot tell"},
		"silence, locked down for him and another":    {[]string{"nova"}, silent, lockdown("nova", "stella"), "cannot tell"},
		"silence, locked down for fewer than are now": {[]string{"nova", "stella"}, silent, lockdown("nova"), "cannot tell"},
	} {
		s := kindtest.Open(t, system.Options{Root: machine(t, test.files)})
		s.Runner = test.runner
		err := New(&policy.Policy{}, s).administrated(t.Context(), allowed(policy.Sudo{Allow: test.allow}))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWhoeverChangesWhatTheKindKeepsGainsRights(t *testing.T) {
	root := machine(t, map[string]string{"/etc/sudoers.d/50-x": "bob ALL=ALL\n"})
	s := kindtest.Open(t, system.Options{Root: root})
	runner := people()
	runner.files = s.FS
	s.Runner = runner
	p := &policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: []string{"%admins"}, RootGroups: []string{"wheel"}}}}}
	found := kindtest.Check(t, New(p, s))
	for _, r := range found {
		if !r.IsGuard() {
			t.Errorf("%s is left alone where it is contested", r.ID)
		}
	}
	if len(found) != 3 {
		t.Errorf("got %+v", found)
	}
}
