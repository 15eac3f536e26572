package awsfake

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// A Request is what the server recorded of a request.
type Request struct {
	Time        time.Time // of arrival, by the host's clock
	Action      string    // such as GetParameter
	AccessKeyID string    // empty: not signed
	Body        []byte    // JSON, as it arrived
}

func action(r *http.Request) string {
	_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return action
}

// Calls is how many requests for an action arrived.
type Calls struct {
	Answered  int // all that are not Throttled, whatever came of them, those that got a fault too
	Throttled int // by the account's quota, see SetQuota
}

// Record switches the record that Requests and WaitForRequest look at on, as it is at the start, or off,
// for a test that sends more requests than it wants to keep. Calls counts always.
func (s *Server) Record(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unrecorded = !on
}

// count corrects the number of calls for an action. s.mu is held.
func (s *Server) count(action string, answered, throttled int) {
	calls := s.calls[action]
	calls.Answered += answered
	calls.Throttled += throttled
	s.calls[action] = calls
}

func (s *Server) record(r *http.Request, arrival time.Time, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unrecorded {
		return
	}
	request := Request{Time: arrival, Action: action(r), Body: body}
	if a, ok := parseAuthorization(r); ok {
		request.AccessKeyID = a.accessKeyID
	}
	s.requests = append(s.requests, request)
	if s.arrived != nil {
		close(s.arrived)
		s.arrived = nil
	}
}

// Calls returns how many requests for an action, or Any, arrived since the start or ForgetRequests.
func (s *Server) Calls(action string) Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	if action != Any {
		return s.calls[action]
	}
	var all Calls
	for _, calls := range s.calls {
		all.Answered += calls.Answered
		all.Throttled += calls.Throttled
	}
	return all
}

// Requests returns all requests since the start or ForgetRequests, also those that failed. A request is
// recorded after it was carried out and before it is answered; one that a fault gets is recorded before that.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// ForgetRequests empties the record that Requests and WaitForRequest look at, and starts the counts of Calls anew.
func (s *Server) ForgetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
	clear(s.waited)
	clear(s.calls)
}

// WaitForRequest returns the first request for an action (or Any) that no earlier call with the same
// action has returned, and waits for it if need be. What the request changed can then be seen, unless it
// got a fault. The error is that of the context.
func (s *Server) WaitForRequest(ctx context.Context, action string) (Request, error) {
	for {
		request, found, arrived := s.nextRequest(action)
		if found {
			return request, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return Request{}, fmt.Errorf("cannot see a request for %s at the AWS endpoint: %w", action, ctx.Err())
		}
	}
}

func (s *Server) nextRequest(action string) (request Request, found bool, arrived <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := s.waited[action]; i < len(s.requests); i++ {
		if action == Any || s.requests[i].Action == action {
			s.waited[action] = i + 1
			return s.requests[i], true, nil
		}
	}
	s.waited[action] = len(s.requests)
	if s.arrived == nil {
		s.arrived = make(chan struct{})
	}
	return Request{}, false, s.arrived
}
