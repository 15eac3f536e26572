package publish_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/publish"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

func TestWhatNoManifestNamesIsDeletedOnceItIsADayOld(t *testing.T) {
	f := newFleet()
	_, first := f.publish(t, one(), publish.Everybody)
	f.ages(t)
	f.publish(t, two(), publish.Everybody)
	if !slices.Contains(f.parameters(t), first.Written[0]) {
		t.Fatal("machines that are reading the manifest before miss a fragment")
	}
	// One that somebody is writing now, and parameters that publish did not write.
	others := []string{at + "/policy/50-new/0123456789ab", at + "/policy/readme", at + "/policy/policy/10-base/0123456789ab"}
	for i, name := range others {
		f.PutParameter(name, "x")
		if i > 0 {
			f.Age(name, 1000*time.Hour)
		}
	}
	_, result := f.publish(t, three(), publish.Everybody)
	if diff := cmp.Diff(first.Written[:1], result.Deleted); diff != "" { // 10-base of the first policy
		t.Error(diff)
	}
	left := f.parameters(t)
	for _, name := range others {
		if !slices.Contains(left, name) {
			t.Errorf("%s is gone", name)
		}
	}
	f.everybody(t, 3, three())
}

func TestGarbageOfManyPagesIsDeletedAlsoWhenAPageIsEmpty(t *testing.T) {
	f := newFleet()
	for i := range 45 {
		name := fmt.Sprintf("%s/policy/10-base/%012x", at, i)
		f.PutParameter(name, "x")
		f.Age(name, 25*time.Hour)
	}
	f.Fail("GetParametersByPath", 2, awsfake.EmptyPage)
	_, result := f.publish(t, one(), publish.Everybody)
	if len(result.Deleted) != 45 {
		t.Errorf("%d are deleted", len(result.Deleted))
	}
	f.everybody(t, 1, one())
}

func TestWhoMayNotListOrDeleteIsWarnedAndPublishes(t *testing.T) {
	for _, action := range []string{"ssm:GetParametersByPath", "ssm:DeleteParameters"} {
		f := newFleet()
		f.publish(t, one(), publish.Everybody)
		f.publish(t, two(), publish.Everybody)
		f.ages(t)
		f.Deny(action)
		_, result, err := try(t.Context(), f.publisher(), three(), publish.Everybody)
		if err != nil || len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], action) {
			t.Errorf("%s: %v, %q", action, err, result.Warnings)
		}
		f.Heal()
		f.everybody(t, 3, three())
	}
}

func TestAFragmentThatIsGarbageByNowIsNotReliedUponWhenItIsWantedAgain(t *testing.T) {
	f := newFleet()
	_, first := f.publish(t, three(), publish.Everybody)
	f.publish(t, one(), publish.Everybody)
	for again := 1; again < 3; again++ {
		f.ages(t)
		plan, err := f.publisher().Plan(t.Context(), sources(three()), publish.Everybody)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%s-%d", first.Written[0], again)
		if diff := cmp.Diff([]string{want}, plan.Parameters); diff != "" {
			t.Error(diff)
		}
		f.PutParameter(want, three()["10-base"]) // it stays unused for two days
	}
	f.publish(t, three(), publish.Everybody) // the latest of them is young enough
	f.everybody(t, 3, three())
	m, _, _ := f.manifest(t.Context())
	if got, want := m.Fragments[0].Parameter, first.Written[0]+"-2"; got != want {
		t.Errorf("%s is used, not %s", got, want)
	}
}
