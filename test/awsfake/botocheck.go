package awsfake

import (
	"bytes"
	_ "embed"
	"os/exec"
	"testing"
)

//go:embed botocheck.py
var botocheck string

// CheckAgainstServiceModel fails the test if the body of a recorded request breaks AWS's own model of the
// operation, for example ("ssm", "PutComplianceItems"). It needs Debian's python3-botocore, and fails
// without it.
func CheckAgainstServiceModel(t testing.TB, service, operation string, body []byte) {
	t.Helper()
	// Debian's own Python: another one that comes first in PATH does not have Debian's modules.
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", botocheck, service, operation)
	cmd.Stdin = bytes.NewReader(body)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case bytes.Contains(stderr.Bytes(), []byte("No module named 'botocore'")):
		t.Fatal("cannot check the request against AWS's service model: python3-botocore is not installed; run: sudo test/setup.sh")
	case stderr.Len() > 0 || err != nil && len(out) == 0:
		t.Fatalf("cannot check the request against AWS's service model: %v\n%s", err, stderr.Bytes())
	case err != nil:
		t.Errorf("AWS's service model forbids this request for %s %s:\n%s", service, operation, out)
	}
}
