package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// A depot serves the test packages in all the ways in which a repository may be reached.
type depot struct {
	http, https, proxy string       // URLs; https demands a certificate, and the proxy a password
	listed             atomic.Int64 // how often the metadata at http was asked for
	proxied            atomic.Int64 // how many packages came by the proxy
}

// openDepot also gives the machine the certificates: /etc/pki/soe/{ca,client,key}.pem.
func (d *desktop) openDepot(t *testing.T) *depot {
	t.Helper()
	files := http.FileServer(http.Dir(d.repo.Dir))
	repomd, err := os.ReadFile(filepath.Join(d.repo.Dir, "repodata/repomd.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var p depot
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/repodata/repomd.xml" {
			p.listed.Add(1)
		}
		files.ServeHTTP(w, r)
	})
	mux.HandleFunc("/mirrors", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, p.http) })
	mux.HandleFunc("/metalink", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, metalink, len(repomd), sha256.Sum256(append(repomd, r.URL.RawQuery...)), p.http)
	})
	mux.Handle("/modular/", http.StripPrefix("/modular", files))
	mux.HandleFunc("/modular/repodata/modules.yaml", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, modules) })
	mux.HandleFunc("/modular/repodata/repomd.xml", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Replace(string(repomd), "</repomd>", fmt.Sprintf(modulesListed, sha256.Sum256([]byte(modules)), len(modules)), 1))
	})
	serve := func(s *httptest.Server, start func()) string {
		start()
		t.Cleanup(s.Close)
		return s.URL
	}
	plain, proxy, secure := httptest.NewUnstartedServer(mux), httptest.NewUnstartedServer(nil), httptest.NewUnstartedServer(files)
	proxy.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Proxy-Authorization") != "Basic c29lOnBhc3M=": // soe:pass
			w.Header().Set("Proxy-Authenticate", `Basic realm="soe"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
		case r.URL.Host != "rpm.invalid":
			w.WriteHeader(http.StatusBadGateway)
		default:
			if strings.HasSuffix(r.URL.Path, ".rpm") {
				p.proxied.Add(1)
			}
			files.ServeHTTP(w, r)
		}
	})
	secure.TLS = d.certificates(t)
	p.http, p.https = serve(plain, plain.Start), serve(secure, secure.StartTLS)
	p.proxy = strings.Replace(serve(proxy, proxy.Start), "//", "//soe:pass@", 1)
	return &p
}

const metalink = `<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/"><files><file name="repomd.xml"><size>%d</size>
<verification><hash type="sha256">%x</hash></verification>
<resources maxconnections="1"><url protocol="http" type="http" location="US" preference="100">%s/repodata/repomd.xml</url></resources>
</file></files></metalink>
`

// modules has one package in a module that nobody has enabled, which hides it.
const modules = `---
document: modulemd
version: 2
data:
  name: soe
  stream: "1"
  version: 1
  context: abcdef12
  arch: x86_64
  summary: A module.
  description: A module.
  license: {module: [MIT]}
  artifacts: {rpms: ["soe-pkg-08-0:1.0-1.noarch"]}
...
`

const modulesListed = `<data type="modules"><checksum type="sha256">%x</checksum>
<location href="repodata/modules.yaml"/><timestamp>1767603600</timestamp><size>%d</size></data></repomd>`

// certificates makes an authority that no machine knows, gives the machine a certificate of it,
// and is what a server needs that demands one.
func (d *desktop) certificates(t *testing.T) *tls.Config {
	t.Helper()
	const dir = "/etc/pki/soe"
	template := func(serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("soe ", serial)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	authority := template(1)
	authority.IsCA, authority.KeyUsage, authority.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
	signer := newKey(t)
	issue := func(c *x509.Certificate, key *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c, authority, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	put := func(name, kind string, der []byte) {
		d.MustWriteFile(t, dir+"/"+name, box.File{Mode: 0o600, Content: string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))})
	}
	root, client := issue(authority, signer), newKey(t)
	private, err := x509.MarshalPKCS8PrivateKey(client)
	if err != nil {
		t.Fatal(err)
	}
	put("ca.pem", "CERTIFICATE", root)
	put("client.pem", "CERTIFICATE", issue(template(2), client))
	put("key.pem", "PRIVATE KEY", private)
	known, err := x509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	pool, server := x509.NewCertPool(), newKey(t)
	pool.AddCert(known)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		Certificates: []tls.Certificate{{Certificate: [][]byte{issue(template(3), server)}, PrivateKey: server}},
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Each repository has its one package alone, so that what is installed came by it.
func TestWhatThePolicySetsOfARepositoryIsInEffectInThePackageManager(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	depot := d.openDepot(t)
	const vendors = "/etc/yum.repos.d/vendors.repo"
	d.MustWriteFile(t, vendors, box.File{Content: `[vendor]
name=vendor
baseurl=file:///repo
gpgcheck=1
enabled=0
includepkgs=soe-pkg-06
exclude=soe-pkg-06-2.0-1
[vendor-more]
name=vendor-more
baseurl=file:///repo
gpgcheck=1
includepkgs=soe-pkg-07
`})
	// By the machine's own proxy nothing is reached.
	d.MustExec(t, "sh", "-c", "echo proxy=http://127.0.0.1:1 >>/etc/dnf/dnf.conf")
	table := func(name, more string) string {
		return fmt.Sprintf("[repositories.%s]\nfingerprint = %q\n%s\n", name, d.repo.Fingerprint, more)
	}
	const key = "gpgkey = \"file:///repo/RPM-GPG-KEY-soe-test\"\nproxy = \"_none_\"\n"
	always := table("proxied", fmt.Sprintf("baseurl = \"http://rpm.invalid\"\ngpgkey = \"http://rpm.invalid/RPM-GPG-KEY-soe-test\"\nproxy = %q\nincludepkgs = [\"soe-pkg-01\"]", depot.proxy)) +
		table("secure", fmt.Sprintf("baseurl = %q\ngpgkey = %q\nproxy = \"_none_\"\nincludepkgs = [\"soe-pkg-02\"]\n", depot.https, depot.https+"/RPM-GPG-KEY-soe-test")+
			"sslcacert = \"/etc/pki/soe/ca.pem\"\nsslclientcert = \"/etc/pki/soe/client.pem\"\nsslclientkey = \"/etc/pki/soe/key.pem\"") +
		table("linked", fmt.Sprintf("metalink = %q\nincludepkgs = [\"soe-pkg-04\"]\n", depot.http+"/metalink")+key) +
		table("forged", fmt.Sprintf("metalink = %q\nincludepkgs = [\"soe-pkg-05\"]\n", depot.http+"/metalink?forged")+key) +
		"[packages]\nsoe-pkg-01 = \"present\"\nsoe-pkg-02 = \"present\"\nsoe-pkg-03 = \"present\"\nsoe-pkg-04 = \"present\"\nsoe-pkg-05 = \"present\"\n" +
		"soe-pkg-06 = \"present\"\nsoe-pkg-07 = \"present\"\nsoe-pkg-08 = \"1.0\"\nsoe-pkg-09 = \"present\"\n"
	mirrored := fmt.Sprintf("mirrorlist = %q\nincludepkgs = [\"soe-pkg-03\", \"soe-pkg-06\", \"soe-pkg-09\", \"soe-pkg-10\"]\n", depot.http+"/mirrors") + key
	modular := fmt.Sprintf("baseurl = %q\nincludepkgs = [\"soe-pkg-08\"]\n", depot.http+"/modular") + key
	dead := table("dead", "baseurl = \"http://127.0.0.1:1\"\n"+key)

	o := d.apply(t, table("mirrored", mirrored+"metadata_expire = \"7d\"\nexclude = [\"soe-pkg-09\"]")+table("modular", modular)+dead+
		"[repositories.vendor]\nenabled = true\npriority = 1\n[repositories.vendor-more]\nenabled = false\n"+always)
	for id, want := range map[policy.ID]string{
		"package/soe-pkg-05": "without the repository forged, which cannot be reached (Downloading successful, but checksum doesn't match",
		"package/soe-pkg-07": "All matches were filtered out",
		"package/soe-pkg-08": "cannot install soe-pkg-08: All matches were filtered out",
		"package/soe-pkg-09": "exclude = soe-pkg-09 in [mirrored] of /etc/yum.repos.d/mirrored.repo leaves it out",
	} {
		if r := o.resource(id); r.State != converge.Failed || !strings.Contains(r.Reason, want) || !strings.Contains(r.Reason, "without the repository dead, which cannot be reached") {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
	got := d.rpms(t, "soe-pkg-01", "soe-pkg-02", "soe-pkg-03", "soe-pkg-04", "soe-pkg-05", "soe-pkg-06", "soe-pkg-07", "soe-pkg-08", "soe-pkg-09")
	if got != "soe-pkg-01-2.0 soe-pkg-02-2.0 soe-pkg-03-2.0 soe-pkg-04-2.0 soe-pkg-06-1.0" {
		t.Errorf("there is %s", got)
	}
	if depot.proxied.Load() == 0 {
		t.Error("nothing came by the proxy")
	}
	if listed := d.listings(t, depot); listed != 0 {
		t.Errorf("what is believed for seven days was asked for %d times more", listed)
	}

	o = d.apply(t, table("mirrored", mirrored+"metadata_expire = \"0\"")+table("modular", modular+"module_hotfixes = true")+dead+
		"[repositories.vendor]\nenabled = true\n"+strings.Replace(always, "soe-pkg-06 = \"present\"", "soe-pkg-06 = \"2.0\"", 1))
	got = d.rpms(t, "soe-pkg-05", "soe-pkg-06", "soe-pkg-07", "soe-pkg-08", "soe-pkg-09")
	if got != "soe-pkg-06-2.0 soe-pkg-07-2.0 soe-pkg-08-1.0 soe-pkg-09-2.0" {
		t.Errorf("there is %s: %s", got, o.Stderr)
	}
	// dnf counts in whole seconds, and has asked a moment ago.
	for deadline := time.Now().Add(soon); d.listings(t, depot) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("what is believed for no time is not asked for again")
		}
	}

	o = d.apply(t, table("mirrored", mirrored)+dead+"skip_if_unavailable = false\n[packages]\nsoe-pkg-03 = \"present\"\nsoe-pkg-10 = \"present\"\n")
	if r := o.resource("package/soe-pkg-10"); r.State != converge.Failed || !strings.Contains(r.Reason, "Failed to download metadata for repo 'dead'") {
		t.Errorf("without what must be there, what is new is %s: %s", r.State, r.Reason)
	}
	if got := d.rpms(t, "soe-pkg-02", "soe-pkg-07"); got != "soe-pkg-02-2.0 soe-pkg-07-2.0" {
		t.Errorf("without what must be there, what has left the policy went: there is %q", got)
	}
}

// listings is how often the metadata at http are had when somebody asks dnf for a package.
func (d *desktop) listings(t *testing.T, p *depot) int64 {
	t.Helper()
	before := p.listed.Load()
	d.MustExec(t, "dnf", "-q", "repoquery", "--repo=mirrored", "soe-pkg-03")
	return p.listed.Load() - before
}
