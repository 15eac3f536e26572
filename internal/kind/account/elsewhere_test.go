package account_test

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestAnAccountOfAFragmentThatIsForOtherMachinesStaysAndIsSaidWithTheCommandThatRemovesIt(t *testing.T) {
	d := newDesk(t, "")
	d.ledger.Own("user/soe-scan")
	d.ledger.Own("group/docker")
	d.ledger.Own("user/gone")
	d.policy = &policy.Policy{Left: map[policy.ID]policy.Elsewhere{
		"user/soe-scan": {Why: "os.family is debian"}, "group/docker": {Why: "os.family is debian"},
		"user/gone": {Why: "os.family is debian"}, "user/alice": {Why: "os.family is debian"}, // never ours
	}}
	found, outcomes := d.walk(t)
	told := map[string]string{}
	for _, r := range found {
		if r.State != converge.NotApplicable || !r.LeftOver {
			t.Errorf("%s is %s", r.ID, r.State)
		}
		told[string(r.ID)] = r.Reason
	}
	if len(told) != 2 || len(outcomes) > 0 || len(d.tools.ran) > 0 {
		t.Errorf("%v, %v, ran %q", told, outcomes, d.tools.ran)
	}
	for id, command := range map[string]string{"user/soe-scan": "userdel soe-scan", "group/docker": "groupdel docker"} {
		if !strings.HasSuffix(told[id], "not for this machine any more (os.family is debian); to remove it: "+command) {
			t.Errorf("%s: %q", id, told[id])
		}
	}
}
