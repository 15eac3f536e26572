package account

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A mover changes the owner of an account's or group's files when its id changes. usermod(8) does
// so only in the home, groupmod(8) nowhere.
//
// The ledger has the old id before it is given up and until all files have been visited, so that a
// later pass finishes an interrupted walk.
type mover struct {
	system *system.System
	ledger *converge.Ledger
	kind   string // "user" or "group"
	walk   walk
	stuck  map[policy.ID]string // why some files keep their old id, by resource
}

// walk is the progress of a walk over the disk. It starts anew when the set of ids changes, and
// when the agent restarts.
type walk struct {
	of            []givenUp
	place         int    // index into places
	after         string // where it stopped in that place
	seen, changed int
	failed        []system.ReownFailure
}

// givenUp is a former id of an account or a group.
type givenUp struct {
	name string
	id   int
}

// step is how many entries are visited before the time is checked.
const step = 10_000

// patience is how long one pass walks. The next pass continues. Meanwhile the rest of the pass
// waits, and at boot so does everybody who wants to log in.
func (m *mover) patience() time.Duration {
	if m.system.Running() {
		return 5 * time.Second
	}
	return time.Hour
}

// foreign returns directories in which ids belong to others: those of containers.
func foreign() []string {
	return []string{"/var/lib/containers", "/var/lib/docker", "/var/lib/lxc", "/var/lib/machines"}
}

func (m *mover) word() string {
	if m.kind == "group" {
		return "gid"
	}
	return "uid"
}

func (m *mover) ledgerID(g givenUp) policy.ID {
	return policy.NewID("old-"+m.word(), g.name+"/"+strconv.Itoa(g.id))
}

// remember records in the ledger, on disk, that a name is about to give up an id.
func (m *mover) remember(name string, id int) error {
	m.ledger.Own(m.ledgerID(givenUp{name, id}))
	return m.ledger.Flush()
}

// all returns the former ids that files may still have.
func (m *mover) all() []givenUp {
	var all []givenUp
	for _, noted := range m.ledger.Owned("old-" + m.word()) {
		name, number, _ := strings.Cut(noted.Name(), "/")
		if id, err := strconv.Atoi(number); err == nil {
			all = append(all, givenUp{name, id})
		}
	}
	return all
}

// describe adds to a resource what is left to do for its files. now is its current id.
func (m *mover) describe(r *converge.Resource, now int) {
	for _, g := range m.all() {
		if g.name != r.ID.Name() || g.id == now {
			continue
		}
		r.AddPublicDrift("files", fmt.Sprintf("of %s %d", m.word(), now), fmt.Sprintf("some of %s %d", m.word(), g.id))
	}
	if why, is := m.stuck[r.ID]; is && r.State == converge.Drifted {
		r.SetFailed(why)
	}
}

// leftOver returns resources for files of names that the policy does not want any more.
func (m *mover) leftOver(p *policy.Policy, db database) []converge.Resource {
	var resources []converge.Resource
	for _, g := range m.all() {
		id := policy.NewID(m.kind, g.name)
		now, there := m.now(db, g.name)
		if _, wanted := p.Lookup(id); wanted || !there || now == g.id {
			continue
		}
		if slices.ContainsFunc(resources, func(r converge.Resource) bool { return r.ID == id }) {
			continue
		}
		r := converge.Resource{ID: id}
		r.Note("its id was changed, and its files follow")
		m.describe(&r, now)
		resources = append(resources, r)
	}
	return resources
}

func (m *mover) now(db database, name string) (id int, there bool) {
	if m.kind == "group" {
		group, there := db.group(name)
		return group.GID, there
	}
	account, there := db.account(name)
	return account.UID, there
}

// stillOf returns the name whose files may still have an id, or "".
func (m *mover) stillOf(db database, id int) string {
	for _, g := range m.all() {
		if now, there := m.now(db, g.name); there && g.id == id && now != id {
			return g.name
		}
	}
	return ""
}

// forget removes the records about a name that does not exist any more.
func (m *mover) forget(name string) {
	for _, g := range m.all() {
		if g.name == name {
			m.ledger.Disown(m.ledgerID(g))
		}
	}
}

// move changes the owner of the drifted resources' files to their new ids.
func (m *mover) move(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	if len(m.all()) == 0 {
		return nil
	}
	db, err := readDatabase(m.system)
	if err != nil {
		return nil // the next check reports the error
	}
	of, outcomes := m.due(ctx, db, drifted)
	if len(of) == 0 {
		return outcomes
	}
	if !slices.Equal(of, m.walk.of) {
		m.walk = walk{of: of}
	}
	ids := map[int]int{}
	for _, g := range of {
		ids[g.id], _ = m.now(db, g.name)
	}
	done, err := m.run(ctx, ids)
	switch {
	case err != nil:
		return append(outcomes, m.each(converge.Outcome{Err: fmt.Errorf("cannot look through the disk for files of the old id: %w", err)})...)
	case !done:
		reason := fmt.Sprintf("of its files %d have the new id after %d were checked; a later pass goes on", m.walk.changed, m.walk.seen)
		return append(outcomes, m.each(converge.Outcome{Postponed: converge.Now, Reason: reason})...)
	}
	return append(outcomes, m.settle()...)
}

