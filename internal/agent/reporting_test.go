package agent

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

func reportingDaemon(t *testing.T) *daemon {
	t.Helper()
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	p := &policy.Policy{Resources: []policy.Resource{{ID: "user/scan"}, {ID: "package/git"}}}
	d := &daemon{
		Machine: &Machine{System: s, Ledger: new(converge.Ledger), Log: slog.New(slog.DiscardHandler)}, config: Default(), findings: findingsUnder(p),
	}
	d.quick, d.slow, d.checks = newWorker(d.passEnded), newWorker(d.passEnded), newWorker(d.passEnded)
	d.reports = d.newReporting()
	return d
}

func TestAReportThatIsNotAboutEverythingYetIsNotSentUnderAPolicyThatAWSKnows(t *testing.T) {
	d := reportingDaemon(t)
	for _, s := range d.reports.all() {
		s.box.Delivered.Digest = "of an earlier life"
	}
	offered := func() bool { return d.reports.compliance.peek() != nil || d.reports.inventory.peek() != nil }
	d.publish()
	d.record(converge.Result{Policy: d.findings.policy, Kinds: []string{"user"}, Resources: []converge.Resource{{ID: "user/scan", State: converge.Compliant}}})
	d.publish()
	if offered() {
		t.Error("a part of the report is to be sent")
	}
	d.record(converge.Result{Policy: d.findings.policy, Kinds: []string{"package"}, Resources: []converge.Resource{{ID: "package/git", State: converge.Unknown}}})
	d.publish()
	if !offered() {
		t.Error("the whole report is not to be sent")
	}
}

func TestNothingIsSentUnlessItIsWanted(t *testing.T) {
	off := func(c *Config) { c.Report.SSM = false }
	unpublished := func(c *Config) { c.AWS.Path = "" }
	for name, test := range map[string]struct {
		change func(*Config)
		node   string
		want   error
	}{
		"reports are switched off":          {off, oneNode, errUnwanted},
		"nothing is published to it":        {unpublished, oneNode, errUnwanted},
		"it is no managed node":             {func(*Config) {}, "", errNoNode},
		"nothing is known of AWS yet":       {func(*Config) {}, oneNode, errUnwanted},
		"switched off, and no managed node": {off, "", errUnwanted},
	} {
		t.Run(name, func(t *testing.T) {
			d := reportingDaemon(t)
			d.config.AWS.Path = "/soe/prod"
			test.change(&d.config)
			r := report.Report{Machine: report.Machine{ManagedNode: test.node}}
			for _, l := range []letter{complianceLetter(r, report.Room), inventoryLetter(r, time.Time{})} {
				if err := d.deliver(t.Context(), l); !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
			}
		})
	}
}

func TestWhoeverLooksForPolicyOftenTellsSoonToo(t *testing.T) {
	d := reportingDaemon(t)
	for poll, want := range map[time.Duration]time.Duration{time.Second: time.Second, 15 * time.Minute: time.Minute} {
		d.config.AWS.Path, d.config.Schedule.Poll.Duration = "/soe/prod", poll
		if got := d.splay(); got != want {
			t.Errorf("with poll = %s a report waits up to %s, and not %s", poll, got, want)
		}
	}
	if d.config.AWS.Path = ""; d.splay() != time.Minute {
		t.Error(d.splay())
	}
}
