package account

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Users implements the kind "user": the local accounts of /etc/passwd.
type Users struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger
	files  *mover
	ages   ager
	mark   int // Mark at the start of the current repair
}

// NewUsers returns the kind "user".
func NewUsers(p *policy.Policy, s *system.System, l *converge.Ledger) *Users {
	s, unanswered := s.Observe()
	files := &mover{system: s, ledger: l, kind: "user", stuck: map[policy.ID]string{}}
	return &Users{Unanswered: unanswered, policy: p, system: s, ledger: l, files: files, ages: ager{s, p, l}}
}

// Name implements converge.Kind.
func (u *Users) Name() string { return "user" }

// Watches implements converge.Watcher.
func (u *Users) Watches() []converge.Watch {
	all := watches()
	for _, want := range policy.Of[policy.User](u.policy) {
		if home := want.Spec.Home; home != "" {
			all = append(all, converge.Watch{Dir: path.Dir(home), Names: []string{path.Base(home)}})
		}
	}
	return all
}

// Check implements converge.Kind.
func (u *Users) Check(context.Context) ([]converge.Resource, error) {
	wants, registries := policy.Of[policy.User](u.policy), policy.Of[policy.Registry](u.policy)
	abroad := elsewhere(u.policy, u.ledger, u.Name())
	if len(wants)+len(registries)+len(u.files.all())+len(abroad) == 0 {
		return nil, nil
	}
	db, err := readDatabase(u.system)
	if err != nil {
		return nil, err
	}
	look := sync.OnceValues(u.ages.look)
	resources := make([]converge.Resource, 0, len(wants))
	for _, want := range wants {
		r := converge.Wanted(want.Resource)
		have, there := db.account(want.ID.Name())
		switch {
		case want.Spec.Ensure == policy.Absent && there:
			r.AddPublicDrift("ensure", "absent", "present")
		case want.Spec.Ensure == policy.Present && !there:
			r.AddPublicDrift("ensure", "present", "absent")
		case want.Spec.Ensure == policy.Present:
			for _, c := range changes(db, want.Spec, have) {
				r.AddPublicDrift(c.aspect, c.want, c.got)
				if c.aspect == "uid" {
					r.Note("its files follow")
				}
			}
			if home := u.kept(want.ID, want.Spec, have); home != "" && home == path.Clean(have.Home) {
				u.describeHome(&r, db, home, have)
			}
			if !want.Spec.IsEmpty() || want.Spec.Expires != "" {
				u.describeAge(&r, have, look)
			}
		}
		if there {
			u.files.describe(&r, have.UID)
		}
		resources = append(resources, r)
	}
	for _, want := range registries {
		if want.Spec.Of == u.Name() {
			mark := u.Mark()
			r := u.unregistered(want.Resource, db)
			r.SetUnknownIf(u.Since(mark))
			resources = append(resources, r)
		}
	}
	for _, id := range abroad {
		if _, there := db.account(id.Name()); there {
			resources = append(resources, converge.LeavesOver(id, u.policy.Left[id], "userdel "+id.Name()))
		}
	}
	return append(resources, u.files.leftOver(u.policy, db)...), nil
}

// unregistered reports the accounts whose uid is just the next free one that useradd chose.
func (u *Users) unregistered(want policy.Resource, db database) converge.Resource {
	names := map[string]int{}
	for _, account := range db.accounts {
		names[account.Name] = account.UID
	}
	return unregistered(u.system, u.policy, want, names, "UID", reservedUIDs())
}

// A change is one aspect in which an account has drifted, and the options of usermod that correct
// it.
type change struct {
	aspect, want, got string
	options           []string
}

