// Package history keeps the record of what happened to the machine's resources: what was changed, when,
// from what to what, why, and how long it took to notice and to repair.
//
// It is for whoever asks later: the helpdesk that wants to know what happened this morning, the auditor
// who wants to see how long a desktop was open. The agent writes it through a Log; root reads it with
// Read, whether the daemon runs or not.
//
// On disk it is JSON Lines, one Change a line, in numbered files. Lines are appended to the newest file.
// When that is full, another is begun and the oldest is removed. All files together take at most 4 MiB,
// and one pass adds at most 1 MiB, so that a burst of changes does not displace everything before it. A
// line that was cut short by a crash is not read, and is removed before the next one is written. Changes
// are in the order in which they were written; setting the clock back does not change that.
//
// It holds no secrets: the kinds and the engine have removed them from what they report.
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

// A Change is one event of one resource.
type Change struct {
	Time   time.Time             `json:"time"` // when the check saw it
	ID     policy.ID             `json:"id"`
	Event  converge.Event        `json:"event"`
	Cause  converge.Cause        `json:"cause,omitempty"`
	Diff   []converge.Difference `json:"diff,omitempty"` // from Got to Want; of long texts, the part that differs
	Reason string                `json:"reason,omitempty"`
	Effect converge.Effect       `json:"effect,omitempty"` // what a pending resource waits for

	Origin policy.Origin `json:"origin,omitzero"`
	Policy string        `json:"policy"`           // digest of the policy in force
	Serial int64         `json:"serial,omitempty"` // of its manifest

	// Noticed is when the agent first saw that the resource was not in line. Took is the time from
	// then to Time. Unnoticed is how long it had not been in line before Noticed; 0 if unknown.
	Noticed   time.Time     `json:"noticed,omitzero"`
	Took      time.Duration `json:"took_ns,omitempty"`
	Unnoticed time.Duration `json:"unnoticed_ns,omitempty"`

	// Omitted stands alone in a Change, with a Time: this many further changes of one pass were left out.
	Omitted int `json:"omitted,omitempty"`
}

// Of turns the changes of a pass under policy p into those that the history keeps.
func Of(changes []converge.Change, p *policy.Policy) []Change {
	all := make([]Change, len(changes))
	digest := p.Digest()
	for i, c := range changes {
		all[i] = Change{
			Time: c.At, ID: c.ID, Event: c.Event, Cause: c.Cause, Diff: c.Diff, Reason: c.Reason, Effect: c.Effect,
			Origin: c.Origin, Policy: digest, Serial: p.Serial, Noticed: c.Noticed,
		}
		all[i].Origin.Overrode = nil // it is in the policy in force
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

// Limits of one change, so that its line always fits into a segment.
const (
	maxDifferences = 16
	maxText        = 2 << 10
)

// line returns the change as one line of JSON, shortened to fit the limits.
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

// around is how many equal lines are kept before and after the lines that differ.
const around = 2

// apart removes the lines that two long texts have in common at the beginning and at the end.
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

// dotted inserts a line with an elision mark at an index.
func dotted(lines []string, at int) []string {
	return slices.Insert(slices.Clone(lines), at, elision+"\n")
}