// due returns the ids whose files must be moved now, and outcomes for those that cannot be.
func (m *mover) due(ctx context.Context, db database, drifted []converge.Resource) (of []givenUp, outcomes []converge.Outcome) {
	for _, g := range m.all() {
		id := policy.NewID(m.kind, g.name)
		now, there := m.now(db, g.name)
		switch {
		case !slices.ContainsFunc(drifted, func(r converge.Resource) bool { return r.ID == id }) || !there:
		case now == g.id: // it was not given up after all, or was taken up again
			m.ledger.Disown(m.ledgerID(g))
		default:
			if err := errors.Join(m.vacant(ctx, db, g), filesAreThere(m.system)); err != nil {
				outcomes = append(outcomes, converge.Outcome{ID: id, Err: fmt.Errorf("cannot give the files of %s to %s %d: %w", g.name, m.word(), now, err)})
				continue
			}
			of = append(of, g)
		}
	}
	return of, outcomes
}

// vacant returns an error if somebody has got the former id in the meantime.
func (m *mover) vacant(ctx context.Context, db database, g givenUp) error {
	check := vacantUID
	if m.kind == "group" {
		check = vacantGID
	}
	if err := check(ctx, m.system, db, g.id); err != nil {
		return fmt.Errorf("it cannot be told whose files are whose: %w", err)
	}
	return nil
}

// run continues the walk, and reports whether it is complete.
func (m *mover) run(ctx context.Context, ids map[int]int) (done bool, err error) {
	w := &m.walk
	defer func() {
		m.system.Log.Info("changing the owner of files to the new id of their account or group", "kind", m.kind, "seen", w.seen, "changed", w.changed, "done", done)
	}()
	places, err := m.places()
	if err != nil {
		return false, err
	}
	until := m.system.Clock.Now().Add(m.patience())
	for w.place < len(places) {
		found, err := m.system.FS.Reown(ctx, system.Reown{
			Dir: places[w.place], Group: m.kind == "group", IDs: ids, Skip: foreign(), After: w.after, Limit: step,
		})
		w.seen += found.Seen
		w.changed += found.Changed
		w.failed = append(w.failed, found.Failed...)
		w.after = found.Next
		if err != nil {
			return false, err
		}
		if w.after != "" && m.system.Clock.Now().After(until) {
			return false, nil
		}
		if w.after == "" {
			w.place++
		}
	}
	return true, nil
}

// places returns the directories to walk: the system disk and, on a WorkSpace, the user's volume.
func (m *mover) places() ([]string, error) {
	if !m.system.Running() {
		return []string{"/"}, nil
	}
	mounts, err := m.system.FS.ReadFile("/proc/self/mounts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.SplitSeq(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 2 && fields[1] == "/home" && strings.HasPrefix(fields[0], "/dev/") {
			return []string{"/", "/home"}, nil
		}
	}
	return []string{"/"}, nil
}

// settle ends a walk. It drops the ids whose files were all moved, and reports failures.
func (m *mover) settle() (outcomes []converge.Outcome) {
	for _, g := range m.walk.of {
		var errs []error
		for _, f := range m.walk.failed {
			if f.ID == g.id || f.ID < 0 {
				errs = append(errs, f.Err)
			}
		}
		if len(errs) == 0 {
			m.ledger.Disown(m.ledgerID(g))
			continue
		}
		id := policy.NewID(m.kind, g.name)
		err := errors.Join(errs[:min(len(errs), 3)]...)
		outcomes = append(outcomes, converge.Outcome{ID: id, Err: err})
		m.stuck[id] = fmt.Sprintf("some files keep %s %d: %v", m.word(), g.id, err)
	}
	m.walk = walk{}
	return outcomes
}

// each returns an outcome for each resource whose files are being walked.
func (m *mover) each(outcome converge.Outcome) (outcomes []converge.Outcome) {
	for _, g := range m.walk.of {
		outcome.ID = policy.NewID(m.kind, g.name)
		outcomes = append(outcomes, outcome)
	}
	return slices.CompactFunc(outcomes, func(a, b converge.Outcome) bool { return a.ID == b.ID })
}

// vacantUID returns an error that names who has a uid, or nil if nobody does.
func vacantUID(ctx context.Context, s *system.System, db database, uid int) error {
	if holder, taken := db.accountOf(uid); taken {
		return public.Error(fmt.Errorf("uid %d is held by %s", uid, holder.Name))
	}
	holder, taken, err := facts.LookupUser(ctx, s, strconv.Itoa(uid))
	if err == nil && taken {
		return public.Error(fmt.Errorf("uid %d is held by %s of the directory", uid, holder.Name))
	}
	return err
}

// vacantGID returns an error that names which group has a gid, or nil if none does.
func vacantGID(ctx context.Context, s *system.System, db database, gid int) error {
	if holder, taken := db.groupOf(gid); taken {
		return public.Error(fmt.Errorf("gid %d is held by group %s", gid, holder.Name))
	}
	holder, taken, err := facts.LookupGroup(ctx, s, strconv.Itoa(gid))
	if err == nil && taken {
		return public.Error(fmt.Errorf("gid %d is held by group %s of the directory", gid, holder.Name))
	}
	return err
}
