package system

import (
	"errors"
	"sync"
	"time"
)

// An outbox delivers letters in order, in a goroutine of its own that ends when none is left.
// Posting never blocks, even if the receiver has stopped or gone. It counts letters that are
// dropped for lack of space and those delivered late, and reports the counts in a letter when the
// receiver works again.
type outbox struct {
	// lossLetter makes the letter that reports lost and late letters. It is delivered after all
	// waiting letters. It may be nil.
	lossLetter func(lost, late tally) letter

	mu         sync.Mutex
	queue      []letter
	size       int
	done       chan struct{} // closed when everything is delivered; nil if nothing is waiting
	lost, late tally
}

// A letter is delivered by calling send. With an error that wraps errLater it is tried again later.
type letter struct {
	topic string // the last letter waiting is replaced by a newer one of the same topic
	at    time.Time
	size  int
	send  func(late bool) error

	uncounted bool // it is a loss letter
}

// A tally counts letters, and records when the first and the last were posted.
type tally struct {
	count       int
	first, last time.Time
}

func (t *tally) add(at time.Time) {
	if t.count == 0 {
		t.first = at
	}
	t.count++
	t.last = at
}

var errLater = errors.New("nobody takes it now")

const (
	outboxLetters = 2000
	outboxBytes   = 1 << 20

	lateAfter    = 2 * time.Second
	firstAttempt = 10 * time.Millisecond // delay after a failed attempt
	lastAttempt  = time.Second
)

func (o *outbox) post(l letter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if last := len(o.queue) - 1; l.topic != "" && last > 0 && o.queue[last].topic == l.topic { // not the first one, which may be being sent
		o.size += l.size - o.queue[last].size
		o.queue[last] = l
		return
	}
	if len(o.queue) >= outboxLetters || o.size+l.size > outboxBytes {
		o.lost.add(l.at)
		return
	}
	o.queue = append(o.queue, l)
	o.size += l.size
	if o.done == nil {
		o.done = make(chan struct{})
		go o.deliver()
	}
}

func (o *outbox) deliver() {
	pause := firstAttempt
	for {
		l, left := o.next()
		if !left {
			return
		}
		late := time.Since(l.at) > lateAfter
		err := l.send(late)
		if errors.Is(err, errLater) {
			time.Sleep(pause)
			pause = min(2*pause, lastAttempt)
			continue
		}
		pause = firstAttempt
		o.sent(l, late, err)
	}
}

// next returns the letter to deliver next.
func (o *outbox) next() (l letter, left bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 && o.lost.count+o.late.count > 0 && o.lossLetter != nil {
		notice := o.lossLetter(o.lost, o.late)
		notice.uncounted = true
		o.queue = append(o.queue, notice)
		o.lost, o.late = tally{}, tally{}
	}
	if len(o.queue) == 0 {
		o.queue = nil // release its memory: it is large after a jam
		close(o.done)
		o.done = nil
		return l, false
	}
	return o.queue[0], true
}

// sent removes a letter that was delivered, or that cannot be delivered.
func (o *outbox) sent(l letter, late bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = o.queue[1:]
	o.size = max(0, o.size-l.size)
	switch {
	case l.uncounted:
	case err != nil:
		o.lost.add(l.at)
	case late:
		o.late.add(l.at)
	}
}

// flush returns when all is delivered, or after patience.
func (o *outbox) flush(patience time.Duration) {
	o.mu.Lock()
	done := o.done
	o.mu.Unlock()
	if done == nil {
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
