package own_test

import (
	"testing"

	"github.com/soe-agent/soe-agent/internal/own"
)

func TestANameIsTemporaryWhenItWasMadeSo(t *testing.T) {
	for _, name := range []string{"/etc/sudoers.d/a", "a", "/etc/x.d/.b"} {
		if of, is := own.IsTemporary(own.Temporary(name)); !is || of != name {
			t.Errorf("%s is that of %q, %v", own.Temporary(name), of, is)
		}
	}
	for _, name := range []string{"/etc/x.d/a", "/etc/x.d/.a", "/etc/x.d/a.soe.swp", ".soe.swp.", ""} {
		if of, is := own.IsTemporary(name); is {
			t.Errorf("%q is that of %q", name, of)
		}
	}
}

func TestWhatTheAgentKeepsIsBelowItsDirectories(t *testing.T) {
	for name, keeps := range map[string]bool{"/var/lib/soe-agent/ledger.jsonl": true, "/run/soe-agent/check/a": true, "/var/lib/soe-agent": false, "/var/lib/soe-agents/a": false} {
		if own.Keeps(name) != keeps {
			t.Errorf("%s: %v", name, !keeps)
		}
	}
}
