// Package pcoip implements the kind "pcoip": directives of pcoip-agent.conf, the configuration of
// the agent that streams the desktop by PCoIP.
//
// The file is shared between AWS and the policy. Everything that the policy does not name stays as
// it is, including comments, order and blanks, and a directive that it no longer names gets its
// previous value. A wrong file can make the desktop unreachable, so the file is replaced as a whole
// or not at all, and a file that is not text is not touched.
//
// What is known about the directives is in package policy. The manual of the installed agent takes
// precedence: a directive that the manual does not name fails on that machine.
//
// The agent reads the file when it starts. Restarting the agent ends the session together with the
// window manager (WorkSpaces Administration Guide, "Manage your Amazon Linux 2 WorkSpaces"). So a
// directive that a running agent has not read yet is pending while anybody is logged in, connected
// or not. After that, the agent's unit is restarted. If the agent then fails, the directive gets
// its previous value and the agent is started again.
package pcoip

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	confDir  = "/etc/pcoip-agent"
	confPath = confDir + "/pcoip-agent.conf"
	confMode = 0o644

	restartTimeout = 2 * time.Minute
)

// Kind checks and repairs pcoip/… resources.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger
	window schedule.Window

	seenUp    bool      // the agent was seen running and had not failed
	restarted time.Time // when the agent was last restarted
	unsure    string    // the unit that was restarted, until it is known whether it stays up
	failing   string    // that unit, if it did not stay up

	waits map[policy.ID]bool          // whether the agent had not read the directive at the last check
	read  map[policy.ID]time.Duration // uptime at which the agent was found to have read it
}

// New returns the kind for a policy. In the maintenance window, changes that the policy consents to
// may disrupt sessions.
func New(p *policy.Policy, s *system.System, l *converge.Ledger, window schedule.Window) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, ledger: l, window: window, waits: map[policy.ID]bool{}, read: map[policy.ID]time.Duration{}}
}

// Name implements converge.Kind.
func (*Kind) Name() string { return "pcoip" }

// Watches implements converge.Watcher.
func (*Kind) Watches() []converge.Watch {
	watches := []converge.Watch{{Dir: confDir}, {Sessions: true}}
	for _, unit := range agentUnits() {
		watches = append(watches, converge.Watch{Unit: unit})
	}
	return watches
}

func directive(id policy.ID) string { return "pcoip." + id.Name() }

// encryption returns the ID of the one resource that is not a directive itself.
func encryption() policy.ID { return policy.NewID("pcoip", policy.PCoIPEncryption) }

// found is the file on the machine.
type found struct {
	keyed.File
	info system.Info
	// absent says why there is no file that could be changed.
	absent  string
	missing bool // there is no file, but there can be one
}

func (k *Kind) look() (found, error) {
	info, err := k.system.FS.Stat(confPath)
	if errors.Is(err, fs.ErrNotExist) {
		dir, err := k.system.FS.Stat(confDir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return found{}, err
		}
		if err != nil || !dir.IsDir() {
			return found{absent: "the PCoIP agent is not installed, so that nothing here heeds the directive; " +
				"where another protocol streams the desktop, leave it to the personas that use PCoIP"}, nil
		}
		return found{missing: true}, nil
	}
	if err != nil {
		return found{}, err
	}
	if !info.IsRegular() {
		return found{absent: confPath + " is not a regular file; remove it by hand if that is right"}, nil
	}
	content, err := k.system.FS.ReadFile(confPath)
	if err != nil {
		return found{}, err
	}
	if bytes.IndexByte(content, 0) >= 0 {
		return found{absent: confPath + " holds binary data, so that it is not a configuration; put a sound copy there by hand"}, nil
	}
	return found{File: keyed.Parse(keyed.Equals, string(content)), info: info}, nil
}

// wishes are what the policy wants in the file: the directives of each resource with their values.
// If that cannot be told for a resource, it has an error instead.
type wishes struct {
	values map[policy.ID]map[string]string
	errs   map[policy.ID]error
}

