package awsfake

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Any, as an action, stands for every action that has no fault of its own.
const Any = "*"

// A Fault answers a request in the server's stead, or does not answer it. carryOut does what was asked
// and returns the reply that would have been sent; a fault may call it, once, or not.
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

// Heal forgets all faults, those of single secrets too. A request that hangs goes on hanging.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
	for _, secret := range s.secrets {
		secret.failure = nil
	}
}

func (s *Server) schedule(action string, f scheduledFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[action] = append(s.faults[action], f)
}

// takeFault returns the fault for a request, or nil.
func (s *Server) takeFault(action string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// Throttled says that the account's rate of calls is exceeded.
func Throttled(w http.ResponseWriter, r *http.Request, carryOut func() Reply) {
	Error(http.StatusBadRequest, "ThrottlingException", "Rate exceeded").Fault(w, r, carryOut)
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

// AccessDenied says that the role is not allowed an action such as ssm:GetParameter on a resource, an ARN.
func AccessDenied(action, resource string) Fault { return accessDenied(action, resource).Fault }

func accessDenied(action, resource string) *APIError {
	return Error(http.StatusBadRequest, "AccessDeniedException", fmt.Sprintf(
		"User: arn:aws:sts::%s:assumed-role/SoeNode/mi-0123456789abcdef0 is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action",
		Account, action, resource, action))
}

// GarbledJSON carries the request out, but the reply ends in the middle, with a length that fits.
func GarbledJSON(w http.ResponseWriter, _ *http.Request, carryOut func() Reply) {
	reply := carryOut()
	reply.Body = reply.Body[:(len(reply.Body)+1)/2]
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
