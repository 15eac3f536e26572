package system

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Trust is which authorities the machine trusts, as it is at each moment. Go's own
// list is read once in the life of a program, and a policy may bring an authority that
// the agent itself has to trust. The zero Trust is ready to use. It is about the machine on
// which the agent runs, whatever its root is.
type Trust struct {
	mu    sync.Mutex
	known string // what the files were when pool was read
	pool  *x509.CertPool
}

// Pool is the list. It is the same one as long as nothing has changed; nil where no
// list is found, which to crypto/tls means that it looks itself.
func (t *Trust) Pool() *x509.CertPool {
	t.mu.Lock()
	defer t.mu.Unlock()
	files := authorityFiles()
	now := identities(files)
	if t.pool != nil && now == t.known {
		return t.pool
	}
	pool, some := x509.NewCertPool(), false
	for _, name := range files {
		if content, err := os.ReadFile(name); err == nil && pool.AppendCertsFromPEM(content) {
			some = true
		}
	}
	if some { // else somebody is writing it: what was is believed, and it is read again
		t.pool, t.known = pool, now
	}
	return t.pool
}

// authorityFiles are those that crypto/x509 reads: the first bundle that is there, and all
// of the directories.
func authorityFiles() []string {
	var files []string
	bundles := []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	}
	if named := os.Getenv("SSL_CERT_FILE"); named != "" {
		bundles = []string{named}
	}
	for _, name := range bundles {
		if _, err := os.Stat(name); err == nil { //nolint:gosec // whoever sets its environment has started the agent
			files = append(files, name)
			break
		}
	}
	dirs := []string{"/etc/ssl/certs", "/etc/pki/tls/certs"}
	if named := os.Getenv("SSL_CERT_DIR"); named != "" {
		dirs = strings.Split(named, ":")
	}
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // if it is there
		for _, e := range entries {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

// identities tell whether any of the files is another one, or has changed.
func identities(names []string) string {
	var all strings.Builder
	for _, name := range names {
		var st syscall.Stat_t
		if syscall.Stat(name, &st) == nil {
			fmt.Fprintf(&all, "%s %d %d %d %d.%d %d.%d\n", name, st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
		}
	}
	return all.String()
}
