package policysync_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"

	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/source"
)

// looks runs a poller in virtual time until it has fetched n times, and returns the times. answer is called
// with the number of the fetch, from 0, and returns its error; it may send signals.
func looks(t *testing.T, n int, answer func(look int, hurry, resumed chan<- struct{}) error) []time.Duration {
	t.Helper()
	var at []time.Duration
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		hurry, resumed := make(chan struct{}, 1), make(chan struct{}, 1)
		var announced time.Time
		f := policysync.Poller{
			Fetch: func(context.Context) error {
				if !announced.IsZero() && time.Now().After(announced) {
					t.Errorf("look %d is at %s, and was announced for %s", len(at), time.Now(), announced)
				}
				announced = time.Time{}
				at = append(at, time.Since(start))
				if len(at) == n {
					cancel()
				}
				return answer(len(at)-1, hurry, resumed)
			},
			Interval: func() time.Duration { return time.Hour },
			Failed:   func(_ error, next time.Time) { announced = next },
			Wake:     hurry, Resumed: resumed,
		}
		f.Run(ctx)
	})
	return at
}

func between(t *testing.T, what string, d, least, most time.Duration) {
	t.Helper()
	if d < least || d > most {
		t.Errorf("%s after %s, want %s to %s", what, d, least, most)
	}
}

func TestALookThatFoundNothingWrongIsFollowedByTheNextAroundThePollInterval(t *testing.T) {
	at := looks(t, 200, func(int, chan<- struct{}, chan<- struct{}) error { return nil })
	var total time.Duration
	for i := 1; i < len(at); i++ {
		between(t, "a look", at[i]-at[i-1], 30*time.Minute, 90*time.Minute)
		total += at[i] - at[i-1]
	}
	between(t, "on average a look", total/199, 54*time.Minute, 66*time.Minute)
}

func TestALookThatFailedIsFollowedSoonAndOneThatPeopleHaveToMendIsNot(t *testing.T) {
	for _, test := range []struct {
		err                 error
		leastOf10, mostOf10 time.Duration
	}{
		{errors.New("unreachable"), time.Second, 10 * 5 * time.Minute},
		{&smithy.GenericAPIError{Code: "AccessDeniedException"}, 30 * time.Second, 10 * 15 * time.Minute},
		{source.ErrNoValue, 5 * time.Hour, 15 * time.Hour},
	} {
		at := looks(t, 11, func(int, chan<- struct{}, chan<- struct{}) error { return test.err })
		between(t, test.err.Error()+": ten looks", at[10], test.leastOf10, test.mostOf10)
	}
}

func TestAHurryEndsAWaitAndALook(t *testing.T) {
	at := looks(t, 50, func(_ int, hurry, _ chan<- struct{}) error {
		hurry <- struct{}{}
		return nil
	})
	if at[49] != 0 {
		t.Errorf("50 hurried looks took %s", at[49])
	}
}

// All desktops of a fleet wake up at nine.
func TestAfterASleepOfTheMachineTheNextLookIsSpreadOverMinutesAndWhatWasUnderWayIsGivenUp(t *testing.T) {
	var waits []time.Duration
	for range 300 {
		at := looks(t, 2, func(look int, _, resumed chan<- struct{}) error {
			if look == 0 {
				resumed <- struct{}{}
			}
			return nil
		})
		waits = append(waits, at[1])
	}
	var longest, total time.Duration
	for _, d := range waits {
		longest, total = max(longest, d), total+d
	}
	between(t, "at the latest it looked", longest, 250*time.Second, 270*time.Second)
	between(t, "on average it looked", total/300, 115*time.Second, 155*time.Second)
}

func TestALookThatHangsEndsWhenTheMachineSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		resumed := make(chan struct{}, 1)
		n := 0
		f := policysync.Poller{
			Fetch: func(ctx context.Context) error {
				if n++; n == 2 {
					cancel()
					return nil
				}
				resumed <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			},
			Interval: func() time.Duration { return time.Hour },
			Failed:   func(err error, _ time.Time) { t.Errorf("it was told of: %v", err) },
			Resumed:  resumed,
		}
		f.Run(ctx)
	})
}

func TestWithoutAPollIntervalItLooksOnlyWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 365*24*time.Hour)
		defer cancel()
		n := 0
		f := policysync.Poller{
			Fetch:    func(context.Context) error { n++; return nil },
			Interval: func() time.Duration { return 0 },
			Failed:   func(err error, _ time.Time) { t.Error(err) },
		}
		f.Run(ctx)
		if n != 1 {
			t.Errorf("%d looks in a year", n)
		}
	})
}
