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

// Trust is the list of certificate authorities that the machine trusts now. crypto/x509 reads its
// list once per process, but a policy may install an authority that the agent itself must trust.
// The zero Trust is ready to use. It is about the machine on which the agent runs, whatever the
// root of the System is.
type Trust struct {
	mu    sync.Mutex
	known string // the files' identities when pool was read
	pool  *x509.CertPool
}

// Pool returns the list. It is the same pool until a file changes. It is nil if no list is found;
// crypto/tls then uses its own.
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
		if content, err := ReadGiven(name, maxFileSize); err == nil && pool.AppendCertsFromPEM(content) {
			some = true
		}
	}
	if some { // otherwise a file is being written: keep the previous list, and read again next time
		t.pool, t.known = pool, now
	}
	return t.pool
}

// authorityFiles returns the files that crypto/x509 reads: the first bundle that exists, and all
// files of the directories.
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
		entries, _ := os.ReadDir(dir) // it may not exist
		for _, e := range entries {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

// identities returns a text that changes when any of the files is replaced or changed.
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
