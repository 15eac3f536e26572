package system

import (
	"os"
	"strings"
	"sync"
	"time"
)

// localtime is a link to the machine's time zone.
const localtime = "/etc/localtime"

// A zone is the machine's current time zone. Go's time.Local is read once per process, but a policy
// may set another zone.
type zone struct {
	file string // localtime, except in tests

	mu       sync.Mutex
	known    string // the file's identity when location was read
	location *time.Location
	looked   time.Time
}

// zoneLasts is how long the file is not checked again, because the time is needed often.
const zoneLasts = 100 * time.Millisecond

// here returns the zone, or time.Local if none is set.
func (z *zone) here() *time.Location {
	if _, given := os.LookupEnv("TZ"); given {
		return time.Local
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	now := time.Now()
	if z.location != nil && now.Sub(z.looked) < zoneLasts {
		return z.location
	}
	z.looked = now
	target, _ := os.Readlink(z.file) // empty if it is a copy and not a link
	if is := target + "\n" + identities([]string{z.file}); z.location == nil || is != z.known {
		if location := readZone(z.file, target); location != nil {
			z.location, z.known = location, is
		}
	}
	if z.location == nil {
		return time.Local
	}
	return z.location
}

// readZone returns nil if the file does not exist or is not a time zone.
func readZone(file, target string) *time.Location {
	content, err := ReadGiven(file, maxFileSize)
	if err != nil {
		return nil
	}
	name := "Local"
	if _, named, is := strings.Cut(target, "zoneinfo/"); is {
		name = named
	}
	location, err := time.LoadLocationFromTZData(name, content)
	if err != nil {
		return nil
	}
	return location
}
