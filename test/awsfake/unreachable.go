package awsfake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"syscall"
	"testing"
	"time"
)

// A Certificate is what a server with TLS shows. Nobody has signed it but itself.
type Certificate struct {
	Host    string    // whose it is; empty: the address that the server listens at
	Expires time.Time // zero: in an hour
}

// NewTLS is New with TLS and a certificate that no client believes, for what fails at it: an unknown authority,
// and, which crypto/x509 looks at before, a time that is over, as when a clock is wrong, and another host's name.
func NewTLS(t testing.TB, shown Certificate) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer()
	s.URL = "https://" + listener.Addr().String()
	if s.certificate, err = shown.sign(); err != nil {
		t.Fatal(err)
	}
	s.serve(listener)
	t.Cleanup(s.Down)
	return s
}

func (c Certificate) sign() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if c.Expires.IsZero() {
		c.Expires = time.Now().Add(time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "awsfake"},
		NotBefore: c.Expires.AddDate(0, 0, -1), NotAfter: c.Expires,
	}
	if c.Host == "" {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	} else {
		template.DNSNames = []string{c.Host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// BlackHole returns the URL of an address of loopback that swallows packets, as a firewall does that drops them:
// a connection to it is neither made nor refused. It is a listener that accepts nothing and whose queue is
// full (listen(2): Linux ignores further attempts). It is gone when the test ends.
func BlackHole(t testing.TB) (url string) {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if err := shortenQueue(listener); err != nil {
		t.Fatalf("cannot make a black hole: %v", err)
	}
	address := listener.Addr().String()
	for {
		// Over loopback, a connection that is queued is made before connect(2) returns.
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		var silence net.Error
		if errors.As(err, &silence) && silence.Timeout() {
			return "http://" + address
		}
		if err != nil {
			t.Fatalf("cannot make a black hole: %v", err)
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// shortenQueue makes room for one connection that was not accepted.
func shortenQueue(listener *net.TCPListener) error {
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), 0) }); err != nil {
		return err
	}
	return listenErr
}
