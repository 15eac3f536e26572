// Package schedule knows the maintenance window: the hours of the week in which a
// machine may be worked on at length, such as for updates. That nobody is logged in
// then is not promised: what would disturb a session has to look for itself.
package schedule

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Window is open at some hours of the week. The zero Window is never open. It is
// written in TOML as
//
//	window = { days = ["Sun"], from = "02:00", to = "05:00", timezone = "UTC" }
//
// One that ends before it begins goes on after midnight, and belongs to the day on
// which it began. Without days it is open on each; without a time zone the times are
// those of the machine, which are those of the moment that it is asked about.
type Window struct {
	Days []Day `toml:"days"`
	From Time  `toml:"from"`
	To   Time  `toml:"to"`
	Zone Zone  `toml:"timezone"`
}

// IsSet says whether the window is ever open.
func (w Window) IsSet() bool { return w.From != w.To }

// Open says whether the window is open at a moment.
func (w Window) Open(at time.Time) bool {
	at = at.In(w.zone(at))
	clock := Time{at.Hour()*60 + at.Minute()}
	today, yesterday := Day(at.Weekday()), Day((at.Weekday()+6)%7)
	if w.From.minutes < w.To.minutes {
		return w.on(today) && !clock.before(w.From) && clock.before(w.To)
	}
	return w.IsSet() && (w.on(today) && !clock.before(w.From) || w.on(yesterday) && clock.before(w.To))
}

// Next is when the window opens next, later than at; the zero time when it never does.
func (w Window) Next(at time.Time) time.Time {
	if !w.IsSet() {
		return time.Time{}
	}
	zone := w.zone(at)
	today := at.In(zone)
	for days := range 8 {
		opens := time.Date(today.Year(), today.Month(), today.Day()+days, w.From.minutes/60, w.From.minutes%60, 0, 0, zone)
		if opens.After(at) && w.on(Day(opens.Weekday())) {
			return opens
		}
	}
	return time.Time{}
}

// Length is how long the window stays open.
func (w Window) Length() time.Duration {
	return time.Duration((w.To.minutes-w.From.minutes+24*60)%(24*60)) * time.Minute
}

// zone is that in which the times are, for somebody in whose own it is now.
func (w Window) zone(now time.Time) *time.Location {
	if w.Zone.location != nil {
		return w.Zone.location
	}
	return now.Location()
}

func (w Window) on(day Day) bool { return len(w.Days) == 0 || slices.Contains(w.Days, day) }

// String is the window for a person: "Sun 02:00–05:00 UTC".
func (w Window) String() string {
	var days []string
	for _, day := range w.Days {
		days = append(days, day.String())
	}
	text := w.From.String() + "–" + w.To.String()
	if len(days) > 0 {
		text = strings.Join(days, ", ") + " " + text
	}
	if w.Zone.location != nil {
		text += " " + w.Zone.location.String()
	}
	return text
}

// A Day is a day of the week, written by its first three letters in English.
type Day time.Weekday

func (d Day) String() string { return time.Weekday(d).String()[:3] }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Day) UnmarshalText(text []byte) error {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.EqualFold(string(text), Day(day).String()) || strings.EqualFold(string(text), day.String()) {
			*d = Day(day)
			return nil
		}
	}
	return fmt.Errorf("%q is not a day such as \"Sun\"", text)
}

// A Time is a time of day, written as "02:00".
type Time struct{ minutes int }

func (t Time) before(other Time) bool { return t.minutes < other.minutes }

func (t Time) String() string { return fmt.Sprintf("%02d:%02d", t.minutes/60, t.minutes%60) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Time) UnmarshalText(text []byte) error {
	at, err := time.Parse("15:04", string(text))
	if err != nil {
		return fmt.Errorf("%q is not a time of day such as \"02:00\"", text)
	}
	t.minutes = at.Hour()*60 + at.Minute()
	return nil
}

// A Zone is a time zone, written by its name in the database of time zones; the zero
// Zone is that of the moment that a window is asked about: the machine's own.
type Zone struct{ location *time.Location }

// UnmarshalText implements encoding.TextUnmarshaler.
func (z *Zone) UnmarshalText(text []byte) error {
	location, err := time.LoadLocation(string(text))
	if err != nil || len(text) == 0 {
		return fmt.Errorf("%q is not a time zone such as \"UTC\" or \"Europe/Berlin\"", text)
	}
	z.location = location
	return nil
}
