package dropin

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// errLocked means that the kernel accepts no more changes of a kind until the reboot.
var errLocked = errors.New("the kernel takes no more changes until the reboot")

// rebootReason returns why a file takes effect at the reboot.
func rebootReason(name string) string {
	switch unit := unitOf(name); {
	case unit == "":
	case path.Ext(unit) == "":
		return "every " + unit + " of systemd's reads it when it starts"
	default:
		return unit + " reads it when it starts, and is not restarted while the machine runs: every session hangs on it, or it refuses"
	}
	switch path.Dir(name) {
	case sysctlDir:
		return "the kernel keeps what the file once set, and nobody knows what it was before"
	case nftablesDir:
		return "nftables.service reads it when it starts, and is not told to before: a mistake would cut the session off. With activate the policy says how it is loaded"
	case tmpfilesDir:
		return "some of its lines are for the boot alone (!), or would remove what may be in use"
	case auditDir:
		return "the rules in force are locked until the reboot (-e 2, auditctl(8))"
	case logindDir:
		return "systemd-logind reads it when it starts, and is not restarted: sessions might end"
	}
	return "it is read when the machine starts"
}

// await records that files will take effect later by themselves.
func (b *batch) await(list string, names []string) map[string]error {
	if !b.system.Running() {
		return nil
	}
	mark := b.Mark()
	waiting := b.readNames(list)
	for _, name := range names {
		waiting[name] = true
	}
	err := b.Since(mark) // do not overwrite a list that could not be read
	if err == nil {
		err = b.writeNames(list, waiting)
	}
	failures := map[string]error{}
	for _, name := range names {
		failures[name] = err
	}
	return failures
}

// unlessLocked marks files as waiting for the reboot if the kernel refused the change until then.
func (b *batch) unlessLocked(failures map[string]error) map[string]error {
	for name, err := range failures {
		if errors.Is(err, errLocked) {
			failures[name] = b.await(untilReboot, []string{name})[name]
		}
	}
	return failures
}

// waits returns what the effect of a file that is right on disk waits for.
func (k *Kind) waits(ctx context.Context, scene *scene, name string, r *converge.Resource) {
	switch {
	case scene.untilReboot[name]:
		r.SetPending(converge.Reboot, rebootReason(name)).ReasonIsPublic()
	case len(scene.untilRestart[name]) > 0:
		k.awaitsRestart(ctx, scene.untilRestart[name], r)
	case path.Ext(unitOf(name)) == ".mount":
		k.mountedAs(ctx, name, r)
	case scene.untilLogin[name]:
		oldest, err := scene.oldestLogin(ctx)
		switch {
		case err != nil:
			r.SetUnknownErr(public.Because("cannot tell who has logged in since it changed", err))
		case oldest.IsZero():
		default:
			changed, err := k.changed(name)
			switch {
			case err != nil:
				r.SetUnknown(err.Error())
			case system.Earlier(oldest, changed, k.system.Clock.Now()):
				r.SetPending(converge.NextSession, "somebody is logged in since before it changed").ReasonIsPublic()
			}
		}
	}
}

// changed is when a file was created or, if it is gone, when it was removed at the latest.
func (k *Kind) changed(name string) (time.Time, error) {
	info, err := k.system.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = k.system.FS.Stat(untilLogin)
	}
	return info.ModTime, err
}

// oldestLogin is the time of the oldest login of those who are logged in, zero if nobody is.
func oldestLogin(ctx context.Context, sessions system.Sessions) (oldest time.Time, err error) {
	list, err := sessions.List(ctx)
	for _, session := range list {
		if session.Live() && (oldest.IsZero() || session.Since.Before(oldest)) {
			oldest = session.Since
		}
	}
	return oldest, err
}

// gone are removed files, no longer in the policy, whose removal is not in effect yet.
func (k *Kind) gone(ctx context.Context, scene *scene, seen []converge.Resource) []converge.Resource {
	if len(scene.awaiting)+len(scene.untilReboot)+len(scene.untilLogin)+len(scene.untilRestart) == 0 {
		return nil
	}
	known := map[policy.ID]bool{}
	for _, r := range seen {
		known[r.ID] = true
	}
	var resources []converge.Resource
	for _, name := range slices.Sorted(maps.Keys(scene.awaiting)) {
		id := policy.NewID(k.Name(), name)
		if !known[id] && protected.Path(name) == "" && policy.ForbiddenDropin(name) == "" {
			known[id] = true
			resources = append(resources, converge.Unwanted(id, "the policy no longer names it, and that is yet to take effect"))
		}
	}
	later := slices.Concat(slices.Collect(maps.Keys(scene.untilReboot)), slices.Collect(maps.Keys(scene.untilRestart)), slices.Collect(maps.Keys(scene.untilLogin)))
	slices.Sort(later)
	for _, name := range slices.Compact(later) {
		r := converge.Unwanted(policy.NewID(k.Name(), name), "")
		r.State, r.Diff = converge.Compliant, nil
		if known[r.ID] {
			continue
		}
		if k.waits(ctx, scene, name, &r); r.State != converge.Compliant {
			resources = append(resources, r)
		}
	}
	return resources
}
