package sudo

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// standIn stands for polkit as far as the tests' files need it: rules that let everybody
// do something have the word YES and the action, or none at all, and the first one counts;
// the agent's own are taken for what they are. The real one is asked in boxes.
type standIn struct {
	root   string
	memory *memory // in place of it
	known  *parsed // what it has read, if it is to read nothing twice
}

// dir are the files of a directory with an ending, and their contents.
func (s standIn) dir(dir, ending string) map[string]string {
	files := map[string]string{}
	if s.memory != nil {
		for _, name := range s.memory.files(dir) {
			if file, is := s.memory.get(name); is && strings.HasSuffix(name, ending) {
				files[name] = file.content
			}
		}
		return files
	}
	found, _ := os.ReadDir(filepath.Join(s.root, dir))
	for _, entry := range found {
		if !strings.HasSuffix(entry.Name(), ending) {
			continue
		}
		name := filepath.Join(s.root, dir, entry.Name())
		if content, err := os.ReadFile(name); err == nil {
			files[name] = string(content)
		}
	}
	return files
}

func (s standIn) Instance(context.Context) (string, error) { return ":1.7", nil }

func (s standIn) Actions(context.Context) ([]system.Action, error) {
	actions := s.known.installed()
	files := s.dir("/usr/share/polkit-1/actions", ".policy")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		program := files[name]
		switch {
		case strings.HasSuffix(name, "open.policy"):
			actions = append(actions, system.Action{ID: "org.example.open", Program: strings.TrimSpace(program), Any: 5, Active: 5})
		case strings.HasSuffix(name, "asks.policy"):
			actions = append(actions, system.Action{ID: "org.example.asks", Program: strings.TrimSpace(program), Any: 2, Inactive: 2, Active: 2})
		}
	}
	return actions, nil
}

func (s standIn) Authorized(ctx context.Context, questions []system.Question) ([]bool, error) {
	installed, err := s.Actions(ctx)
	if err != nil {
		return nil, err
	}
	rules := s.rules()
	answers := make([]bool, len(questions))
	for i, q := range questions {
		answers[i] = q.UID == 0 || lets(rules, installed, q)
	}
	return answers, nil
}

// A standInRule is what the stand-in makes of a file.
type standInRule struct {
	text    string // without comments
	takes   bool   // it is the agent's own, and takes back what it names
	gives   bool
	active  bool // to whoever is in a session
	program bool // for the program that it names
	about   []string
}

// parsed remembers what the stand-ins have made of the content of a file, and the actions that are in
// no file of a test. The nil one remembers nothing.
type parsed struct {
	rules   made[standInRule]
	sudoers made[[]bookLine]
	tables  made[[][]string]
	actions []system.Action
}

// made is what a function has made of contents.
type made[T any] struct {
	mu sync.Mutex
	of map[string]T
}

func (m *made[T]) once(content string, makes func(string) T) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, is := m.of[content]
	if !is {
		if m.of == nil {
			m.of = map[string]T{}
		}
		known = makes(content)
		m.of[content] = known
	}
	return known
}

func newParsed() *parsed { return &parsed{actions: (*parsed)(nil).installed()} }

func (p *parsed) rule(content string) standInRule {
	if p == nil {
		return newStandInRule(content)
	}
	return p.rules.once(content, newStandInRule)
}

func (p *parsed) bookLines(content string) []bookLine {
	if p == nil {
		return newBookLines(content)
	}
	return p.sudoers.once(content, newBookLines)
}

func (p *parsed) fields(content string) [][]string {
	if p == nil {
		return newFields(content)
	}
	return p.tables.once(content, newFields)
}

func (p *parsed) installed() []system.Action {
	if p != nil {
		return slices.Clip(p.actions)
	}
	actions := []system.Action{{ID: "org.example.harmless", Active: 5}}
	for _, id := range slices.Sorted(maps.Keys(rooting())) {
		actions = append(actions, system.Action{ID: id, Any: 2, Inactive: 2, Active: 4})
	}
	return actions
}

// isAbout is mayBeAbout, of what has been read once.
func (r standInRule) isAbout(action string) bool {
	return len(r.about) == 0 || slices.ContainsFunc(r.about, func(part string) bool { return strings.Contains(action, part) })
}

func newStandInRule(content string) standInRule {
	text := jsComments.ReplaceAllString(content, "")
	var about []string
	for _, match := range actionID.FindAllStringSubmatch(text, -1) {
		about = append(about, strings.ReplaceAll(match[1], `\`, ""))
	}
	return standInRule{
		text: text, about: about,
		takes: strings.Contains(text, overBegins), active: strings.Contains(text, "active"), program: strings.Contains(text, "program"),
		gives: strings.Contains(text, "YES") || strings.Contains(text, `"y"+"es"`),
	}
}

// rules are the files as the stand-in reads them, in its order.
func (s standIn) rules() (rules []standInRule) {
	files := map[string]string{}
	for _, dir := range ruleDirs() {
		maps.Copy(files, s.dir(dir, ".rules"))
	}
	names := slices.SortedFunc(maps.Keys(files), func(a, b string) int { return strings.Compare(filepath.Base(a)+a, filepath.Base(b)+b) })
	for _, name := range names {
		text := files[name]
		rules = append(rules, s.known.rule(text))
	}
	return rules
}

func lets(rules []standInRule, installed []system.Action, q system.Question) bool {
	for _, r := range rules {
		switch {
		case r.takes:
			if strings.Contains(r.text, fmt.Sprintf("%q", (question{q.Action, q.Details}).over())) || strings.Contains(r.text, fmt.Sprintf("%q", q.Action)) {
				return false
			}
		case !r.gives, r.active && q.PID == 1, r.program && !strings.Contains(r.text, fmt.Sprintf("%q", q.Details["program"])):
		case r.isAbout(q.Action):
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
