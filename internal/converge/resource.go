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
	// Name is the first part of its resources' IDs.
	Name() string
	// Check says where each resource stands: Compliant, Drifted, Pending, Failed
	// or Unknown. It only reads, and it judges what is in effect, not what the
	// agent once wrote. It may be called while other kinds check or repair. With
	// an error it returns the resources of which it could tell.
	Check(ctx context.Context) ([]Resource, error)
	// Repair brings drifted resources into line and returns what became of each
	// that could not be. It may batch them. It never disrupts a live session:
	// such a step is left pending.
	Repair(ctx context.Context, drifted []Resource) []Outcome
}

// Cacher is implemented by a Kind whose Check reuses what an earlier one read, as long as size,
// inode and times say that it has not changed.
type Cacher interface {
	// InvalidateCache makes the next Check read everything.
	InvalidateCache()
}

// Urgent is implemented by a Kind that is repaired at once, though a repair before it may
// take long and make something that it needs: its own rules see to that.
type Urgent interface{ Urgent() }

// Observer is implemented by a Kind that notices which of its looks came to no answer
// (system.Unanswered). When its Check says nothing of one, in its error or in the reason
// of what is unknown or failed, all that it calls compliant is doubted.
type Observer interface{ Unanswered() []error }

// Watcher is implemented by a Kind that can name what may change when its
// resources drift.
type Watcher interface{ Watches() []Watch }

// Timed is implemented by a Kind some of whose resources are looked at in their own time.
type Timed interface {
	// NextLook is when the next of them is due; the zero time: none will be.
	NextLook() time.Time
}

// Filed is implemented by a Kind of whose resources each is one file.
type Filed interface {
	// File is the name of that.
	File(id policy.ID) string
}

// Explorer is implemented by a Watcher whose Check finds out what else is to be watched:
// Watches is asked for again after each.
type Explorer interface {
	Kind
	Watcher
	Explores()
}

// A Watch is something whose change may be drift: a directory, a unit, the
// sessions or what is mounted.
type Watch struct {
	// Dir is a directory, there already or not: any change of an entry in it. Single
	// files are never watched, for a rename would lose them.
	Dir string
	// Names are those of the entries in Dir that matter; all do when there is none.
	Names []string
	// Settle is how long Dir must be quiet before its changes are told of, as one. 0
	// tells of each at once. It is for what is written many times for one change.
	Settle time.Duration

	Unit     string // a systemd unit: its state or its file
	Sessions bool   // somebody logs in or out
	Mounts   bool   // something is mounted, unmounted or remounted
}

// Equal says whether two watches are of the same.
func (w Watch) Equal(other Watch) bool {
	return w.Dir == other.Dir && slices.Equal(w.Names, other.Names) && w.Settle == other.Settle && w.Unit == other.Unit && w.Sessions == other.Sessions && w.Mounts == other.Mounts
}

// A State is where a resource stands.
type State string

// The states.
const (
	Compliant State = "compliant" // in line, and in effect
	Drifted   State = "drifted"   // not in line
	Corrected State = "corrected" // was not in line, and is now
	Pending   State = "pending"   // right on disk, not yet in effect
	Failed    State = "failed"    // could not be brought into line
	Contested State = "contested" // something else keeps changing it back
	Waived    State = "waived"    // not in line, and for a time that is allowed
	Unknown   State = "unknown"   // could not be told
)

