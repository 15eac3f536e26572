package source

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Client is how requests are sent: with a deadline each, with connections that are not
// kept for long, and to whom the machine trusts at the moment.
func Client() *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &transport{}}
}

// A transport is a http.Transport for as long as the machine trusts the same
// authorities, and then another one.
type transport struct {
	trust system.Trust

	mu    sync.Mutex
	pool  *x509.CertPool
	inUse *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.current().RoundTrip(r)
}

// CloseIdleConnections is called by http.Client.
func (t *transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inUse != nil {
		t.inUse.CloseIdleConnections()
	}
}

func (t *transport) current() *http.Transport {
	pool := t.trust.Pool()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inUse != nil && pool == t.pool {
		return t.inUse
	}
	if t.inUse != nil {
		t.inUse.CloseIdleConnections() // they are to whom was trusted before
	}
	t.pool, t.inUse = pool, Transport(pool)
	return t.inUse
}

// Transport is how requests are sent while these authorities are trusted; nil are the
// host's.
func Transport(pool *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 15 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   2,
		ForceAttemptHTTP2:     true,
	}
}
