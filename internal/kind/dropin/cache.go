package dropin

import (
	"path"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A fileStamp is what a file was like when it was read last and was as the policy wants it.
// As long as the kernel says that nothing of it has changed since, it need not be read
// again. Nobody but who may set the clock, and is root, can make it say so.
type fileStamp struct {
	inode   uint64
	size    int64
	changed int64 // in nanoseconds; 0: there is none
}

// tick is well above what the kernel's times are exact to: what was changed so shortly
// before it was read may be changed right after too, and bear the same time.
const tick = time.Second

// matches says whether a file is unchanged since it was read.
func (s *fileStamp) matches(info system.Info) bool {
	return s.changed != 0 && info.IsRegular() && *s == stampOf(info)
}

// set records a file that was read, at a time before that. A file that changed too shortly before
// is not recorded.
func (s *fileStamp) set(info system.Info, looked time.Time) {
	*s = fileStamp{}
	if looked.Sub(info.Changed) > tick {
		*s = stampOf(info)
	}
}

func stampOf(info system.Info) fileStamp {
	return fileStamp{inode: info.Inode, size: info.Size, changed: info.Changed.UnixNano()}
}

// unread is how many files have to be read.
func (s *scene) unread(wants []policy.Want[policy.Dropin], stamps []fileStamp) (n int) {
	for i, want := range wants {
		name := fileOf(want.ID)
		if info, there := s.entries[path.Dir(name)][path.Base(name)]; !there || !stamps[i].matches(info) {
			n++
		}
	}
	return n
}

// cachedStamps are the stamps of so many files. There may be none in them.
func (k *Kind) cachedStamps(files int) (stamps []fileStamp, some bool) {
	if last := k.stamps.Load(); last != nil && len(*last) == files {
		return *last, true
	}
	stamps = make([]fileStamp, files)
	k.stamps.Store(&stamps)
	return stamps, false
}

// InvalidateCache implements converge.Cacher.
func (k *Kind) InvalidateCache() { k.stamps.Store(nil) }
