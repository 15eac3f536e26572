// Package sss is what stands in for SSSD in a box: the library that sudo loads for the source
// "sss" of nsswitch.conf, which serves rules out of a text file.
package sss

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed library/libsss_sudo.c
var source []byte

// RulesPath is where the library reads the rules of a box, as its source says.
const RulesPath = "/etc/sss-rules"

// Build compiles the library into a directory, with the C compiler of this machine, and
// returns its content.
func Build(dir string) ([]byte, error) {
	library := filepath.Join(dir, "libsss_sudo.so")
	input := filepath.Join(dir, "libsss_sudo.c")
	if err := os.WriteFile(input, source, 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1", "-o", library, input).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot compile the stand-in for SSSD: %w: %s", err, out)
	}
	return os.ReadFile(library)
}
