package report

import (
	"slices"
	"sort"
	"strings"
)

// maxDiffLines is the longest text, in lines, for which a diff is shown.
const maxDiffLines = 2000

// A lineChange is one line of a diff. Its mark is ' ' for an unchanged line, '-', or '+'.
type lineChange struct {
	mark byte
	text string
}

// lineDiff returns the changes that turn old into new. Lines that occur once in each text, in the same order,
// count as unchanged, and so do equal lines around them. That takes time and memory in proportion to the
// number of lines, and matches what people see as the same. ok is false if the texts are too long to show.
func lineDiff(old, new string) (changes []lineChange, ok bool) {
	a, b := splitLines(old), splitLines(new)
	if len(a) > maxDiffLines || len(b) > maxDiffLines {
		return nil, false
	}
	told := place{}
	for _, anchor := range anchors(a, b) {
		if anchor.a < told.a || anchor.b < told.b {
			continue // it is among the equal lines around the previous anchor
		}
		begin, end := anchor, anchor
		for begin.a > told.a && begin.b > told.b && a[begin.a-1] == b[begin.b-1] {
			begin.a, begin.b = begin.a-1, begin.b-1
		}
		for end.a < len(a) && end.b < len(b) && a[end.a] == b[end.b] {
			end.a, end.b = end.a+1, end.b+1
		}
		changes = add(changes, '-', a[told.a:begin.a])
		changes = add(changes, '+', b[told.b:begin.b])
		changes = add(changes, ' ', a[begin.a:end.a])
		told = end
	}
	return changes, true
}

func add(changes []lineChange, mark byte, lines []string) []lineChange {
	for _, line := range lines {
		changes = append(changes, lineChange{mark, line})
	}
	return changes
}

// A place is the index of a line in each of two texts.
type place struct{ a, b int }

// anchors returns the places of a longest sequence of lines that occur once in each text, and the beginning
// and the end of both.
func anchors(a, b []string) []place {
	const none, often = -1, -2
	of := func(lines []string) map[string]int {
		at := make(map[string]int, len(lines))
		for i, line := range lines {
			if _, seen := at[line]; seen {
				i = often
			}
			at[line] = i
		}
		return at
	}
	inA, inB := of(a), of(b)
	var common []place
	for i, line := range a {
		if j, both := inB[line]; both && j >= 0 && inA[line] >= 0 {
			common = append(common, place{i, j})
		}
	}
	// The longest sequence that ascends in b: for each length so far, the one that ends first.
	var ends []int // into common
	before := make([]int, len(common))
	for i, p := range common {
		n := sort.Search(len(ends), func(n int) bool { return common[ends[n]].b > p.b })
		before[i] = none
		if n > 0 {
			before[i] = ends[n-1]
		}
		if n == len(ends) {
			ends = append(ends, i)
		} else {
			ends[n] = i
		}
	}
	sequence := []place{{len(a), len(b)}}
	if n := len(ends); n > 0 {
		for i := ends[n-1]; i != none; i = before[i] {
			sequence = append(sequence, common[i])
		}
	}
	sequence = append(sequence, place{0, 0})
	slices.Reverse(sequence)
	return sequence
}

func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// aroundChanges drops unchanged lines that are more than context lines away from a change. A lineChange with
// mark 0 stands for each gap.
func aroundChanges(changes []lineChange, context int) []lineChange {
	near := make([]bool, len(changes))
	for i, c := range changes {
		if c.mark == ' ' {
			continue
		}
		for j := max(0, i-context); j <= min(len(changes)-1, i+context); j++ {
			near[j] = true
		}
	}
	var kept []lineChange
	for i, c := range changes {
		switch {
		case near[i]:
			kept = append(kept, c)
		case len(kept) > 0 && kept[len(kept)-1].mark != 0:
			kept = append(kept, lineChange{})
		}
	}
	if n := len(kept); n > 0 && kept[n-1].mark == 0 {
		kept = kept[:n-1]
	}
	return kept
}
