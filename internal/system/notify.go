package system

import (
	"os"
	"strings"
	"time"
)

// A Notifier tells systemd the state of this service (sd_notify(3)). It never blocks. What systemd
// does not accept at once is sent later, only the newest value of each variable. A nil Notifier
// does nothing.
type Notifier struct {
	box outbox
	to  *datagrams // nil: no receiver
}

// NewNotifier returns the Notifier for the NOTIFY_SOCKET of this process, or nil without one.
func NewNotifier() *Notifier {
	n := &Notifier{}
	if socket := os.Getenv("NOTIFY_SOCKET"); socket != "" {
		n.to = newDatagrams(socket)
	}
	return n
}

// Tell sends a state, such as READY=1.
func (n *Notifier) Tell(state string) {
	if n == nil || n.to == nil {
		return
	}
	topic, _, _ := strings.Cut(state, "=")
	n.box.post(letter{topic: topic, at: time.Now(), size: len(state), send: func(bool) error { return n.to.send([]byte(state)) }})
}

// Flush returns when all is sent, or after patience.
func (n *Notifier) Flush(patience time.Duration) {
	if n != nil {
		n.box.flush(patience)
	}
}
