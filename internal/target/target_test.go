package target_test

import (
	"slices"
	"testing"

	"github.com/soe-agent/soe-agent/internal/target"
)

func TestConditionsHoldDoNotHoldOrCannotBeTold(t *testing.T) {
	rocky := target.Facts{"os.family": "rhel", "os.version": "8.10", "desktop": "gnome", "streaming": "both", "directory": "none"}
	for _, c := range []struct {
		conditions target.Conditions
		want       target.Answer
		why        string
	}{
		{nil, target.Yes, ""},
		{target.Conditions{"os.family": {"rhel"}}, target.Yes, "os.family is rhel"},
		{target.Conditions{"os.family": {"debian", "rhel"}}, target.Yes, "os.family is rhel"},
		{target.Conditions{"os.family": {"debian"}}, target.No, "os.family is rhel"},
		{target.Conditions{"os.version": {"8"}}, target.Yes, "os.version is 8.10"},
		{target.Conditions{"os.version": {"8.10"}}, target.Yes, "os.version is 8.10"},
		{target.Conditions{"os.version": {"8.1"}}, target.No, "os.version is 8.10"},
		{target.Conditions{"os.version": {"8.10.1"}}, target.No, "os.version is 8.10"},
		{target.Conditions{"os.version": {""}}, target.No, "os.version is 8.10"},
		{target.Conditions{"streaming": {"dcv"}}, target.Yes, "streaming is both"},
		{target.Conditions{"streaming": {"pcoip"}}, target.Yes, "streaming is both"},
		{target.Conditions{"streaming": {"none"}}, target.No, "streaming is both"},
		{target.Conditions{"directory": {"none"}}, target.Yes, "directory is none"},
		{target.Conditions{"arch": {"x86_64"}}, target.Unknown, "arch is not known"},
		{target.Conditions{"arch": {"x86_64"}, "os.family": {"debian"}}, target.No, "os.family is rhel"},
		{target.Conditions{"arch": {"x86_64"}, "os.family": {"rhel"}}, target.Unknown, "arch is not known"},
		{target.Conditions{"desktop": {"gnome"}, "os.family": {"rhel"}}, target.Yes, "desktop is gnome, os.family is rhel"},
	} {
		if answer, why := c.conditions.Hold(rocky); answer != c.want || why != c.why {
			t.Errorf("%v: %v, %q", c.conditions, answer, why)
		}
	}
}

func TestOnlyAKnownFactLacksAValue(t *testing.T) {
	f := target.Facts{"desktop": "gnome", "streaming": ""}
	for _, c := range []struct {
		fact, value string
		lacks       bool
	}{
		{"desktop", "gnome", false},
		{"desktop", "mate", true},
		{"streaming", "pcoip", false},
		{"directory", "sssd", false},
	} {
		if f.Lacks(c.fact, c.value) != c.lacks {
			t.Errorf("%s lacks %s: %t", c.fact, c.value, !c.lacks)
		}
	}
}

func TestWhatNoMachineHasIsNoCondition(t *testing.T) {
	for _, c := range []struct {
		fact   string
		values []string
		want   string
	}{
		{"os.id", []string{"rocky"}, ""},
		{"os.family", []string{"rhel", "debian"}, ""},
		{"os.familie", []string{"rhel"}, target.NoSuchFact},
		{"os.id", nil, "it names no value, so it never holds"},
		{"os.id", []string{""}, "no machine has an empty one"},
		{"os.family", []string{"ubuntu"}, `no machine has "ubuntu"; it is one of amzn, rhel, debian, other`},
		{"desktop", []string{"kde"}, `no machine has "kde"; it is one of mate, gnome, both, none`},
	} {
		if got := target.Problem(c.fact, c.values); got != c.want {
			t.Errorf("%s %q: %q", c.fact, c.values, got)
		}
	}
}

func TestEachTargetIsAMachineThatCanBe(t *testing.T) {
	want := []string{"amzn-2", "rhel-8", "rhel-9", "rocky-8", "rocky-9", "ubuntu-22.04", "ubuntu-24.04"}
	if got := target.AllNames(); !slices.Equal(got, want) {
		t.Errorf("targets are %q", got)
	}
	for _, one := range target.All() {
		for fact, value := range one.Facts {
			if why := target.Problem(fact, []string{value}); why != "" {
				t.Errorf("%s: %s = %q: %s", one.Name, fact, value, why)
			}
		}
	}
	if _, err := target.Named("amzn-1"); err == nil {
		t.Error("there is a target that AWS has not")
	}
}

func TestATargetStandsForAllMachinesOfItsVersion(t *testing.T) {
	rocky, err := target.Named("rocky-8")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		conditions target.Conditions
		want       bool
	}{
		{nil, true},
		{target.Conditions{"os.version": {"8"}}, true},
		{target.Conditions{"os.version": {"8.10"}}, true},
		{target.Conditions{"os.version": {"9"}}, false},
		{target.Conditions{"os.family": {"debian"}}, false},
		{target.Conditions{"hostname": {"a"}}, true},
		{target.Conditions{"hostname": {"a"}, "desktop": {"mate"}}, false},
	} {
		if got := rocky.May(c.conditions); got != c.want {
			t.Errorf("%v may hold: %t", c.conditions, got)
		}
	}
}