func (k *Kind) wishes(m manual) wishes {
	w := wishes{values: map[policy.ID]map[string]string{}, errs: map[policy.ID]error{}}
	for _, want := range policy.Of[policy.PCoIP](k.policy) {
		if want.ID == encryption() {
			w.values[want.ID], w.errs[want.ID] = m.aes256()
			continue
		}
		// The agent ignores blanks around the value, and expects numbers instead of words.
		known, _ := policy.LookupPCoIP(want.ID.Name())
		w.values[want.ID] = map[string]string{directive(want.ID): known.Number(strings.TrimSpace(want.Spec.Value))}
	}
	demanded := w.values[encryption()]
	w.values[encryption()] = map[string]string{}
	for name, value := range demanded {
		own, set := k.policy.Lookup(policy.NewID("pcoip", name))
		known, _ := policy.LookupPCoIP(name)
		if spec, _ := own.Spec.(policy.PCoIP); set && known.Number(spec.Value) != value {
			w.errs[encryption()] = fmt.Errorf("it wants %s = %s, which the policy sets to %s", name, value, spec.Value)
		}
		w.values[encryption()]["pcoip."+name] = value
	}
	return w
}

// wanted reports whether the policy still determines a directive.
func (k *Kind) wanted(id policy.ID, w wishes) bool {
	if _, named := k.policy.Lookup(id); named {
		return true
	}
	if _, named := k.policy.Lookup(encryption()); !named {
		return false
	}
	_, demanded := w.values[encryption()][directive(id)]
	return demanded || w.errs[encryption()] != nil
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := policy.Of[policy.PCoIP](k.policy)
	owned := k.ledger.Owned(k.Name())
	if len(wants) == 0 && len(owned) == 0 {
		return nil, nil
	}
	mark := k.Mark()
	f, err := k.look()
	if err != nil {
		return nil, err
	}
	m, err := readManual(k.system.FS)
	if err != nil {
		return nil, err
	}
	original, err := k.original()
	if err != nil {
		return nil, err
	}
	w := k.wishes(m)
	at := map[policy.ID]policy.PCoIPEffect{}
	var resources []converge.Resource
	for _, want := range wants {
		r := converge.Wanted(want.Resource)
		at[r.ID] = applies(r.ID, m)
		k.checkWish(&r, want.Spec, f, m, w, original)
		resources = append(resources, r)
	}
	gone := k.unwanted(owned, f, w, original)
	for _, r := range gone {
		at[r.ID] = applies(r.ID, m)
	}
	resources = append(resources, gone...)
	if err := k.checkEffect(ctx, resources, at); err != nil {
		return nil, err
	}
	for i := len(wants); i < len(resources); i++ {
		if resources[i].State == converge.Compliant { // only the ledger needs to be updated
			resources[i].AddPublicDrift("ensure", "given back", "kept")
		}
	}
	if err := k.Since(mark); err != nil {
		return nil, err
	}
	return resources, nil
}

// applies returns when the agent applies a directive. Only the agent's manual and verified
// knowledge may say that it does so immediately.
func applies(id policy.ID, m manual) policy.PCoIPEffect {
	if m[id.Name()].immediately {
		return policy.Immediately
	}
	if d, known := policy.LookupPCoIP(id.Name()); known && d.Verified && d.Applies == policy.Immediately {
		return policy.Immediately
	}
	return policy.AtRestart
}

