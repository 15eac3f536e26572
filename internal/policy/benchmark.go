package policy

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A Benchmark lists the controls that a report shows for a machine, so that a control without any
// resource is noticed. It configures nothing.
type Benchmark struct {
	Name     string   `json:"name"`
	Controls []string `json:"controls"` // in full: the benchmark's name, a colon and the number
	// Waived says why no resource can be there for a control: what would break, or what the machine
	// does not have. By control, as in Controls.
	Waived map[string]string `json:"waived,omitempty"`
	Origin Origin            `json:"-"` // where it is first named
}

// mostDemanded is how many controls the benchmarks of a policy may name, because every report
// contains them.
const mostDemanded = 3000

var (
	benchmarkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	controlNumber = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

const waivedWord = "waived"

// ControlOf returns the full name of a benchmark's control, as resources use it.
func ControlOf(benchmark, number string) string { return benchmark + ":" + number }

func benchmarksForm() *form {
	return named("what is to be shown of a machine, whether or not something is there for it; of several fragments the controls add up", "NAME", benchmarkName.String(),
		record("a benchmark, such as a profile of CIS, by the numbers of its controls",
			key{name: controlsWord, form: texts("the numbers of its controls. `5.2.2` of `[benchmarks.cis-al2]` is what resources call `cis-al2:5.2.2`", like("", controlNumber.String())).eg(`["5.2.2", "5.2.3"]`)},
			key{name: waivedWord, form: named("those of its controls for which no resource can be there, each with the reason; one that resources are there for stands as they do", "NUMBER", controlNumber.String(),
				text("why: what would break, or what the machine has not").eg(`"a desktop needs its X server"`))},
		).needing([]string{controlsWord}))
}

const benchmarkExample = `[benchmarks.cis-al2]
controls = ["5.2.2", "5.2.3"]
waived = { "5.2.3" = "a desktop needs its X server" }
`

func (d *decoder) benchmark(name string, t *table) {
	b := Benchmark{Name: name}
	b.Origin.Line = d.lines.at(t.path)
	if !benchmarkName.MatchString(name) || breaksLine(name) {
		t.problem(controlsWord, "%q is not the name of a benchmark: letters, digits, dots, hyphens and underscores", name)
	}
	numbers := t.texts(controlsWord)
	if !t.has(controlsWord) || t.isArray(controlsWord) && len(numbers) == 0 {
		t.problem(controlsWord, "it names no control")
	}
	for _, number := range numbers {
		switch control := ControlOf(name, number); {
		case strings.HasPrefix(number, name+":"):
			t.problem(controlsWord, "%q is written without the name of the benchmark here: %q", number, strings.TrimPrefix(number, name+":"))
		case !controlNumber.MatchString(number) || breaksLine(number) || len(control) > longestControl:
			t.problem(controlsWord, "%.200q is not the number of a control, such as \"5.2.2\"", number)
		default:
			b.Controls = append(b.Controls, control)
		}
	}
	b.Waived = t.waived(name, b.Controls)
	if d.demanded += len(b.Controls); d.demanded > mostDemanded {
		t.problem(controlsWord, "the benchmarks of the fragment name more than %d controls", mostDemanded)
		return
	}
	d.benchmarks = append(d.benchmarks, b)
}

// waived reads the controls that a benchmark's table waives, with the reasons.
func (t *table) waived(benchmark string, controls []string) map[string]string {
	table := t.child(waivedWord)
	if table == nil {
		return nil
	}
	waived := map[string]string{}
	for _, number := range table.keys() {
		control := ControlOf(benchmark, number)
		reason, isText := read[string](table, number, "a string")
		switch {
		case !isText:
		case !slices.Contains(controls, control):
			table.problem(number, "it is waived, and not among the controls")
		case strings.TrimSpace(reason) == "" || breaksLine(reason):
			table.problem(number, "it needs a reason, in one line")
		default:
			waived[control] = reason
		}
	}
	return waived
}

// together merges benchmarks by name. The controls of each are sorted by the numbers in them.
func together(benchmarks []Benchmark) (all []Benchmark, problems Problems) {
	at := map[string]int{}
	for _, b := range benchmarks {
		i, known := at[b.Name]
		if !known {
			i = len(all)
			at[b.Name], all = i, append(all, Benchmark{Name: b.Name, Origin: b.Origin})
		}
		all[i].Controls = append(all[i].Controls, b.Controls...)
		for control, reason := range b.Waived {
			if all[i].Waived == nil {
				all[i].Waived = map[string]string{}
			}
			all[i].Waived[control] = reason // if several fragments give a reason, the last one counts
		}
	}
	demanded := 0
	for i := range all {
		slices.SortFunc(all[i].Controls, CompareControls)
		all[i].Controls = slices.Compact(all[i].Controls)
		demanded += len(all[i].Controls)
	}
	slices.SortFunc(all, func(a, b Benchmark) int { return cmp.Compare(a.Name, b.Name) })
	if demanded > mostDemanded {
		problems = Problems{{File: all[0].Origin.Fragment, Line: all[0].Origin.Line, Message: fmt.Sprintf("cannot merge the policy: its benchmarks name more than %d controls", mostDemanded)}}
	}
	return all, problems
}

// CompareControls compares two controls naturally: 1.2 comes before 1.10.
func CompareControls(a, b string) int {
	left, right := a, b
	for left != "" && right != "" {
		x, y := digits(left), digits(right)
		if x > 0 && y > 0 {
			m, n := strings.TrimLeft(left[:x], "0"), strings.TrimLeft(right[:y], "0")
			if order := cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n)); order != 0 {
				return order
			}
			left, right = left[x:], right[y:]
			continue
		}
		if left[0] != right[0] {
			return cmp.Compare(left[0], right[0])
		}
		left, right = left[1:], right[1:]
	}
	return cmp.Or(cmp.Compare(len(left), len(right)), cmp.Compare(a, b))
}