// changes returns the aspects in which an account differs. Only these are passed to usermod, which
// fails, or has side effects, if it is told what is true already.
func changes(db database, want policy.User, have facts.Account) []change {
	var all []change
	if want.UID != nil && *want.UID != have.UID {
		uid := strconv.Itoa(*want.UID)
		all = append(all, change{"uid", uid, strconv.Itoa(have.UID), []string{"-u", uid}})
	}
	if want.Registered {
		return all
	}
	if group, _ := db.group(want.Group); want.Group != "" && (group.Name == "" || group.GID != have.GID) {
		got := strconv.Itoa(have.GID)
		if current, known := db.groupOf(have.GID); known {
			got = current.Name
		}
		all = append(all, change{"group", want.Group, got, []string{"-g", want.Group}})
	}
	for _, field := range []struct{ aspect, want, got, option string }{
		{"comment", want.Comment, have.Comment, "-c"},
		{"home", want.Home, path.Clean(have.Home), "-d"},
		{"shell", want.Shell, have.Shell, "-s"},
	} {
		if field.want != "" && field.want != field.got {
			all = append(all, change{field.aspect, field.want, field.got, []string{field.option, field.want}})
		}
	}
	outside := slices.DeleteFunc(slices.Clone(want.Groups), func(name string) bool {
		group, _ := db.group(name)
		return slices.Contains(group.Members, have.Name) || group.Name != "" && group.GID == have.GID
	})
	if len(outside) > 0 {
		all = append(all, change{
			"groups", "member of " + strings.Join(outside, ", "), "not a member",
			[]string{"-a", "-G", strings.Join(outside, ",")},
		})
	}
	return all
}

// Repair implements converge.Kind.
func (u *Users) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	outcomes := mend(drifted, func(r converge.Resource) error { return u.repair(ctx, r) })
	return append(outcomes, u.files.move(ctx, drifted)...)
}

func (u *Users) repair(ctx context.Context, r converge.Resource) error {
	id := r.ID
	want, _ := u.policy.Lookup(id)
	spec, ok := want.Spec.(policy.User)
	if !ok {
		return nil // its files may still need moving
	}
	u.mark = u.Mark()
	db, err := readDatabase(u.system)
	if err != nil {
		return err
	}
	name := id.Name()
	have, there := db.account(name)
	verb, err := "change", error(nil)
	switch {
	case spec.Ensure == policy.Absent && there:
		verb, err = "remove", u.remove(ctx, id, db, have)
	case spec.Ensure == policy.Present && !there:
		verb, err = "create", u.create(ctx, id, db, spec)
	case spec.Ensure == policy.Present:
		if slices.ContainsFunc(r.Diff, func(d converge.Difference) bool { return !isOfAge(d.Aspect) }) {
			err = u.change(ctx, id, db, spec, have)
		}
		if slices.ContainsFunc(r.Diff, func(d converge.Difference) bool { return isOfAge(d.Aspect) }) {
			err = errors.Join(err, u.keepAge(ctx, id))
		}
	}
	if err != nil {
		return public.Because(fmt.Sprintf("cannot %s user %s", verb, name), err)
	}
	return nil
}

func (u *Users) create(ctx context.Context, id policy.ID, db database, spec policy.User) error {
	name := id.Name()
	why := protected.Account(name)
	if spec.Registered {
		why = protected.Registered(name)
	}
	if why != "" {
		return public.Error(errors.New(why))
	}
	other, found, err := facts.LookupUser(ctx, u.system, name)
	if err != nil {
		return err
	}
	if found {
		return public.Error(fmt.Errorf("the directory has an account of that name, with uid %d, which a local one would hide", other.UID))
	}
	spec.Groups, err = split(db, spec.Groups)
	argv, refused := u.useradd(ctx, db, name, spec)
	if refused != nil {
		return errors.Join(refused, err)
	}
	if unsure := u.Since(u.mark); unsure != nil {
		return errors.Join(unsure, err)
	}
	if spec.Home != "" && !spec.System {
		if failed := u.system.FS.MkdirAll(path.Dir(spec.Home), 0o755); failed != nil { // older versions of useradd do not create it
			return errors.Join(failed, err)
		}
	}
	if failed := u.add(ctx, argv); failed != nil {
		return errors.Join(failed, err)
	}
	u.ledger.Own(id)
	u.ages.forget(name)
	return err
}

