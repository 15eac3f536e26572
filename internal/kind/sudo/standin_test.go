package sudo

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// standIn stands for polkit as far as the tests' files need it: rules that let everybody
// do something have the word YES and the action, or none at all, and the first one counts;
// the agent's own are taken for what they are. The real one is asked in boxes.
type standIn struct{ root string }

func (s standIn) Instance(context.Context) (string, error) { return ":1.7", nil }

func (s standIn) Actions(context.Context) ([]system.Action, error) {
	actions := []system.Action{{ID: "org.example.harmless", Active: 5}}
	for _, id := range slices.Sorted(maps.Keys(rooting())) {
		actions = append(actions, system.Action{ID: id, Any: 2, Inactive: 2, Active: 4})
	}
	if content, err := os.ReadFile(filepath.Join(s.root, "/usr/share/polkit-1/actions/open.policy")); err == nil {
		actions = append(actions, system.Action{ID: "org.example.open", Program: strings.TrimSpace(string(content)), Any: 5, Active: 5})
	}
	return actions, nil
}

func (s standIn) Authorized(ctx context.Context, questions []system.Question) ([]bool, error) {
	installed, err := s.Actions(ctx)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, dir := range ruleDirs() {
		found, _ := filepath.Glob(filepath.Join(s.root, dir, "*.rules"))
		files = append(files, found...)
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(filepath.Base(a)+a, filepath.Base(b)+b) })
	answers := make([]bool, len(questions))
	for i, q := range questions {
		answers[i] = q.UID == 0 || s.lets(files, installed, q)
	}
	return answers, nil
}

func (s standIn) lets(files []string, installed []system.Action, q system.Question) bool {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		text := jsComments.ReplaceAllString(string(content), "")
		switch {
		case strings.Contains(text, overBegins):
			if strings.Contains(text, fmt.Sprintf("%q", (question{q.Action, q.Details}).over())) || strings.Contains(text, fmt.Sprintf("%q", q.Action)) {
				return false
			}
		case strings.Contains(text, "active") && q.PID == 1, strings.Contains(text, "program") && !strings.Contains(text, fmt.Sprintf("%q", q.Details["program"])):
		case (strings.Contains(text, "YES") || strings.Contains(text, `"y"+"es"`)) && mayBeAbout([]byte(text), q.Action):
			return true
		}
	}
	i := slices.IndexFunc(installed, func(a system.Action) bool { return a.ID == q.Action })
	return i >= 0 && installed[i].Any == 5
}

// stat is that of a process that began at some time.
func stat(pid int) string {
	return fmt.Sprintf("%d (a b) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 %d 1 1\n", pid, 100+pid)
}

// hasty waits for nothing.
type hasty struct{ system.Clock }

func (hasty) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }
