package packages

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	fetchTimeout = 10 * time.Second
	maxKeySize   = 64 << 10
)

// fetchKey gets a key from a file:///, https:// or http:// URL. The transport need not be trusted,
// because the fingerprint is checked. Errors do not show the URL, which may contain a password.
func fetchKey(ctx context.Context, client *http.Client, files system.FileReader, from string) ([]byte, error) {
	if name, found := strings.CutPrefix(from, "file://"); found {
		return files.ReadFile(name)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("its URL cannot be understood")
	}
	response, err := client.Do(request)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return nil, fmt.Errorf("cannot get it from %s: %w", request.URL.Hostname(), err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cannot get it from %s: %s", request.URL.Hostname(), response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxKeySize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot get it from %s: %w", request.URL.Hostname(), err)
	}
	if len(content) > maxKeySize {
		return nil, fmt.Errorf("it is larger than %d KiB", maxKeySize>>10)
	}
	return content, nil
}

// client returns an HTTP client that reaches the repository's server through the same proxy and
// with the same certificates as the package manager. Settings that the repository does not have
// come from the package manager's own configuration.
func (k *Repositories) client(s policy.RepositorySettings) (*http.Client, error) {
	main := k.manager.configuration()["main"]
	for key, is := range map[string]*string{"proxy": &s.Proxy, "sslcacert": &s.SSLCACert, "sslclientcert": &s.SSLClientCert, "sslclientkey": &s.SSLClientKey} {
		if *is == "" {
			*is, _ = value(main, key)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	switch {
	case s.Proxy == "_none_":
		transport.Proxy = nil
	case s.Proxy != "":
		if !strings.Contains(s.Proxy, "://") {
			s.Proxy = "http://" + s.Proxy
		}
		proxy, err := url.Parse(s.Proxy)
		if err != nil {
			return nil, errors.New("the URL of its proxy cannot be understood")
		}
		if user, set := value(main, "proxy_username"); set && user != "" && proxy.User == nil {
			password, _ := value(main, "proxy_password")
			proxy.User = url.UserPassword(user, password)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if s.SSLCACert != "" {
		text, err := k.system.FS.ReadFile(s.SSLCACert)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("there is no certificate in %s", s.SSLCACert)
		}
	}
	if s.SSLClientCert != "" {
		cert, err := k.system.FS.ReadFile(s.SSLClientCert)
		if err != nil {
			return nil, err
		}
		key, err := k.system.FS.ReadFile(cmp.Or(s.SSLClientKey, s.SSLClientCert)) // one file may hold both certificate and key
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s do not belong together: %w", s.SSLClientCert, s.SSLClientKey, err)
		}
		transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: transport}, nil
}
