package sudo

import (
	"slices"
	"testing"

	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
)

// Whichever lines are to blame together, they and no others are found, in few questions.
func TestAsFewLinesAsWillDoAreToBlame(t *testing.T) {
	const all = 200
	for _, blamed := range [][]int{{1}, {200}, {77}, {3, 4}, {1, 100, 200}, {50, 51, 52, 53}} {
		var lines []sudoers.Placed
		for i := 1; i <= all; i++ {
			lines = append(lines, sudoers.Placed{Line: sudotext.Line{First: i}})
		}
		asked := 0
		found, err := fewest(lines, func(some []sudoers.Placed) (bool, error) {
			asked++
			return !slices.ContainsFunc(blamed, func(number int) bool {
				return !slices.ContainsFunc(some, func(l sudoers.Placed) bool { return l.First == number })
			}), nil
		})
		var numbers []int
		for _, line := range found {
			numbers = append(numbers, line.First)
		}
		if err != nil || !slices.Equal(numbers, blamed) {
			t.Errorf("%v are to blame, and found are %v, %v", blamed, numbers, err)
		}
		if asked > 60 {
			t.Errorf("%v were found by %d questions", blamed, asked)
		}
	}
}
