package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

// SaveReport writes the result of a pass: the whole report for root, and, on a running machine, the public one.
// An image has no /run of its own.
func (m *Machine) SaveReport(r report.Report) error {
	err := m.saveWhole(r)
	if !m.System.Running() {
		return err
	}
	return errors.Join(err, m.saveFor(ReportFile, r.ForEverybody(), 0o644, 0o755))
}

func (m *Machine) saveWhole(r report.Report) error { return m.saveFor(WholeReport, r, 0o600, 0o700) }

func (m *Machine) saveFor(name string, document any, mode, dirMode fs.FileMode) error {
	var content bytes.Buffer
	if err := json.NewEncoder(&content).Encode(document); err != nil {
		return err
	}
	if err := m.System.FS.MkdirAll(path.Dir(name), dirMode); err != nil {
		return err
	}
	return m.System.FS.WriteFile(name, content.Bytes(), system.Attr{Mode: mode})
}

// ErrNoReport is returned by LastReport if there is none of this boot.
var ErrNoReport = errors.New("there is none yet")

// LastReport returns the last report below a root from its files: the whole one if the caller may read
// it and it is about the same states as the public one, else the public one. On a running machine a
// report of an earlier boot does not count. If the daemon that wrote it is gone, the report says so and
// is not compliant, because nobody has checked since.
func LastReport(s *system.System) (report.Report, error) {
	r, err := lastReport(s)
	if err == nil && s.Running() {
		abandon(s, &r)
	}
	return r, err
}

// abandon marks the report of a daemon that is gone, and returns whether it is gone.
func abandon(s *system.System, r *report.Report) bool {
	if r.Daemon == 0 || isUp(s, r.Daemon) {
		return false
	}
	const anAgent = "an agent that runs: "
	if !slices.ContainsFunc(r.Awaited, func(line string) bool { return strings.HasPrefix(line, anAgent) }) { // otherwise Ended has marked it
		r.Abandon(fmt.Sprintf("%sthis is what the last one found, at %s (systemctl start soe-agent)", anAgent, r.Time.Format(time.RFC3339)))
	}
	return true
}

// Ended marks the files of a daemon that is gone, for readers that do not check whether it runs: they
// must not take them for the present state. A file that cannot be rewritten is removed.
func Ended(s *system.System) error {
	var errs []error
	rewrite := func(name string, document any, mode fs.FileMode) {
		content, err := json.Marshal(document)
		if err == nil {
			err = s.FS.WriteFile(name, append(content, '\n'), system.Attr{Mode: mode})
		}
		if err != nil {
			err = errors.Join(err, s.FS.Remove(name))
		}
		errs = append(errs, err)
	}
	for name, mode := range map[string]fs.FileMode{ReportFile: 0o644, WholeReport: 0o600} {
		r, err := readReport(s, name)
		switch {
		case errors.Is(err, ErrNoReport):
		case err != nil:
			errs = append(errs, err)
		case abandon(s, &r):
			rewrite(name, r, mode)
		}
	}
	var status Status
	switch content, err := s.FS.ReadFile(StatusFile); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		errs = append(errs, err)
	case json.Unmarshal(content, &status) == nil && !isUp(s, status.PID):
		status.Phase, status.Busy, status.Verdict, status.Compliant = NotRunning, nil, report.Converging, false
		rewrite(StatusFile, status, 0o644)
	}
	return errors.Join(errs...)
}

func lastReport(s *system.System) (report.Report, error) {
	public, err := readReport(s, ReportFile)
	if s.Running() && err != nil {
		return public, err
	}
	whole, wholeErr := readReport(s, WholeReport)
	switch {
	case wholeErr != nil:
		return public, err
	case err != nil:
		return whole, nil
	case !s.Running() && whole.Time.After(public.Time):
		return whole, nil
	}
	r, _ := public.Details(whole)
	return r, nil
}

func readReport(s *system.System, name string) (report.Report, error) {
	var r report.Report
	content, err := s.FS.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return r, ErrNoReport
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("cannot read the report in %s: %w", name, err)
	}
	return r, nil
}

// keepWhole writes the whole report if its content has changed.
func (d *daemon) keepWhole(r report.Report) {
	digest := r.Digest()
	if digest == d.wholeDigest {
		return
	}
	err := d.saveWhole(r)
	if d.isNews(WholeReport, err) {
		d.Log.Error("cannot keep the report for root", "err", err)
	}
	if err != nil {
		return
	}
	d.wholeDigest = digest
}

// report makes the report. mu is held.
func (d *daemon) report() report.Report {
	awaited, refused := d.awaited()
	p, found, timing := d.findings.all()
	r := report.New(d.version, d.Facts, p, refused, system.Here(d.System.Clock), d.withAgentAndRepairs(found), timing)
	r.Daemon = d.status.PID
	r.Await(awaited...)
	return r
}

// fromMemory returns a report that is in no file: the whole one, or a public one that could not be
// written; else nil.
func (d *daemon) fromMemory(whole bool) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case whole:
		return json.Marshal(d.report())
	case d.unwritten:
		return json.Marshal(d.report().ForEverybody())
	}
	return nil, nil
}

// Report implements bus.Documents. The public report is read from its file unless that could not be written.
func (s served) Report(ctx context.Context) ([]byte, error) {
	if content, err := s.fromMemory(bus.ForRoot(ctx)); content != nil || err != nil {
		return content, err
	}
	content, err := s.System.FS.ReadFile(ReportFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("cannot show the last report: there is none yet")
	}
	return content, err
}
