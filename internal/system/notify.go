package system

import (
	"os"
	"strings"
	"time"
)

// A Notifier tells systemd how a service is (sd_notify(3)). Nobody waits for it: what
// systemd does not take is told when it does, and of each kind of news the newest. A nil one
// has nobody to tell.
type Notifier struct {
	box outbox
	to  *datagrams // nil: there is nobody to tell
}

// NewNotifier returns the one for whoever has started this process.
func NewNotifier() *Notifier {
	n := &Notifier{}
	if socket := os.Getenv("NOTIFY_SOCKET"); socket != "" {
		n.to = newDatagrams(socket)
	}
	return n
}

// Tell tells a state, such as READY=1.
func (n *Notifier) Tell(state string) {
	if n == nil || n.to == nil {
		return
	}
	topic, _, _ := strings.Cut(state, "=")
	n.box.post(letter{topic: topic, at: time.Now(), size: len(state), send: func(bool) error { return n.to.send([]byte(state)) }})
}

// Flush returns when all has been told, or patience is over.
func (n *Notifier) Flush(patience time.Duration) {
	if n != nil {
		n.box.flush(patience)
	}
}
