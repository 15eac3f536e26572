package sudotext

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// A Sort is what a logical line is for.
type Sort int

// The sorts of lines.
const (
	Idle         Sort = iota // blank, a comment, or an alias of no users: it grants nothing
	Grant                    // users, hosts, commands
	Alias                    // of users
	DefaultsLine             // parameters
	Include                  // of a file
	IncludeDir               // of a directory
	Unclear                  // whatever else, which sudo may understand
)

// A Line is a logical line: one or more physical lines joined by backslashes.
type Line struct {
	Sort     Sort
	First    int // physical lines, counted from 1
	Last     int
	Text     string               // joined, without a comment
	Users    []Subject            // of a Grant
	Rest     string               // of a Grant: hosts and commands
	Aliases  map[string][]Subject // that an Alias defines
	Commands map[string]string    // aliases of commands that it defines, as lists
	Defaults Defaults             // of a DefaultsLine
	Path     string               // of an Include or IncludeDir, as it is written
}

// Parse splits a file into its logical lines. Together they hold each physical
// line once, in order.
func Parse(content []byte) []Line {
	var lines []Line
	rest, first := string(content), 1
	for rest != "" {
		scanned := scan(rest)
		line := classify(scanned)
		line.First = first
		line.Last = first + strings.Count(strings.TrimSuffix(rest[:scanned.length], "\n"), "\n")
		lines = append(lines, line)
		first = line.Last + 1
		rest = rest[scanned.length:]
	}
	return lines
}

// scanned is one logical line as it was found.
type scanned struct {
	text   string // without continuations and comment
	length int    // in the source, line break included
	whole  bool   // it includes something, and is no line that goes on from another: sudo refuses that
	clear  bool   // where it ends does not depend on what a quote means where it stands
}

// scan reads one logical line. A comment ends with its physical line, whatever
// its last character is. A quote opens a string in a list of users and not in
// a command, so that a "#" behind one, in a line that goes on, leaves doubt.
func scan(source string) scanned {
	if includeDirective.MatchString(source) {
		physical, _, _ := strings.Cut(source, "\n")
		return scanned{physical, min(len(physical)+1, len(source)), true, true}
	}
	var text strings.Builder
	quoted, hash, continued := false, false, false
	i := 0
	for i < len(source) && source[i] != '\n' {
		switch c := source[i]; {
		case c == '\\':
			if n := continuation(source[i:]); n > 0 {
				continued = true
				if !quoted {
					text.WriteByte(' ')
				}
				i += n
				continue
			}
			text.WriteByte(c)
			if i++; i < len(source) && source[i] != '\n' {
				text.WriteByte(source[i])
				i++
			}
			continue
		case c == '#' && quoted:
			hash = true
		case c == '#' && !isID(source[i:]):
			end := strings.IndexByte(source[i:], '\n')
			if end < 0 {
				end = len(source) - i
			}
			i += end
			continue
		case c == '"':
			quoted = !quoted
		}
		text.WriteByte(source[i])
		i++
	}
	return scanned{text.String(), min(i+1, len(source)), false, !quoted && (!hash || !continued)}
}

// continuation is the length of a backslash that joins two lines, with the line
// break behind it, or 0.
func continuation(source string) int {
	rest := strings.TrimPrefix(strings.TrimLeft(source[1:], " \t"), "\r")
	if strings.HasPrefix(rest, "\n") {
		return len(source) - len(rest) + 1
	}
	return 0
}

// isID says whether text begins with an id such as "#1000".
func isID(text string) bool {
	text = strings.TrimPrefix(text[1:], "-")
	return text != "" && text[0] >= '0' && text[0] <= '9'
}

var (
	// "#include" stands at the very beginning of a line; "@include" need not.
	includeDirective = regexp.MustCompile(`^(#|[ \t]*@)include(dir)?[ \t]+`)
	defaultsKeyword  = regexp.MustCompile(`^Defaults([ \t:@>!]|$)`)
	aliasLine        = regexp.MustCompile(`^(Host|Cmnd|Cmd|User|Runas)_Alias`)
	aliasName        = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	aliasDefinition  = regexp.MustCompile(`(^|:)[ \t]*([A-Z][A-Z0-9_]*)[ \t]*=`)
	digest           = regexp.MustCompile(`sha(224|256|384|512)[ \t]*:[ \t]*[A-Za-z0-9+/=]+`)
)

