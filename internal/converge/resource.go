package converge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// A Kind keeps one sort of resource as the policy wants it.
type Kind interface {
	// Name is the name of the kind, and the first part of the IDs of its resources.
	Name() string
	// Check returns the state of each resource: Compliant, Drifted, Pending, Failed
	// or Unknown. It only reads, and it judges what is in effect, not what the agent
	// once wrote. It may run while other kinds check or repair. If it returns an
	// error, it also returns the resources that it could judge.
	Check(ctx context.Context) ([]Resource, error)
	// Repair brings drifted resources into line and returns an outcome for each that it could not. It
	// may batch them. It never disrupts a live session: such a step is postponed and left pending.
	Repair(ctx context.Context, drifted []Resource) []Outcome
}

// Cacher is implemented by a Kind whose Check reuses what an earlier one read from a file, as long as
// the file's size, inode and times have not changed.
type Cacher interface {
	// InvalidateCache makes the next Check read everything again.
	InvalidateCache()
}

// Urgent is implemented by a Kind that does not wait for a slow repair of a kind before it, although
// that repair may make something that this kind needs. The kind has to cope with that.
type Urgent interface{ Urgent() }

// Observer is implemented by a Kind that records its reads that failed (system.Unanswered). Unanswered
// returns these errors and clears them. If a Check does not mention one of them, in its error or in the
// reason of an unknown or failed resource, the engine makes the compliant and pending resources unknown.
type Observer interface{ Unanswered() []error }

// Watcher is implemented by a Kind that can name what changes when its resources drift.
type Watcher interface{ Watches() []Watch }

// Timed is implemented by a Kind that checks some of its resources on a schedule of their own, and not
// in each pass.
type Timed interface {
	// NextLook returns when the next of them is due; the zero time if none is.
	NextLook() time.Time
}

// Filed is implemented by a Kind each of whose resources is one file.
type Filed interface {
	// File returns the path of a resource's file.
	File(id policy.ID) string
}

// Explorer is implemented by a Watcher whose Check finds out what else to watch. Watches is called
// again after each check.
type Explorer interface {
	Kind
	Watcher
	Explores()
}

// A Watch is something whose change may be drift: a directory, a unit, the login sessions or the mounts.
type Watch struct {
	// Dir is a directory, which may not exist yet. Every change of an entry in it counts. Single files
	// are never watched, because a rename would lose the watch.
	Dir string
	// Names are the names of the entries in Dir that matter; if empty, all do.
	Names []string
	// Settle is how long Dir must be quiet before its changes are reported, all together. 0 reports
	// each at once. It is for files that are written many times for one change.
	Settle time.Duration

	Unit     string // the name of a systemd unit: its state, or its file
	Sessions bool   // somebody logs in or out
	Mounts   bool   // something is mounted, unmounted or remounted
}

// Equal says whether two watches watch the same.
func (w Watch) Equal(other Watch) bool {
	return w.Dir == other.Dir && slices.Equal(w.Names, other.Names) && w.Settle == other.Settle && w.Unit == other.Unit && w.Sessions == other.Sessions && w.Mounts == other.Mounts
}

// A State is the state of a resource.
type State string

// The states.
const (
	Compliant State = "compliant" // in line, and in effect
	Drifted   State = "drifted"   // not in line
	Corrected State = "corrected" // was not in line, and is now
	Pending   State = "pending"   // right on disk, not yet in effect
	Failed    State = "failed"    // could not be brought into line
	Contested State = "contested" // something else keeps changing it back
	Waived    State = "waived"    // not in line, and the policy allows it until a date
	Unknown   State = "unknown"   // its state could not be determined
	// NotApplicable: this machine has no use for it, so nothing is written, and nothing is amiss.
	NotApplicable State = "not-applicable"
)

// InLine says whether a report may call a resource in this state compliant.
func (s State) InLine() bool {
	switch s {
	case Compliant, Corrected, Waived, NotApplicable:
		return true
	}
	return false
}

// An Effect is when a change that is on disk takes effect.
type Effect string

// The effects.
const (
	Now         Effect = "now"
	NextSession Effect = "next-session"
	Maintenance Effect = "maintenance-window"
	Reboot      Effect = "reboot"
	RunningJob  Effect = "running-job" // when a job that somebody else has queued in systemd for a unit has ended
)

// A Cause is why a resource was not in line.
type Cause string

// The causes.
const (
	Corrective  Cause = "corrective"  // the machine changed
	Intentional Cause = "intentional" // the policy changed, or is new
)

