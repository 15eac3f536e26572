package source_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"

	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestHowLongRetryWaitsAtMostDependsOnWhatIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		longest time.Duration
	}{
		"credentials":  {source.ErrNoCredentials, time.Minute},
		"the network":  {errors.New("unreachable"), 5 * time.Minute},
		"somebody":     {&smithy.GenericAPIError{Code: "AccessDeniedException"}, 15 * time.Minute},
		"the author":   {source.ErrHalfPublished, 5 * time.Minute},
		"less traffic": {&smithy.GenericAPIError{Code: "ThrottlingException"}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &jumps{}
			attempts := 0
			err := source.Retry(t.Context(), clock, nil, func(error, time.Time) {}, func(context.Context) error {
				if attempts++; attempts > 300 {
					return nil
				}
				return c.err
			})
			if err != nil {
				t.Fatal(err)
			}
			var longest time.Duration
			for _, d := range clock.slept {
				longest = max(longest, d)
			}
			// Of 290 waits that are uniform up to the bound, one is in its upper fifth.
			if longest > c.longest || longest < c.longest*4/5 {
				t.Errorf("the longest wait was %s, and the bound is %s", longest, c.longest)
			}
		})
	}
}

func TestAWaitEndsWhenItIsOverAndEarlierWhenSomebodyIsInAHurry(t *testing.T) {
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		hurry := make(chan struct{}, 1)
		var announced time.Time
		attempts := 0
		attempt := func(context.Context) error {
			attempts++
			switch {
			case attempts == 21:
				return nil
			case attempts > 11 && time.Since(announced) > -time.Nanosecond:
				t.Error("a hurried attempt waited to the end")
			case attempts > 1 && attempts <= 11 && !time.Now().Equal(announced):
				t.Errorf("attempt %d was at %s, and announced for %s", attempts, time.Now(), announced)
			}
			return errors.New("not yet")
		}
		waiting := func(_ error, next time.Time) {
			announced = next
			if attempts > 10 {
				hurry <- struct{}{}
			}
		}
		if err := source.Retry(t.Context(), s.Clock, hurry, waiting, attempt); err != nil {
			t.Error(err)
		}
		if len(hurry) != 0 {
			t.Error("a signal was left over")
		}
	})
}
