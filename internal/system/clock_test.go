package system

import (
	"strings"
	"testing"
	"time"
)

// Setting the clock must neither end nor prolong a wait: a time without a monotonic reading would
// follow the clock.
func TestWhatIsMeasuredGoesByTheTimeThatHasPassedAndNotByWhatTheClockShows(t *testing.T) {
	s, err := Open(Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for what, at := range map[string]time.Time{"now": s.Clock.Now(), "a deadline": s.Clock.Now().Add(time.Hour)} {
		if !strings.Contains(at.String(), "m=") {
			t.Errorf("%s is %s: it goes by what the clock shows", what, at)
		}
	}
}

func TestATimeThatHasNotComeYetIsComparableWithNoneButItsLike(t *testing.T) {
	now := time.Now()
	past, lately, soon, later := now.Add(-48*time.Hour), now.Add(-time.Hour), now.Add(time.Hour), now.Add(48*time.Hour)
	for _, of := range []struct {
		one, other time.Time
		earlier    bool
	}{{past, lately, true}, {lately, past, false}, {past, later, false}, {later, past, false}, {soon, later, true}, {later, soon, false}, {past, past, false}} {
		if got := Earlier(of.one, of.other, now); got != of.earlier {
			t.Errorf("that %s is earlier than %s, now being %s: %v", of.one, of.other, now, got)
		}
	}
}
