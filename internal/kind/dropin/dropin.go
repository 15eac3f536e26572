package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/dropindir"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// readers is how many files are read in parallel, in addition to one, when there are several times
	// fewFiles to read.
	readers  = 3
	fewFiles = 8
	// maxShown limits how much of a file a report shows.
	maxShown = 16 << 10
)

// A Kind keeps the drop-ins of a policy.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger
	window schedule.Window

	sshd   sync.Map                    // verdicts of sshd, by file
	stamps atomic.Pointer[[]fileStamp] // of the files, in the order of the policy; nil: none cached
}

// New returns the kind for a policy on a machine. The ledger knows what earlier policies installed.
func New(p *policy.Policy, s *system.System, l *converge.Ledger, window schedule.Window) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, ledger: l, window: window}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return policy.Dropin{}.Kind() }

// File implements converge.Filed.
func (k *Kind) File(id policy.ID) string { return "/" + id.Name() }

// Watches implements converge.Watcher: the existing directories of the files, and what decides whether
// they are read.
func (k *Kind) Watches() []converge.Watch {
	dirs := map[string]bool{}
	for _, want := range k.wants() {
		dirs[path.Dir(fileOf(want.ID))] = true
	}
	for _, id := range k.unwanted() {
		dirs[path.Dir(fileOf(id))] = true
	}
	for dir := range k.purged() {
		dirs[dir] = true
	}
	if len(dirs) == 0 {
		return nil
	}
	watches := []converge.Watch{{Sessions: true}, {Mounts: true}}
	mains := map[string]bool{}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		watches = append(watches, converge.Watch{Dir: dir})
		if r := dropindir.Of(dir).Reader; r != nil {
			for _, main := range r.Mains {
				mains[main] = true
			}
		}
	}
	for _, main := range slices.Sorted(maps.Keys(mains)) {
		watches = append(watches, converge.Watch{Dir: path.Dir(main), Names: []string{path.Base(main)}})
	}
	return watches
}

func fileOf(id policy.ID) string { return "/" + id.Name() }

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := k.wants()
	resources := make([]converge.Resource, len(wants))
	sights, some := k.cachedStamps(len(wants))
	scene, err := k.survey(wants, some)
	if err != nil {
		return nil, err
	}
	var next atomic.Int64
	judge := func() {
		for i := next.Add(1) - 1; i < int64(len(wants)); i = next.Add(1) - 1 {
			resources[i] = k.judge(ctx, scene, wants[i], &sights[i])
		}
	}
	var wg sync.WaitGroup
	for range min(readers, scene.unread(wants, sights)/fewFiles) {
		wg.Go(judge) // for few files, starting more goroutines costs more than it saves
	}
	judge()
	wg.Wait()
	if err := k.checkLabels(ctx, resources); err != nil {
		return nil, err
	}
	for _, id := range k.unwanted() {
		resources = append(resources, converge.Unwanted(id, "the policy wanted it once, and no longer names it"))
	}
	resources = append(resources, k.leftOut()...)
	resources = append(resources, k.gone(ctx, scene, resources)...)
	return append(resources, k.purge(ctx, resources)...), nil
}

// scene is what is looked up once for all files of a check.
type scene struct {
	at        time.Time                         // when the check began
	hidden    map[string]error                  // directories that could not be listed
	entries   map[string]map[string]system.Info // by directory and name
	accounts  *facts.IDs
	sysctls   map[string]map[string]string // file → key → value
	unsure    error                        // which of these lookups failed
	readers   map[string]*dropindir.Reader // of directories
	leftovers map[string]bool              // files with a leftover temporary file
	awaiting  map[string]bool

	untilRestart map[string][]start

	untilReboot map[string]bool
	untilLogin  map[string]bool
	oldestLogin func(context.Context) (time.Time, error) // looked up at most once
	cron        func(context.Context) (string, error)    // the running unit of cron, looked up at most once
	allSysctls  func() []sysctlFile                      // read at most once
}

