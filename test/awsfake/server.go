package awsfake

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// Region is the only region that the endpoint accepts signatures for.
	Region = "eu-west-1"
	// Account is the AWS account in its ARNs.
	Account = "123456789012"
)

// A Server is the endpoint. It starts with nothing stored and with two sets of credentials: DefaultCredentials,
// a node's, and PublisherCredentials.
type Server struct {
	// URL is the endpoint, without a slash at the end. It stays the same through Down and Up.
	URL string

	operations  map[string]operation
	signer      *v4.Signer
	certificate *tls.Certificate // nil: no TLS

	listening sync.Mutex // guards the next four
	listener  net.Listener
	http      *http.Server    // nil when down or in memory
	up        context.Context // until it is down, by cut
	cut       context.CancelFunc

	skew atomic.Int64 // of the clock, a time.Duration

	mu          sync.Mutex
	credentials map[string]aws.Credentials // by access key ID
	quota       *quota                     // nil: none
	quotas      map[string]*quota          // by action
	denials     map[denial]bool
	parameters  map[string]*parameter
	secrets     map[string]*secret
	tags        map[resource]map[string]string
	compliance  map[complianceKey]ComplianceReport
	inventory   map[inventoryKey]InventoryItem
	traffic     map[string]traffic // by node
	faults      map[string][]scheduledFault
	calls       map[string]Calls // by action
	unrecorded  bool             // requests are not kept
	requests    []Request
	waited      map[string]int // by action: how many requests WaitForRequest has looked at
	arrived     chan struct{}  // closed when a request is recorded; nil: nobody waits
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
	s := newServer()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot start the AWS endpoint: %w", err)
	}
	s.URL = "http://" + listener.Addr().String()
	s.serve(listener)
	return s, nil
}

func newServer() *Server {
	s := &Server{
		signer:     v4.NewSigner(),
		denials:    map[denial]bool{},
		parameters: map[string]*parameter{},
		secrets:    map[string]*secret{},
		tags:       map[resource]map[string]string{},
		compliance: map[complianceKey]ComplianceReport{},
		inventory:  map[inventoryKey]InventoryItem{},
		traffic:    map[string]traffic{},
		quotas:     map[string]*quota{},
		faults:     map[string][]scheduledFault{},
		calls:      map[string]Calls{},
		waited:     map[string]int{},
	}
	s.operations = map[string]operation{
		"AmazonSSM.GetParameter":             decoding(s.getParameter),
		"AmazonSSM.GetParameters":            decoding(s.getParameters),
		"AmazonSSM.GetParametersByPath":      decoding(s.getParametersByPath),
		"AmazonSSM.PutParameter":             decoding(s.putParameter),
		"AmazonSSM.DeleteParameter":          decoding(s.deleteParameter),
		"AmazonSSM.DeleteParameters":         decoding(s.deleteParameters),
		"AmazonSSM.LabelParameterVersion":    decoding(s.labelParameterVersion),
		"AmazonSSM.AddTagsToResource":        decoding(s.addTagsToResource),
		"AmazonSSM.ListTagsForResource":      decoding(s.listTagsForResource),
		"AmazonSSM.PutComplianceItems":       decoding(s.putComplianceItems),
		"AmazonSSM.PutInventory":             decoding(s.putInventory),
		"secretsmanager.CreateSecret":        decoding(s.createSecret),
		"secretsmanager.PutSecretValue":      decoding(s.putSecretValue),
		"secretsmanager.GetSecretValue":      decoding(s.getSecretValue),
		"secretsmanager.BatchGetSecretValue": decoding(s.batchGetSecretValue),
	}
	s.credentials = map[string]aws.Credentials{}
	s.SetCredentials(DefaultCredentials(), PublisherCredentials())
	return s
}

func (s *Server) serve(listener net.Listener) {
	// Handlers that a fault aborts, and clients that do not believe a certificate, are meant: nothing to log.
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	s.http, s.listener = server, listener
	s.up, s.cut = connected()
	if s.certificate == nil {
		go server.Serve(listener) // ends with ErrServerClosed, by Down
		return
	}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*s.certificate}}
	go server.ServeTLS(listener, "", "") // as above
}

// Down makes AWS unreachable: connections are refused, and those that are open are closed, in whatever
// state they are. What is stored stays. A server that is down already stays so.
func (s *Server) Down() {
	s.listening.Lock()
	defer s.listening.Unlock()
	s.cut()
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
	if s.up.Err() == nil {
		return nil
	}
	if s.listener == nil {
		s.up, s.cut = connected()
		return nil
	}
	listener, err := net.Listen("tcp", s.listener.Addr().String())
	if err != nil {
		return fmt.Errorf("cannot bring the AWS endpoint up again: %w", err)
	}
	s.serve(listener)
	return nil
}

// SetClockSkew makes the server's clock run ahead of the host's by d, or behind it if d is negative.
// It is the clock that signatures, credentials and the Date header are judged and made by.
func (s *Server) SetClockSkew(d time.Duration) { s.skew.Store(int64(d)) }

// now returns the server's time.
func (s *Server) now() time.Time { return time.Now().Add(time.Duration(s.skew.Load())).UTC() }

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
	s.handle(w, r, body)
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request, body []byte) {
	arrival := time.Now()
	carryOut := func() Reply { return s.carryOut(r, body) }
	if fault := s.takeFault(action(r)); fault != nil {
		s.record(r, arrival, body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		fault(w, r, carryOut)
		return
	}
	reply := carryOut()
	s.record(r, arrival, body)
	reply.Write(w)
}

func (s *Server) carryOut(r *http.Request, body []byte) Reply {
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
	caller, err := s.authenticate(r, body)
	if err != nil {
		return err.reply()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.throttle(target); err != nil {
		return err.reply()
	}
	if err := s.authorize(caller, target, body); err != nil {
		return err.reply()
	}
	out, err := operation(body)
	if err != nil {
		return err.reply()
	}
	return jsonReply(http.StatusOK, out)
}