// add runs useradd. If useradd cannot create the home, it has already created the account, which
// the next check would consider complete. So the account is removed again.
func (u *Users) add(ctx context.Context, argv []string) error {
	err := run(ctx, u.system, argv...)
	var failed exitError
	if errors.As(err, &failed) && failed.code == 12 {
		return errors.Join(err, run(ctx, u.system, "userdel", argv[len(argv)-1]))
	}
	return err
}

// useradd returns the command that creates an account, or an error if it must not be created.
func (u *Users) useradd(ctx context.Context, db database, name string, spec policy.User) ([]string, error) {
	argv := []string{"useradd"}
	if spec.UID != nil {
		if err := u.free(ctx, db, name, *spec.UID); err != nil {
			return nil, err
		}
		argv = append(argv, "-u", strconv.Itoa(*spec.UID))
	}
	if err := u.shellIsThere(spec.Shell); err != nil {
		return nil, err
	}
	if spec.Group == "" && u.hasOwnGroup(db, name) {
		spec.Group = name
	}
	switch _, local := db.group(spec.Group); {
	case spec.Group == "":
		argv = append(argv, "-U")
	case !local:
		return nil, noLocalGroup(spec.Group)
	default:
		argv = append(argv, "-N", "-g", spec.Group)
	}
	if spec.System {
		argv = append(argv, "-r", "-M")
		if spec.Shell == "" {
			spec.Shell = u.nologin()
		}
	} else {
		if err := homeMayBeMade(u.system, spec.Home); err != nil {
			return nil, err
		}
		argv = append(argv, "-m")
		argv = append(argv, closedHome(u.system)...)
	}
	for _, field := range []struct{ option, value string }{
		{"-c", spec.Comment},
		{"-d", spec.Home},
		{"-s", spec.Shell},
		{"-G", strings.Join(spec.Groups, ",")},
	} {
		if field.value != "" {
			argv = append(argv, field.option, field.value)
		}
	}
	return append(argv, name), nil
}

// closedHome returns the options with which useradd creates a home with mode 0700, whatever the
// machine's default is. HOME_MODE takes precedence over UMASK, and only newer tools know it.
func closedHome(s *system.System) []string {
	options := []string{"-K", "UMASK=077"}
	if _, set := loginDefs(s)["HOME_MODE"]; set {
		options = append(options, "-K", "HOME_MODE=0700")
	}
	return options
}

// hasOwnGroup reports whether a group with the account's name exists or is wanted. If it is wanted
// but could not be created, useradd must not create it with another gid.
func (u *Users) hasOwnGroup(db database, name string) bool {
	_, there := db.group(name)
	want, wanted := u.policy.Lookup(policy.NewID("group", name))
	group, _ := want.Spec.(policy.Group)
	return there || wanted && group.Ensure == policy.Present
}

func (u *Users) change(ctx context.Context, id policy.ID, db database, spec policy.User, have facts.Account) error {
	if err := u.mayTouch(ctx, have); err != nil {
		return err
	}
	var missing error
	spec.Groups, missing = split(db, spec.Groups)
	if _, local := db.group(spec.Group); spec.Group != "" && !local {
		missing, spec.Group = errors.Join(noLocalGroup(spec.Group), missing), ""
	}
	argv := []string{"usermod"}
	for _, c := range changes(db, spec, have) {
		var err error
		switch c.aspect {
		case "uid":
			err = u.mayRenumber(ctx, db, have, *spec.UID)
		case "shell":
			after := have
			after.Shell = spec.Shell
			if err = u.shellIsThere(spec.Shell); err == nil {
				err = u.mayLoseLogin(ctx, db, have, after)
			}
		case "group":
			after := have
			group, _ := db.group(spec.Group)
			after.GID = group.GID
			err = u.keepsAdministrator(ctx, db, have, after)
		case "home":
			continue // added below, once the home exists
		}
		if err != nil {
			missing = errors.Join(err, missing)
			continue
		}
		argv = append(argv, c.options...)
	}
	if unsure := u.Since(u.mark); unsure != nil {
		return errors.Join(unsure, missing)
	}
	undo, homeless := u.provide(ctx, db, have, u.kept(id, spec, have))
	if homeless == nil && spec.Home != "" && spec.Home != path.Clean(have.Home) {
		argv = append(argv, "-d", spec.Home)
	}
	if missing = errors.Join(homeless, missing); len(argv) == 1 {
		return missing
	}
	if slices.Contains(argv, "-u") {
		if err := u.files.remember(have.Name, have.UID); err != nil {
			return errors.Join(err, undo(), missing)
		}
	}
	if err := run(ctx, u.system, append(argv, have.Name)...); err != nil {
		return errors.Join(err, undo(), missing)
	}
	return missing
}

