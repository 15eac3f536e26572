package dropin

import (
	"path"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A fileStamp identifies the state in which a file was last read and found right. As long as the
// kernel reports the same state, the file need not be read again. Only root could fake that, by
// setting the clock.
type fileStamp struct {
	inode   uint64
	size    int64
	changed int64 // in nanoseconds; 0: none recorded
}

// tick is well above the resolution of file times. A file that changed within it before the read may
// change again with the same time.
const tick = time.Second

// matches reports whether a file is unchanged since it was read.
func (s *fileStamp) matches(info system.Info) bool {
	return s.changed != 0 && info.IsRegular() && *s == stampOf(info)
}

// set records a file that was read at a time before now. A file that changed too shortly before is not
// recorded.
func (s *fileStamp) set(info system.Info, looked time.Time) {
	*s = fileStamp{}
	if looked.Sub(info.Changed) > tick {
		*s = stampOf(info)
	}
}

func stampOf(info system.Info) fileStamp {
	return fileStamp{inode: info.Inode, size: info.Size, changed: info.Changed.UnixNano()}
}

// unread is the number of files that have to be read.
func (s *scene) unread(wants []policy.Want[policy.Dropin], stamps []fileStamp) (n int) {
	for i, want := range wants {
		name := fileOf(want.ID)
		if info, there := s.entries[path.Dir(name)][path.Base(name)]; !there || !stamps[i].matches(info) {
			n++
		}
	}
	return n
}

// cachedStamps returns the stamps for n files, empty ones if none are cached.
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