func classify(s scanned) Line {
	line := Line{Text: strings.Trim(s.text, " \t\r")}
	switch match := includeDirective.FindStringSubmatch(s.text); {
	case line.Text == "":
	case match != nil && !s.whole:
		line.Sort = Unclear
	case match != nil:
		line.Sort = Include
		if match[2] == "dir" {
			line.Sort = IncludeDir
		}
		line.Path = includePath(s.text[len(match[0]):])
	case defaultsKeyword.MatchString(line.Text):
		line.defaults()
	case aliasLine.MatchString(line.Text):
		line.alias()
	default:
		p := parser{line.Text}
		users, ok := p.users()
		line.Sort, line.Users, line.Rest = Grant, users, strings.Trim(p.rest, " \t")
		// Old sudo reads a second grant that begins in the middle of a line.
		if !ok || equals(line.Rest) != 1 && !arePrivileges(line.Rest) {
			line.Sort = Unclear
		}
	}
	if !s.clear {
		line.Sort = Unclear
	}
	return line
}

func includePath(text string) string {
	text = strings.Trim(text, " \t\r")
	if unquoted, ok := strings.CutPrefix(text, `"`); ok {
		return strings.TrimSuffix(unquoted, `"`)
	}
	return strings.ReplaceAll(text, `\ `, " ")
}

// defaults reads a line of Defaults. One that cannot be read, and holds nothing
// that matters, is visudo's to judge.
func (l *Line) defaults() {
	var ok bool
	if l.Defaults, ok = ParseDefaults(l.Text); ok {
		l.Sort = DefaultsLine
	} else if mentionsWeakness(l.Text) {
		l.Sort = Unclear
	}
}

// alias reads a line that defines aliases. Only those of users matter.
func (l *Line) alias() {
	keyword := aliasLine.FindString(l.Text)
	definitions := l.Text[len(keyword):]
	if keyword != "User_Alias" {
		plain := digest.ReplaceAllString(definitions, "")
		found := aliasDefinition.FindAllStringSubmatchIndex(plain, -1)
		if len(found) != equals(plain) {
			l.Sort = Unclear
		} else if keyword[0] == 'C' {
			l.Commands = map[string]string{}
			for i, at := range found {
				end := len(plain)
				if i+1 < len(found) {
					end = found[i+1][0]
				}
				l.Commands[plain[at[4]:at[5]]] = plain[at[1]:end]
			}
		}
		return
	}
	l.Sort, l.Aliases = Alias, map[string][]Subject{}
	for p := (parser{definitions}); ; {
		name, found := p.word()
		p.blanks()
		if !found || !aliasName.MatchString(name) || !p.take('=') {
			l.Sort = Unclear
			return
		}
		users, ok := p.users()
		l.Aliases[name] = users
		switch {
		case ok && p.rest == "":
			return
		case !ok || !p.take(':'):
			l.Sort = Unclear
			return
		}
		p.blanks()
	}
}

// OnlyDenies says whether the commands of a grant are a list of denials. Where a quote or a
// backslash may hide what separates them, a colon begin another list, or an alias deny
// something itself, which is granted then, they are not.
func (l Line) OnlyDenies(aliases map[string]string) bool {
	denied := l.denied()
	return denied != nil && !slices.ContainsFunc(denied, func(command string) bool { return hasDenial(command, aliases, 0) })
}

// hasDenial says whether a command is an alias with a denial in it, or may be.
func hasDenial(command string, aliases map[string]string, depth int) bool {
	definition, isAlias := aliases[command]
	return isAlias && (depth >= maxAliases || slices.ContainsFunc(strings.Split(definition, ","), func(one string) bool {
		one = strings.Trim(one, " \t")
		return strings.HasPrefix(one, "!") || hasDenial(one, aliases, depth+1)
	}))
}

// DeniesMany says whether they are, and one of them stands for more than one program, or may.
func (l Line) DeniesMany() bool { return slices.ContainsFunc(l.denied(), isMany) }

