package watch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// clock reports the jumps that the test makes.
type clock struct {
	system.Clock
	jumps chan time.Duration
}

func (c clock) Jumps(ctx context.Context, jumped func(time.Duration)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ahead, ok := <-c.jumps:
			if !ok {
				return errors.New("the clock is broken")
			}
			jumped(ahead)
		}
	}
}

// told returns what dirty is called with after these jumps and signals.
func told(t *testing.T, happen func(jumps chan<- time.Duration, wake func())) []string {
	t.Helper()
	var told []string
	synctest.Test(t, func(t *testing.T) {
		c := clock{jumps: make(chan time.Duration)}
		bus := makeNews()
		w := &Watcher{
			log: slog.New(slog.DiscardHandler), notes: &system.Inotify{},
			dirty: func(kind string) { told = append(told, kind) },
		}
		w.FollowClock(c)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.loop(ctx, bus)
			close(ended)
		}()
		happen(c.jumps, func() { bus.woken <- struct{}{} })
		synctest.Wait()
		cancel()
		<-ended
	})
	return told
}

func TestEachResumeIsToldOnceWhoeverSaysSo(t *testing.T) {
	night := 14 * time.Hour
	for _, test := range []struct {
		name   string
		happen func(jumps chan<- time.Duration, wake func())
		want   int
	}{
		{"the clock alone", func(jumps chan<- time.Duration, _ func()) { jumps <- night }, 1},
		{"logind alone", func(_ chan<- time.Duration, wake func()) { wake() }, 1},
		{"the clock and then logind", func(jumps chan<- time.Duration, wake func()) {
			jumps <- night
			time.Sleep(3 * time.Second)
			wake()
		}, 1},
		{"logind and then the clock", func(jumps chan<- time.Duration, wake func()) {
			wake()
			time.Sleep(3 * time.Second)
			jumps <- night
		}, 1},
		{"two nights", func(jumps chan<- time.Duration, wake func()) {
			for range 2 {
				jumps <- night
				wake()
				time.Sleep(time.Second)
			}
		}, 2},
		{"two nights that the clock alone has seen", func(jumps chan<- time.Duration, _ func()) {
			jumps <- night
			jumps <- night
		}, 2},
		{"a signal that has to do with nothing before it", func(jumps chan<- time.Duration, wake func()) {
			jumps <- night
			time.Sleep(time.Minute)
			wake()
		}, 2},
		{"a clock that is corrected by seconds", func(jumps chan<- time.Duration, _ func()) {
			for range 10 {
				jumps <- 20 * time.Second
				jumps <- -3 * time.Second
			}
		}, 0},
		{"a clock that is set back", func(jumps chan<- time.Duration, _ func()) { jumps <- -night }, 0},
		{"a minute", func(jumps chan<- time.Duration, _ func()) { jumps <- time.Minute }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := told(t, test.happen); !slices.Equal(got, slices.Repeat([]string{Resumed}, test.want)) {
				t.Errorf("told %q, want %d times that it has resumed", got, test.want)
			}
		})
	}
}

func TestWhenTheClockCannotTellLogindsWordStands(t *testing.T) {
	got := told(t, func(jumps chan<- time.Duration, wake func()) {
		close(jumps) // following the clock ends with an error
		wake()
	})
	if !slices.Equal(got, []string{Resumed}) {
		t.Errorf("told %q", got)
	}
}
