package sudo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	grantsPath = sudoers.Grants
	denialPath = sudoers.Dir + "/zz-soe-sudo"

	polkitID policy.ID = "sudo/polkit"
	groupsID policy.ID = "sudo/root_groups"
)

// sudoersAttr is the owner and mode that sudo requires of its files.
func sudoersAttr() system.Attr { return system.Attr{Mode: 0o440} }

// trusted is how long sudo's last answer is relied on while none of the files has changed. Directory
// groups are in no file, so it has to end.
const trusted = 10 * time.Minute

// patienceBeforeRepair is how long logind and polkit may take together before a repair of sudo begins,
// and patienceInHurry while the desktop waits. polkit 121 and 122 sometimes lose the wake-up at the
// end of a rule. They then answer nobody for 15 seconds, until the rule, which has long returned, is
// given up. 123 is fixed (its commit 5615ed0).
const (
	patienceBeforeRepair = time.Second
	patienceInHurry      = 200 * time.Millisecond
	patienceInRepair     = 3 * time.Second  // for polkit alone, once the agent's own file is right
	patienceOnce         = 20 * time.Second // the same where nobody asks again: polkit is mute for 15 seconds now and then
	patienceToStart      = 10 * time.Second // for polkit to restart
	peoplePatience       = 3 * time.Second  // for logind, and for the directory about homes
)

// A Kind keeps sudo/allow, sudo/polkit and, when the policy names groups that are
// as good as root, sudo/root_groups.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	// directory is the same machine without recording failed reads of commands and logind. It is for
	// callers that record such failures per person, so that one does not spoil the judgement of all
	// others.
	directory *system.System
	files     system.FS // the same machine's files, not recording failed reads

	mu        sync.Mutex
	inLine    string          // fingerprint of the files when sudo's answers were last right,
	inLineFor []facts.Account // about these people
	askedAt   time.Time

	polkitInLine  string // polkitState when polkit last granted nobody anything
	polkitAskedAt time.Time
	polkitAsked   string // the instance of polkit that was asked last,
	polkitAnew    string // and the one that the agent restarted itself

	lookups map[string]lookup // of groups in the directory

	places []sudoers.Place // what sudo reads, to be watched
}

// New returns the kind for a policy on a machine.
func New(p *policy.Policy, s *system.System) *Kind {
	patient := *s
	patient.Runner = newImpatient(s.Runner, s.Clock)
	observed, unanswered := patient.Observe()
	directory := *observed
	directory.Runner, directory.Sessions = patient.Runner, patient.Sessions
	return &Kind{Unanswered: unanswered, policy: p, system: observed, directory: &directory, files: s.FS, lookups: map[string]lookup{}}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return policy.Sudo{}.Kind() }

// Urgent implements converge.Urgent: a grant must not live until a running program ends. Whether other
// kinds still have to create an administrator is checked before each repair.
func (k *Kind) Urgent() {}