// survey does the lookups that several files share. It lists a directory only if files may be known
// from the cache.
func (k *Kind) survey(wants []policy.Want[policy.Dropin], some bool) (*scene, error) {
	mark := k.Mark()
	sysctls := k.ownSysctls(wants)
	unsure := k.Since(mark)
	mark = k.Mark()
	s := &scene{
		hidden: map[string]error{}, sysctls: sysctls, unsure: unsure, readers: map[string]*dropindir.Reader{},
		at: k.system.Clock.Now(), entries: map[string]map[string]system.Info{},
		accounts:  facts.NewIDs(k.system),
		leftovers: map[string]bool{}, awaiting: k.readNames(awaiting),
		untilReboot: k.readNames(untilReboot), untilLogin: k.readNames(untilLogin), untilRestart: k.readStarts(),
	}
	if err := k.Since(mark); err != nil {
		return nil, fmt.Errorf("cannot tell which changes have not taken effect yet: %w", err)
	}
	var once sync.Once
	var oldest time.Time
	var err error
	s.oldestLogin = func(ctx context.Context) (time.Time, error) {
		once.Do(func() { oldest, err = oldestLogin(ctx, k.system.Sessions) })
		return oldest, err
	}
	s.cron = k.askOnceForCron()
	s.allSysctls = sync.OnceValue(func() []sysctlFile { return allSysctls(k.system) })
	dirs := map[string]bool{}
	for _, want := range wants {
		dirs[path.Dir(fileOf(want.ID))] = true
	}
	for dir := range dirs {
		s.readers[dir] = dropindir.Of(dir).Reader
		var names []string // files without a stamp are looked at one by one
		var err error
		if some {
			s.entries[dir], err = k.system.FS.Entries(dir)
			names = slices.Collect(maps.Keys(s.entries[dir]))
		} else {
			names, err = k.system.FS.ReadDir(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.hidden[dir] = err
		}
		for _, base := range names {
			if of, is := own.IsTemporary(base); is {
				s.leftovers[path.Join(dir, of)] = true
			}
		}
	}
	return s, nil
}

func (k *Kind) askOnceForCron() func(context.Context) (string, error) {
	var once sync.Once
	var unit string
	var err error
	return func(ctx context.Context) (string, error) {
		once.Do(func() { unit, err = active(ctx, k.system, []string{"crond.service", "cron.service"}) })
		return unit, err
	}
}

// judge compares one file with the policy.
func (k *Kind) judge(ctx context.Context, scene *scene, want policy.Want[policy.Dropin], last *fileStamp) converge.Resource {
	r := converge.Wanted(want.Resource)
	name := fileOf(want.ID)
	if scene.leftovers[name] {
		r.AddPublicDrift("leftover", "", own.Temporary(name))
	}
	if scene.awaiting[name] {
		r.AddPublicDrift(converge.AspectEffect, "in effect", "written, and not yet in effect")
	}
	info, there := scene.entries[path.Dir(name)][path.Base(name)]
	content, err := []byte(nil), error(nil)
	read := !there || !last.matches(info)
	if read {
		content, info, err = k.system.FS.Inspect(name)
	}
	r.Happened = info.Changed
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !missing:
		r.SetUnknownErr(err)
	case want.Spec.Ensure == policy.Absent && !missing:
		if info.IsDir() {
			r.SetFailed(name + " is a directory; remove it by hand if that is right").ReasonIsPublic()
		} else {
			r.AddPublicDrift("ensure", "absent", "present")
		}
	case want.Spec.Ensure == policy.Absent:
	case missing:
		k.differs(&r, want, modeOf(want), "")
	case !info.IsRegular():
		r.SetFailed(name + " is there and not a regular file; remove it by hand if that is right").ReasonIsPublic()
	default:
		if read {
			k.compareContent(want, content, info, &r)
		}
		k.compare(ctx, scene, want, info, &r)
		if read && r.State == converge.Compliant {
			last.set(info, scene.at)
		}
	}
	if r.State == converge.Compliant && !missing {
		k.isRead(ctx, scene, want, &r)
	}
	if dir := path.Dir(name); r.State == converge.Compliant && !missing && want.Spec.Activate == nil && !policy.ReaderIsKnown(dir) && nobodys()[path.Base(dir)] == "" {
		r.Note("it is not known who reads " + dir + ", and so not whether it is in effect; the policy may say with activate what makes it so")
	}
	if r.State == converge.Compliant {
		k.waits(ctx, scene, name, &r)
	}
	r.SetUnknownIf(scene.hidden[path.Dir(name)])
	return r
}

