package watch

import (
	"strings"
	"time"
)

// settleTime is how often watches are placed again while directories move, and once more after the last
// move. One move causes several events, and some of them undo what was done upon the first. There may be
// very many moves: whoever owns a directory above a followed one may move it as often as they like, and
// all other events wait meanwhile.
const settleTime = 50 * time.Millisecond

// moves are the followed directories, and those above them, that have recently come or gone. The value
// says whether that may have happened after watches were last placed.
type moves map[string]bool

// add adds a directory. It returns true for the first one, for which watches have to be placed at once.
func (m *moves) add(dir string) (first bool) {
	if *m == nil {
		*m = moves{}
	}
	first = len(*m) == 0
	(*m)[dir] = !first
	return first
}

// moveOn places the watches after moves and marks the kinds dirty that follow what moved, because events
// there were lost in between. It returns whether it has to run again.
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

// noticeBelow notices a change of every followed directory at or below dir, and returns whether there is
// one. mu is held.
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
