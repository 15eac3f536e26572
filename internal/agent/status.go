package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/packages"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Phase is where in its life the daemon is.
type Phase string

// The phases.
const (
	LockingDown   Phase = "locking down"
	SafeMode      Phase = "safe mode"     // keeps sudo alone
	Bootstrapping Phase = "bootstrapping" // has never had a published policy
	Converging    Phase = "converging"
	Keeping       Phase = "keeping"
	NotRunning    Phase = "not running" // what systemd has noted of one that has ended
)

// Status is what the daemon is doing, as it writes it to StatusFile for all to
// read; Packages is the transaction's own word.
type Status struct {
	Version     string    `json:"version"`
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Phase       Phase     `json:"phase"`
	Busy        []string  `json:"busy,omitempty"`         // kinds being checked now
	Packages    string    `json:"packages,omitempty"`     // how far the package transaction under way is
	SafeMode    string    `json:"safe_mode,omitempty"`    // since when and why the agent keeps nothing but sudo
	Room        string    `json:"room,omitempty"`         // that the file system of RunDir is full, and what that means
	Memory      string    `json:"memory,omitempty"`       // what cannot be kept for the agent's next start, and why
	Waiting     string    `json:"waiting,omitempty"`      // what it waits for before it can have the published policy
	Trouble     string    `json:"trouble,omitempty"`      // the name of that, which does not change (source.Trouble)
	NextAttempt time.Time `json:"next_attempt,omitzero"`  // of that
	LastContact time.Time `json:"last_contact,omitzero"`  // when the published policy was last confirmed
	LastReport  time.Time `json:"last_report,omitzero"`   // when the last report was delivered to SSM Compliance
	ReportError string    `json:"report_error,omitempty"` // why the last report was not delivered
	LineError   string    `json:"line_error,omitempty"`   // why the line in SSM Inventory was not
	Serial      int64     `json:"serial,omitempty"`
	Digest      string    `json:"digest"`
	PolicySince time.Time `json:"policy_since,omitzero"` // when this machine first had this serial
	Rollout     string    `json:"rollout,omitempty"`     // what is rolled out or paused
	Personas    []string  `json:"personas"`

	PersonaRules  []string `json:"persona_rules,omitempty"`  // which rule gave which persona
	PersonaDoubts []string `json:"persona_doubts,omitempty"` // what could not be told about personas
	Doubts        []string `json:"doubts,omitempty"`         // why the policy in force may not be what is meant for the machine
	Awaited       []string `json:"awaited,omitempty"`        // what of it is not here yet

	Unwatched string `json:"unwatched,omitempty"` // what cannot be watched, and why: drift of that is found by the verify alone
	Verify    string `json:"verify,omitempty"`    // how often that is, on average

	Refused   []string               `json:"refused,omitempty"` // what of policy and configuration cannot be used
	Retries   map[string]time.Time   `json:"retries,omitempty"` // when kinds are checked again of which something has failed
	LastPass  time.Time              `json:"last_pass,omitzero"`
	Verdict   report.Verdict         `json:"verdict"`
	Compliant bool                   `json:"compliant"` // that the verdict is so
	Summary   map[converge.State]int `json:"summary,omitempty"`

	Upkeep Upkeep `json:"upkeep"`
}

// Upkeep is what the daemon took of its own runtime when it wrote its status. What
// grows without end leaks.
type Upkeep struct {
	Goroutines uint64 `json:"goroutines"`
	Heap       uint64 `json:"heap_bytes"` // of objects: those in use, and those that are yet to be swept
}

// upkeep takes no part of what it measures: nothing is stopped for it.
func upkeep() Upkeep {
	samples := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	return Upkeep{Goroutines: samples[0].Value.Uint64(), Heap: samples[1].Value.Uint64()}
}

// ErrNotUp is the error of ReadStatus when the daemon is not running.
var ErrNotUp = errors.New("the daemon is not running; start it with: systemctl start soe-agent")

// ReadStatus reads what the daemon wrote last. When the daemon has gone since,
// the error is ErrNotUp.
func ReadStatus(ctx context.Context, s *system.System) (Status, error) {
	status, err := lastStatus(ctx, s)
	if err == nil && !isUp(s, status.PID) {
		return status, ErrNotUp
	}
	return status, err
}

func lastStatus(ctx context.Context, s *system.System) (Status, error) {
	var status Status
	content, err := s.FS.ReadFile(StatusFile)
	if errors.Is(err, fs.ErrNotExist) {
		holders, _ := s.Holders(StateDir) // which root alone can see
		if slices.ContainsFunc(holders, isDaemon) {
			return status, fmt.Errorf("the daemon runs and has not written %s: see journalctl -u soe-agent", StatusFile)
		}
		return status, ErrNotUp
	}
	if err != nil {
		return status, err
	}
	if err := json.Unmarshal(content, &status); err != nil {
		return status, fmt.Errorf("cannot read %s: %w", StatusFile, err)
	}
	if progress, there := packages.ReadProgress(ctx, s); there {
		status.Packages = progress.String()
	}
	return status, nil
}

