package packages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// ProgressFile shows the progress of the running transaction, readable by everybody. It exists only
// during a transaction.
const ProgressFile = own.RunDir + "/packages-progress.json"

// journalIdentifier is the journal's identifier for the output of the package manager: journalctl
// -t soe-agent-packages.
const journalIdentifier = "soe-agent-packages"

// followPause is how often the output of a transaction is read.
const followPause = 200 * time.Millisecond

// journalPatience is how long to wait for the journal after a transaction, because the process that
// ran it may end right afterwards.
const journalPatience = 500 * time.Millisecond

// Progress is how far a transaction is. It is for people; the result of a transaction comes from
// rpm.
type Progress struct {
	Phase   string    `json:"phase"`             // "preparing", "downloading", "installing", "removing", "cleaning up", "verifying"
	Package string    `json:"package,omitempty"` // as the package manager calls it
	Done    int       `json:"done,omitempty"`    // number of the current step of this phase, from 1
	Total   int       `json:"total,omitempty"`   // number of steps of this phase
	Since   time.Time `json:"since"`             // start of the transaction
	Scope   string    `json:"scope"`             // the transaction's scope, without ".scope"
	Waits   string    `json:"waits,omitempty"`   // the holder of a lock that it needs; the transaction has not begun
	Seen    [2]int    `json:"seen"`              // bytes of its stdout and stderr that are in the journal
}

// String returns the progress in one line.
func (p Progress) String() string {
	if p.Waits != "" {
		return "waiting for " + p.Waits
	}
	text := p.Phase
	if p.Package != "" {
		text += " " + p.Package
	}
	if p.Total > 0 {
		text += ", " + strconv.Itoa(p.Done) + " of " + strconv.Itoa(p.Total)
	}
	return text
}

// ReadProgress returns the progress of the running transaction, and whether there is one. The file
// alone does not prove it, because the agent that wrote it may have been killed. If the scope has
// processes and systemd does not answer within a second, the transaction counts as running.
func ReadProgress(ctx context.Context, s *system.System) (Progress, bool) {
	p, there := lastProgress(s.FS)
	if !there || p.Waits != "" {
		return p, there
	}
	if pids, err := occupants(s, p.Scope); err == nil && len(pids) == 0 {
		return p, false
	}
	soon, enough := context.WithTimeout(ctx, time.Second)
	defer enough()
	unit, err := s.Units.Unit(soon, p.Scope+".scope")
	return p, err != nil && !errors.Is(err, system.ErrNotRunning) || unit.ActiveState == "active"
}

func lastProgress(files system.FileReader) (Progress, bool) {
	var p Progress
	content, err := files.ReadFile(ProgressFile)
	return p, err == nil && json.Unmarshal(content, &p) == nil && (p.Scope != "" || p.Waits != "")
}

var (
	// "  Installing : soe-pkg-07-2.0-1.noarch    7/40" (yum 3, dnf 4)
	stepLine = regexp.MustCompile(`^\s+([A-Z][A-Za-z ]*?)\s*:\s+(?:(\S+)\s+)?(\d+)/(\d+)\s*$`)
	// "(3/40): soe-pkg-07-2.0-1.noarch.rpm  …" (yum 3, dnf 4)
	downloadLine = regexp.MustCompile(`^\((\d+)/(\d+)\): (\S+)`)
)

// phase maps the first words of the lines that yum 3 and dnf 4 print to a phase.
func phase(word string) string {
	switch word {
	case "Installing", "Updating", "Upgrading", "Downgrading", "Reinstalling", "Obsoleting", "Running scriptlet":
		return "installing"
	case "Erasing", "Removing":
		return "removing"
	case "Cleanup":
		return "cleaning up"
	case "Verifying":
		return "verifying"
	}
	return "preparing"
}

// read updates the progress from a line of output.
func (p *Progress) read(line string) {
	if step := stepLine.FindStringSubmatch(line); step != nil {
		p.Phase, p.Package = phase(step[1]), step[2]
		p.Done, _ = strconv.Atoi(step[3])
		p.Total, _ = strconv.Atoi(step[4])
	} else if step := downloadLine.FindStringSubmatch(line); step != nil {
		p.Phase, p.Package = "downloading", strings.TrimSuffix(step[3], ".rpm")
		p.Done, _ = strconv.Atoi(step[1])
		p.Total, _ = strconv.Atoi(step[2])
	} else if strings.HasPrefix(line, "Downloading ") && strings.HasSuffix(strings.ToLower(strings.TrimSpace(line)), "packages:") {
		p.Phase, p.Package, p.Done, p.Total = "downloading", "", 0, 0
	}
}

