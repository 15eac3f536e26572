package dropin

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// checkDesktopEntry follows the Desktop Entry Specification, for those rules whose violation keeps an
// entry from being started.
func checkDesktopEntry(_ context.Context, c candidate) error {
	if c.content == nil {
		return nil
	}
	group, groups, keys := "", 0, map[string]string{}
	if err := eachLine(c.content, "#", func(line string) string {
		key, value, assigned := strings.Cut(line, "=")
		switch {
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			group, groups = line, groups+1
			if groups == 1 && group != "[Desktop Entry]" {
				return "the first group is not [Desktop Entry]"
			}
		case group == "":
			return "it stands before [Desktop Entry]"
		case !assigned:
			return "it is neither a [Group] nor an assignment"
		case groups == 1:
			keys[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
		return ""
	}); err != nil {
		return err
	}
	switch {
	case groups == 0:
		return errors.New("it has no group [Desktop Entry]")
	case keys["Hidden"] == "true": // it only hides another entry
	case keys["Type"] != "Application":
		return errors.New("only what has Type=Application is started")
	case keys["Name"] == "":
		return errors.New("it has no Name")
	case keys["Exec"] == "" && keys["DBusActivatable"] != "true":
		return errors.New("it has no Exec")
	}
	return nil
}

var environmentVariable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// checkEnvironment follows environment.d(5).
func checkEnvironment(_ context.Context, c candidate) error {
	return eachLine(c.content, "#;", func(line string) string {
		if !environmentVariable.MatchString(line) {
			return "it is not of the form NAME=value"
		}
		return ""
	})
}

// checkChrony has chronyd parse the file without running.
func checkChrony(ctx context.Context, c candidate) error {
	if c.content == nil {
		return nil
	}
	out, found, err := c.staged(ctx, "chrony.conf", c.content, "chronyd", "-p", "-f")
	if err != nil || !found || out.ExitCode == 0 || strings.Contains(string(out.Stderr), "invalid option") {
		return err // chrony before 4.0 has no such option
	}
	return fmt.Errorf("chronyd refuses it: %s", c.quoted(out.LastLine()))
}

// checkScript finds unterminated strings and brackets in a polkit script, which polkit would silently
// ignore. After a slash that may begin a regular expression, the rest of the line is not judged.
func checkScript(_ context.Context, c candidate) error {
	var open []byte
	line := 1
	for i := 0; i < len(c.content); i++ {
		switch b := c.content[i]; b {
		case '\n':
			line++
		case '"', '\'':
			end := endOfString(c.content[i:])
			if end < 0 {
				return fmt.Errorf("line %d: a string has no end", line)
			}
			i += end
		case '`':
			return nil // template strings: later engines only, with rules of their own
		case '/':
			rest := c.content[i:]
			switch {
			case strings.HasPrefix(string(rest), "/*"):
				end := strings.Index(string(rest[2:]), "*/")
				if end < 0 {
					return fmt.Errorf("line %d: a comment has no end", line)
				}
				line += strings.Count(string(rest[:end+4]), "\n")
				i += end + 3
			case strings.HasPrefix(string(rest), "//"):
				for i+1 < len(c.content) && c.content[i+1] != '\n' {
					i++
				}
			default:
				return nil
			}
		case '(', '[', '{':
			open = append(open, b)
		case ')', ']', '}':
			if len(open) == 0 || strings.IndexByte("([{", open[len(open)-1]) != strings.IndexByte(")]}", b) {
				return fmt.Errorf("line %d: %c closes nothing", line, b)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("a %c is not closed", open[len(open)-1])
	}
	return nil
}

// endOfString returns the end of the string that begins text, or -1.
func endOfString(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case text[0]:
			return i
		case '\n':
			return -1
		}
	}
	return -1
}
