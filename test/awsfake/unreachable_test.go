package awsfake_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

func TestACertificateIsNotBelieved(t *testing.T) {
	tests := []struct {
		name  string
		shown awsfake.Certificate
		is    func(error) bool
	}{
		{"an unknown authority", awsfake.Certificate{}, func(err error) bool {
			var unknown x509.UnknownAuthorityError
			return errors.As(err, &unknown)
		}},
		{"another host's", awsfake.Certificate{Host: "proxy.example.com"}, func(err error) bool {
			var other x509.HostnameError
			return errors.As(err, &other)
		}},
		{"one that has expired", awsfake.Certificate{Expires: time.Now().Add(-time.Minute)}, func(err error) bool {
			var expired x509.CertificateInvalidError
			return errors.As(err, &expired) && expired.Reason == x509.Expired
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := awsfake.NewTLS(t, test.shown)
			s.PutParameter("/a", "1")
			if _, err := get(t, ssmClient(s), "/a"); !test.is(err) {
				t.Errorf("got %v", err)
			}
			if n := len(s.Requests()); n != 0 {
				t.Errorf("%d requests were sent all the same", n)
			}
			credulous := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer credulous.CloseIdleConnections()
			client := ssmClient(s, func(o *ssm.Options) { o.HTTPClient = &http.Client{Transport: credulous} })
			if value, err := get(t, client, "/a"); value != "1" {
				t.Errorf("a client that believes everything: %v", err)
			}
		})
	}
}

func TestAServerWithTLSComesUpAgainWithIt(t *testing.T) {
	s := awsfake.NewTLS(t, awsfake.Certificate{})
	s.Down()
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	_, err := get(t, ssmClient(s), "/a")
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) || !strings.HasPrefix(s.URL, "https://") {
		t.Errorf("got %v", err)
	}
}

func TestABlackHoleNeitherConnectsNorRefuses(t *testing.T) {
	dial := func(url string) error {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "http://"), 50*time.Millisecond)
		if err == nil {
			conn.Close()
		}
		return err
	}
	var url string
	t.Run("while the test runs", func(t *testing.T) {
		url = awsfake.BlackHole(t)
		for range 3 {
			var silence net.Error
			if err := dial(url); !errors.As(err, &silence) || !silence.Timeout() {
				t.Errorf("got %v", err)
			}
		}
	})
	if err := dial(url); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the test: %v", err)
	}
}
