// Package cache finds what test/setup.sh built for the tests: the base machine and the RPM repository.
//
// Each is kept under the hash of the recipe that it was made with, so that a checkout never
// tests against something that another recipe made: a changed recipe is simply not there yet.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// Dir is the folder that test/setup.sh fills: $SOE_TEST_CACHE, or /var/cache/soe-agent-test.
func Dir() string {
	if dir := os.Getenv("SOE_TEST_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/soe-agent-test"
}

// Find returns the folder that was built as name with this recipe.
// The error says what the reader can run to have it built.
func Find(name string, recipe []byte) (string, error) {
	sum := sha256.Sum256(recipe)
	dir := filepath.Join(Dir(), name+"-"+hex.EncodeToString(sum[:])[:12])
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("cannot find the test %s: %w; build it with: sudo test/setup.sh (or run everything with: sudo make test)", name, err)
	}
	return dir, nil
}
