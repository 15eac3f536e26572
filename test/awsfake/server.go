package awsfake

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// Region is the only region that the endpoint accepts signatures for.
	Region = "eu-west-1"
	// Account is the AWS account in its ARNs.
	Account = "123456789012"
)

// A Server is the endpoint. It starts with nothing stored and with one set of credentials, DefaultCredentials.
type Server struct {
	// URL is the endpoint, without a slash at the end. It stays the same through Down and Up.
	URL string

	operations map[string]operation

	listening sync.Mutex // guards the next two
	listener  net.Listener
	http      *http.Server // nil when down

	mu          sync.Mutex
	skew        time.Duration
	credentials map[string]aws.Credentials // by access key ID
	parameters  map[string]*parameter
	secrets     map[string]*secret
	compliance  map[complianceKey]ComplianceReport
	faults      map[string][]scheduledFault
	requests    []Request
	waited      map[string]int // by action: how many requests WaitForRequest has looked at
	arrived     chan struct{}  // closed and replaced when a request is recorded
}

// New starts a server on a free port of loopback. It is closed when the test ends.
func New(t testing.TB) *Server {
	t.Helper()
	s, err := Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Down)
	return s
}

// Start starts a server that listens on a TCP address such as 127.0.0.1:4566, until Down.
func Start(addr string) (*Server, error) {
	s := &Server{
		credentials: map[string]aws.Credentials{},
		parameters:  map[string]*parameter{},
		secrets:     map[string]*secret{},
		compliance:  map[complianceKey]ComplianceReport{},
		faults:      map[string][]scheduledFault{},
		waited:      map[string]int{},
		arrived:     make(chan struct{}),
	}
	s.operations = map[string]operation{
		"AmazonSSM.GetParameter":             decoding(s.getParameter),
		"AmazonSSM.GetParameters":            decoding(s.getParameters),
		"AmazonSSM.GetParametersByPath":      decoding(s.getParametersByPath),
		"AmazonSSM.PutParameter":             decoding(s.putParameter),
		"AmazonSSM.DeleteParameter":          decoding(s.deleteParameter),
		"AmazonSSM.LabelParameterVersion":    decoding(s.labelParameterVersion),
		"AmazonSSM.PutComplianceItems":       decoding(s.putComplianceItems),
		"secretsmanager.CreateSecret":        decoding(s.createSecret),
		"secretsmanager.PutSecretValue":      decoding(s.putSecretValue),
		"secretsmanager.GetSecretValue":      decoding(s.getSecretValue),
		"secretsmanager.BatchGetSecretValue": decoding(s.batchGetSecretValue),
	}
	s.SetCredentials(DefaultCredentials())
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot start the AWS endpoint: %w", err)
	}
	s.URL = "http://" + listener.Addr().String()
	s.serve(listener)
	return s, nil
}

func (s *Server) serve(listener net.Listener) {
	// Handlers that a fault aborts are meant to be aborted: nothing to log.
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	s.http, s.listener = server, listener
	go server.Serve(listener) // ends with ErrServerClosed, by Down
}

// Down makes AWS unreachable: connections are refused, and those that are open are closed, in whatever
// state they are. What is stored stays. A server that is down already stays so.
func (s *Server) Down() {
	s.listening.Lock()
	defer s.listening.Unlock()
	if s.http != nil {
		s.listener.Close() // the server may not have taken it over yet
		s.http.Close()
		s.http = nil
	}
}

// Up makes a server that is down listen again at the same address. It fails when the port was taken meanwhile.
func (s *Server) Up() error {
	s.listening.Lock()
	defer s.listening.Unlock()
	if s.http != nil {
		return nil
	}
	listener, err := net.Listen("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		return fmt.Errorf("cannot bring the AWS endpoint up again: %w", err)
	}
	s.serve(listener)
	return nil
}

// SetClockSkew makes the server's clock run ahead of the host's by d, or behind it if d is negative.
// It is the clock that signatures, credentials and the Date header are judged and made by.
func (s *Server) SetClockSkew(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = d
}

// now returns the server's time. s.mu is held.
func (s *Server) now() time.Time { return time.Now().Add(s.skew).UTC() }

// roundTrip is how long a reply is on its way at least. The SDK closes a request's body when the reply's
// header arrives, and if net/http is not done with that body yet, it breaks the connection in the middle
// of the reply. Through a network that cannot happen; over loopback it did, once in a thousand large replies.
const roundTrip = time.Millisecond

// ServeHTTP answers one request of the JSON protocol.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	time.Sleep(roundTrip)
	request := newRequest(r, body)
	carryOut := func() Reply { return s.carryOut(r, body) }
	if fault := s.takeFault(request.Action); fault != nil {
		s.record(request)
		fault(w, r, carryOut)
		return
	}
	reply := carryOut()
	s.record(request)
	reply.Write(w)
}

func (s *Server) carryOut(r *http.Request, body []byte) Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := s.answer(r, body)
	reply.Header.Set("Date", s.now().Format(http.TimeFormat))
	return reply
}

func (s *Server) answer(r *http.Request, body []byte) Reply {
	target := r.Header.Get("X-Amz-Target")
	operation, known := s.operations[target]
	if r.Method != http.MethodPost || r.URL.Path != "/" || !known {
		return Error(http.StatusBadRequest, "UnknownOperationException", "").reply()
	}
	if err := s.authenticate(r, body); err != nil {
		return err.reply()
	}
	out, err := operation(body)
	if err != nil {
		return err.reply()
	}
	return jsonReply(http.StatusOK, out)
}

// A Request is what the server recorded of a request.
type Request struct {
	Time        time.Time // of arrival, by the host's clock
	Action      string    // such as GetParameter
	AccessKeyID string    // empty: not signed
	Body        []byte    // JSON, as it arrived
}

func newRequest(r *http.Request, body []byte) Request {
	_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	request := Request{Time: time.Now(), Action: action, Body: body}
	if a, ok := parseAuthorization(r); ok {
		request.AccessKeyID = a.accessKeyID
	}
	return request
}

func (s *Server) record(request Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, request)
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// Requests returns all requests since the start or ForgetRequests, also those that failed. A request is
// recorded after it was carried out and before it is answered; one that a fault gets is recorded before that.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// ForgetRequests empties the record that Requests and WaitForRequest look at.
func (s *Server) ForgetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
	clear(s.waited)
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
	return Request{}, false, s.arrived
}
