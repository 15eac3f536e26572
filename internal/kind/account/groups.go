package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Groups implements the kind "group": the local groups of /etc/group.
type Groups struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger
	files  *mover
	mark   int // Mark at the start of the current repair
}

// NewGroups returns the kind "group".
func NewGroups(p *policy.Policy, s *system.System, l *converge.Ledger) *Groups {
	s, unanswered := s.Observe()
	files := &mover{system: s, ledger: l, kind: "group", stuck: map[policy.ID]string{}}
	return &Groups{Unanswered: unanswered, policy: p, system: s, ledger: l, files: files}
}

// Name implements converge.Kind.
func (g *Groups) Name() string { return "group" }

// Watches implements converge.Watcher.
func (g *Groups) Watches() []converge.Watch {
	return watches()
}

// Check implements converge.Kind.
func (g *Groups) Check(context.Context) ([]converge.Resource, error) {
	wants, registries := policy.Of[policy.Group](g.policy), policy.Of[policy.Registry](g.policy)
	abroad := elsewhere(g.policy, g.ledger, g.Name())
	if len(wants)+len(registries)+len(g.files.all())+len(abroad) == 0 {
		return nil, nil
	}
	groups, err := facts.LocalGroups(g.system)
	if err != nil {
		return nil, err
	}
	db := database{groups: groups}
	resources := make([]converge.Resource, 0, len(wants))
	for _, want := range wants {
		r := converge.Wanted(want.Resource)
		have, there := db.group(want.ID.Name())
		gid := want.Spec.GID
		switch {
		case want.Spec.Ensure == policy.Absent && there:
			r.AddPublicDrift("ensure", "absent", "present")
		case want.Spec.Ensure == policy.Present && !there:
			r.AddPublicDrift("ensure", "present", "absent")
		case want.Spec.Ensure == policy.Present && gid != nil && *gid != have.GID:
			r.AddPublicDrift("gid", strconv.Itoa(*gid), strconv.Itoa(have.GID))
			r.Note("its files follow")
		}
		if there {
			g.files.describe(&r, have.GID)
		}
		resources = append(resources, r)
	}
	for _, want := range registries {
		if want.Spec.Of == g.Name() {
			mark := g.Mark()
			r := g.unregistered(want.Resource, groups)
			r.SetUnknownIf(g.Since(mark))
			resources = append(resources, r)
		}
	}
	for _, id := range abroad {
		if _, there := db.group(id.Name()); there {
			resources = append(resources, converge.LeavesOver(id, g.policy.Left[id], "groupdel "+id.Name()))
		}
	}
	return append(resources, g.files.leftOver(g.policy, db)...), nil
}

// unregistered reports the groups whose gid is just the next free one that groupadd chose.
func (g *Groups) unregistered(want policy.Resource, groups []facts.Group) converge.Resource {
	names := map[string]int{}
	for _, group := range groups {
		names[group.Name] = group.GID
	}
	return unregistered(g.system, g.policy, want, names, "GID", reservedGIDs())
}

// Repair implements converge.Kind.
func (g *Groups) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	outcomes := mend(drifted, func(r converge.Resource) error { return g.repair(ctx, r.ID) })
	return append(outcomes, g.files.move(ctx, drifted)...)
}

func (g *Groups) repair(ctx context.Context, id policy.ID) error {
	want, _ := g.policy.Lookup(id)
	spec, ok := want.Spec.(policy.Group)
	if !ok {
		return nil // its files may still need moving
	}
	g.mark = g.Mark()
	db, err := readDatabase(g.system)
	if err != nil {
		return err
	}
	name := id.Name()
	have, there := db.group(name)
	verb, err := "change", error(nil)
	switch {
	case spec.Ensure == policy.Absent && there:
		verb, err = "remove", g.remove(ctx, id, db, have)
	case spec.Ensure == policy.Present && !there:
		verb, err = "create", g.create(ctx, id, db, spec)
	case spec.Ensure == policy.Present && spec.GID != nil && *spec.GID != have.GID:
		err = g.renumber(ctx, db, have, *spec.GID)
	}
	if err != nil {
		return public.Because(fmt.Sprintf("cannot %s group %s", verb, name), err)
	}
	return nil
}

