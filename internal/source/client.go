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

// Client returns an HTTP client for requests to AWS. Each request has a deadline, idle connections are
// soon closed, and the authorities that the machine trusts at the time of a request are trusted.
func Client() *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &transport{}}
}

// A transport uses one http.Transport until the authorities that the machine trusts change, and then a
// new one.
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
		t.inUse.CloseIdleConnections() // the authorities that vouched for them may no longer be trusted
	}
	t.pool, t.inUse = pool, Transport(pool)
	return t.inUse
}

// Transport returns an http.Transport that trusts the authorities in pool; nil means those of the host.
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
