package dropin

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestALabelThatSomebodyChangedIsMended(t *testing.T) {
	p := files(map[string]policy.Dropin{"/etc/modprobe.d/a.conf": {Content: "a"}, "/etc/modprobe.d/b.conf": {Content: "b"}})
	for _, says := range []string{
		"Would relabel /etc/modprobe.d/a.conf from u:object_r:user_tmp_t:s0 to u:object_r:modules_conf_t:s0\n",
		"restorecon reset /etc/modprobe.d/a.conf context u:object_r:user_tmp_t:s0->u:object_r:modules_conf_t:s0\n",
	} {
		m := &running{root: machine(t, map[string]string{"/sys/fs/selinux/enforce": "1"})}
		m.pass(t, p)
		m.labels = says
		found := m.pass(t, p)
		wants(t, found, map[policy.ID]converge.State{
			"dropin/etc/modprobe.d/a.conf": converge.Corrected, "dropin/etc/modprobe.d/b.conf": converge.Compliant,
		})
		want := []converge.Difference{{Aspect: "label", Want: "u:object_r:modules_conf_t:s0", Got: "u:object_r:user_tmp_t:s0"}}
		if diff := cmp.Diff(want, found["dropin/etc/modprobe.d/a.conf"].Diff); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"restorecon -- /etc/modprobe.d/a.conf"}, m.calls); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