// A Difference is one aspect in which a resource differs from what the policy wants. It never holds a
// secret.
type Difference struct {
	Aspect string `json:"aspect"` // "content", "mode", "gid", "effect", …
	Want   string `json:"want"`
	Got    string `json:"got"`
}

// Resource is one resource with its state.
type Resource struct {
	ID     policy.ID    `json:"id"`
	State  State        `json:"state"`
	Diff   []Difference `json:"diff,omitempty"`
	Reason string       `json:"reason,omitempty"` // why it is pending, failed, contested, waived, unknown or not applicable, or was not in line
	Effect Effect       `json:"effect,omitempty"` // what a pending resource waits for
	// Unseen says that the resource has not been checked under the policy in force since the agent
	// started. Its state is Unknown.
	Unseen bool `json:"unseen,omitempty"`
	// Overdue says that it has been pending for longer than the policy allows.
	Overdue bool `json:"overdue,omitempty"`
	// LeftOver says that the agent made it for a fragment that is not for the machine any more. It stays
	// until somebody removes it. Its state is NotApplicable.
	LeftOver bool `json:"left_over,omitempty"`
	// WordOf is the user whose process reported the state, or "" if that was root's. The state is
	// only this user's word: no right is judged by it, and nothing is repaired because of it.
	WordOf string `json:"word_of,omitempty"`
	// AsOf is when the resource was checked, if it is checked on a schedule of its own and not by
	// each pass (see Timed). From StaleAt on the result is too old and the resource is Unknown.
	AsOf    time.Time `json:"as_of,omitzero"`
	StaleAt time.Time `json:"stale_at,omitzero"`
	// Withheld names what Public left out: "reason", and the aspects of differences.
	Withheld []string `json:"withheld,omitempty"`

	Cause Cause     `json:"cause,omitempty"` // of drift
	Since time.Time `json:"since"`           // when it came into this state

	Severity policy.Severity `json:"severity"`
	Controls []string        `json:"controls,omitempty"`
	Disrupt  string          `json:"disrupt,omitempty"` // when a session may be ended for it, by the policy's rules
	Origin   policy.Origin   `json:"origin"`

	// Happened is when the machine was changed so that the resource drifted, if that can be determined.
	Happened time.Time `json:"-"`

	open      open
	digest    string // of what the policy wants, to notice that the policy changed it
	critical  bool   // critical whatever the policy says
	audit     bool   // the policy says to report it and not to repair it
	unwanted  bool   // the policy does not name it
	unsettled bool   // was repaired maxRounds times in vain
	awaited   bool   // was pending, and only its effect is still missing
	rights    bool   // whoever changes it gains rights: see GuardsRights
	held      bool   // a step of its repair was postponed
	mended    bool   // the agent made a change, as opposed to a pending change that took effect

	seen    time.Time // when it was checked
	noticed time.Time // when it was first seen not to be in line in this pass
}

// repairable says whether a pass may touch the resource.
func (r *Resource) repairable() bool { return r.State == Drifted && !r.audit }

// Tolerable says whether a machine with this resource may be called compliant. A pending resource is
// tolerated until it is overdue.
func (r *Resource) Tolerable() bool {
	return r.State.InLine() || r.State == Pending && !r.Overdue
}

// age marks a resource as overdue that has been pending for longer than limit.
func (r *Resource) age(now time.Time, zone *time.Location, limit time.Duration) {
	if r.State == Pending && now.Sub(r.Since) > limit {
		r.Overdue = true
		r.add(fmt.Sprintf("; overdue: it has been pending since %s, longer than %s", r.Since.In(zone).Format(time.DateTime), policy.Days(limit)))
	}
}

// Wanted begins the description of a resource that the policy wants: it is compliant until AddDrift or
// another method says otherwise.
func Wanted(want policy.Resource) Resource {
	return Resource{ID: want.ID, State: Compliant, Origin: want.Origin, digest: want.Digest()}
}

// NotChecked describes a resource that the policy wants and that has not been checked since the given time.
func NotChecked(p *policy.Policy, want policy.Resource, since time.Time) Resource {
	r := Wanted(want)
	r.SetUnknown("not checked yet").ReasonIsPublic()
	r.Unseen, r.Since = true, since
	ruling := p.Ruling(r.ID, since)
	r.Severity, r.Controls, r.Disrupt = ruling.Severity, ruling.Controls, ruling.Disrupt
	return r
}