// plainGrant is the rest of a grant that denies nothing and restricts nothing.
var plainGrant = regexp.MustCompile(`^[^=!"\\:()]+=[ \t]*(\([^!"\\()]*\)[ \t]*)?((NOPASSWD|PASSWD|SETENV|NOSETENV):[ \t]*)*(ALL|/[^,=!"\\:()]*)([ \t]*,[ \t]*(ALL|/[^,=!"\\:()]*))*$`)

// OnlyGrants reports whether a line is a grant in its plainest form: without it nobody may do more than
// with it.
func (l Line) OnlyGrants() bool { return l.Sort == Grant && plainGrant.MatchString(l.Rest) }

// Narrows reports whether a grant takes from somebody who may do everything more than single programs,
// or may do so. aliases are those of commands.
func (l Line) Narrows(aliases map[string]string) bool {
	hosts, commands, ok := strings.Cut(l.Rest, "=")
	commands = strings.TrimLeft(commands, " \t")
	if as, after, found := strings.Cut(commands, ")"); strings.HasPrefix(commands, "(") {
		if !found || strings.Contains(as, "!") {
			return true
		}
		commands = after
	}
	commands = plainTags.ReplaceAllString(commands, "")
	return !ok || strings.ContainsAny(l.Rest, "\"\\") || strings.Contains(hosts, ":") || strings.ContainsAny(commands, ":=()") ||
		slices.ContainsFunc(strings.Split(commands, ","), func(command string) bool { return narrows(command, aliases, 0) })
}

var plainTags = regexp.MustCompile(`^[ \t]*((NOPASSWD|PASSWD|SETENV|NOSETENV):[ \t]*)*`)

func narrows(command string, aliases map[string]string, depth int) bool {
	command, negated := strings.CutPrefix(strings.Trim(command, " \t"), "!")
	command = strings.TrimLeft(command, " \t")
	definition, isAlias := aliases[command]
	switch {
	case isAlias && depth < maxAliases && !hasDenial(command, aliases, 0):
		return slices.ContainsFunc(strings.Split(definition, ","), func(one string) bool {
			one = strings.Trim(one, " \t")
			return negated && narrows("!"+one, aliases, depth+1) || !negated && narrows(one, aliases, depth+1)
		})
	case negated:
		return !strings.HasPrefix(command, "/") || isMany(command)
	}
	return command != "ALL" && !strings.HasPrefix(command, "/")
}

// denied are the commands of a list of denials, without their marks.
func (l Line) denied() (denied []string) {
	if l.Sort != Grant || strings.ContainsAny(l.Rest, "\"\\") {
		return nil
	}
	_, commands, _ := strings.Cut(l.Rest, "=")
	commands = strings.TrimLeft(commands, " \t")
	if strings.HasPrefix(commands, "(") {
		_, after, found := strings.Cut(commands, ")")
		if !found {
			return nil
		}
		commands = after
	}
	for command := range strings.SplitSeq(commands, ",") {
		command, negated := strings.CutPrefix(strings.TrimLeft(command, " \t"), "!")
		command = strings.Trim(command, " \t")
		if !negated || strings.HasPrefix(command, "!") {
			return nil
		}
		denied = append(denied, command)
	}
	if strings.Contains(commands, ":") {
		return nil
	}
	return denied
}

// isMany says whether a command stands for more than one program, or may.
func isMany(command string) bool {
	program, _, _ := strings.Cut(command, " ")
	return strings.HasSuffix(program, "/") || strings.HasPrefix(program, "^") || IsPattern(program) || aliasName.MatchString(program)
}

// equals counts the equals signs that are neither escaped nor quoted nor in
// parentheses.
func equals(text string) int {
	count, quoted, depth := 0, false, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == '=' && depth == 0:
			count++
		}
	}
	return count
}

// Disable makes comments of logical lines of a file: each of their physical
// lines gets mark, which begins with "# ", in front. All else stays as it is.
func Disable(content []byte, lines []Line, mark string) []byte {
	physical := bytes.SplitAfter(content, []byte("\n"))
	var disabled bytes.Buffer
	for i, text := range physical {
		for _, l := range lines {
			if l.First <= i+1 && i+1 <= l.Last && len(text) > 0 {
				disabled.WriteString(mark)
				break
			}
		}
		disabled.Write(text)
	}
	return disabled.Bytes()
}
