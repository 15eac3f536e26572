// Package kindtest provides what the tests of every kind need: a machine's files below a directory,
// its system, a policy, a ledger, and an engine with one kind. Anything else, such as a fake of the
// kind's tools, is in the kind's own tests.
//
// Every function fails the test immediately if it cannot do what it promises. It is for tests.
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

// Dir creates an empty directory, in /dev/shm if that exists, because some tests create thousands
// of machines and each makes its files durable. The directory is removed when the test ends.
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

// Root creates a directory as Dir does, and writes the files below it as Put does.
func Root(t testing.TB, files map[string]string) string {
	t.Helper()
	root := Dir(t)
	for name, content := range files {
		Put(t, root, name, content)
	}
	return root
}

// Put writes a file below root with mode 0644, and creates the directories above it. If content
// begins with "-> ", it makes a symbolic link; if name ends in a slash, a directory.
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

// Open opens the system of a machine. With a root it is an image. For a running machine, set its
// Root to "/" afterwards and replace everything that would query the real machine with fakes.
func Open(t testing.TB, options system.Options) *system.System {
	t.Helper()
	s, err := system.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Policy parses one fragment, to which it adds "schema = 1", and merges it into a policy.
func Policy(t testing.TB, toml string) *policy.Policy {
	t.Helper()
	fragment, err := policy.Parse(policy.Source{Name: "test.toml", Text: "schema = 1\n" + toml})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge([]policy.Fragment{fragment}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Ledger opens the ledger of the machine below root, without the gates and faults of a test.
func Ledger(t testing.TB, root string) *converge.Ledger {
	t.Helper()
	return LedgerIn(t, Open(t, system.Options{Root: root}).FS)
}

// LedgerIn opens the ledger of the machine with these files.
func LedgerIn(t testing.TB, files system.FS) *converge.Ledger {
	t.Helper()
	ledger, err := converge.OpenLedger(files, own.StateDir, facts.Identity{MachineID: "machine"})
	if err != nil {
		t.Fatal(err)
	}
	return ledger
}

// Engine returns an engine with one kind. It logs nothing.
func Engine(p *policy.Policy, kind converge.Kind, ledger *converge.Ledger, clock system.Clock) *converge.Engine {
	return converge.New(p, []converge.Kind{kind}, ledger, clock, slog.New(slog.DiscardHandler))
}

// Check runs a kind's check once and returns its resources.
func Check(t testing.TB, kind converge.Kind) []converge.Resource {
	t.Helper()
	resources, err := kind.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return resources
}

// CheckOne runs the check of a kind that has exactly one resource, and returns it.
func CheckOne(t testing.TB, kind converge.Kind) converge.Resource {
	t.Helper()
	resources := Check(t, kind)
	if len(resources) != 1 {
		t.Fatalf("there are %d resources and not one: %v", len(resources), resources)
	}
	return resources[0]
}

// Drifted returns the resources that have drifted.
func Drifted(resources []converge.Resource) []converge.Resource {
	return slices.DeleteFunc(slices.Clone(resources), func(r converge.Resource) bool { return r.State != converge.Drifted })
}

// ByID returns the resources by their ids.
func ByID(resources []converge.Resource) map[policy.ID]converge.Resource {
	found := make(map[policy.ID]converge.Resource, len(resources))
	for _, r := range resources {
		found[r.ID] = r
	}
	return found
}

// Sessions is a fake logind with these sessions.
type Sessions []system.Session

// List returns the sessions.
func (s Sessions) List(context.Context) ([]system.Session, error) { return s, nil }
