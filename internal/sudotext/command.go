package sudotext

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A Command is one that somebody may run, in words that every sudo since 1.8.23 reads
// alike.
type Command struct {
	As       []Subject // whom it is run as; none: root, or where AsGroups has any whoever runs it
	AsGroups []Subject
	Tags     []string // such as "NOPASSWD"
	Digest   string   // that the program must have, as in sudoers; "": any
	Program  string   // its path, in which "\" escapes; "sudoedit"; a directory ends in "/"
	Args     []string // words, in which "\" escapes; none: whatever they are
	NoArgs   bool     // it must have none
}

// SudoEdit is the Program that stands for having files edited, which are its Args.
const SudoEdit = "sudoedit"

// tags are those that sudo 1.8.23 knows.
var tags = []string{
	"EXEC", "NOEXEC", "FOLLOW", "NOFOLLOW", "LOG_INPUT", "NOLOG_INPUT", "LOG_OUTPUT", "NOLOG_OUTPUT",
	"MAIL", "NOMAIL", "PASSWD", "NOPASSWD", "SETENV", "NOSETENV",
}

var (
	commandTag    = regexp.MustCompile(`^([A-Z_]+) *: *`)
	commandOption = regexp.MustCompile(`^[A-Z_]+ *=`)
	commandDigest = regexp.MustCompile(`^sha(224|256|384|512) *: *([A-Za-z0-9+/=]+) +`)
	number        = regexp.MustCompile(`^[0-9]{1,10}$`)
	commandAlias  = regexp.MustCompile(`^[A-Z][A-Z0-9_]*( |$)`)
	commandPath   = regexp.MustCompile(`^/(\\[,:= #]|[^\\,:= #"'])*$`)
	commandWord   = regexp.MustCompile(`^(\\[,:=#\\ *?\[\]!]|[^\\,:= #"'])+$`)
)

// ParseCommand reads what stands behind the "=" of a grant: in parentheses whom the command is
// run as, tags, and one command. All that is there is understood, or it is an error: nothing
// of it can say more, whatever stands around it.
func ParseCommand(text string) (Command, error) {
	var c Command
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) }) {
		return c, errors.New("it has a line break or another control character")
	}
	rest, err := c.parseAs(strings.Trim(text, " "))
	if err != nil {
		return c, err
	}
	for m := commandTag.FindStringSubmatch(rest); m != nil; m = commandTag.FindStringSubmatch(rest) {
		if !slices.Contains(tags, m[1]) {
			return c, fmt.Errorf("%s is no tag that every sudo knows", m[1])
		}
		c.Tags = append(c.Tags, m[1])
		rest = rest[len(m[0]):]
	}
	if m := commandDigest.FindStringSubmatch(rest); m != nil {
		if !isDigest(m[1], m[2]) {
			return c, fmt.Errorf("%q is not a digest of sha%s", m[2], m[1])
		}
		c.Digest = "sha" + m[1] + ":" + m[2]
		rest = rest[len(m[0]):]
	}
	return c, c.parseProgram(rest)
}

func isDigest(bits, text string) bool {
	n, _ := strconv.Atoi(bits)
	plain, err := hex.DecodeString(text)
	if err != nil {
		plain, err = base64.StdEncoding.DecodeString(text)
	}
	return err == nil && len(plain) == n/8
}

// parseAs reads the list in parentheses from the front of a text, and returns the rest.
func (c *Command) parseAs(text string) (rest string, err error) {
	if !strings.HasPrefix(text, "(") {
		c.As = []Subject{{Form: User, Name: "root"}}
		return text, nil
	}
	p, ok := parser{text[1:]}, true
	if p.blanks(); !strings.HasPrefix(p.rest, ":") {
		c.As, ok = p.users()
	}
	if ok && p.take(':') {
		c.AsGroups, ok = p.users()
	}
	if !ok || !p.take(')') {
		return "", errors.New("what stands in parentheses is not a list of users, or of users and groups with a colon between")
	}
	for _, s := range slices.Concat(c.As, c.AsGroups) {
		switch {
		case s.Negated:
			return "", errors.New(`whom it is run as is named, and not whom it is not: what is not denied may still be root, as "#-1" was`)
		case s.Form == Named || s.Form == NetGroup || s.Form == Foreign:
			return "", fmt.Errorf("%s in parentheses is an alias, or a group of a kind, that may be unknown here", s)
		case (s.Form == UID || s.Form == GID) && !number.MatchString(s.Name):
			return "", fmt.Errorf("%q in parentheses is not a number", s.Name)
		}
	}
	if slices.ContainsFunc(c.AsGroups, func(s Subject) bool { return s.Form == Group || s.Form == GID }) {
		return "", errors.New("a group behind the colon in parentheses has no %")
	}
	p.blanks()
	return p.rest, nil
}