// Watches implements converge.Watcher. /etc has the accounts and sudoers itself, which are replaced by
// rename. When the services of the directory start, the administrators that a lock-down waits for may
// become known. A login may bring somebody whom sudo was never asked about.
func (k *Kind) Watches() []converge.Watch {
	watches := []converge.Watch{
		{Dir: "/etc"},
		{Dir: sudoers.Dir},
		{Dir: authorityDir},
		{Unit: "polkit.service"},
		{Unit: "winbind.service"},
		{Unit: "sssd.service"},
		{Sessions: true},
		{Mounts: true},
	}
	dirs := slices.Concat(ruleDirs(), actionDirs())
	for _, top := range entryTops() {
		for _, name := range []string{"10-vendor.d", "20-org.d", "30-site.d", "50-local.d", "90-mandatory.d"} { // pklocalauthority(8)
			dirs = append(dirs, top+"/"+name)
		}
	}
	for _, dir := range dirs {
		watches = append(watches, converge.Watch{Dir: dir})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, place := range k.places {
		watch := converge.Watch{Dir: place.Dir}
		if place.Name != "" {
			watch.Names = []string{place.Name}
		}
		watches = append(watches, watch)
	}
	return watches
}

// Explores implements converge.Explorer: includes and links of sudoers may lead anywhere.
func (k *Kind) Explores() {}

func (k *Kind) sees(places []sudoers.Place) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.places = places
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := policy.Of[policy.Sudo](k.policy)
	if len(wants) == 0 {
		return nil, nil
	}
	want := wants[0]
	allow := allowed(want.Spec)
	ctx, end := k.whileFilesStay(ctx)
	defer end()
	wanted := func(id policy.ID) converge.Resource {
		like := want.Resource
		like.ID = id
		r := converge.Wanted(like)
		r.GuardsRights()
		return r
	}
	// People are looked up only when needed: drift in the files needs no lookup.
	sudo, groups, polkit := wanted(want.ID), wanted(groupsID), wanted(polkitID)
	mark := k.Mark()
	k.checkLocalGroups(ctx, want.Spec, &groups)
	groupsUntold := k.Since(mark)
	mark = k.Mark()
	stuck, asks := k.checkPolkitFiles(allow, &polkit)
	polkitUntold := k.Since(mark)
	inTime, enough := beforeRepair(ctx, groups, polkit)
	defer enough()
	people := k.askForPeople(inTime)
	mark = k.Mark()
	k.checkOpenings(ctx, allow, &sudo)
	k.checkSudo(ctx, want.Spec, people, &sudo)
	sudo.SetUnknownIf(k.Since(mark))

	inTime, enough = beforeRepair(inTime, sudo)
	defer enough()
	mark = k.Mark()
	who, peopleErr := people(inTime)
	unanswered := errors.Join(peopleErr, k.Since(mark))
	resources := []converge.Resource{sudo, polkit}
	if len(want.Spec.RootGroups) > 0 {
		mark = k.Mark()
		if groups.State != converge.Drifted {
			k.checkGroups(inTime, want.Spec, who, &groups)
		}
		doubt(&groups, unanswered, errors.Join(groupsUntold, k.Since(mark)))
		resources = append(resources, groups)
	}
	inTime, enough = beforeRepair(inTime, resources...)
	defer enough()
	if converge.SkipsSlow(ctx) { // the desktop must not wait
		inTime, enough = context.WithTimeout(inTime, patienceInHurry)
		defer enough()
	}
	mark = k.Mark()
	if asks {
		k.checkPolkitGrants(inTime, allow, who, stuck, &resources[1])
	}
	doubt(&resources[1], unanswered, errors.Join(polkitUntold, k.Since(mark)))
	k.forbid(ctx, allow, resources)
	return resources, nil
}

// doubt makes a resource unknown if a read failed. A missing answer about who is on the machine does
// not make drift unknown.
func doubt(r *converge.Resource, unanswered, failed error) {
	if r.State != converge.Drifted {
		failed = errors.Join(unanswered, failed)
	}
	r.SetUnknownIf(failed)
}

// beforeRepair limits the time for asking others once something has drifted, so that the repair does
// not wait for slow answers.
func beforeRepair(ctx context.Context, resources ...converge.Resource) (context.Context, context.CancelFunc) {
	if slices.ContainsFunc(resources, func(r converge.Resource) bool { return r.State == converge.Drifted }) {
		return context.WithTimeout(ctx, patienceBeforeRepair)
	}
	return ctx, func() {}
}

// forbid marks drift as failed if its repair would leave the machine without an administrator.
func (k *Kind) forbid(ctx context.Context, allow []string, resources []converge.Resource) {
	drifted := func(r converge.Resource) bool { return r.State == converge.Drifted }
	if k.bringsAdministrator(allow) || !slices.ContainsFunc(resources, drifted) {
		return
	}
	err := k.administrated(ctx, allow)
	for i := range resources {
		if err != nil && drifted(resources[i]) {
			resources[i].SetFailedErr(err)
		}
	}
}

// askForPeople returns a function that looks up the people once per Check, within a time limit.
func (k *Kind) askForPeople(inTime context.Context) func(context.Context) ([]facts.Account, error) {
	var people []facts.Account
	var err error
	asked := false
	return func(ctx context.Context) ([]facts.Account, error) {
		if !asked {
			soon, enough := context.WithTimeout(ctx, peoplePatience)
			defer enough()
			defer context.AfterFunc(inTime, enough)()
			people, err = facts.People(soon, k.system)
			asked = true
		}
		return people, err
	}
}

// allowed are the subjects of the policy without duplicates, root first.
func allowed(want policy.Sudo) []string {
	allow := []string{"root"}
	for _, subject := range want.Allow {
		if !slices.Contains(allow, subject) {
			allow = append(allow, subject)
		}
	}
	return allow
}

func (k *Kind) checkSudo(ctx context.Context, want policy.Sudo, whoIsThere func(context.Context) ([]facts.Account, error), r *converge.Resource) {
	switch installed, err := k.installed(); {
	case err != nil:
		r.SetUnknownErr(err)
		return
	case !installed:
		r.Note("sudo is not installed, so nobody can use it")
		return
	}
	mark := k.Mark()
	files := k.fingerprint()
	if len(k.covered()) > 0 {
		files = ""
	}
	if files != "" && k.believes(files, nil) {
		if people, err := whoIsThere(ctx); err == nil && k.believes(files, people) {
			return
		}
	}
	p, err := k.plan(ctx, want)
	if err != nil {
		r.SetUnknownErr(err)
		return
	}
	if people, right := k.checkPlan(ctx, p, whoIsThere, r); right && k.Since(mark) == nil {
		k.believe(files, people)
	}
}

