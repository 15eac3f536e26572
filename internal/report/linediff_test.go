package report

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// apply returns the two texts that the diff leads from and to.
func (c lineChanges) apply() (old, new string) {
	var before, after strings.Builder
	for _, change := range c {
		if change.mark != '+' {
			before.WriteString(change.text + "\n")
		}
		if change.mark != '-' {
			after.WriteString(change.text + "\n")
		}
	}
	return before.String(), after.String()
}

type lineChanges []lineChange

func (c lineChanges) changed() int {
	n := 0
	for _, change := range c {
		if change.mark != ' ' {
			n++
		}
	}
	return n
}

// allocated returns how many bytes do takes from the heap.
func allocated(do func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func FuzzADiffMakesTheNewTextOfTheOld(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc\nb\n")
	f.Add("", "\n\n")
	f.Add("x\nx\nx\n", "x\nx\n")
	f.Add("x\na\nx\n", "x\nb\nx\n")
	f.Fuzz(func(t *testing.T, old, new string) {
		changes, ok := lineDiff(old, new)
		if !ok {
			return
		}
		line := func(text string) string {
			if text == "" {
				return ""
			}
			return strings.TrimSuffix(text, "\n") + "\n"
		}
		if before, after := lineChanges(changes).apply(); before != line(old) || after != line(new) {
			t.Errorf("%q to %q: %+v", old, new, changes)
		}
	})
}

func TestADiffShowsOnlyWhatChanged(t *testing.T) {
	var old, new strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&old, "line %d\n", i)
		if i%100 == 50 {
			fmt.Fprintf(&new, "another %d\n", i)
		} else {
			fmt.Fprintf(&new, "line %d\n", i)
		}
	}
	changes, ok := lineDiff(old.String(), new.String())
	if n := lineChanges(changes).changed(); !ok || n != 40 {
		t.Errorf("%d lines differ", n)
	}
}

func TestADiffTakesRoomInProportionToItsLines(t *testing.T) {
	for what, line := range map[string]func(i int) string{
		"different lines": func(i int) string { return fmt.Sprintf("line %d", i) },
		"the same lines":  func(int) string { return "x" },
		"some lines":      func(i int) string { return fmt.Sprint(i % 7) },
	} {
		cost := func(n int) int64 {
			var old, new strings.Builder
			for i := range n {
				fmt.Fprintln(&old, line(i))
				fmt.Fprintln(&new, line(n-i))
			}
			return allocated(func() { lineDiff(old.String(), new.String()) })
		}
		if half, whole := cost(maxDiffLines/2), cost(maxDiffLines); whole > 4*half || whole > 2<<20 {
			t.Errorf("%s: %d lines take %d bytes, and half of them %d", what, maxDiffLines, whole, half)
		}
	}
}

// Hundreds of large files that differ are shown quickly in every format.
func TestHundredsOfLongDiffsAreShownAtOnce(t *testing.T) {
	var r Report
	var got, want strings.Builder
	for i := range maxDiffLines {
		fmt.Fprintf(&got, "line %d\n", i)
		fmt.Fprintf(&want, "line %d\n", maxDiffLines-i)
	}
	for i := range 200 {
		resource := converge.Resource{State: converge.Drifted}
		resource.ID = "dropin/etc/x.d/" + "y"
		resource.AddDrift("content", want.String(), got.String()+fmt.Sprint(i))
		r.Resources = append(r.Resources, resource)
	}
	for format, write := range map[string]func(io.Writer) error{
		"text": func(w io.Writer) error { return r.Text(w, Style{Verbose: true}) }, "JUnit": r.JUnit,
		"HTML": func(w io.Writer) error { return r.HTML(w, nil) },
	} {
		bytes := allocated(func() {
			if err := write(io.Discard); err != nil {
				t.Error(err)
			}
		})
		if bytes > 1<<30 {
			t.Errorf("%s takes %d MiB", format, bytes>>20)
		}
	}
}
