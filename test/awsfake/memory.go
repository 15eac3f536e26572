package awsfake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// InMemory returns a server without a socket: its URL leads nowhere, only its RoundTripper reaches it. It works
// in a bubble of testing/synctest, where no time passes while something waits for a socket, and leaves
// nothing behind.
func InMemory() *Server {
	s := newServer()
	s.URL = "http://aws.invalid"
	s.up, s.cut = connected()
	return s
}

// RoundTripper returns a transport that hands every request to the server without a socket, whatever its URL
// says, and needs no goroutine for it: for http.Client, also in virtual time.
//
// It is a network, except that a body comes whole: what streams it slowly takes as long, but before the
// header. Hang ends with the request's context or Down, what breaks the connection is a reset, a server
// that is Down refuses, and no time passes on the way.
func (s *Server) RoundTripper() http.RoundTripper { return memory{s} }

// connected returns the context of all that goes on until the connection is cut.
func connected() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	ctx.Done() // made now: what is made in a bubble of testing/synctest cannot be closed outside
	return ctx, cancel
}

type memory struct{ *Server }

func (m memory) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		defer r.Body.Close()
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	m.listening.Lock()
	up := m.up
	m.listening.Unlock()
	if up.Err() != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(up, cancel)()

	reply := &memoryReply{header: http.Header{}}
	aborted := m.handOver(reply, arriving(ctx, r), body)
	switch {
	case r.Context().Err() != nil:
		return nil, r.Context().Err()
	case aborted || up.Err() != nil:
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return reply.response(r), nil
}

// arriving is the request as a server gets it.
func arriving(ctx context.Context, r *http.Request) *http.Request {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	path := r.URL.Path
	if path == "" {
		path = "/"
	}
	in := &http.Request{
		Method: r.Method, URL: &url.URL{Path: path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}, Host: host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.Header, ContentLength: r.ContentLength, RemoteAddr: "127.0.0.1:1",
	}
	return in.WithContext(ctx)
}

// handOver says whether the connection was broken instead of an answer.
func (m memory) handOver(reply *memoryReply, r *http.Request, body []byte) (aborted bool) {
	defer func() {
		cause := recover()
		err, _ := cause.(error)
		aborted = errors.Is(err, http.ErrAbortHandler)
		if cause != nil && !aborted {
			panic(cause)
		}
	}()
	m.handle(reply, r, body)
	return false
}

// A memoryReply is the http.ResponseWriter of a request in memory.
type memoryReply struct {
	header, sent http.Header
	status       int
	body         bytes.Buffer
}

func (w *memoryReply) Header() http.Header { return w.header }

// Flush does nothing: http.ResponseController wants it.
func (w *memoryReply) Flush() {}

func (w *memoryReply) WriteHeader(status int) {
	if w.sent == nil {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *memoryReply) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *memoryReply) response(r *http.Request) *http.Response {
	w.WriteHeader(http.StatusOK)
	if w.sent.Get("Date") == "" { // that of a fault: net/http adds it too
		w.sent.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	length := int64(w.body.Len())
	var body io.Reader = &w.body
	if promised, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64); err == nil && promised > length {
		length, body = promised, io.MultiReader(body, brokenOff{})
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: io.NopCloser(body), ContentLength: length, Request: r,
	}
}

// brokenOff is what follows where a body ends too early.
type brokenOff struct{}

func (brokenOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
