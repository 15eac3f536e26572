package watch

import (
	"strings"
	"time"
)

// settleTime is how often watches are placed anew while directories move, and once more when
// none does any more. There are several events for one move, and some of them undo what
// was done upon the first. And there may be very many: whoever owns a directory above one that
// is followed may move it as often as they like, and the events of all others wait meanwhile.
const settleTime = 50 * time.Millisecond

// moves are the directories that have come or gone of late, those that are followed and those
// above them. The value says whether that may have been after watches were last placed.
type moves map[string]bool

// add takes one in, and says whether it is the first, for which watches are to be placed at once.
func (m *moves) add(dir string) (first bool) {
	if *m == nil {
		*m = moves{}
	}
	first = len(*m) == 0
	(*m)[dir] = !first
	return first
}

// moveOn places the watches after moves, and has the kinds look again that follow what moved: nobody
// has told of what happened there in between. It says whether to do so again.
func (w *Watcher) moveOn() (again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.place()
	for dir, since := range w.moved {
		w.noticeBelow(dir)
		if w.moved[dir] = false; !since {
			delete(w.moved, dir)
		}
	}
	return len(w.moved) > 0
}

// noticeBelow tells of a change of all directories that are followed, of this one and of those below
// it, and says whether there are any. mu is held.
func (w *Watcher) noticeBelow(dir string) (found bool) {
	below := dir + "/"
	for followed, interests := range w.dirs {
		if followed != dir && !strings.HasPrefix(followed, below) {
			continue
		}
		found = true
		for _, i := range interests {
			w.notice(i)
		}
	}
	return found
}
