package awsfake

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// A quota is a token bucket, kept as the time when it will be full again.
type quota struct {
	interval time.Duration // between two calls, in the long run
	slack    time.Duration // how far ahead of that calls may be
	full     time.Time
}

// SetQuota sets the account's quota of calls to GetParameter, GetParameters and GetParametersByPath together,
// whoever makes them: so many a second, and at most burst at once after a pause. What is beyond it gets a
// ThrottlingException, and takes nothing of the quota. Parameter Store's own default is 40 calls a second
// (AWS General Reference); how large its burst is, is not documented. At the start there is no quota, as with
// 0 calls a second.
//
// It runs by time.Now, so that it holds in the virtual time of testing/synctest too.
func (s *Server) SetQuota(callsPerSecond float64, burst int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if callsPerSecond == 0 {
		s.quota = nil
		return
	}
	s.quota = newQuota(callsPerSecond, burst)
}

// SetQuotaOf sets the account's quota of calls to one other action such as PutComplianceItems, whose own is not
// published. At the start it has none.
func (s *Server) SetQuotaOf(action string, callsPerSecond float64, burst int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quotas[action] = newQuota(callsPerSecond, burst)
}

func newQuota(callsPerSecond float64, burst int) *quota {
	interval := time.Duration(float64(time.Second) / callsPerSecond)
	return &quota{interval: interval, slack: time.Duration(burst-1) * interval}
}

func (q *quota) take(now time.Time) bool {
	ahead := q.full.Sub(now)
	// Further ahead than any call can bring it: the clock was set back, as at the start of virtual time.
	if ahead < 0 || ahead > q.slack+q.interval {
		q.full, ahead = now, 0
	}
	if ahead > q.slack {
		return false
	}
	q.full = q.full.Add(q.interval)
	return true
}

var sharingQuota = []string{"AmazonSSM.GetParameter", "AmazonSSM.GetParameters", "AmazonSSM.GetParametersByPath"}

// throttle answers a call that is beyond the account's quota. s.mu is held.
func (s *Server) throttle(target string) *APIError {
	_, action, _ := strings.Cut(target, ".")
	quota := s.quotas[action]
	if slices.Contains(sharingQuota, target) {
		quota = s.quota
	}
	if quota == nil || quota.take(time.Now()) {
		return nil
	}
	s.count(action, -1, 1)
	return throttled()
}

func throttled() *APIError {
	return Error(http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
}