// mayRenumber returns why an account cannot get another uid, or not now.
func (u *Users) mayRenumber(ctx context.Context, db database, have facts.Account, uid int) error {
	if err := errors.Join(mayLoseID(have.Name, have.UID, reservedUIDs()), u.free(ctx, db, have.Name, uid), filesAreThere(u.system)); err != nil {
		return err
	}
	if twin, shared := first(db.accounts, func(other facts.Account) bool { return other.UID == have.UID && other.Name != have.Name }); shared {
		return public.Error(fmt.Errorf("uid %d also belongs to %s: it cannot be told whose files are whose", have.UID, twin.Name))
	}
	return notWhileRunning(u.system, have.Name, have.UID, "Uid")
}

func (u *Users) remove(ctx context.Context, id policy.ID, db database, have facts.Account) error {
	if err := mayLoseID(have.Name, have.UID, reservedUIDs()); err != nil {
		return err
	}
	if err := keepsAdministrator(ctx, u.system, u.policy, db, have.Name, ""); err != nil {
		return err
	}
	if err := u.mayTouch(ctx, have); err != nil {
		return err
	}
	if err := notWhileRunning(u.system, have.Name, have.UID, "Uid"); err != nil {
		return err
	}
	if err := u.Since(u.mark); err != nil {
		return err
	}
	// Never use -r: the files in a home belong to a person.
	if err := run(ctx, u.system, "userdel", have.Name); err != nil {
		return err
	}
	u.ledger.Disown(id)
	u.files.forget(have.Name)
	u.ages.forget(have.Name)
	return nil
}

// mayTouch returns why an existing account must not be changed, or not now.
func (u *Users) mayTouch(ctx context.Context, have facts.Account) error {
	if why := protected.Account(have.Name); why != "" {
		return public.Error(errors.New(why))
	}
	if have.UID == 0 {
		return public.Error(errors.New("it is another name of root"))
	}
	return notWhileIn(ctx, u.system, func(session system.Session) bool {
		return int(session.UID) == have.UID || session.User == have.Name
	})
}

// free returns why an account cannot take a uid, or nil.
func (u *Users) free(ctx context.Context, db database, name string, uid int) error {
	if other := u.files.stillOf(db, uid); other != "" && other != name {
		return public.Error(fmt.Errorf("uid %d is still held by files of %s", uid, other))
	}
	return errors.Join(mayTakeID(ctx, u.system, "uid", name, uid, reservedUIDs()), vacantUID(ctx, u.system, db, uid))
}

// split returns the groups that are local, and an error that names the others. A missing group must
// not keep the account out of the rest.
func split(db database, names []string) (local []string, missing error) {
	for _, name := range names {
		if _, there := db.group(name); there {
			local = append(local, name)
		} else {
			missing = errors.Join(missing, noLocalGroup(name))
		}
	}
	return local, missing
}

func noLocalGroup(name string) error {
	return public.Error(fmt.Errorf("there is no local group %s", name))
}