// digits returns how many digits a text begins with.
func digits(text string) int { return len(text) - len(strings.TrimLeft(text, "0123456789")) }

func (b Benchmark) entry() entry {
	numbers := make([]string, len(b.Controls))
	for i, c := range b.Controls {
		numbers[i] = strings.TrimPrefix(c, b.Name+":")
	}
	lines := []string{pair(controlsWord, numbers)}
	if len(b.Waived) > 0 {
		var members []string
		for _, control := range slices.SortedFunc(maps.Keys(b.Waived), CompareControls) {
			members = append(members, pair(strings.TrimPrefix(control, b.Name+":"), b.Waived[control]))
		}
		lines = append(lines, inline(waivedWord, members))
	}
	e := ownTable("benchmarks", b.Name, lines...)
	e.origin = b.Origin
	return e
}

// benchmarks warns about controls of a benchmark that no resource is there for, and about names
// that look like a benchmark's control but are not in it, most likely misspelled.
func (a *adviser) benchmarks(fragments []Fragment) {
	var named []Benchmark
	covered := map[string]bool{}
	for _, f := range fragments {
		named = append(named, f.Benchmarks...)
		for _, r := range f.Rules {
			a.covers(covered, r.Controls)
		}
		for _, s := range f.Settings {
			a.covers(covered, s.Evidence.Controls)
		}
	}
	known := map[string][]string{}
	all, _ := together(named)
	for _, b := range all {
		known[b.Name] = b.Controls
	}
	for _, f := range fragments {
		a.file = f.Name
		for _, b := range f.Benchmarks {
			a.uncovered(b, covered)
			a.waivedAndCovered(b, covered)
		}
		for _, r := range f.Rules {
			a.misnamed(r.Origin.Line, r.Controls, known)
		}
		for _, s := range f.Settings {
			a.misnamed(s.Line, s.Evidence.Controls, known)
		}
	}
}

func (a *adviser) covers(covered map[string]bool, controls []string) {
	for _, c := range controls {
		covered[c] = true
	}
}

func (a *adviser) uncovered(b Benchmark, covered map[string]bool) {
	var missing []string
	for _, c := range b.Controls {
		if _, waived := b.Waived[c]; !covered[c] && !waived {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return
	}
	some := strings.Join(missing[:min(3, len(missing))], ", ")
	if len(missing) > 3 {
		some += ", …"
	}
	a.say(Notice, b.Origin.Line, fmt.Sprintf("nothing is there for %d of the %d controls that the benchmark %s names here: %s", len(missing), len(b.Controls), b.Name, some), "")
}

func (a *adviser) waivedAndCovered(b Benchmark, covered map[string]bool) {
	for _, c := range slices.SortedFunc(maps.Keys(b.Waived), CompareControls) {
		if covered[c] {
			a.warn(b.Origin.Line, fmt.Sprintf("%s is waived, and resources are there for it: it stands as they do", c), "")
		}
	}
}

func (a *adviser) misnamed(line int, controls []string, known map[string][]string) {
	for _, c := range controls {
		benchmark, _, isOne := strings.Cut(c, ":")
		names, is := known[benchmark]
		if _, found := slices.BinarySearchFunc(names, c, CompareControls); !isOne || !is || found {
			continue
		}
		hint := ""
		if a.guessed < mostGuesses {
			a.guessed++
			if near := Nearest(c, names); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
		}
		a.warn(line, fmt.Sprintf("the benchmark %s names no control %q", benchmark, c), hint)
	}
}