// checkPlan judges sudo by what the plan would change, and by sudo's answers about people. right means
// that nothing is wrong and nothing unknown.
func (k *Kind) checkPlan(ctx context.Context, p *plan, whoIsThere func(context.Context) ([]facts.Account, error), r *converge.Resource) (people []facts.Account, right bool) {
	differs := func() {
		if p.noRoom { // on a full disk a grant in /etc/sudoers could not be removed
			r.IsCritical()
		}
		for _, d := range p.differences() {
			r.AddPrivateDrift(d.Aspect, d.Want, d.Got)
		}
	}
	if differs(); r.State == converge.Drifted {
		return nil, false
	}
	people, peopleErr := whoIsThere(ctx)
	wrong, wronged, err := k.inEffect(ctx, p, people)
	if len(wronged) > 0 {
		if err := k.planCulprits(ctx, p, wronged); err != nil {
			p.unsure = append(p.unsure, err)
		}
		if differs(); r.State == converge.Drifted {
			return nil, false
		}
	}
	if err != nil || !k.system.Running() {
		// Sudo may be broken for everybody.
		err = errors.Join(err, k.planBroken(ctx, p))
		if differs(); r.State == converge.Drifted {
			return nil, false
		}
	}
	if p.dead != "" {
		r.SetFailed(p.dead)
		return nil, false
	}
	if elsewhere := k.goesElsewhere(); elsewhere != "" {
		wrong = append(wrong, elsewhere)
	}
	wrong = append(slices.Clone(p.stuck), wrong...)
	switch err = errors.Join(append(p.unsure, peopleErr, err)...); {
	case len(wrong) > 0:
		r.SetFailed(strings.Join(wrong, "\n"))
	case err != nil:
		r.SetUnknownErr(err)
	default:
		return people, true
	}
	return nil, false
}

func (k *Kind) installed() (bool, error) {
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/local/bin"} {
		info, err := k.system.FS.Stat(dir + "/sudo")
		switch {
		case err == nil && !info.IsDir():
			return true, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return false, fmt.Errorf("cannot tell whether sudo is installed: %w", err)
		}
	}
	return false, nil
}

// believes reports whether sudo's answers about these people were right recently, with the same files.
// nil stands for whoever it was last asked about.
func (k *Kind) believes(files string, people []facts.Account) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.inLine == files && (people == nil || slices.Equal(k.inLineFor, people)) && k.system.Clock.Now().Sub(k.askedAt) < trusted
}

func (k *Kind) believe(files string, people []facts.Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inLine, k.inLineFor, k.askedAt = files, people, k.system.Clock.Now()
}

// Repair implements converge.Kind.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	wants := policy.Of[policy.Sudo](k.policy)
	if len(wants) == 0 {
		return nil
	}
	allow := allowed(wants[0].Spec)
	refused := k.administrated(ctx, allow)
	var outcomes []converge.Outcome
	drifted = slices.Clone(drifted)
	turn := func(r converge.Resource) int {
		if r.ID == polkitID {
			return 1 // polkit has to be asked, which may be slow
		}
		return 0
	}
	slices.SortStableFunc(drifted, func(a, b converge.Resource) int { return cmp.Compare(turn(a), turn(b)) })
	for _, r := range drifted {
		err := refused
		switch {
		case err != nil:
		case r.ID == polkitID:
			hurried, enough := ctx, func() {}
			if converge.SkipsSlow(ctx) {
				hurried, enough = context.WithTimeout(ctx, patienceInHurry)
			}
			err = k.repairPolkit(hurried, allow)
			enough()
		case r.ID == groupsID:
			err = k.repairGroups(ctx, wants[0].Spec)
		default:
			if installed, askErr := k.installed(); installed || askErr != nil {
				err = k.repairSudo(ctx, wants[0].Spec)
			}
			err = errors.Join(err, k.closeAllowed(ctx, allow))
			if elsewhere := k.goesElsewhere(); err != nil && elsewhere != "" {
				err = fmt.Errorf("%s; %w", elsewhere, err)
			}
		}
		if err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: public.Because(fmt.Sprintf("cannot bring %s into line", r.ID), err)})
		}
	}
	return outcomes
}
