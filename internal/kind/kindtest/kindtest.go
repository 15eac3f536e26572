// Package kindtest has what the tests of every kind need: the files of a machine below a
// directory, its system, a policy, a ledger, and an engine with the one kind. What a kind needs
// besides, such as a stand-in for its tools, is in its own tests.
//
// Each function fails the test at once where it cannot do what it says. It is for tests.
package kindtest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Dir makes an empty directory, in memory where there is such a place: some tests make thousands
// of machines, and each makes its files last. It is removed when the test ends.
func Dir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "soe-kindtest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Root makes a directory as Dir does, with files by name below it, as Put writes them.
func Root(t testing.TB, files map[string]string) string {
	t.Helper()
	root := Dir(t)
	for name, content := range files {
		Put(t, root, name, content)
	}
	return root
}

// Put writes one file below root, with the mode 0644, and the directories above it. A content
// that begins with "-> " makes a symbolic link, a name that ends in a slash a directory.
func Put(t testing.TB, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if target, isLink := strings.CutPrefix(content, "-> "); isLink {
		err = errors.Join(err, os.Symlink(target, file))
	} else if strings.HasSuffix(name, "/") {
		err = errors.Join(err, os.MkdirAll(file, 0o755))
	} else {
		err = errors.Join(err, os.WriteFile(file, []byte(content), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Read returns the content of a file below root.
func Read(t testing.TB, root, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Open opens the system of a machine. Below a root it is an image; who wants a machine that runs
// sets its Root to "/" afterwards, and with it stand-ins for all that would be asked of this one.
func Open(t testing.TB, options system.Options) *system.System {
	t.Helper()
	s, err := system.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Policy is what a fragment says, of which "schema = 1" is left out.
func Policy(t testing.TB, toml string) *policy.Policy {
	t.Helper()
	fragment, err := policy.Parse(policy.Source{Name: "test.toml", Text: "schema = 1\n" + toml})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge([]policy.Fragment{fragment}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Ledger opens the ledger of the machine below root, past all gates and faults of a test.
func Ledger(t testing.TB, root string) *converge.Ledger {
	t.Helper()
	return LedgerIn(t, Open(t, system.Options{Root: root}).FS)
}

// LedgerIn opens the ledger of the machine that has these files.
func LedgerIn(t testing.TB, files system.FS) *converge.Ledger {
	t.Helper()
	ledger, err := converge.OpenLedger(files, own.StateDir, facts.Identity{MachineID: "machine"})
	if err != nil {
		t.Fatal(err)
	}
	return ledger
}

// Engine returns an engine with one kind, which logs nothing.
func Engine(p *policy.Policy, kind converge.Kind, ledger *converge.Ledger, clock system.Clock) *converge.Engine {
	return converge.New(p, []converge.Kind{kind}, ledger, clock, slog.New(slog.DiscardHandler))
}

// Check checks a kind once.
func Check(t testing.TB, kind converge.Kind) []converge.Resource {
	t.Helper()
	resources, err := kind.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return resources
}

// CheckOne checks a kind once that has one resource.
func CheckOne(t testing.TB, kind converge.Kind) converge.Resource {
	t.Helper()
	resources := Check(t, kind)
	if len(resources) != 1 {
		t.Fatalf("there are %d resources and not one: %v", len(resources), resources)
	}
	return resources[0]
}

// Drifted are those of the resources that have drifted.
func Drifted(resources []converge.Resource) []converge.Resource {
	return slices.DeleteFunc(slices.Clone(resources), func(r converge.Resource) bool { return r.State != converge.Drifted })
}

// ByID are resources by their ids.
func ByID(resources []converge.Resource) map[policy.ID]converge.Resource {
	found := make(map[policy.ID]converge.Resource, len(resources))
	for _, r := range resources {
		found[r.ID] = r
	}
	return found
}

// Sessions stands in for logind, which tells of these and changes none.
type Sessions []system.Session

// List is what logind answers.
func (s Sessions) List(context.Context) ([]system.Session, error) { return s, nil }
