package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/persona"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/public"
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

// The directory, which knows the groups of people, may be as far away as AWS.
func TestAtBootAMachineHasThePersonasThatItHadAndAsksNobody(t *testing.T) {
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{System: s, Ledger: new(converge.Ledger), Facts: facts.Facts{MachineID: "m1", Hostname: "A-1"}, Log: slog.New(slog.DiscardHandler)}
	c, err := readConfig(t, "personas = [\"base\"]\n[[persona]]\nname = \"finance\"\nwhen = { group = \"EXAMPLE\\\\Finance\" }\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := m.subjectAtBoot(c); !got.Unsure || !slices.Equal(got.Personas, []string{"base"}) {
		t.Errorf("the first time: %+v", got)
	}
	last := policysync.Subject{Facts: m.Facts, Personas: []string{"base", "finance"}}
	if err := m.layers().KeepOwn(last); err != nil {
		t.Fatal(err)
	}
	if got := m.subjectAtBoot(c); !got.Unsure || !slices.Equal(got.Personas, last.Personas) {
		t.Errorf("later: %+v", got)
	}
	c.Rules = nil
	if got := m.subjectAtBoot(c); got.Unsure || !slices.Equal(got.Personas, []string{"base"}) {
		t.Errorf("without rules: %+v", got)
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
		"[aws.credentials]\nsource = \"imds\"\n":                 "agent.toml: cannot use aws.credentials.source",
		"persona_rules = \"every\"\n":                            `cannot use persona_rules = "every": it is "first"`,
		"[[persona]]\nname = \"x\"\n":                            "agent.toml: cannot use persona rule 1 (x)",
	} {
		if _, err := readConfig(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestASettingInOtherLettersIsRefusedAndNotTakenForTheOneItIsLike(t *testing.T) {
	for text, key := range map[string]string{
		"personas = [\"base\"]\nPersonas = [\"developer\"]\n":                           "Personas",
		"Personas = [\"developer\"]\n":                                                  "Personas",
		"[aws]\npath = \"/a\"\nPath = \"/b\"\n":                                         "aws.Path",
		"[aws]\npath = \"/a\"\n[AWS]\npath = \"/b\"\n":                                  "AWS",
		"[aws.credentials]\nSource = \"profile\"\n":                                     "aws.credentials.Source",
		"[[persona]]\nname = \"x\"\nwhen = { hostname = \"A\", Hostname = \"B\" }\n":    "persona.when.Hostname",
		"[schedule]\nwindow = { from = \"02:00\", From = \"03:00\", to = \"05:00\" }\n": "schedule.window.From",
		"[report]\nssm = false\nSSM = true\n":                                           "report.SSM",
	} {
		for range 20 { // which of the two counted was random
			if _, err := readConfig(t, text); err == nil || !strings.Contains(err.Error(), "cannot use "+key+": no such setting is known") {
				t.Fatalf("%q: %v", text, err)
			}
		}
	}
	if _, err := readConfig(t, "[[persona]]\nname = \"x\"\nwhen = { tag.Persona = \"a\", tag.persona = \"b\" }\n"); err != nil {
		t.Errorf("names of tags are AWS's: %v", err)
	}
}

func TestAConfigurationThatIsNestedDeeplyIsRefusedWithItsLine(t *testing.T) {
	text := "personas = [\"base\"]\nx = " + strings.Repeat("{a=", 2400) + "1" + strings.Repeat("}", 2400)
	if _, err := readConfig(t, text); err == nil || !strings.Contains(err.Error(), "agent.toml:2: cannot read the configuration: tables and arrays are nested more than 32 deep") {
		t.Errorf("%v", err)
	}
}

func TestAConfigurationThatIsRefusedIsShownAndTheOldOneStaysInForce(t *testing.T) {
	root := t.TempDir()
	d := newTestDaemon(t, root, "1.0")
	var log strings.Builder
	d.Log = slog.New(slog.NewTextHandler(&log, nil))
	configure := func(text string) Config {
		t.Helper()
		if err := d.System.FS.MkdirAll("/etc/soe-agent", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := d.System.FS.WriteFile(ConfigFile, []byte(text), system.Attr{Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		return d.configuration()
	}
	refused := func() []string {
		t.Helper()
		d.publish()
		var s Status
		content, err := d.System.FS.ReadFile(StatusFile)
		if err == nil {
			err = json.Unmarshal(content, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s.Refused
	}
	const good = "personas = [\"finance\"]\n[schedule]\nverify = \"1h\"\n"
	configure(good)
	for range 2 {
		c := configure("personas = [\"developer\"]\n[schedule]\nverify = \"often\"\n")
		if !slices.Equal(c.Personas, []string{"finance"}) || c.Schedule.Verify.Duration != time.Hour || d.Schedule.Verify.Duration != time.Hour {
			t.Errorf("in force is %+v", c)
		}
		if got := refused(); len(got) != 1 || !strings.HasPrefix(got[0], ConfigFile+":3: cannot read the configuration") {
			t.Errorf("the status says %q", got)
		}
	}
	if n := strings.Count(log.String(), "the configuration is refused"); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, log.String())
	}
	configure(good)
	if got := refused(); len(got) > 0 {
		t.Errorf("when it is mended the status says %q", got)
	}
}

func TestOfWhatNotEverybodyMayReadTheStatusAndTheReportSayToEverybodyOnlyThatItIsSo(t *testing.T) {
	const mark = "m4rk"
	for mode, quoted := range map[fs.FileMode]bool{0o644: true, 0o600: false} {
		d := newTestDaemon(t, t.TempDir(), "1.0")
		configure := func(text string) Config {
			t.Helper()
			err := errors.Join(d.System.FS.MkdirAll("/etc/soe-agent", 0o755), d.System.FS.WriteFile(ConfigFile, []byte(text), system.Attr{Mode: mode}))
			if err != nil {
				t.Fatal(err)
			}
			return d.configuration()
		}
		c := configure("[aws]\npath = \"/" + mark + "\"\n")
		selection := persona.Selection{Personas: []string{"a"}, Why: []string{"a: tag " + mark}, Unknown: []string{"cannot tell tag " + mark}}
		d.personas.selected(c, selection)
		d.findings.policy.Doubts = c.doubts(selection)
		if awaited, _ := d.awaited(); len(awaited) == 0 {
			t.Fatal("it waits for nothing")
		}
		d.waits(&net.DNSError{Err: "no such host", Name: mark}, time.Time{})
		for _, moment := range []string{"it waits", "its configuration is refused"} {
			d.publish()
			var everybody, roots Status
			status, err := d.System.FS.ReadFile(StatusFile)
			reported, reportErr := d.System.FS.ReadFile(ReportFile)
			whole, wholeErr := d.System.FS.ReadFile(WholeReport)
			if err := errors.Join(err, reportErr, wholeErr, json.Unmarshal(status, &everybody)); err != nil {
				t.Fatal(err)
			}
			roots = d.statusAs(public.Whole)
			for what, text := range map[string]string{"status": string(status), "report": string(reported), "line": everybody.line()} {
				if got := strings.Contains(text, mark); got != quoted {
					t.Errorf("%s, mode %o: that the %s quotes what is in it: %v\n%s", moment, mode, what, got, text)
				}
			}
			if !strings.Contains(string(whole), mark) || !strings.Contains(roots.Waiting, mark) || !strings.Contains(roots.PersonaRules[0], mark) || !strings.Contains(roots.Doubts[0], mark) {
				t.Errorf("%s, mode %o: root reads %s and %+v", moment, mode, whole, roots)
			}
			if len(everybody.Refused) != len(roots.Refused) || len(everybody.Doubts) == 0 || len(everybody.PersonaDoubts) == 0 || len(everybody.PersonaRules) == 0 || everybody.Waiting == "" {
				t.Errorf("%s, mode %o: the status does not say that there is something: %+v", moment, mode, everybody)
			}
			configure("[schedule]\n" + mark + " = 1\n")
		}
		if refused := d.statusAs(public.Open).Refused; len(refused) != 1 || !strings.HasPrefix(refused[0], ConfigFile) || strings.Contains(refused[0], mark) != quoted {
			t.Errorf("mode %o: of the configuration that is refused everybody reads %q", mode, refused)
		}
	}
}

func TestAnEndpointOfEachServiceIsAURL(t *testing.T) {
	c, err := readConfig(t, "[aws]\nendpoints = { ssm = \"https://a.internal\", secretsmanager = \"https://b.internal:8443\" }\n")
	if err != nil || c.AWS.Endpoints.SSM != "https://a.internal" || c.AWS.Endpoints.SecretsManager != "https://b.internal:8443" {
		t.Errorf("%+v, %v", c.AWS, err)
	}
	for _, text := range []string{`endpoint = "vpce-0123.ssm.eu-west-1.vpce.amazonaws.com"`, `endpoints.ssm = "ftp://a"`, `endpoints.secretsmanager = "https://"`, `endpoints.sts = "https://a"`} {
		if _, err := readConfig(t, "[aws]\n"+text+"\n"); err == nil || !strings.Contains(err.Error(), "cannot use aws.endpoint") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
