package credentials_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/credentials"
)

func TestAChangeThatShowsInNothingButTheContentIsNoticedWhileItHappens(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", m.clock.Now().Add(time.Hour))
	times := 0
	m.disk.reading = func(name string, content []byte) []byte {
		if times++; name == shared && times < 3 { // the new ID, and what is not yet written over
			return bytes.Replace(content, []byte("ASIA1"), []byte("ASIA2"), 1)
		}
		return content
	}
	gives(t, m.provider(t, credentials.Config{}), "1")
	m.disk.reading = func(_ string, content []byte) []byte {
		times++
		return fmt.Append(content, "\n#", times)
	}
	_, err := m.provider(t, credentials.Config{}).Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrHalfWritten) {
		t.Error(err)
	}
}

// A writer rewrites the two files as amazon-ssm-agent does, in the worst of ways:
// truncated, then written in pieces, first the keys and then their expiry.
type writer struct {
	files [2]*os.File
}

func (w *writer) write(t *testing.T, set int, expires time.Time) {
	t.Helper()
	for i, text := range []string{keys("default", fmt.Sprint(set)), identityOf(shared, expires)} {
		if err := w.files[i].Truncate(0); err != nil {
			t.Error(err)
		}
		for at, pieces := 0, 1+set%5; at < len(text); {
			end := min(len(text), at+len(text)/pieces+1)
			if _, err := w.files[i].WriteAt([]byte(text[at:end]), int64(at)); err != nil {
				t.Error(err)
			}
			at = end
			runtime.Gosched()
		}
	}
}

// hasty is the clock of somebody who never waits.
type hasty struct{}

func (hasty) Now() time.Time                                   { return time.Now() }
func (hasty) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func TestReadersNeverGetAMixedPairWhileTheFilesAreRewrittenThousandsOfTimes(t *testing.T) {
	const bursts, each, readers = 30, 100, 2
	m := newMachine(t)
	m.activate(t, "0", m.clock.Now().Add(time.Hour))
	m.age(t, shared, 0) // truncating a file makes it empty before it makes it young
	m.age(t, identity, 0)
	m.Clock = hasty{}
	var w writer
	for i, name := range []string{shared, identity} {
		f, err := os.OpenFile(filepath.Join(m.root, name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w.files[i] = f
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var given atomic.Int64 // the newest set that a reader has got
	var got, failed atomic.Int64
	var wait sync.WaitGroup
	for reader := range readers {
		wait.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				p := m.provider(t, credentials.Config{}) // one that has nothing to fall back on
				for range 1 + n%3*reader {
					c, err := p.Retrieve(ctx)
					switch {
					case err == nil:
						got.Add(1)
						var set int64
						if _, err := fmt.Sscan(of(t, c), &set); err != nil {
							t.Error(err)
						}
						for newest := given.Load(); set > newest && !given.CompareAndSwap(newest, set); newest = given.Load() {
						}
					case errors.Is(err, credentials.ErrHalfWritten):
						failed.Add(1)
					case ctx.Err() == nil:
						t.Errorf("it is neither given nor half written: %v", err)
					}
					runtime.Gosched()
				}
			}
		})
	}
	for burst := range bursts {
		for i := range each {
			w.write(t, burst*each+i+1, time.Now().Add(time.Hour))
		}
		// At rest, the set that is whole is what everybody gets.
		for deadline := time.Now().Add(10 * time.Second); given.Load() != int64((burst+1)*each); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("the set %d is not given at rest, but %d", (burst+1)*each, given.Load())
			}
		}
	}
	stop()
	wait.Wait()
	t.Logf("%d sets given, %d errors", got.Load(), failed.Load())
}

func TestEveryPlaceAtWhichTheFileCanBeCutGivesNothingOrAllOfIt(t *testing.T) {
	m := newMachine(t)
	m.activate(t, "1", m.clock.Now().Add(time.Hour))
	text := keys("default", "1")
	for n := range len(text) {
		m.put(t, shared, text[:n])
		m.age(t, shared, 0)
		if c, err := m.provider(t, credentials.Config{}).Retrieve(t.Context()); !errors.Is(err, credentials.ErrHalfWritten) {
			t.Errorf("cut after %q: %v, %v", text[max(0, n-10):n], c.AccessKeyID, err)
		}
	}
	says := identityOf(shared, m.clock.Now().Add(time.Hour))
	m.put(t, shared, text)
	for n := range len(says) {
		m.put(t, identity, says[:n])
		m.age(t, identity, 0)
		if _, err := m.provider(t, credentials.Config{}).Retrieve(t.Context()); !errors.Is(err, credentials.ErrHalfWritten) {
			t.Errorf("cut after %q: %v", says[max(0, n-10):n], err)
		}
	}
}

func TestAYoungFileAndOneThatLacksSomethingAreLookedAtAgainAfterAMoment(t *testing.T) {
	for name, now := range map[string]struct {
		text string
		age  time.Duration
	}{
		"young, and its token is being written": {strings.Split(keys("soe", "1"), "aws_session")[0], 0},
		"truncated, and as old as it was":       {"", time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.put(t, shared, now.text)
			m.age(t, shared, now.age)
			p := m.provider(t, credentials.Config{Source: "profile", Profile: "soe", File: shared})
			m.Clock = &completes{m.clock, func() {
				m.put(t, shared, keys("soe", "1"))
				m.age(t, shared, 0)
			}}
			if c := gives(t, p, "1"); c.SessionToken == "" {
				t.Error("the token that was about to be written is missing")
			}
		})
	}
}

// completes is a clock that does something the first time that somebody sleeps.
type completes struct {
	*clock
	something func()
}

func (c *completes) Sleep(ctx context.Context, d time.Duration) error {
	if c.something != nil {
		c.something()
	}
	c.something = nil
	return c.clock.Sleep(ctx, d)
}
