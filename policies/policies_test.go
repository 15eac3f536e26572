// Package policies_test holds the policies in this folder to what they promise.
package policies_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/document"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func sources(t *testing.T, dir string) []policy.Source {
	t.Helper()
	root, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	sources, err := policy.ReadDir(files.FS, "/", policy.Seed)
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) == 0 {
		t.Fatalf("%s holds no fragments", dir)
	}
	return sources
}

func fragments(t *testing.T, dir string) []policy.Fragment {
	t.Helper()
	fragments, err := policy.ParseAll(sources(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return fragments
}

func TestEveryPersonaOfTheExamplesHasAPolicy(t *testing.T) {
	for _, personas := range [][]string{{"base"}, {"base", "developer"}, {"base", "finance"}, {"base", "kiosk"}, {"base", "contractor"}, {"base", "developer", "finance"}} {
		if _, err := policy.Merge(fragments(t, "example"), personas, nil); err != nil {
			t.Errorf("%v: %v", personas, err)
		}
	}
}

func TestNothingInTheExamplesIsWithoutEffect(t *testing.T) {
	for _, dir := range []string{"example", "seed"} {
		for _, p := range policy.Advise(fragments(t, dir), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Error(p)
		}
	}
}

func TestTheExamplesShowEverySection(t *testing.T) {
	shown := map[string]bool{}
	for _, source := range sources(t, "example") {
		tables, err := document.Values(source.Text)
		if err != nil {
			t.Fatal(err)
		}
		for name := range tables {
			shown[name] = true
		}
	}
	for _, section := range append(policy.Sections(), "rules") {
		if !shown[section] {
			t.Errorf("no example shows [%s]", section)
		}
	}
}

// The seed is enforced on machines that nobody has told anything about, before
// there is a network.
func TestTheSeedNeedsNeitherNetworkNorSecretsAndRemovesNothing(t *testing.T) {
	p, err := policy.Merge(fragments(t, "seed"), []string{"base"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if references := p.References(); len(references) > 0 {
		t.Errorf("the seed refers to %v", references)
	}
	for _, r := range p.Resources {
		switch spec := r.Spec.(type) {
		case policy.Package, policy.Repository:
			t.Errorf("%s needs a network", r.ID)
		case policy.Service:
			t.Errorf("%s may disturb a desktop that needs it otherwise", r.ID)
		case policy.Dropin:
			if spec.Ensure == policy.Absent {
				t.Errorf("%s removes a file", r.ID)
			}
		}
	}
}

// What a benchmark asks for is kept, or at the least looked at, or cannot be on a WorkSpace, and then
// the benchmark says why.
func TestEveryControlOfTheBenchmarksIsKeptCheckedOrWaivedWithAReason(t *testing.T) {
	for _, want := range []struct {
		dir                             string
		controls, enforced, onlyChecked int
	}{
		{"cis-al2", 289, 207, 24},
		{"cis-rhel9", 298, 217, 36},
		{"cis-ubuntu24", 312, 195, 50},
	} {
		t.Run(want.dir, func(t *testing.T) {
			all := fragments(t, want.dir)
			p, err := policy.Merge(all, []string{"base"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			lines := 0
			for _, source := range sources(t, want.dir) {
				lines += strings.Count(source.Text, "\n")
			}
			for _, problem := range policy.Advise(all, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
				if problem.Gravity != policy.Notice {
					t.Error(problem)
				}
			}
			kept, checked := map[string]bool{}, map[string]bool{}
			for _, r := range p.Resources {
				for _, control := range p.Ruling(r.ID, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).Controls {
					kept[control] = kept[control] || r.ID.Kind() != "check"
					checked[control] = checked[control] || r.ID.Kind() == "check"
				}
			}
			var nothing, twice []string
			onlyChecked, enforced := 0, 0
			benchmark := p.Benchmarks[0]
			for _, control := range benchmark.Controls {
				waived := benchmark.Waived[control] != ""
				switch {
				case (kept[control] || checked[control]) && waived:
					twice = append(twice, control)
				case kept[control]:
					enforced++
				case checked[control]:
					onlyChecked++
				case !waived:
					nothing = append(nothing, control)
				}
			}
			t.Logf("%s: of %d controls %d are enforced, %d only checked, %d waived, in %d lines", benchmark.Name, len(benchmark.Controls), enforced, onlyChecked, len(benchmark.Waived), lines)
			if len(benchmark.Controls) != want.controls || enforced < want.enforced || onlyChecked > want.onlyChecked || lines > 900 {
				t.Errorf("%d controls, %d enforced, %d only checked, %d lines", len(benchmark.Controls), enforced, onlyChecked, lines)
			}
			if len(nothing)+len(twice) > 0 {
				t.Errorf("nothing is there for %v, and no reason; there is something, and a reason why not, for %v", nothing, twice)
			}
		})
	}
}
