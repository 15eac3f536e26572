package policy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/keyed"
)

// ShellsFile and SecureTTYFile decide who gets in, and are kept by lines all the same.
const (
	ShellsFile    = "/etc/shells"
	SecureTTYFile = "/etc/securetty"
)

var (
	shellLine = regexp.MustCompile(`^/[^\s#]+$`)
	ttyLine   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9/_.:-]*$`)
)

// refusesLine says why a line must not be in one of the files that decide who gets in, or gone from it, or
// "". is says that it is one.
func refusesLine(file, line string, gone bool) (why string, is bool) {
	switch file {
	case ShellsFile:
		if !shellLine.MatchString(line) {
			return "it is not the absolute path of a shell", true
		}
		return "", true
	case SecureTTYFile:
		switch {
		case !ttyLine.MatchString(line):
			return "it is not the name of a terminal", true
		case !gone && strings.HasPrefix(line, "pts"):
			return "root would get in over the network", true
		}
		return "", true
	}
	return "", false
}

// validateLines says what is wrong with the lines that are to be kept of a file.
func (f File) validateLines(v *validator, file string) {
	if len(f.Lines)+len(f.AbsentLines) == 0 {
		return
	}
	if _, decides := refusesLine(file, "", true); !decides {
		if why := ForbiddenContent(file); why != "" {
			v.wrong("lines of %s are not kept: %s", file, why)
			return
		}
	}
	said := map[string]bool{}
	for _, line := range slices.Concat(f.Lines, f.AbsentLines) {
		if v.open(line) {
			continue
		}
		one := keyed.OneLine(line)
		v.refuse(said[one], "of the line %q it speaks twice", line)
		said[one] = true
		v.refuse(one == "" || breaksLine(line) || strings.TrimSpace(line) != line || strings.HasPrefix(line, "#"),
			"%q is not a line: it is empty or a comment, or has a line break or a blank at an end", line)
		if why, _ := refusesLine(file, line, !slices.Contains(f.Lines, line)); why != "" {
			v.wrong("the line %q of %s cannot be so: %s", line, file, why)
		}
	}
}