func (k *Kind) checkWish(r *converge.Resource, want policy.PCoIP, f found, m manual, w wishes, original keyed.File) {
	what := directive(r.ID)
	if r.ID == encryption() {
		what = policy.PCoIPEncryption
	}
	if f.absent != "" {
		r.SetFailed(fmt.Sprintf("cannot set %s: %s", what, f.absent)).ReasonIsPublic()
		return
	}
	if err := w.errs[r.ID]; err != nil {
		r.SetFailed(fmt.Sprintf("cannot set %s: %v", what, err)).ReasonIsPublic()
		return
	}
	if why := k.refusedBefore(r.ID, original); why != "" {
		r.SetFailedErr(public.Because("cannot set "+what, errors.New(why)))
		return
	}
	if r.ID != encryption() {
		value := w.values[r.ID][directive(r.ID)]
		if why := cmp.Or(m.refuses(r.ID.Name(), value), k.endsDesktop(r.ID.Name(), value, f)); why != "" {
			r.SetFailed(fmt.Sprintf("cannot set %s: %s", what, why)).ReasonIsPublic()
			return
		}
	}
	for _, name := range sorted(w.values[r.ID]) {
		aspect := "value"
		if r.ID == encryption() {
			aspect = name
		}
		f.compare(r, aspect, name, w.values[r.ID][name])
	}
	if f.missing || public.May(f.info.Mode) && system.ReachedByAll(k.system.FS, confPath) {
		r.DriftIsPublic()
	}
	if wanted := (system.Attr{Mode: confMode}); !f.missing && f.info.Attr != wanted {
		r.AddPublicDrift("mode", describe(wanted), describe(f.info.Attr))
	}
	if _, named := m[r.ID.Name()]; want.Unchecked && !named {
		r.Note("not validated: it is not known whether the installed agent takes this; the policy says allow_unknown")
	}
}

const xsessionsDir = "/usr/share/xsessions"

// endsDesktop returns why a value would leave nobody a desktop to connect to, or "". A value that
// the file already has is not questioned.
func (k *Kind) endsDesktop(name, value string, f found) string {
	if value == "" {
		return "a directive without a value has no effect"
	}
	if name != "desktop_session" || slices.Contains(f.Values("pcoip."+name), value) {
		return ""
	}
	files, _ := k.system.FS.ReadDir(xsessionsDir) // if it cannot be read, nothing is known about the sessions
	var sessions []string
	for _, file := range files {
		if session, is := strings.CutSuffix(file, ".desktop"); is {
			sessions = append(sessions, session)
		}
	}
	if len(sessions) == 0 || slices.Contains(sessions, value) {
		return ""
	}
	return fmt.Sprintf("no session %s is installed, so that nobody would get a desktop; in %s there is %s", value, xsessionsDir, strings.Join(sessions, ", "))
}

func (f found) compare(r *converge.Resource, aspect, name, want string) {
	switch got := f.Values(name); {
	case len(got) == 0:
		r.AddDrift(aspect, want, "not set")
	case len(got) > 1:
		r.AddDrift(aspect, want, strings.Join(got, " and ")+", of which one counts")
	case got[0] != want:
		r.AddDrift(aspect, want, got[0])
	}
}

func sorted(values map[string]string) []string {
	var names []string
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func describe(a system.Attr) string { return fmt.Sprintf("%04o %d:%d", a.Mode, a.UID, a.GID) }

// original returns the file as it was before the agent first changed it.
func (k *Kind) original() (keyed.File, error) {
	kept, _, err := k.ledger.Original(confPath)
	return keyed.Parse(keyed.Equals, string(kept.Content)), err
}

// unwanted returns the directives that the policy once named and no longer does. One that already
// has its previous value is compliant.
func (k *Kind) unwanted(owned []policy.ID, f found, w wishes, original keyed.File) []converge.Resource {
	var resources []converge.Resource
	for _, id := range owned {
		if k.wanted(id, w) {
			continue
		}
		r := converge.Unwanted(id, "the policy no longer names it, so it becomes what it was")
		r.Diff = nil
		was, is := original.Lines(directive(id)), f.Lines(directive(id))
		if r.State = converge.Compliant; f.absent == "" && was != is {
			r.AddDrift("value", said(was), said(is))
		}
		resources = append(resources, r)
	}
	return resources
}

func said(lines string) string {
	if lines == "" {
		return "not set"
	}
	return strings.TrimSpace(lines)
}
