package policy

import (
	"fmt"
	"testing"
)

func TestAResourceIsComparedWithThePatternsThatMayMatchItAndNoOther(t *testing.T) {
	const resources, globs = 20000, 1000
	for what, of := range map[string]func(i int) string{
		"by their beginning": func(i int) string { return fmt.Sprintf("package/k%04d*", i) },
		"by their end":       func(i int) string { return fmt.Sprintf("package/*%04d", i) },
		"by both":            func(i int) string { return fmt.Sprintf("package/k*%04d", i) },
		"by all":             func(i int) string { return fmt.Sprintf("*e/k*%04d", i) },
	} {
		x := indexOf(nil)
		for i := range globs {
			x.add(i+1, Rule{Match: []string{of(i)}, Severity: Low})
		}
		compared, matched := 0, 0
		for i := range resources {
			id := ID(fmt.Sprintf("package/k%05d", i))
			for s := range x.patterns.near(string(id)) {
				if compared++; matchGlob(s.glob, string(id)) {
					matched++
				}
			}
		}
		if compared > 3*resources || matched == 0 {
			t.Errorf("%s: %d resources are compared %d times with %d patterns, and %d match", what, resources, compared, globs, matched)
		}
	}
}

func FuzzPatternsAreThoseThatMatch(f *testing.F) {
	f.Add("package/*x*y", "package/axby")
	f.Add("*", "")
	f.Add("a*a", "a")
	f.Fuzz(func(t *testing.T, glob, text string) {
		x := indexOf([]Rule{{Match: []string{glob, "*" + glob, glob + "*", "a*" + glob}, Severity: Low}})
		near := map[string]bool{}
		for s := range x.patterns.near(text) {
			near[s.glob] = true
		}
		for g := range x.globs {
			if x.exact[g] == nil && matchGlob(g, text) && !near[g] {
				t.Errorf("%q matches %q and is not compared with it", g, text)
			}
		}
	})
}
