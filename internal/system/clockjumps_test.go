package system_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

func TestTheRunningMachinesClockIsFollowedUntilNobodyWantsToKnow(t *testing.T) {
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	jumper, ok := s.Clock.(system.Jumper)
	if !ok {
		t.Fatal("the running machine's clock cannot tell of jumps")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = jumper.Jumps(ctx, func(ahead time.Duration) {
		if ahead > time.Minute {
			t.Errorf("it says that the machine has slept for %s", ahead)
		}
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("following ended with %v", err)
	}
}
