package report

import "strings"

// maxDiffLines bounds the work of a line diff, which grows with the product of
// the two lengths.
const maxDiffLines = 2000

// A lineChange is one line of a diff: ' ' for one that stays, '-' and '+'.
type lineChange struct {
	mark byte
	text string
}

// lineDiff turns old into new by a longest common subsequence of lines. ok is
// false when the texts are too long to compare.
func lineDiff(old, new string) (changes []lineChange, ok bool) {
	a, b := splitLines(old), splitLines(new)
	if len(a) > maxDiffLines || len(b) > maxDiffLines {
		return nil, false
	}
	// common[i][j] is the length of the longest common subsequence of a[i:], b[j:].
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			changes = append(changes, lineChange{' ', a[i]})
			i++
			j++
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			changes = append(changes, lineChange{'-', a[i]})
			i++
		default:
			changes = append(changes, lineChange{'+', b[j]})
			j++
		}
	}
	return changes, true
}

func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// aroundChanges leaves out unchanged lines that are more than context lines away
// from a changed one; a lineChange with mark 0 stands for each gap.
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
