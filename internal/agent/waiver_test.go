package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
)

// telnet is a kind with a package that is installed and is to be absent.
type telnet struct {
	want policy.Resource

	mu   sync.Mutex
	gone time.Time // when it was removed
}

func (*telnet) Name() string { return "package" }

func (k *telnet) Check(context.Context) ([]converge.Resource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := converge.Wanted(k.want)
	if k.gone.IsZero() {
		r.AddDrift("ensure", "absent", "present")
	}
	return []converge.Resource{r}, nil
}

func (k *telnet) Repair(context.Context, []converge.Resource) []converge.Outcome {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = time.Now()
	return nil
}

// Time in a synctest bubble begins at midnight, UTC.
func TestAWaiverEndsAtMidnightAndWithoutAnyEventTheMachineIsBroughtIntoLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := policy.Parse(policy.Source{Name: "10-base.toml", Text: `
schema = 1
[packages]
telnet = "absent"
[[rules]]
match = ["package/telnet"]
mode = "audit"
until = ` + time.Now().AddDate(0, 0, 1).UTC().Format(time.DateOnly) + `
reason = "TICKET-123"
`})
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Merge([]policy.Fragment{f}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		d := newTestDaemon(t, t.TempDir(), "1.0")
		k := &telnet{want: p.Resources[0]}
		d.findings.policy = p
		d.slow.assign(converge.New(p, []converge.Kind{k}, d.Ledger, d.System.Clock, slog.New(slog.DiscardHandler)), []converge.Kind{k})
		go d.slow.run(t.Context())
		midnight := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 2)
		stands := func() converge.Resource {
			t.Helper()
			synctest.Wait()
			content, err := d.System.FS.ReadFile(ReportFile)
			var r report.Report
			if err == nil {
				err = json.Unmarshal(content, &r)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, resource := range r.Resources {
				if resource.ID == "package/telnet" {
					return resource
				}
			}
			t.Fatal("the report says nothing of it")
			return converge.Resource{}
		}

		// The day before, and at the last verify of the day itself.
		for _, at := range []time.Time{time.Now(), midnight.Add(-d.config.Schedule.Verify.Duration)} {
			time.Sleep(time.Until(at))
			d.slow.mark("package")
			if r := stands(); r.State != converge.Waived || !strings.Contains(r.Reason, "waived until") {
				t.Errorf("at %s it is %s: %s", at, r.State, r.Reason)
			}
		}
		time.Sleep(time.Until(midnight.Add(-time.Second)))
		if r := stands(); r.State != converge.Waived {
			t.Errorf("a second before its end it is %s: %s", r.State, r.Reason)
		}
		time.Sleep(2 * time.Second)
		if r := stands(); r.State != converge.Corrected || !strings.Contains(r.Reason, "its waiver ended") {
			t.Errorf("a second after its end it is %s: %s", r.State, r.Reason)
		}
		if !k.gone.Equal(midnight) {
			t.Errorf("it was removed at %s, and the waiver ended at %s", k.gone, midnight)
		}
	})
}
