package awsfake

import (
	"encoding/json"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Any, as an action, stands for every action that has no fault of its own.
const Any = "*"

// A Fault answers a request in the server's stead, or does not answer it. carryOut does what was asked
// and returns the reply that would have been sent; a fault may call it, once, or not. The request's body
// can be read.
type Fault func(w http.ResponseWriter, r *http.Request, carryOut func() Reply)

type scheduledFault struct {
	fault Fault
	left  int // how many requests get it; negative: all
}

// Fail gives the fault to the next n requests for an action such as GetParameter, or Any. Further calls for
// the same action queue up.
func (s *Server) Fail(action string, n int, fault Fault) {
	if n > 0 {
		s.schedule(action, scheduledFault{fault, n})
	}
}

// FailAlways gives the fault to all requests for an action, or Any, after what Fail has queued, until Heal.
func (s *Server) FailAlways(action string, fault Fault) {
	s.schedule(action, scheduledFault{fault, -1})
}

// Heal forgets all faults, those of single secrets too, and all denials. A request that hangs goes on hanging.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
	clear(s.denials)
	for _, secret := range s.secrets {
		secret.failure = nil
	}
}

func (s *Server) schedule(action string, f scheduledFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[action] = append(s.faults[action], f)
}

// takeFault counts a request and returns its fault, or nil.
func (s *Server) takeFault(action string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(action, 1, 0)
	for _, key := range []string{action, Any} {
		queue := s.faults[key]
		if len(queue) == 0 {
			continue
		}
		fault := queue[0].fault
		if queue[0].left > 0 {
			queue[0].left--
		}
		if queue[0].left == 0 {
			s.faults[key] = queue[1:]
		}
		return fault
	}
	return nil
}

// Throttled says that the account's rate of calls is exceeded, whatever SetQuota says.
func Throttled(w http.ResponseWriter, r *http.Request, carryOut func() Reply) {
	throttled().Fault(w, r, carryOut)
}

// ExpiredToken says that the session token has expired, whatever SetCredentials says.
func ExpiredToken(w http.ResponseWriter, _ *http.Request, _ func() Reply) {
	expiredToken().reply().Write(w)
}

// InternalError is the service's own 500.
func InternalError(w http.ResponseWriter, r *http.Request, carryOut func() Reply) {
	code := "InternalServerError"
	if strings.HasPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager.") {
		code = "InternalServiceError"
	}
	Error(http.StatusInternalServerError, code, "An error occurred on the server side.").Fault(w, r, carryOut)
}

// ServiceUnavailable is the 503 of a load balancer, which knows nothing of JSON.
func ServiceUnavailable(w http.ResponseWriter, _ *http.Request, _ func() Reply) {
	header := http.Header{}
	header.Set("Content-Type", "text/html")
	Reply{http.StatusServiceUnavailable, header, []byte("<html><body><b>Http/1.1 Service Unavailable</b></body> </html>")}.Write(w)
}

// GarbledJSON carries the request out, but the reply ends in the middle, with a length that fits.
func GarbledJSON(w http.ResponseWriter, _ *http.Request, carryOut func() Reply) {
	reply := carryOut()
	reply.Body = reply.Body[:(len(reply.Body)+1)/2]
	reply.Write(w)
}

// TruncatedBody carries the request out, but the connection ends in the middle of the reply's body.
func TruncatedBody(w http.ResponseWriter, _ *http.Request, carryOut func() Reply) {
	reply := carryOut()
	reply.writeHeader(w)
	w.Write(reply.Body[:len(reply.Body)/2]) // net/http closes the connection when less comes than was promised
}

// EmptyPage carries a GetParametersByPath out, but what comes is a page without items and a token, with which the
// same is asked again. AWS documents that pages can be empty before the last.
func EmptyPage(w http.ResponseWriter, r *http.Request, carryOut func() Reply) {
	reply := carryOut()
	var in struct{ NextToken string }
	if err := json.NewDecoder(r.Body).Decode(&in); err == nil && reply.Status == http.StatusOK {
		after, _ := readToken(in.NextToken)
		reply = jsonReply(http.StatusOK, map[string]any{"Parameters": []any{}, "NextToken": newToken(after)})
	}
	reply.Write(w)
}

// Hang carries nothing out and answers nothing, until the client goes or the server is Down.
func Hang(_ http.ResponseWriter, r *http.Request, _ func() Reply) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Reset carries nothing out and resets the connection.
func Reset(w http.ResponseWriter, _ *http.Request, _ func() Reply) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // makes Close send a reset; without it, it is an early end
	}
	conn.Close()
}

// Latency waits for d before the request is carried out.
func Latency(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, carryOut func() Reply) {
		if waited(r, d) {
			carryOut().Write(w)
		}
	}
}

// Before does something, such as to change what is stored, before the request is carried out.
func Before(do func()) Fault {
	return func(w http.ResponseWriter, _ *http.Request, carryOut func() Reply) {
		do()
		carryOut().Write(w)
	}
}

// RetryAfter makes a fault such as ServiceUnavailable or Throttled say after how many seconds, rounded up, it wants
// to be asked again.
func RetryAfter(d time.Duration, fault Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, carryOut func() Reply) {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(d.Seconds()))))
		fault(w, r, carryOut)
	}
}

// SlowBody carries the request out and sends the header at once, but the body takes d, a few bytes at a time.
func SlowBody(d time.Duration) Fault {
	const pieces = 20
	return func(w http.ResponseWriter, r *http.Request, carryOut func() Reply) {
		reply := carryOut()
		reply.writeHeader(w)
		for i := range pieces {
			http.NewResponseController(w).Flush()
			if !waited(r, d/pieces) {
				return
			}
			piece := reply.Body[len(reply.Body)*i/pieces : len(reply.Body)*(i+1)/pieces]
			w.Write(piece)
		}
	}
}

// waited waits for d and says whether the client is still there.
func waited(r *http.Request, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}