// NotCheckedYet returns what a report says of a kind that has not been checked since the policy came
// into force: every resource that the policy wants of it, or the kind itself if there is none, because
// its check may find unwanted resources.
func NotCheckedYet(p *policy.Policy, kind string, since time.Time) []Resource {
	var all []Resource
	for _, want := range p.Resources {
		if want.ID.Kind() == kind {
			all = append(all, NotChecked(p, want, since))
		}
	}
	if len(all) == 0 {
		all = append(all, NotChecked(p, policy.Resource{ID: policy.ID(kind)}, since))
	}
	return all
}

// GoStale makes the resource unknown if its result is too old: see AsOf.
func (r *Resource) GoStale(now time.Time) {
	if !r.StaleAt.IsZero() && !now.Before(r.StaleAt) {
		r.SetUnknown(fmt.Sprintf("it was last checked at %s, which is too long ago", r.AsOf.UTC().Format("2006-01-02 15:04:05 UTC"))).ReasonIsPublic()
		r.Diff, r.open.diff, r.open.aspects = nil, nil, nil
	}
}

// IsCritical makes drift of the resource critical, whatever severity the policy's rules give it.
func (r *Resource) IsCritical() { r.critical = true }

// GuardsRights says that whoever changes the resource gives somebody rights. It is repaired however
// often something else changes it back, and never left alone. It is still reported as contested.
func (r *Resource) GuardsRights() { r.rights = true }

// IsGuard says whether GuardsRights was called.
func (r *Resource) IsGuard() bool { return r.rights }

// Unfinished says whether a pass has repaired the resource as often as it may and the next pass has to
// start at once, because the resource guards rights.
func (r *Resource) Unfinished() bool { return r.rights && r.unsettled }

// AspectEffect is the aspect of a difference of a resource that is right on disk and has not taken
// effect, although nothing prevents that any longer.
const AspectEffect = "effect"

// onlyEffect says whether nothing but the effect is missing.
func (r *Resource) onlyEffect() bool {
	return !slices.ContainsFunc(r.Diff, func(d Difference) bool { return d.Aspect != AspectEffect })
}

// Unwanted begins the description of something that exists and that the policy does not name, such as
// what it wanted once. It counts as drifted. A check that no longer finds it leaves it out of its
// result. While the policy is only partly known the engine ignores unwanted resources. The reason is
// public.
func Unwanted(id policy.ID, reason string) Resource {
	r := Resource{ID: id, unwanted: true}
	r.AddPublicDrift("ensure", "absent", "present")
	r.Note(reason)
	return r
}

// open is what everybody may read of a resource; everything else is for root. An entry counts only as
// long as it equals the current one: a reason or difference that has changed since is private.
type open struct {
	reason  string
	diff    []Difference
	aspects []string // of differences of which only the aspect is public
}

// AddDrift makes the resource drifted and records a difference. The aspect is public; want and got are
// for root to read.
func (r *Resource) AddDrift(aspect, want, got string) {
	r.AddPrivateDrift(aspect, want, got)
	r.open.aspects = append(r.open.aspects, aspect)
}

// AddPublicDrift is AddDrift with want and got public as well.
func (r *Resource) AddPublicDrift(aspect, want, got string) {
	r.AddPrivateDrift(aspect, want, got)
	r.open.diff = append(r.open.diff, Difference{aspect, want, got})
}

// AddPrivateDrift is AddDrift with the aspect for root to read as well.
func (r *Resource) AddPrivateDrift(aspect, want, got string) {
	r.State = Drifted
	r.Diff = append(r.Diff, Difference{aspect, want, got})
}

// DriftIsPublic makes the differences recorded so far public.
func (r *Resource) DriftIsPublic() { r.open.diff = slices.Clone(r.Diff) }

// SetFailed says that the resource cannot be brought into line, and why. It is not repaired. The reason
// is for root to read, unless ReasonIsPublic follows.
func (r *Resource) SetFailed(reason string) *Resource { return r.setState(Failed, r.Effect, reason) }

// SetFailedErr is SetFailed for an error; those parts of it are public that are marked so (package public).
func (r *Resource) SetFailedErr(err error) {
	r.setState(Failed, r.Effect, err.Error()).open.reason = public.Text(err)
}

// SetPending says that the resource is right on disk, and what its effect waits for. The reason is for
// root to read, unless ReasonIsPublic follows.
func (r *Resource) SetPending(effect Effect, reason string) *Resource {
	return r.setState(Pending, effect, reason)
}

