package dropin

import (
	"path"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A sight is what a file was like when it was read last and was as the policy wants it.
// As long as the kernel says that nothing of it has changed since, it need not be read
// again. Nobody but who may set the clock, and is root, can make it say so.
type sight struct {
	inode   uint64
	size    int64
	changed int64 // in nanoseconds; 0: there is none
}

// tick is well above what the kernel's times are exact to: what was changed so shortly
// before a look may be changed right after it too, and bear the same time.
const tick = time.Second

// shows says whether what is there is what was seen.
func (s *sight) shows(info system.Info) bool {
	return s.changed != 0 && info.IsRegular() && *s == sightOf(info)
}

// remember takes note of a file that was read after a time.
func (s *sight) remember(info system.Info, looked time.Time) {
	*s = sight{}
	if looked.Sub(info.Changed) > tick {
		*s = sightOf(info)
	}
}

func sightOf(info system.Info) sight {
	return sight{inode: info.Inode, size: info.Size, changed: info.Changed.UnixNano()}
}

// unread is how many files have to be read.
func (s *scene) unread(wants []policy.Want[policy.Dropin], sights []sight) (n int) {
	for i, want := range wants {
		name := fileOf(want.ID)
		if info, there := s.entries[path.Dir(name)][path.Base(name)]; !there || !sights[i].shows(info) {
			n++
		}
	}
	return n
}

// remembered are the sights of so many files. There may be none in them.
func (k *Kind) remembered(files int) (sights []sight, some bool) {
	if last := k.sights.Load(); last != nil && len(*last) == files {
		return *last, true
	}
	sights = make([]sight, files)
	k.sights.Store(&sights)
	return sights, false
}

// InvalidateCache implements converge.Cacher.
func (k *Kind) InvalidateCache() { k.sights.Store(nil) }