// InLine says whether a report may call a resource in this state compliant.
func (s State) InLine() bool {
	switch s {
	case Compliant, Corrected, Waived:
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
	RunningJob  Effect = "running-job" // what somebody else has asked systemd to do with a unit
)

// A Cause is why a resource was not in line.
type Cause string

// The causes.
const (
	Corrective  Cause = "corrective"  // the machine changed
	Intentional Cause = "intentional" // the policy changed, or is new
)

// A Difference is one respect in which a resource is not as it is wanted. It
// never holds a secret.
type Difference struct {
	Aspect string `json:"aspect"` // "content", "mode", "gid", "effect", …
	Want   string `json:"want"`
	Got    string `json:"got"`
}

// Resource is one resource and where it stands.
type Resource struct {
	ID     policy.ID    `json:"id"`
	State  State        `json:"state"`
	Diff   []Difference `json:"diff,omitempty"`
	Reason string       `json:"reason,omitempty"` // why it is pending, failed, contested, waived or unknown, or was not in line
	Effect Effect       `json:"effect,omitempty"` // of what is pending
	// Unseen says that it has not been checked under the policy in force, in this run
	// of the agent: it is Unknown, and may yet turn out to be anything.
	Unseen bool `json:"unseen,omitempty"`
	// Overdue says that it has been pending for longer than the policy allows.
	Overdue bool `json:"overdue,omitempty"`
	// WordOf is the user whose process said where it stands, "" when root's did. That is
	// this user's word: no right is judged by it, and nothing is repaired because of it.
	WordOf string `json:"word_of,omitempty"`
	// AsOf is when it was looked at, of what is looked at in its own time and not by each
	// pass; and from StaleAt on nothing is known of it any more.
	AsOf    time.Time `json:"as_of,omitzero"`
	StaleAt time.Time `json:"stale_at,omitzero"`
	// Withheld names what was left out of what is made public: "reason", and the aspects
	// of differences.
	Withheld []string `json:"withheld,omitempty"`

	Cause Cause     `json:"cause,omitempty"` // of what is or was not in line
	Since time.Time `json:"since"`           // when it came into this state

	Severity policy.Severity `json:"severity"`
	Controls []string        `json:"controls,omitempty"`
	Disrupt  string          `json:"disrupt,omitempty"` // when a session may end for it, as the policy's rules say
	Origin   policy.Origin   `json:"origin"`

	// Happened is when the machine was changed so that the resource is not in line, if
	// that can be told.
	Happened time.Time `json:"-"`

	open      open
	digest    string // of what is wanted, to tell one policy's wish from the next one's
	critical  bool   // whatever the policy says
	audit     bool   // the policy says to report it and not to touch it
	unwanted  bool   // the policy does not name it
	unsettled bool   // was repaired as often as a pass may, in vain
	awaited   bool   // has drifted only as far as it has been pending
	rights    bool   // whoever changes it gains rights: see GuardsRights
	held      bool   // a step of its repair was postponed
	mended    bool   // something that had changed was changed back, or as the policy wants it

	seen    time.Time // when it was checked
	noticed time.Time // when it was first seen not to be in line, in this pass
}

// repairable says whether a pass may touch the resource.
func (r *Resource) repairable() bool { return r.State == Drifted && !r.audit }

// Tolerable says whether a report with the resource may be called compliant: what
// waits for its effect is not held against the machine until that is overdue.
func (r *Resource) Tolerable() bool {
	return r.State.InLine() || r.State == Pending && !r.Overdue
}

// age says of what is pending that it has been so for too long.
func (r *Resource) age(now time.Time, zone *time.Location, limit time.Duration) {
	if r.State == Pending && now.Sub(r.Since) > limit {
		r.Overdue = true
		r.add(fmt.Sprintf("; overdue: it has been pending since %s, longer than %s", r.Since.In(zone).Format(time.DateTime), policy.Days(limit)))
	}
}

// Wanted begins the description of a resource that the policy wants: compliant,
// until AddDrift or another method says otherwise.
func Wanted(want policy.Resource) Resource {
	return Resource{ID: want.ID, State: Compliant, Origin: want.Origin, digest: want.Digest()}
}

// NotChecked is a resource that the policy wants and that has not been checked since.
func NotChecked(p *policy.Policy, want policy.Resource, since time.Time) Resource {
	r := Wanted(want)
	r.SetUnknown("not checked yet").ReasonIsPublic()
	r.Unseen, r.Since = true, since
	ruling := p.Ruling(r.ID, since)
	r.Severity, r.Controls, r.Disrupt = ruling.Severity, ruling.Controls, ruling.Disrupt
	return r
}

// NotCheckedYet is what a report has of a kind that has not been checked since the policy is
// in force: all that this wants of it, and the kind itself where that is nothing. It may
// find what is wanted no more.
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

// GoStale says of what was looked at in its own time that this was too long ago.
func (r *Resource) GoStale(now time.Time) {
	if !r.StaleAt.IsZero() && !now.Before(r.StaleAt) {
		r.SetUnknown(fmt.Sprintf("what is known of it is of %s, which is too long ago", r.AsOf.UTC().Format("2006-01-02 15:04:05 UTC"))).ReasonIsPublic()
		r.Diff, r.open.diff, r.open.aspects = nil, nil, nil
	}
}

// IsCritical says that the resource, if it is not in line, is critical whatever the policy's
// rules say.
func (r *Resource) IsCritical() { r.critical = true }

// GuardsRights says that whoever changes the resource gives somebody rights, so that it
// is never left alone, however often something else changes it back. That it is
// contested is said all the same.
func (r *Resource) GuardsRights() { r.rights = true }

// IsGuard says whether GuardsRights was said of the resource.
func (r *Resource) IsGuard() bool { return r.rights }

// Unfinished says whether a pass has repaired the resource as often as it may, and another
// one is to go on at once: it guards rights.
func (r *Resource) Unfinished() bool { return r.rights && r.unsettled }

// AspectEffect is that of a difference which says that the resource is right on disk
// and has not taken effect, though nothing keeps it any longer.
const AspectEffect = "effect"

// onlyEffect says whether nothing but the effect is missing.
func (r *Resource) onlyEffect() bool {
	return !slices.ContainsFunc(r.Diff, func(d Difference) bool { return d.Aspect != AspectEffect })
}

// Unwanted begins the description of something that the policy does not name and
// that is there all the same, such as what it wanted once. It has drifted; a
// check that no longer finds it returns nothing of it. While the policy is not
// known in full the engine passes over it. Everybody may read the reason.
func Unwanted(id policy.ID, reason string) Resource {
	r := Resource{ID: id, unwanted: true}
	r.AddPublicDrift("ensure", "absent", "present")
	r.Note(reason)
	return r
}

// open is what everybody may read of a resource. What is not in it is root's, and so is
// what is not the same as when it was put in.
type open struct {
	reason  string
	diff    []Difference
	aspects []string // of differences of which it is all that everybody may read
}

// AddDrift records a difference, by which the resource has drifted. What is wanted and
// what was found are root's to read; the aspect is for everybody.
func (r *Resource) AddDrift(aspect, want, got string) {
	r.AddPrivateDrift(aspect, want, got)
	r.open.aspects = append(r.open.aspects, aspect)
}

// AddPublicDrift is AddDrift with what everybody may read.
func (r *Resource) AddPublicDrift(aspect, want, got string) {
	r.AddPrivateDrift(aspect, want, got)
	r.open.diff = append(r.open.diff, Difference{aspect, want, got})
}

// AddPrivateDrift is AddDrift with an aspect that is root's to read as well.
func (r *Resource) AddPrivateDrift(aspect, want, got string) {
	r.State = Drifted
	r.Diff = append(r.Diff, Difference{aspect, want, got})
}

// DriftIsPublic says that everybody may read the differences noted so far.
func (r *Resource) DriftIsPublic() { r.open.diff = slices.Clone(r.Diff) }

// SetFailed says that the resource cannot be brought into line, and why; repairing it
// is not tried. Why is root's to read, unless ReasonIsPublic follows.
func (r *Resource) SetFailed(reason string) *Resource { return r.setState(Failed, r.Effect, reason) }

// SetFailedErr is SetFailed for an error, of which everybody may read what is marked so.
func (r *Resource) SetFailedErr(err error) {
	r.setState(Failed, r.Effect, err.Error()).open.reason = public.Text(err)
}

// SetPending says that the resource is right on disk, and what its effect waits for. That is
// root's to read, unless ReasonIsPublic follows.
func (r *Resource) SetPending(effect Effect, reason string) *Resource {
	return r.setState(Pending, effect, reason)
}

// SetUnknown says why it cannot be told where the resource stands. That is root's to read,
// unless ReasonIsPublic follows.
func (r *Resource) SetUnknown(reason string) *Resource { return r.setState(Unknown, r.Effect, reason) }

// SetUnknownErr is SetUnknown for an error, of which everybody may read what is marked so.
func (r *Resource) SetUnknownErr(err error) {
	r.setState(Unknown, r.Effect, err.Error()).open.reason = public.Text(err)
}

// Note says something of the resource that everybody may read, whatever its state.
func (r *Resource) Note(reason string) { r.Reason, r.open.reason = reason, reason }

// ReasonIsPublic says that everybody may read the reason as it stands.
func (r *Resource) ReasonIsPublic() { r.open.reason = r.Reason }

func (r *Resource) setState(state State, effect Effect, reason string) *Resource {
	r.State, r.Effect, r.Reason, r.open.reason = state, effect, reason, ""
	return r
}

// add adds to the reason what everybody may read.
func (r *Resource) add(text string) {
	if r.open.reason == "" && r.Reason != "" {
		r.open.reason = public.Withheld
	}
	r.open.reason += text
	r.Reason += text
}

// also adds to the reason a sentence that everybody may read.
func (r *Resource) also(sentence string) {
	switch {
	case sentence == "":
	case r.Reason == "":
		r.Note(sentence)
	default:
		r.add("; " + sentence)
	}
}

// remains adds to the reason what is said of the resource now that it is in line, and is
// said of it at each check from now on.
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

// SetCorrected makes of a resource that is in line one that was corrected a while ago, as
// was says.
func (r *Resource) SetCorrected(was Resource) {
	r.State, r.Diff, r.open.diff, r.open.aspects = was.State, was.Diff, was.open.diff, was.open.aspects
	r.Cause, r.Since = was.Cause, was.Since
}

// Public is the resource as everybody may see it: what is root's to read is left out.
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

// SetUnknownIf doubts what was called compliant, drifted or pending, if there is an error.
func (r *Resource) SetUnknownIf(err error) {
	if err != nil && r.State != Failed && r.State != Unknown {
		r.SetUnknown(err.Error())
	}
}

// An Outcome is what became of a resource in a repair that did not simply work. With a
// Reason alone it did, and that is to be said of it.
type Outcome struct {
	ID policy.ID
	// Err is why it could not be brought into line; everybody may read what is marked so.
	Err error
	// Postponed, with a Reason that everybody may read, is a step that would have
	// disrupted a session; or Now, when there is more to do than a pass should take, and
	// the next goes on.
	Postponed Effect
	Reason    string
}