// compareContent compares what requires reading the file.
func (k *Kind) compareContent(want policy.Want[policy.Dropin], content []byte, info system.Info, r *converge.Resource) {
	name := fileOf(want.ID)
	if string(content) != want.Spec.Content {
		got := shown(want, string(content))
		if got == public.Secret || !readableByAll(name, info) {
			got = "differs"
		}
		k.differs(r, want, modeOf(want)&info.Mode, got)
	}
	if info.ACL {
		r.AddPublicDrift("acl", "none", "one that lets others in, or keeps them out")
	}
}

// differs records a difference of content. The difference is public if old and new mode, and the
// directories above, let everybody read the file.
func (k *Kind) differs(r *converge.Resource, want policy.Want[policy.Dropin], mode fs.FileMode, got string) {
	differs := r.AddDrift
	if public.May(mode) && system.ReachedByAll(k.system.FS, fileOf(want.ID)) {
		differs = r.AddPublicDrift
	}
	differs("content", shown(want, want.Spec.Content), got)
}

func (k *Kind) compare(ctx context.Context, scene *scene, want policy.Want[policy.Dropin], info system.Info, r *converge.Resource) {
	name := fileOf(want.ID)
	if mode := modeOf(want); info.Mode != mode {
		r.AddPublicDrift("mode", fmt.Sprintf("%04o", mode), fmt.Sprintf("%04o", info.Mode))
	}
	uid, uidErr := scene.accounts.UID(ctx, want.Spec.Owner)
	if uidErr != nil || uid != info.UID {
		r.AddPublicDrift("owner", orRoot(want.Spec.Owner), fmt.Sprint(info.UID))
	}
	gid, gidErr := scene.accounts.GID(ctx, want.Spec.Group)
	if gidErr != nil || gid != info.GID {
		r.AddPublicDrift("group", orRoot(want.Spec.Group), fmt.Sprint(info.GID))
	}
	if err := errors.Join(uidErr, gidErr); err != nil && !errors.Is(err, facts.ErrNoSuchID) {
		r.SetUnknown(err.Error())
		return
	}
	if path.Dir(name) == sysctlDir && want.Spec.Activate == nil && k.system.Running() {
		k.compareSysctls(scene, name, r)
	}
}

// readableByAll reports whether a file's content may be shown. A file that not everybody can read may
// hold a secret, if not one of this policy. The files of sudo hold none.
func readableByAll(name string, info system.Info) bool {
	return info.Mode&0o004 != 0 || path.Dir(name) == sudoersDir
}

// isClosed reports whether not everybody can read a file, or that cannot be told. If the policy does
// not ask for that mode, an earlier policy had a secret in the file.
func (k *Kind) isClosed(name string) bool {
	info, err := k.system.FS.Stat(name)
	return err == nil && !readableByAll(name, info) || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// shown is the content as a report may show it.
func shown(want policy.Want[policy.Dropin], content string) string {
	switch {
	case len(want.Secrets) > 0:
		return public.Secret
	case len(content) > maxShown:
		return strings.ToValidUTF8(content[:maxShown], "") + "…\n"
	}
	return content
}

func orRoot(name string) string {
	if name == "" {
		return "root"
	}
	return name
}

// modeOf is the mode that a file should have.
func modeOf(want policy.Want[policy.Dropin]) fs.FileMode {
	mode := familyOf(fileOf(want.ID)).mode
	if want.Spec.Mode != nil {
		mode = *want.Spec.Mode
	} else if len(want.Secrets) > 0 && mode&0o007 != 0 {
		mode &= 0o700
	}
	if len(want.Secrets) > 0 {
		mode &^= 0o007
	}
	return mode
}