// isUp says whether a process is a daemon that runs, and not one that was stopped (SIGSTOP) or
// something else by now.
func isUp(s *system.System, pid int) bool {
	of := "/proc/" + strconv.Itoa(pid)
	if !s.Running() {
		_, err := s.FS.Stat(of)
		return err == nil
	}
	cmdline, err := s.FS.ReadFile(of + "/cmdline")
	if err != nil || !isDaemon(system.Holder{Command: strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")}) {
		return false
	}
	stat, err := s.FS.ReadFile(of + "/stat")
	_, state, found := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	return err == nil && found && state != "" && !strings.ContainsRune("TtZX", rune(state[0]))
}

// said is the status at one moment, so that no verdict is told of another policy than the one
// under which it was given.
type said struct {
	everybody, root Status
}

// say writes the status for all to read, mu being held.
func (d *daemon) say() {
	d.status.Phase = d.phase()
	d.status.Busy = d.inPass()
	status := d.statusAs(public.Open)
	d.said = said{everybody: status, root: d.statusAs(public.Whole)}
	d.write(StatusFile, status)
	d.systemd.Tell("STATUS=" + status.line())
	d.api.published()
}

// statusAs is the status with those parts of its texts that somebody may read, mu being
// held.
func (d *daemon) statusAs(part func([]public.Line) []string) Status {
	status := d.status
	if status.Unwatched != "" {
		status.Verify = d.config.Schedule.Verify.String()
	}
	awaited, refused := d.awaited()
	rules, doubts := d.personas.said()
	status.Refused, status.PersonaRules, status.PersonaDoubts = part(refused), part(rules), part(doubts)
	status.Awaited = part(awaited)
	if p := d.findings.inForce(); p != nil {
		status.Doubts = part(p.Doubts)
	}
	if err := d.Ledger.Unwritten(); err != nil && d.Ledger.Lost() == nil {
		status.Memory = "what the agent makes and replaces is not remembered for its next start: " + err.Error()
	}
	if err := d.Ledger.Damaged(); err != nil && status.Memory == "" {
		status.Memory = "not all of what the agent has made and replaced is remembered: " + err.Error()
	}
	d.contact.fill(&status, part)
	status.Retries, status.Upkeep = d.retries(), upkeep()
	return status
}

// Only of what takes longer than this is said how far it is, and how often.
const (
	worthSaying = time.Second
	sayAgain    = 2 * time.Second
)

// narrate writes the progress to the status while a pass takes long. While there is no pass it
// sleeps.
func (d *daemon) narrate(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.passBegun:
		}
		said, mended := "", fmt.Sprint(idsOf(nil))
		for pause := worthSaying; d.System.Clock.Sleep(ctx, pause) == nil; pause = sayAgain {
			progress := ""
			if p, there := packages.ReadProgress(ctx, d.System); there {
				progress = p.String()
			}
			idle := d.idle()
			if now := fmt.Sprint(idsOf(d.repairing())); !idle && now != mended {
				d.publish() // what is being repaired for so long is not in line
				mended = now
			}
			d.mu.Lock()
			d.status.Packages = progress
			if now := fmt.Sprint(d.inPass(), progress); !idle && now != said {
				d.say()
				said = now
			}
			d.status.Packages = "" // whoever reads the file asks for what is true then
			d.mu.Unlock()
			if idle {
				break
			}
		}
	}
}

func idsOf(resources []converge.Resource) []policy.ID {
	ids := make([]policy.ID, len(resources))
	for i, r := range resources {
		ids[i] = r.ID
	}
	slices.Sort(ids)
	return ids
}

// line is the status in one line, for systemctl status.
func (s Status) line() string {
	text := string(s.Phase)
	if len(s.Busy) > 0 {
		text += ": " + strings.Join(s.Busy, ", ")
	}
	if s.Packages != "" {
		text += " (" + s.Packages + ")"
	}
	if s.SafeMode != "" {
		text = s.SafeMode
	}
	if s.Waiting != "" {
		text += "; waiting: " + s.Waiting
	}
	if s.Verdict != "" && string(s.Verdict) != string(s.Phase) {
		text += "; " + string(s.Verdict)
	}
	if n := total(s.Summary); n > 0 {
		text += fmt.Sprintf(" (%d resources)", n)
	}
	return text
}

func total(summary map[converge.State]int) int {
	n := 0
	for _, count := range summary {
		n += count
	}
	return n
}
