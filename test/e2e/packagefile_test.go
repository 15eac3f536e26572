package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// installsAFile installs a package of which the policy says URL and digest, in one version and the next and back.
func (d *desktop) installsAFile(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(d.repo.Dir)), ReadHeaderTimeout: time.Minute}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	file := func(name, version, of string) string {
		content, err := os.ReadFile(filepath.Join(d.repo.Dir, of))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		return fmt.Sprintf("%s = { ensure = %q, url = \"http://%s/%s\", sha256 = %q }\n", name, version, listener.Addr(), of, strings.ToUpper(hex.EncodeToString(sum[:])))
	}
	for _, version := range []string{"1.0-1", "2.0-1", "1.0-1"} {
		d.apply(t, d.repository()+"[packages]\n"+file("soe-pkg-01", version, "soe-pkg-01-"+version+".noarch.rpm")).wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
		if got := d.rpms(t, "soe-pkg-01"); got+"-1" != "soe-pkg-01-"+version {
			t.Errorf("there is %s, and not %s", got, version)
		}
		d.converged(t)
	}
	packages := file("soe-pkg-01", "1.0-1", "soe-pkg-01-1.0-1.noarch.rpm") + file("soe-unsigned", "present", "soe-unsigned-1.0-1.noarch.rpm") +
		file("soe-pkg-02", "present", "soe-pkg-03-1.0-1.noarch.rpm") + file("soe-pkg-04", "2.0", "soe-pkg-04-1.0-1.noarch.rpm") +
		file("soe-nodep", "present", "soe-nodep-1.0-1.noarch.rpm") + file("soe-pkg-06", "present", "fingerprint") +
		strings.Replace(file("soe-pkg-05", "present", "soe-pkg-05-1.0-1.noarch.rpm"), "sha256 = \"", "sha256 = \""+strings.Repeat("0", 64)+"\" }#", 1)
	o := d.apply(t, d.repository()+"[packages]\n"+packages)
	o.wants(t, map[policy.ID]converge.State{"package/soe-unsigned": converge.Corrected, "package/soe-pkg-01": converge.Compliant})
	for id, want := range map[policy.ID]string{
		"package/soe-pkg-02": "its file holds soe-pkg-03.noarch in the version 1.0-1",
		"package/soe-pkg-04": "its file holds soe-pkg-04.noarch in the version 1.0-1",
		"package/soe-pkg-05": "and the policy says " + strings.Repeat("0", 64),
		"package/soe-pkg-06": "its file is no package",
		"package/soe-nodep":  "does-not-exist",
	} {
		if r := o.resource(id); r.State != converge.Failed || !strings.Contains(r.Reason, want) {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
	if left := d.MustExec(t, "sh", "-c", "ls /var/lib/soe-agent/packages"); left != "" {
		t.Errorf("what was fetched is still there: %s", left)
	}
	if got := d.rpms(t, "soe-pkg-01", "soe-unsigned", "soe-pkg-02", "soe-pkg-03", "soe-pkg-04", "soe-pkg-05"); got != "soe-pkg-01-1.0 soe-unsigned-1.0" {
		t.Errorf("in the end there is %s", got)
	}
}

func TestAPackageThatComesAsAFileIsInstalledByItsDigest(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "sh", "-c", "echo localpkg_gpgcheck=1 >>/etc/dnf/dnf.conf")
	d.installsAFile(t)
}

func TestWithYumAPackageThatComesAsAFileIsInstalledByItsDigest(t *testing.T) {
	t.Parallel()
	newYumDesktop(t).installsAFile(t)
}
