package policy

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

// A TmpfilesLine is one line of tmpfiles.d(5).
type TmpfilesLine struct {
	Number   int
	Kind     byte
	Boot     bool   // only for the boot (!)
	Added    bool   // in addition to other lines for its path (+)
	Path     string // with specifiers replaced, if they are the same on every machine
	Age      string // "": nothing is removed because of its age
	Argument string

	mode, user, group string // "" or "-": the default
	rest              string // everything after the path
	unclear           string // why not every systemd reads it alike, or ""
}

// Conflicts reports whether only one of two lines has an effect.
func (l TmpfilesLine) Conflicts(other TmpfilesLine) bool {
	const owning, patterns = "fFwdDevqQpLcbCxXrR", "wexXrR"
	is := func(kinds string, line TmpfilesLine) bool { return strings.IndexByte(kinds, line.Kind) >= 0 }
	return l.Path == other.Path && !l.Added && is(owning, l) && is(owning, other) && is(patterns, l) == is(patterns, other) &&
		(l.Kind != other.Kind || l.rest != other.rest)
}

// of reports whether the line is of one of these kinds.
func (l TmpfilesLine) of(kinds string) bool { return strings.IndexByte(kinds, l.Kind) >= 0 }

// TmpfilesLines returns the lines of a file for systemd-tmpfiles.
func TmpfilesLines(content string) []TmpfilesLine {
	var lines []TmpfilesLine
	number := 0
	for text := range strings.SplitSeq(content, "\n") {
		number++
		fields := quotedFields(text)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || fields[0] == "" {
			continue
		}
		line := TmpfilesLine{
			Number: number, Kind: fields[0][0], Boot: strings.Contains(fields[0], "!"), Added: strings.Contains(fields[0], "+"), Path: specified(fields[1]),
			unclear: readOtherwise(text, fields),
		}
		line.rest = strings.Join(fields[2:], "\x00")
		fields = append(fields, "", "", "", "", "")
		line.mode, line.user, line.group = fields[2], fields[3], fields[4]
		if fields[5] != "-" {
			line.Age = fields[5]
		}
		line.Argument = specified(strings.TrimRight(strings.Join(fields[6:], " "), " "))
		lines = append(lines, line)
	}
	return lines
}

