// Package history remembers what became of the machine in the agent's hands: what was
// changed, when, from what to what, why, and how long it took to notice and to mend.
//
// It is for whoever asks later: the helpdesk that wants to know what happened this
// morning, the auditor who wants to see how long a desktop was open. A Log is written
// by the agent, and Read by anybody who is root, with or without a daemon.
//
// On disk it is JSON Lines, one Change a line, in numbered files: a line is added at
// the end of the newest file, and when that is full another is begun and the oldest
// goes. All of it takes 4 MiB at the most, and what one walk adds 1 MiB, so that no
// storm washes away what was before it. A line that a crash cut short is not read, and
// is cut off before the next one is written. Order is that of writing: a clock that is
// set back disorders nothing.
//
// It holds no secret: what a kind says of a resource is already free of them.
package history

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// A Change is what became of one resource at one time.
type Change struct {
	Time   time.Time             `json:"time"` // when it was seen to be so
	ID     policy.ID             `json:"id"`
	Event  converge.Event        `json:"event"`
	Cause  converge.Cause        `json:"cause,omitempty"`
	Diff   []converge.Difference `json:"diff,omitempty"` // from Got to Want; of long texts the part that differs
	Reason string                `json:"reason,omitempty"`
	Effect converge.Effect       `json:"effect,omitempty"` // what it waits for, if it is pending

	Origin policy.Origin `json:"origin,omitzero"`
	Policy string        `json:"policy"`           // digest of the one in force
	Serial int64         `json:"serial,omitempty"` // of its manifest

	// Noticed is when the agent first saw that the resource was not in line, and Took
	// how long it was until Time. Unnoticed is how long it had been so before; 0 when
	// that cannot be told.
	Noticed   time.Time     `json:"noticed,omitzero"`
	Took      time.Duration `json:"took_ns,omitempty"`
	Unnoticed time.Duration `json:"unnoticed_ns,omitempty"`

	// Omitted is set alone, with a Time: so many more changes of one walk are not kept.
	Omitted int `json:"omitted,omitempty"`
}

// Of makes of what a pass has changed what is remembered of it.
func Of(changes []converge.Change, p *policy.Policy) []Change {
	all := make([]Change, len(changes))
	digest := p.Digest()
	for i, c := range changes {
		all[i] = Change{
			Time: c.At, ID: c.ID, Event: c.Event, Cause: c.Cause, Diff: c.Diff, Reason: c.Reason, Effect: c.Effect,
			Origin: c.Origin, Policy: digest, Serial: p.Serial, Noticed: c.Noticed,
		}
		all[i].Origin.Overrode = nil // the policy in force tells of that
		if c.Noticed.IsZero() {
			continue
		}
		all[i].Took = max(0, c.At.Sub(c.Noticed))
		if c.Cause == converge.Corrective && !c.Happened.IsZero() {
			all[i].Unnoticed = max(0, c.Noticed.Sub(c.Happened))
		}
	}
	return all
}

// What is kept of one change: whatever it holds, a line fits into a segment.
const (
	maxDifferences = 16
	maxText        = 2 << 10
)

// line is the change as it is written.
func (c Change) line() ([]byte, error) {
	c.Time, c.Noticed = c.Time.UTC(), c.Noticed.UTC()
	c.Reason = shorten(c.Reason)
	c.Diff = slices.Clone(c.Diff[:min(len(c.Diff), maxDifferences)])
	for i, d := range c.Diff {
		want, got := apart(d.Want, d.Got)
		c.Diff[i] = converge.Difference{Aspect: shorten(d.Aspect), Want: shorten(want), Got: shorten(got)}
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line) // ends it with a line break
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(c)
	return line.Bytes(), err
}

const elision = "…"

func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + elision
}

// around is how many equal lines are kept before and after those that differ.
const around = 2

// apart takes from two long texts the lines with which both begin or end.
func apart(a, b string) (string, string) {
	if len(a) <= maxText && len(b) <= maxText {
		return a, b
	}
	as, bs := strings.SplitAfter(a, "\n"), strings.SplitAfter(b, "\n")
	same := 0
	for same < min(len(as), len(bs)) && as[same] == bs[same] {
		same++
	}
	if before := same - around; before > 0 {
		as, bs = dotted(as[before:], 0), dotted(bs[before:], 0)
		same = around + 1
	}
	end := 0
	for end < min(len(as), len(bs))-same && as[len(as)-1-end] == bs[len(bs)-1-end] {
		end++
	}
	if after := end - around; after > 0 {
		as, bs = dotted(as[:len(as)-after], len(as)-after), dotted(bs[:len(bs)-after], len(bs)-after)
	}
	return strings.Join(as, ""), strings.Join(bs, "")
}

// dotted are the lines with a mark among them that some are left out there.
func dotted(lines []string, at int) []string {
	return slices.Insert(slices.Clone(lines), at, elision+"\n")
}
