package source_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/soe-agent/soe-agent/internal/source"
)

// The policy itself may install the authority that the agent needs in order to reach its policy.
func TestAnAuthorityThatTheMachineComesToTrustIsTrustedWithoutARestart(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	other, err := os.ReadFile("testdata/authority.pem")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bundle, certs := filepath.Join(dir, "bundle.pem"), filepath.Join(dir, "certs")
	if err := os.Mkdir(certs, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", bundle)
	t.Setenv("SSL_CERT_DIR", certs)
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(name+".new", content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	client := source.Client()
	reaches := func() error {
		answer, err := client.Get(server.URL)
		if err == nil {
			answer.Body.Close()
			if answer.ProtoMajor != 2 {
				t.Errorf("it speaks %s", answer.Proto)
			}
		}
		return err
	}
	write(bundle, other)
	if reaches() == nil {
		t.Fatal("anybody is trusted")
	}
	write(bundle, append(other, authority...))
	if err := reaches(); err != nil {
		t.Errorf("the authority has come into the bundle: %v", err)
	}
	write(bundle, nil) // somebody is in the middle of writing it
	if err := reaches(); err != nil {
		t.Errorf("half a bundle counts: %v", err)
	}
	write(bundle, other)
	if reaches() == nil {
		t.Error("an authority that has gone is trusted")
	}
	write(filepath.Join(certs, "corp.pem"), authority)
	if err := reaches(); err != nil {
		t.Errorf("the authority has come into the directory: %v", err)
	}
}
