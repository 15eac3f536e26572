package main

import (
	"slices"
	"strings"
	"testing"
)

func TestEachMistakeIsMadeAloneAndNamedByItsLine(t *testing.T) {
	const source = `package p

func f(a, b int, s []string) (out string) {
	if a < b && len(s) > 0 {
		g()
		out = s[0]
	}
	return "x" + out
}

func g() {}
`
	mutants, err := mutantsOf("p.go", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"p.go:4: never: if a < b && len(s) > 0 {", "p.go:4: turned round: if a < b && len(s) > 0 {",
		"p.go:4: && is ||: if a < b && len(s) > 0 {", "p.go:4: < is <=: if a < b && len(s) > 0 {",
		"p.go:4: > is >=: if a < b && len(s) > 0 {", "p.go:5: left out: g()", "p.go:6: left out: out = s[0]",
	}
	var got []string
	for _, m := range mutants {
		got = append(got, m.what)
		if string(m.source) == source {
			t.Errorf("%s: nothing is mistaken", m.what)
		}
		if changed := strings.Count(source, "\n") - strings.Count(string(m.source), "\n"); changed < 0 || changed > 1 {
			t.Errorf("%s: more than one line has changed:\n%s", m.what, m.source)
		}
	}
	for _, one := range want {
		if !slices.Contains(got, one) {
			t.Errorf("%s is missing among %q", one, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("there are %q", got)
	}
}
