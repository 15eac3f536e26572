package agent

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// slowRPM answers each call after a second, and counts the concurrent ones.
type slowRPM struct {
	mu        sync.Mutex
	now, most int
	asked     int
}

func (r *slowRPM) Run(context.Context, system.Command) (system.Output, error) {
	r.mu.Lock()
	r.now++
	r.asked++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	time.Sleep(time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now--
	return system.Output{Stdout: []byte("owner\n")}, nil
}

func TestHoweverManyFilesAreFoughtOverRpmIsAskedForOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rpm := &slowRPM{}
		w := &writerMonitor{machine: &Machine{System: &system.System{Runner: rpm}}, places: map[policy.ID][]converge.Watch{"sudo/x": nil}, files: map[policy.ID]string{"sudo/x": ""}}
		for i := range 300 {
			file := fmt.Sprintf("/etc/x.d/%d", i)
			w.places[policy.ID("dropin"+file)], w.files[policy.ID("dropin"+file)] = nil, file
		}
		for range 3 { // each pass asks again
			w.mu.Lock()
			w.askOwners()
			w.mu.Unlock()
			time.Sleep(time.Second / 3)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if rpm.most != 1 || rpm.asked != 300 || w.owners["dropin/etc/x.d/299"] != "owner" {
			t.Errorf("%d were asked, %d at once; the last is %q's", rpm.asked, rpm.most, w.owners["dropin/etc/x.d/299"])
		}
		w.askOwners()
	})
}