// SetUnknown says that the state cannot be determined, and why. The reason is for root to read, unless
// ReasonIsPublic follows.
func (r *Resource) SetUnknown(reason string) *Resource { return r.setState(Unknown, r.Effect, reason) }

// SetUnknownErr is SetUnknown for an error; those parts of it are public that are marked so (package public).
func (r *Resource) SetUnknownErr(err error) {
	r.setState(Unknown, r.Effect, err.Error()).open.reason = public.Text(err)
}

// SetNotApplicable says that the machine has no use for the resource, and why. The reason is public.
func (r *Resource) SetNotApplicable(reason string) *Resource {
	r.setState(NotApplicable, "", reason).ReasonIsPublic()
	return r
}

// LeavesOver reports something that the agent made for a fragment that is not for the machine any more,
// because of a fact, with the command that removes it.
func LeavesOver(id policy.ID, elsewhere policy.Elsewhere, command string) Resource {
	r := Resource{ID: id, Origin: elsewhere.Origin, LeftOver: true}
	r.SetNotApplicable(fmt.Sprintf("left over from a fragment that is not for this machine any more (%s); to remove it: %s", elsewhere.Why, command))
	return r
}

// Note sets the reason, whatever the state, and makes it public.
func (r *Resource) Note(reason string) { r.Reason, r.open.reason = reason, reason }

// ReasonIsPublic makes the current reason public.
func (r *Resource) ReasonIsPublic() { r.open.reason = r.Reason }

func (r *Resource) setState(state State, effect Effect, reason string) *Resource {
	r.State, r.Effect, r.Reason, r.open.reason = state, effect, reason, ""
	return r
}

// add appends public text to the reason.
func (r *Resource) add(text string) {
	if r.open.reason == "" && r.Reason != "" {
		r.open.reason = public.Withheld
	}
	r.open.reason += text
	r.Reason += text
}

// also appends a public sentence to the reason.
func (r *Resource) also(sentence string) {
	switch {
	case sentence == "":
	case r.Reason == "":
		r.Note(sentence)
	default:
		r.add("; " + sentence)
	}
}

// remains appends the reason that the check now gives for a resource that is in line, and that it will
// give at each check from now on.
func (r *Resource) remains(now Resource) {
	switch {
	case now.Reason == "" || strings.Contains(r.Reason, now.Reason):
	case r.Reason == "":
		r.Reason, r.open.reason = now.Reason, now.open.reason
	case now.open.reason == now.Reason:
		r.also(now.Reason)
	default:
		if r.open.reason == r.Reason {
			r.open.reason += "; " + public.Withheld
		}
		r.Reason += "; " + now.Reason
	}
}

// SetCorrected makes a resource that is in line a corrected one, as an earlier pass (was) reported it.
func (r *Resource) SetCorrected(was Resource) {
	r.State, r.Diff, r.open.diff, r.open.aspects = was.State, was.Diff, was.open.diff, was.open.aspects
	r.Cause, r.Since = was.Cause, was.Since
}

// Public returns the resource without what is for root to read.
func (r Resource) Public() Resource {
	all := r.Diff
	r.Diff, r.Withheld = nil, nil
	for _, d := range all {
		switch {
		case slices.Contains(r.open.diff, d):
			r.Diff = append(r.Diff, d)
		case slices.Contains(r.open.aspects, d.Aspect):
			r.Withheld = append(r.Withheld, d.Aspect)
		default:
			r.Withheld = append(r.Withheld, "a difference")
		}
	}
	if r.Reason != r.open.reason {
		r.Reason, r.Withheld = cmp.Or(r.open.reason, public.Withheld), append(r.Withheld, "reason")
	}
	slices.Sort(r.Withheld)
	r.Withheld = slices.Compact(r.Withheld)
	return r
}

// SetUnknownIf makes the resource unknown because of err, if err is not nil. A resource that is failed
// or unknown already keeps its reason.
func (r *Resource) SetUnknownIf(err error) {
	if err != nil && r.State != Failed && r.State != Unknown {
		r.SetUnknown(err.Error())
	}
}

// An Outcome is the result of a repair that did not simply succeed. One with only a Reason did succeed;
// the reason is added to the report.
type Outcome struct {
	ID policy.ID
	// Err is why the resource could not be brought into line. Its parts that are marked public are.
	Err error
	// Postponed, with a public Reason, is when a step can be taken that would have disrupted a
	// session now. Now means that there is more to do than one pass should take, and the next
	// pass goes on.
	Postponed Effect
	Reason    string
}