// readOtherwise returns why systemd, or another version of it, may read a line in another way than
// quotedFields, or "". What a backslash does depends on the version, and a carriage return ends a line in some.
func readOtherwise(text string, fields []string) string {
	names := fields[:min(len(fields), 6)]
	if strings.HasPrefix(fields[0], "L") || strings.HasPrefix(fields[0], "C") {
		names = fields
	}
	switch {
	case strings.ContainsRune(text, 0) || strings.Contains(strings.TrimRight(text, "\r"), "\r"):
		return "it has a carriage return or a NUL in it, behind which some versions of systemd read another line"
	case slices.ContainsFunc(names, func(f string) bool { return strings.Contains(f, `\`) }):
		return "what a backslash in it means depends on the version of systemd: write the name out, in quotes if it has blanks"
	}
	return ""
}

// quotedFields splits a line of systemd into words, which may be quoted.
func quotedFields(line string) []string {
	var fields []string
	var word strings.Builder
	quote, inside := rune(0), false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, inside = c, true
		case c == ' ' || c == '\t' || c == '\r':
			if inside {
				fields = append(fields, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(c)
			inside = true
		}
	}
	if inside {
		fields = append(fields, word.String())
	}
	return fields
}

// specified replaces specifiers. Those that only the machine knows, such as its name, stay.
func specified(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	known := map[byte]string{
		'%': "%", 'h': "/root", 't': "/run", 'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 'T': "/tmp", 'V': "/var/tmp",
		'u': "root", 'g': "root", 'U': "0", 'G': "0",
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		if value, is := known[text[i]]; is {
			b.WriteString(value)
		} else {
			b.WriteString(text[i-1 : i+1])
		}
	}
	return b.String()
}

// A tmpfilesJudge judges lines by the links that lead their paths somewhere else.
type tmpfilesJudge struct {
	links map[string]string
	names []string                 // of the links, sorted
	leads func(name string) string // where a link of others leads, or ""; nil: there are none
	tries int                      // how many more patterns are compared with links
}

// mostTries keeps the time that many patterns and links take within what a policy has.
const mostTries = 100_000

func newTmpfilesJudge(leads func(string) string, files ...[]TmpfilesLine) *tmpfilesJudge {
	j := &tmpfilesJudge{links: map[string]string{}, leads: leads, tries: mostTries}
	for _, line := range slices.Concat(files...) {
		if name, target := line.link(); target != "" && j.links[name] == "" {
			j.links[name] = target
		}
	}
	j.names = slices.Sorted(maps.Keys(j.links))
	return j
}

// link returns the link that a line makes, and where it leads; "": it makes none.
func (l TmpfilesLine) link() (name, target string) {
	if l.Kind != 'L' || l.Argument == "" {
		return "", ""
	}
	name, target = path.Clean(l.Path), l.Argument
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(name), target)
	}
	return name, path.Clean(target)
}

// WrittenByTmpfiles returns why lines for systemd-tmpfiles must not be, or "": they touch what no section of
// a policy may. leads tells where a link on the machine leads, or "" if a path is none.
func WrittenByTmpfiles(content string, leads func(name string) string) string {
	lines := TmpfilesLines(content)
	return newTmpfilesJudge(leads, lines).judge(lines)
}

func (j *tmpfilesJudge) judge(lines []TmpfilesLine) string {
	for _, line := range lines {
		if line.of("xX") || strings.Contains(line.Path, "{{") {
			continue // these lines only keep others from being removed; or the path is not known yet
		}
		why, name := line.unclear, line.Path
		if why == "" {
			why = line.forbidden(name)
		}
		if led := j.through(line); why == "" && led != path.Clean(name) {
			name, why = led, line.forbidden(led)
		}
		if link, target := line.link(); why == "" && j.links[link] != target {
			why = "another line makes a link there that leads somewhere else"
		}
		if why == "" && j.meetsLink(line) {
			why = "a link that the policy makes may be among what it means"
		}
		if why != "" {
			return fmt.Sprintf("line %d has systemd-tmpfiles write %s: %s", line.Number, name, why)
		}
	}
	return ""
}

func (j *tmpfilesJudge) lead(name string) string {
	if target := j.links[name]; target != "" || j.leads == nil {
		return target
	}
	return j.leads(name)
}

// through returns where the path of a line leads through links. The last one counts only for lines that
// follow it.
func (j *tmpfilesJudge) through(line TmpfilesLine) string {
	name := path.Clean(line.Path)
	if len(j.links) == 0 && j.leads == nil {
		return name
	}
	for range 40 {
		at, target := 0, ""
		for at < len(name) && target == "" {
			next := strings.IndexByte(name[at+1:], '/')
			if at += 1 + next; next < 0 {
				at = len(name)
				if line.of("LrR") {
					break
				}
			}
			target = j.lead(name[:at])
		}
		if target == "" {
			break
		}
		name = path.Join(target, name[at:])
	}
	return name
}

// meetsLink reports whether a pattern may mean a link of the policy's, or something behind one.
func (j *tmpfilesJudge) meetsLink(line TmpfilesLine) bool {
	glob := strings.IndexAny(line.Path, "*?[")
	if glob < 0 {
		return false
	}
	fixed := line.Path[:glob]
	parts := strings.Split(line.Path, "/")
	at, _ := slices.BinarySearch(j.names, fixed)
	for ; at < len(j.names) && strings.HasPrefix(j.names[at], fixed); at++ {
		if j.tries--; j.tries < 0 {
			return true // nobody can tell in the time that there is
		}
		deep := strings.Count(j.names[at], "/") + 1
		if deep > len(parts) || deep == len(parts) && line.of("rR") {
			continue
		}
		if is, _ := path.Match(strings.Join(parts[:deep], "/"), j.names[at]); is {
			return true
		}
	}
	return false
}

// forbidden returns why the line must not touch a path, or "".
func (l TmpfilesLine) forbidden(name string) string {
	if why := unclearName(name); why != "" {
		return why
	}
	name = protected.Merged(machinesOwn.ReplaceAllString(name, "*"))
	// A line that works recursively, or removes old files, affects everything below its path.
	below := l.of("RZTHACD") || l.Age != ""
	if why := protected.Pattern(name, below); why != "" {
		return why
	}
	for _, why := range []string{l.forbiddenKind(), l.forbiddenMode(name), l.forbiddenAt(name, below)} {
		if why != "" {
			return why
		}
	}
	return ""
}

// unclearName returns why a path is not the same on every machine, as far as matters, or "". The values of
// some specifiers may be empty, so that they hide a name.
func unclearName(name string) string {
	switch {
	case !path.IsAbs(name):
		return "it is not an absolute path"
	case strings.Contains(name+"/", "/../"):
		return "where .. leads depends on links: write the path out"
	case emptySpecifier.MatchString(name):
		return "one of its specifiers may stand for nothing: write the path out"
	}
	return ""
}

// forbiddenKind refuses what gives rights wherever it is.
func (l TmpfilesLine) forbiddenKind() string {
	switch {
	case l.of("bc"):
		return "whoever may open a device node has what the device is, wherever it lies"
	case l.of("tT") && strings.Contains(strings.ToLower(l.Argument), "security."):
		return "such an attribute gives a program rights, or takes them"
	}
	return ""
}
