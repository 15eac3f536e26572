package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

func readConfig(t *testing.T, text string) (Config, error) {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "agent.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return ReadConfig(s.FS, "/agent.toml")
}

func TestTheConfigurationSaysWhenAndHowLong(t *testing.T) {
	c, err := readConfig(t, "[schedule]\npoll = \"5m\"\nlock_timeout = \"10m\"\nwindow = { days = [\"Sun\"], from = \"02:00\", to = \"05:00\", timezone = \"UTC\" }\n")
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Schedule; s.Poll.Duration != 5*time.Minute || s.Verify.Duration != defaultScan || s.LockTimeout.Duration != 10*time.Minute || s.Window.String() != "Sun 02:00–05:00 UTC" {
		t.Errorf("the schedule is %+v", s)
	}
	if c, err := readConfig(t, ""); err != nil || c.Schedule.LockTimeout.Duration != defaultLock || c.Schedule.Window.IsSet() {
		t.Errorf("without anything said it is %+v: %v", c.Schedule, err)
	}
}

func TestAConfigurationThatCannotBeMeantIsRefusedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"[schedule]\nlock_timeout = \"long\"\n":                  "agent.toml:2: cannot read the configuration: \"long\" is not a duration",
		"[schedule]\npoll = \"1ms\"\n":                           "agent.toml:2: cannot read the configuration: \"1ms\" is shorter",
		"[schedule]\nwindow = { days = [\"Funday\"] }\n":         "\"Funday\" is not a day",
		"[schedule]\nwindow = { from = \"02:00\", until = 3 }\n": "cannot use schedule.window.until: no such setting",
		"[schedule]\nwindows = {}\n":                             "cannot use schedule.windows: no such setting",
		"personas = []\n":                                        "cannot use personas",
	} {
		if _, err := readConfig(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
