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

// A Phase is what the daemon is doing in general.
type Phase string

// The phases.
const (
	LockingDown   Phase = "locking down"
	SafeMode      Phase = "safe mode"     // keeps nothing but sudo
	Bootstrapping Phase = "bootstrapping" // has never had a published policy
	Converging    Phase = "converging"
	Keeping       Phase = "keeping"
	NotRunning    Phase = "not running" // written by Ended after the daemon has gone
)

// Status is what the daemon is doing. It is written to StatusFile for everybody to read. Packages is
// the progress that the package transaction itself reports.
type Status struct {
	Version     string    `json:"version"`
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Phase       Phase     `json:"phase"`
	Busy        []string  `json:"busy,omitempty"`         // kinds being checked now
	Packages    string    `json:"packages,omitempty"`     // progress of the package transaction under way
	SafeMode    string    `json:"safe_mode,omitempty"`    // since when and why the agent keeps nothing but sudo
	Room        string    `json:"room,omitempty"`         // whether the file system of RunDir is full, and what that means
	Memory      string    `json:"memory,omitempty"`       // what cannot be kept for the agent's next start, and why
	Waiting     string    `json:"waiting,omitempty"`      // what it waits for before it can have the published policy
	Trouble     string    `json:"trouble,omitempty"`      // the stable name of that (source.Trouble)
	NextAttempt time.Time `json:"next_attempt,omitzero"`  // when that is tried again
	LastContact time.Time `json:"last_contact,omitzero"`  // when the published policy was last confirmed
	LastReport  time.Time `json:"last_report,omitzero"`   // when the last report was delivered to SSM Compliance
	ReportError string    `json:"report_error,omitempty"` // why the last report was not delivered
	LineError   string    `json:"line_error,omitempty"`   // why the line in SSM Inventory was not delivered
	Serial      int64     `json:"serial,omitempty"`
	Digest      string    `json:"digest"`
	PolicySince time.Time `json:"policy_since,omitzero"` // when this machine first had this serial
	Rollout     string    `json:"rollout,omitempty"`     // what is being rolled out or paused
	Personas    []string  `json:"personas"`

	PersonaRules  []string `json:"persona_rules,omitempty"`  // which rule gave which persona
	PersonaDoubts []string `json:"persona_doubts,omitempty"` // what could not be determined about personas
	Doubts        []string `json:"doubts,omitempty"`         // why the policy in force may not be what is meant for the machine
	Awaited       []string `json:"awaited,omitempty"`        // what has to come before a verdict is possible

	Unwatched string `json:"unwatched,omitempty"` // what cannot be watched, and why: drift there is found by verify only
	Verify    string `json:"verify,omitempty"`    // how often verify runs, on average

	Refused   []string               `json:"refused,omitempty"` // problems of policy and configuration
	Retries   map[string]time.Time   `json:"retries,omitempty"` // when kinds are checked again because something of them failed
	LastPass  time.Time              `json:"last_pass,omitzero"`
	Verdict   report.Verdict         `json:"verdict"`
	Compliant bool                   `json:"compliant"` // the verdict is Compliant
	Summary   map[converge.State]int `json:"summary,omitempty"`

	Upkeep Upkeep `json:"upkeep"`
}

// Upkeep is what the daemon's own runtime used when it wrote its status. A number that grows without
// end is a leak.
type Upkeep struct {
	Goroutines uint64 `json:"goroutines"`
	Heap       uint64 `json:"heap_bytes"` // of objects: those in use, and those not yet swept
}

// upkeep measures without stopping the program.
func upkeep() Upkeep {
	samples := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	return Upkeep{Goroutines: samples[0].Value.Uint64(), Heap: samples[1].Value.Uint64()}
}

// ErrNotUp is returned by ReadStatus if the daemon is not running.
var ErrNotUp = errors.New("the daemon is not running; start it with: systemctl start soe-agent")

// ReadStatus returns the last status of the daemon. If the daemon has gone since, the error is ErrNotUp.
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
		holders, _ := s.Holders(StateDir) // only root can see them
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

// isUp says whether a process is a running daemon: not a stopped one (SIGSTOP), and not another program
// that has its pid now.
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

// said is the status as it was last published. It keeps a verdict together with the policy under which
// it was given.
type said struct {
	everybody, root Status
}

// say publishes the status. mu is held.
func (d *daemon) say() {
	d.status.Phase = d.phase()
	d.status.Busy = d.inPass()
	status := d.statusAs(public.Open)
	d.said = said{everybody: status, root: d.statusAs(public.Whole)}
	d.write(StatusFile, status)
	d.systemd.Tell("STATUS=" + status.line())
	d.api.published()
}

// statusAs returns the status with the part of each text that its reader may see. mu is held.
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
		status.Memory = "the agent cannot record what it makes and replaces, and will not know of it after a restart: " + err.Error()
	}
	if err := d.Ledger.Damaged(); err != nil && status.Memory == "" {
		status.Memory = "not all of what the agent has made and replaced is remembered: " + err.Error()
	}
	d.contact.fill(&status, part)
	status.Retries, status.Upkeep = d.retries(), upkeep()
	return status
}

// Progress is shown for passes that take longer than worthSaying, and updated each sayAgain.
const (
	worthSaying = time.Second
	sayAgain    = 2 * time.Second
)

// narrate updates the status with the progress of passes that take long. Between passes it sleeps.
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
				d.publish() // what is under repair for so long is not in line
				mended = now
			}
			d.mu.Lock()
			d.status.Packages = progress
			if now := fmt.Sprint(d.inPass(), progress); !idle && now != said {
				d.say()
				said = now
			}
			d.status.Packages = "" // whoever reads the file gets the current progress from its source
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

// line returns the status in one line, for systemctl status.
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
