package packages

import (
	"bytes"
	"compress/gzip"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestAGroupIsInstalledAndKeptWholeAndReclaimed(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"theirs": "1.0-1"},
		repository: map[string][]string{"a": {"1.0-1"}, "b": {"1.0-1"}, "theirs": {"1.0-1"}},
	})
	d.groups = map[string][]string{"office": {"a", "b", "theirs"}}
	wants := map[string]policy.Package{"@office": {Ensure: "present"}}
	_, states := check(t, d.kind(wants))
	same(t, "before", states, map[string]string{"@office": "drifted members: not known yet, not all installed"})
	same(t, "the reasons", repair(t, d.kind(wants)), map[string]string{})
	_, states = check(t, d.kind(wants))
	same(t, "afterwards", states, map[string]string{"@office": "compliant"})

	// yum considers a group installed once it was. Its caches may be cleaned.
	if err := os.RemoveAll(filepath.Join(d.root, "/var/cache/yum")); err != nil {
		t.Fatal(err)
	}
	delete(d.installed, "b")
	d.touch()
	_, states = check(t, d.kind(wants))
	same(t, "without b", states, map[string]string{"@office": "drifted members: b missing, not all installed"})
	d.transactions = nil
	same(t, "the reasons", repair(t, d.kind(wants)), map[string]string{})
	same(t, "the transactions", d.transactions, [][]string{{"install b"}})

	// What the policy says about a member takes precedence over the group.
	wants["b"] = policy.Package{Ensure: "absent"}
	same(t, "the reasons", repair(t, d.kind(wants)), map[string]string{})
	_, states = check(t, d.kind(wants))
	same(t, "without b by policy", states, map[string]string{"@office": "compliant", "b": "compliant"})

	same(t, "the reasons", repair(t, d.kind(nil)), map[string]string{})
	same(t, "what is left", slices.Sorted(maps.Keys(d.installed)), []string{"theirs"})
}

func TestAGroupThatNobodyKnowsFailsAndNothingIsReclaimedMeanwhile(t *testing.T) {
	d := newDesk(t, world{repository: map[string][]string{"a": {"1.0-1"}}})
	repair(t, d.kind(map[string]policy.Package{"a": {Ensure: "present"}}))
	wants := map[string]policy.Package{"@lost": {Ensure: "present"}}
	same(t, "the reasons", repair(t, d.kind(wants)), map[string]string{"@lost": "cannot install @lost: Group lost does not exist."})
	same(t, "what is left", slices.Sorted(maps.Keys(d.installed)), []string{"a"})
}

func TestAMemberOfAWantedGroupIsNotTakenAlong(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"base": "1.0-1", "a": "1.0-1"},
		repository: map[string][]string{"a": {"1.0-1"}}, requires: map[string]string{"a": "base"},
	})
	d.groups = map[string][]string{"office": {"a"}}
	d.expandGroups([]string{`install "@office"`}, &strings.Builder{})
	same(t, "the reasons", repair(t, d.kind(map[string]policy.Package{"@office": {Ensure: "present"}, "base": {Ensure: "absent"}})),
		map[string]string{"base": "cannot remove base: a needs it, which the policy wants"})
}

func TestTheListsOfGroupsOfYumAndDnfAreRead(t *testing.T) {
	const list = `<?xml version="1.0"?><!DOCTYPE comps PUBLIC "-//CentOS//DTD Comps info//EN" "comps.dtd"><comps>
<group><id>office</id><name>Office Tools</name><name xml:lang="de">Büro</name><packagelist>
 <packagereq type="mandatory">calc</packagereq><packagereq type="optional">base</packagereq><packagereq type="default"> writer </packagereq></packagelist></group>
<group><id>usual</id><packagelist><packagereq type="default">draw</packagereq></packagelist></group></comps>`
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(list)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{
		"/var/cache/yum/x86_64/2/amzn2-core/gen/groups.xml":     list,
		"/var/cache/yum/x86_64/2/amzn2-core/comps.xml":          list,
		"/var/cache/dnf/baseos-0123/repodata/ab-comps.xml.gz":   packed.String(),
		"/var/cache/dnf/baseos-0123/repodata/ab-comps-Base.xml": list,
	} {
		d := newDesk(t, world{})
		d.write(file, content)
		d.write("/var/cache/dnf/baseos-0123/repodata/cd-comps.xml.gz", "damaged")
		k := d.kind(map[string]policy.Package{"@office": {Ensure: "present"}, "@Office Tools": {Ensure: "present"}, "@usual": {Ensure: "present"}, "@Büro": {Ensure: "present"}})
		k.groups.look()
		same(t, file, k.groups.members, map[string][]string{"office": {"calc"}, "Office Tools": {"calc"}, "usual": {"draw"}})
	}
}

func TestANewKernelWaitsForTheReboot(t *testing.T) {
	older, newer := instance{evr{"0", "5.10.1", "1.amzn2"}, "x86_64", true}, instance{evr{"0", "5.10.2", "1.amzn2"}, "x86_64", true}
	for _, c := range []struct {
		running string
		kernels []instance
		want    string
	}{
		{"5.10.1-1.amzn2.x86_64", []instance{newer, older}, "5.10.1-1.amzn2.x86_64 runs, and 5.10.2-1.amzn2.x86_64 takes effect with the reboot"},
		{"5.10.2-1.amzn2.x86_64", []instance{newer, older}, ""},
		{"6.1.0", []instance{newer, older}, ""}, // a container, or a custom kernel
		{"", []instance{newer}, ""},             // an image
	} {
		if got := olderKernelRuns(c.running, c.kernels); got != c.want {
			t.Errorf("%s: %q", c.running, got)
		}
	}
}

func TestWhoBelongsToAGroupAndCannotBeUnderstoodIsSaidAndLearntAnew(t *testing.T) {
	const whole = `{"office":["a","b"]}`
	contents := []string{"[]", `{"office":{"mandatory":["a"]}}`, `{"office":["a"],"more":{"x":1}}`}
	for cut := range whole {
		contents = append(contents, whole[:cut])
	}
	for _, content := range append(contents, whole) {
		root := t.TempDir()
		var said strings.Builder
		s, err := system.Open(system.Options{Root: root, Log: slog.New(slog.NewTextHandler(&said, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Join(root, own.StateDir), 0o700), os.WriteFile(filepath.Join(root, groupsFile), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		g := newGroups(s, policy.Of[policy.Package](&policy.Policy{Resources: []policy.Resource{{ID: "package/@office", Spec: policy.Package{Ensure: "present"}}}}))
		g.look()
		if g.unknown() == (content == whole) || strings.Contains(said.String(), groupsFile) == (content == whole) {
			t.Errorf("%q is %v, and it is said: %s", content, g.members, said.String())
		}
	}
}