func (g *Groups) create(ctx context.Context, id policy.ID, db database, spec policy.Group) error {
	name := id.Name()
	if why := protected.Registered(name); why != "" {
		return public.Error(errors.New(why))
	}
	other, found, err := facts.LookupGroup(ctx, g.system, name)
	if err != nil {
		return err
	}
	if found {
		return public.Error(fmt.Errorf("the directory has a group of that name, with gid %d, which a local one would hide", other.GID))
	}
	argv := []string{"groupadd"}
	if spec.System {
		argv = append(argv, "-r")
	}
	if spec.GID != nil {
		if err := g.free(ctx, db, name, *spec.GID); err != nil {
			return err
		}
		// Never use -f: groupadd would take another id if this one is taken.
		argv = append(argv, "-g", strconv.Itoa(*spec.GID))
	}
	if err := g.Since(g.mark); err != nil {
		return err
	}
	if err := run(ctx, g.system, append(argv, name)...); err != nil {
		return err
	}
	g.ledger.Own(id)
	return nil
}

func (g *Groups) renumber(ctx context.Context, db database, have facts.Group, gid int) error {
	if err := mayLoseID(have.Name, have.GID, reservedGIDs()); err != nil {
		return err
	}
	if err := errors.Join(g.mayTouch(ctx, db, have), g.free(ctx, db, have.Name, gid), filesAreThere(g.system)); err != nil {
		return err
	}
	if twin, shared := first(db.groups, func(other facts.Group) bool { return other.GID == have.GID && other.Name != have.Name }); shared {
		return public.Error(fmt.Errorf("gid %d also belongs to group %s: it cannot be told whose files are whose", have.GID, twin.Name))
	}
	if err := notWhileRunning(g.system, "group "+have.Name, have.GID, "Gid", "Groups"); err != nil {
		return err
	}
	if err := g.Since(g.mark); err != nil {
		return err
	}
	if err := g.files.remember(have.Name, have.GID); err != nil {
		return err
	}
	return run(ctx, g.system, "groupmod", "-g", strconv.Itoa(gid), have.Name)
}

func (g *Groups) remove(ctx context.Context, id policy.ID, db database, have facts.Group) error {
	if err := mayLoseID(have.Name, have.GID, reservedGIDs()); err != nil {
		return err
	}
	if err := errors.Join(g.mayTouch(ctx, db, have), keepsAdministrator(ctx, g.system, g.policy, db, "", have.Name)); err != nil {
		return err
	}
	if err := g.Since(g.mark); err != nil {
		return err
	}
	if err := run(ctx, g.system, "groupdel", have.Name); err != nil {
		return err
	}
	g.ledger.Disown(id)
	g.files.forget(have.Name)
	return nil
}

// mayTouch returns why an existing group must not be changed, or not now.
func (g *Groups) mayTouch(ctx context.Context, db database, have facts.Group) error {
	if why := protected.Group(have.Name); why != "" {
		return public.Error(errors.New(why))
	}
	if have.GID == 0 {
		return public.Error(errors.New("it is another name of root's group"))
	}
	return notWhileIn(ctx, g.system, func(session system.Session) bool {
		person, _ := db.accountOf(int(session.UID))
		return person.Name != "" && person.GID == have.GID || slices.Contains(have.Members, session.User)
	})
}

// free returns why a group cannot take a gid, or nil.
func (g *Groups) free(ctx context.Context, db database, name string, gid int) error {
	if other := g.files.stillOf(db, gid); other != "" && other != name {
		return public.Error(fmt.Errorf("gid %d is still held by files of group %s", gid, other))
	}
	return errors.Join(mayTakeID(ctx, g.system, "gid", name, gid, reservedGIDs()), vacantGID(ctx, g.system, db, gid))
}