// A follower reads the output of a transaction while it runs. Each line goes to the journal, and
// the progress to ProgressFile. Errors here never affect the transaction.
type follower struct {
	manager
	said Progress
	Progress
}

func (m manager) newFollower(scope string) *follower {
	return &follower{manager: m, Progress: Progress{Phase: "preparing", Scope: scope, Since: m.system.Clock.Now().UTC()}}
}

// look reads the output since the last call. It leaves an incomplete line for the next one.
func (f *follower) look() {
	if f.Scope == "" {
		return
	}
	for i, name := range system.ScopeOutput(f.Scope) {
		info, err := f.system.FS.Stat(name)
		if err != nil || info.Size <= int64(f.Seen[i]) {
			continue
		}
		content, err := f.system.FS.ReadFile(name)
		if err != nil || len(content) <= f.Seen[i] {
			continue
		}
		content = content[f.Seen[i]:]
		whole := bytes.LastIndexByte(content, '\n') + 1
		f.Seen[i] += whole
		for line := range strings.Lines(string(f.redact(content[:whole]))) {
			line = strings.TrimRight(line, " \r\n")
			if i == 0 {
				f.read(line)
			}
			if line != "" {
				f.system.Journal(journalIdentifier, line, map[string]string{"SOE_KIND": "package"})
			}
		}
	}
	if f.said != f.Progress {
		f.publish()
	}
}

func (f *follower) publish() {
	content, err := json.Marshal(f.Progress)
	if err == nil {
		err = f.system.FS.WriteFile(ProgressFile, append(content, '\n'), system.Attr{Mode: 0o644})
	}
	if err != nil {
		f.system.Log.Debug("cannot write the progress of the package transaction", "kind", "package", "err", err)
	}
	f.said = f.Progress
}

// end reads the rest of the output and removes the progress file.
func (f *follower) end() {
	f.look()
	f.system.FlushJournal(journalPatience)
	if err := f.system.FS.Remove(ProgressFile); err != nil {
		f.system.Log.Debug("cannot remove the progress file of an ended package transaction", "kind", "package", "err", err)
	}
}

// FollowEarlier follows a transaction that a previous process of the agent started, if there is
// one, until it ends or ctx is done. It continues where that process stopped.
func FollowEarlier(ctx context.Context, p *policy.Policy, s *system.System) {
	progress, there := lastProgress(s.FS)
	if !there {
		return
	}
	f := &follower{manager: newManager(p, s, 0), said: progress, Progress: progress}
	if f.Waits != "" { // the process that was waiting has gone
		f.end()
		return
	}
	for {
		_, goesOn := ReadProgress(ctx, s)
		if now, there := lastProgress(s.FS); ctx.Err() != nil || !there || !now.Since.Equal(f.Since) {
			return // another transaction has begun, and it has its own follower
		}
		if !goesOn {
			f.end()
			return
		}
		f.look()
		if err := s.Clock.Sleep(ctx, followPause); err != nil {
			return
		}
	}
}

// follow runs a transaction in its scope and follows its output.
func (m manager) follow(ctx context.Context, c system.Command) (system.Output, error) {
	if !m.system.Running() {
		return m.run(ctx, c)
	}
	for _, name := range system.ScopeOutput(c.Scope) { // output of the previous transaction
		if err := m.system.FS.Remove(name); err != nil {
			return system.Output{}, err
		}
	}
	f := m.newFollower(c.Scope)
	f.publish()
	ended := make(chan struct{})
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		tick, guard := time.NewTicker(followPause), time.NewTicker(10*followPause)
		defer tick.Stop()
		defer guard.Stop()
		for {
			select {
			case <-ended:
				return
			case <-guard.C:
				m.freeLocks()
			case <-tick.C:
				f.look()
			}
		}
	}()
	out, err := m.run(ctx, c)
	close(ended)
	<-followed
	if ctx.Err() == nil {
		f.end()
	} // otherwise the transaction continues, and the agent follows it after its restart
	return out, err
}
