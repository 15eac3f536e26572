package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

// The public files cannot be replaced for a while, for whatever reason. What they said before must not
// be taken for the present state.
func TestWhereTheFilesCannotBeWrittenTheBusSaysHowTheMachineIsNowAndNoFileSaysOtherwise(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.EROFS, syscall.EMFILE, syscall.ENOSPC, syscall.EDQUOT, syscall.ENOMEM} {
		for what, fails := range map[string]func(system.Change) bool{
			"nothing is written":  func(c system.Change) bool { return c.Op != "remove" },
			"and nothing removed": func(system.Change) bool { return true },
		} {
			t.Run(fault.Error()+"/"+what, func(t *testing.T) {
				root := t.TempDir()
				d := newTestDaemon(t, root, "1.0")
				var sick atomic.Bool
				gated, err := system.Open(system.Options{Root: root, Gate: func(c system.Change) error {
					if sick.Load() && strings.Contains(c.Target, RunDir) && fails(c) {
						return fault
					}
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				d.System = gated
				p := everyKind(1)
				d.findings.policy, d.status.Serial = p, 1
				d.record(looked(p, converge.Compliant, policy.Kinds()...))
				agrees(t, "before", d, report.Compliant)
				sick.Store(true)
				d.record(looked(p, converge.Unknown, "dropin"))
				d.publish()
				var s Status
				var r report.Report
				for _, ask := range []struct {
					from func() ([]byte, error)
					into any
				}{
					{func() ([]byte, error) { return served{d}.Status(t.Context()) }, &s},
					{func() ([]byte, error) { return served{d}.Report(t.Context()) }, &r},
				} {
					content, err := ask.from()
					if err == nil {
						err = json.Unmarshal(content, ask.into)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if s.Compliant || s.Verdict != report.NotCompliant || r.Compliant || r.Verdict != report.NotCompliant || s.Summary[converge.Unknown] != 1 {
					t.Errorf("the bus says %q %v in the status, %q in the report", s.Verdict, s.Summary, r.Verdict)
				}
				for _, name := range []string{ReportFile, StatusFile} {
					if _, err := d.System.FS.Stat(name); !fails(system.Change{Op: "remove"}) && !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s stands there still: %v", name, err)
					}
				}
				sick.Store(false)
				agrees(t, "afterwards", d, report.NotCompliant)
				if d.unwritten {
					t.Error("it is called unwritten still")
				}
			})
		}
	}
}

// From the moment at which another policy is in force until its first verdict is published, every
// reader gets the previous status, complete.
func TestNoVerdictIsToldOfAnotherPolicyThanTheOneUnderWhichItWasGiven(t *testing.T) {
	d := newTestDaemon(t, t.TempDir(), "1.0")
	p := everyKind(1)
	d.findings.policy, d.status.Serial = p, 1
	d.record(looked(p, converge.Compliant, policy.Kinds()...))
	d.publish()
	d.status.Serial = 2 // as hold does before it publishes
	content, err := served{d}.Status(t.Context())
	var s Status
	if err == nil {
		err = json.Unmarshal(content, &s)
	}
	state := served{d}.State()
	if err != nil || !s.Compliant || s.Serial != 1 || !state.Compliant || state.Serial != 1 {
		t.Errorf("%v: compliant %v under serial %d; %+v", err, s.Compliant, s.Serial, state)
	}
}