// parseProgram reads a program and its arguments.
func (c *Command) parseProgram(text string) error {
	switch {
	case text == "":
		return errors.New("it names no command")
	case commandOption.MatchString(text):
		return errors.New("of what may stand before a command, only tags are taken, such as NOPASSWD: is")
	case text == "ALL" || strings.HasPrefix(text, "ALL "):
		return errors.New("whoever may run ALL is an administrator: name them in [sudo] allow")
	case strings.HasPrefix(text, "!"):
		return errors.New("a command is named, and not denied: what is denied can be run under another name, and what is not named is denied anyway")
	case commandAlias.MatchString(text):
		return errors.New("it is an alias, which may be another one tomorrow; name the command")
	}
	program, args := cutWord(text)
	switch {
	case program != SudoEdit && !strings.HasPrefix(program, "/"):
		return fmt.Errorf("%q is not the path of a program, nor sudoedit", program)
	case program != SudoEdit && !commandPath.MatchString(program):
		return fmt.Errorf(`%q has a comma, colon, equals sign, hash or quote; \ goes before the first four`, program)
	case program != SudoEdit && path.Base(program) == SudoEdit:
		return errors.New("sudoedit is written without a path")
	case program != SudoEdit && path.Clean(program) != strings.TrimSuffix(program, "/"):
		return fmt.Errorf("%q is not a clean path", program)
	}
	c.Program, c.NoArgs = program, args == `""`
	for !c.NoArgs && args != "" {
		var word string
		word, args = cutWord(args)
		if !commandWord.MatchString(word) {
			return fmt.Errorf(`%q has a comma, colon, equals sign, hash, quote or backslash, which mean something else to sudo; \ goes before them, but for quotes, which it would take as they are`, word)
		}
		c.Args = append(c.Args, word)
	}
	switch {
	case len(c.Args) > 0 && strings.HasPrefix(c.Args[0], "^"):
		return errors.New("arguments that begin with ^ are a pattern to a newer sudo, and text to an older one")
	case strings.HasSuffix(program, "/") && (c.NoArgs || len(c.Args) > 0):
		return errors.New("a directory has no arguments")
	case program == SudoEdit && (len(c.Args) == 0 || c.Digest != ""):
		return errors.New("sudoedit needs the paths of files, and no digest")
	case program == SudoEdit && slices.ContainsFunc(c.Args, func(a string) bool { return !strings.HasPrefix(a, "/") || path.Clean(a) != a }):
		return errors.New("sudoedit takes whole, clean paths")
	}
	return nil
}

// cutWord cuts a text after its first word: at a blank that no backslash escapes.
func cutWord(text string) (word, rest string) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case ' ':
			return text[:i], strings.TrimLeft(text[i:], " ")
		}
	}
	return text, ""
}

// String writes the command as a sudoers file has it.
func (c Command) String() string {
	var words []string
	as := listed(c.As)
	if len(c.AsGroups) > 0 {
		as += ":" + listed(c.AsGroups)
	}
	words = append(words, "("+as+")")
	for _, tag := range c.Tags {
		words = append(words, tag+":")
	}
	if c.Digest != "" {
		words = append(words, c.Digest)
	}
	words = append(append(words, c.Program), c.Args...)
	if c.NoArgs {
		words = append(words, `""`)
	}
	return strings.Join(words, " ")
}

func listed(subjects []Subject) string {
	var names []string
	for _, s := range subjects {
		names = append(names, s.String())
	}
	return strings.Join(names, ", ")
}

// Has says whether a tag is in force: of two that contradict each other, the later one is.
func (c Command) Has(tag string) bool {
	return lastIndex(c.Tags, tag) > lastIndex(c.Tags, opposite(tag))
}

func opposite(tag string) string {
	if positive, negative := strings.CutPrefix(tag, "NO"); negative {
		return positive
	}
	return "NO" + tag
}

func lastIndex(texts []string, text string) int {
	for i, t := range slices.Backward(texts) {
		if t == text {
			return i
		}
	}
	return -1
}

// IsPattern says whether a word of a command stands for more than itself.
func IsPattern(word string) bool {
	for i := 0; i < len(word); i++ {
		switch word[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}
