package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/source"
)

// Files with what was last delivered to AWS, and what could not be.
const (
	complianceFile = StateDir + "/compliance.json"
	inventoryFile  = StateDir + "/inventory.json"
)

// deliveryTimeout bounds one attempt to deliver a report.
const deliveryTimeout = time.Minute

// A letter is a report for one service in AWS. One of Compliance and Inventory is set.
type letter struct {
	Digest     string                       `json:"digest"` // equal for two letters with the same content
	Time       time.Time                    `json:"time"`
	Serial     int64                        `json:"serial,omitempty"` // of the policy
	Compliant  bool                         `json:"compliant"`
	Compliance *ssm.PutComplianceItemsInput `json:"compliance,omitempty"`
	Inventory  *ssm.PutInventoryInput       `json:"inventory,omitempty"`
}

func complianceLetter(r report.Report, room int) letter {
	in, digest := r.ComplianceItems(room)
	return letter{Digest: digest, Time: r.Time, Serial: r.Policy.Serial, Compliant: r.Compliant, Compliance: in}
}

func inventoryLetter(r report.Report, contact time.Time) letter {
	in, digest := r.Inventory(contact)
	return letter{Digest: digest, Time: r.Time, Serial: r.Policy.Serial, Compliant: r.Compliant, Inventory: in}
}

// node returns the managed node that the letter is about.
func (l letter) node() string {
	switch {
	case l.Compliance != nil:
		return aws.ToString(l.Compliance.ResourceId)
	case l.Inventory != nil:
		return aws.ToString(l.Inventory.InstanceId)
	}
	return ""
}

// put delivers the letter to AWS.
func (l letter) put(ctx context.Context, to *source.AWS) error {
	if l.Inventory != nil {
		return to.PutInventory(ctx, l.Inventory)
	}
	return to.PutCompliance(ctx, l.Compliance)
}

// reporting delivers reports to AWS. Its senders do not wait for each other.
type reporting struct{ compliance, inventory *sender }

func (d *daemon) newReporting() *reporting {
	compliance := d.newSender(complianceFile, complianceLetter, func(delivered time.Time, err error) {
		d.told(func(s *Status) { s.LastReport, s.ReportError = delivered, text(err) })
	})
	inventory := d.newSender(inventoryFile, func(r report.Report, _ int) letter { return inventoryLetter(r, d.contact.lastTime()) }, func(_ time.Time, err error) {
		if errors.Is(err, errNoNode) {
			err = nil // the sender of compliance reports it already
		}
		d.told(func(s *Status) { s.LineError = text(err) })
	})
	return &reporting{compliance, inventory}
}

func (d *daemon) newSender(file string, compose func(report.Report, int) letter, done func(time.Time, error)) *sender {
	return &sender{
		file: file, node: d.Facts.ManagedNode, files: d.System.FS, clock: d.System.Clock, log: d.Log, room: report.Room,
		compose: compose, deliver: d.deliver, done: done, splay: d.splay,
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
	}
}

func (r *reporting) all() []*sender { return []*sender{r.compliance, r.inventory} }

// run delivers until ctx is done.
func (r *reporting) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range r.all() {
		wg.Go(func() { s.run(ctx) })
	}
	wg.Wait()
}

// offer hands a report to the senders.
func (r *reporting) offer(made report.Report) {
	for _, s := range r.all() {
		s.offer(made)
	}
}

// again makes the senders try again what was refused.
func (r *reporting) again() {
	for _, s := range r.all() {
		s.again()
	}
}

// splay returns how long a report waits at most, so that not all machines send theirs at once. A machine that
// polls more often belongs to a smaller fleet, so it waits less.
func (d *daemon) splay() time.Duration {
	if poll := d.poll(); poll > 0 {
		return min(longestSplay, poll)
	}
	return longestSplay
}

// deliver makes one attempt to deliver a letter, if reports are wanted.
func (d *daemon) deliver(ctx context.Context, l letter) error {
	d.mu.Lock()
	config := d.config
	d.mu.Unlock()
	to := d.link.last()
	switch {
	case config.AWS.Path == "" || !config.Report.SSM:
		return errUnwanted
	case l.node() == "":
		return errNoNode
	case to == nil:
		return errUnwanted
	}
	return l.put(ctx, to)
}

// told updates the status about reports, and publishes it if it has changed.
func (d *daemon) told(how func(*Status)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.status
	how(&d.status)
	if was.ReportError != d.status.ReportError || was.LineError != d.status.LineError || !was.LastReport.Equal(d.status.LastReport) {
		d.say()
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
