package e2e

import (
	"maps"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/test/box"
)

// A policy that cannot be right is refused whole: nothing of it is written, the
// last good one stays in force, and report, status and exit code say so.
func TestABadPolicyIsRefusedWholeAndTheLastGoodOneStaysInForce(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	good := w.fleetPolicy()
	w.bootWith(t, 1, good)
	serial := 1
	for _, bad := range []struct{ name, fragment, says string }{
		{"a fragment that does not parse", "schema = 1\n[packages\n", "99-bad:2"},
		{"an unknown key", "schema = 1\n[users.x]\nuuid = 5\n", `did you mean "uid"`},
		{"a value out of range", "schema = 1\n[pcoip]\nserver_clipboard_state = 9\n", "between 0 and 3"},
		{"a protected path", "schema = 1\n[dropins.\"/etc/pam.d/sudo\"]\ncontent = \"\"\n", "protected"},
		{"a policy without an administrator", "schema = 1\npersonas = [\"developer\"]\n[sudo]\nallow = [\"root\"]\n", "no administrator"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			fragments := maps.Clone(good)
			fragments["99-bad"] = bad.fragment
			// What is good in it must not get through either.
			fragments["98-good"] = "schema = 1\n[dropins.\"/etc/x.d/through\"]\ncontent = \"x\"\n"
			serial++
			w.publish(t, serial, fragments)
			w.until(t, "the policy is refused", func() bool {
				s, code := w.status(t)
				return code == 2 && strings.Contains(strings.Join(s.Refused, "\n"), bad.says)
			})
			if r := w.report(t); r.Code != 2 || !strings.Contains(strings.Join(r.Policy.Refused, "\n"), bad.says) {
				t.Errorf("the report exits %d and says %q", r.Code, r.Policy.Refused)
			}
			if s, _ := w.status(t); s.Serial != 1 {
				t.Errorf("serial %d is in force", s.Serial)
			}
			if !w.fails(t, "test", "-e", "/etc/x.d") {
				t.Error("something of the refused policy was written")
			}
			w.MustExec(t, "sh", "-c", "echo drift > /etc/modprobe.d/soe-01.conf")
			w.until(t, "the last good policy is kept", func() bool {
				return w.MustReadFile(t, "/etc/modprobe.d/soe-01.conf") == "# managed, number 1\n"
			})
		})
	}
	serial++
	w.publish(t, serial, good)
	w.converged(t, int64(serial))
}

func TestABadLocalFragmentIsRefusedAndTakenUpOnceItIsMended(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.bootWith(t, 1, w.fleetPolicy())
	const local = "/etc/soe-agent/policy.d/90-here.toml"
	w.MustWriteFile(t, local, box.File{Content: "schema = 1\n[dropin]\n"})
	w.until(t, "the fragment is refused", func() bool {
		s, code := w.status(t)
		return code == 2 && strings.Contains(strings.Join(s.Refused, "\n"), local+":2")
	})
	w.MustWriteFile(t, local, box.File{Content: "schema = 1\n[dropins.\"/etc/here.d/x\"]\ncontent = \"here\\n\"\n"})
	w.until(t, "the mended fragment is in force", func() bool {
		return !w.fails(t, "grep", "-qx", "here", "/etc/here.d/x")
	})
	w.converged(t, 1)
	explained := w.MustExec(t, "soe-agent", "explain", "dropin/etc/here.d/x")
	for _, part := range []string{local + ":2 (local)", "state      corrected", `content = "here\n"`} {
		if !strings.Contains(explained, part) {
			t.Errorf("explain does not say %q:\n%s", part, explained)
		}
	}
	explained = w.MustExec(t, "runuser", "-u", "nobody", "--", "soe-agent", "explain", "dropin/etc/here.d/x")
	for _, part := range []string{local + ":2 (local)", "state      corrected", "wanted     root may see it", "history    root may see it"} {
		if !strings.Contains(explained, part) {
			t.Errorf("explain does not say %q to everybody:\n%s", part, explained)
		}
	}
	if strings.Contains(explained, "[dropins") {
		t.Errorf("explain tells everybody what only root may see:\n%s", explained)
	}
}
