package system

import (
	"strings"
	"testing"
)

func TestAWriterIsNamedByItsUnitAndNeverByItsArguments(t *testing.T) {
	for group, unit := range map[string]string{
		"/system.slice/crond.service":                                       "crond.service",
		"/system.slice/cron.service/child":                                  "cron.service",
		"/user.slice/user-1000.slice/session-2.scope":                       "session-2.scope",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/x.service": "x.service",
		"/": "",
		"":  "",
	} {
		if got := unitOf(group); got != unit {
			t.Errorf("%s is of %q", group, got)
		}
	}
	w := Writer{PID: 812, Exe: "/usr/bin/cp", Unit: "crond.service"}
	if got := w.String(); got != "crond.service (pid 812, /usr/bin/cp)" {
		t.Errorf("it is called %s", got)
	}
	if got := (Writer{PID: 812}).String(); got != "pid 812" {
		t.Errorf("it is called %s", got)
	}
}

func FuzzAnEventIsNeverReadBeyondItsEnd(f *testing.F) {
	f.Add(make([]byte, metadataSize))
	f.Add([]byte("\x48\x00\x00\x00\x03\x00\x18\x00\x02\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x01\x00\x00\x00\x02\x00\x30\x00" + strings.Repeat("\x08", 44)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < metadataSize {
			return
		}
		if _, size := parseEvent(b, map[string]string{"": "/etc"}); size > len(b) || size != 0 && size < metadataSize {
			t.Errorf("an event of %d bytes in %d", size, len(b))
		}
	})
}
