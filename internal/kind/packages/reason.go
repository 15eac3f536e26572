package packages

import (
	"regexp"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// reasons match the messages of yum 3.4 and dnf 4 when they cannot do what is asked, the most
// specific first.
func reasons() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`nothing provides .* needed by .*`),
		regexp.MustCompile(`requires .*, but none of the providers can be installed`),
		regexp.MustCompile(`conflicts with `),
		regexp.MustCompile(`is not signed`),
		regexp.MustCompile(`are not correct for this package`),
		regexp.MustCompile(`key retrieval failed`),
		regexp.MustCompile(`Public key for .* is not installed`), // yum prints it before either of the two above too
		regexp.MustCompile(`Protected multilib versions`),
		regexp.MustCompile(`scriptlet failed`),
		regexp.MustCompile(`in \w+ scriptlet in `),
		regexp.MustCompile(`which is protected|protected packages`),
		regexp.MustCompile(`filtered out by exclude`),
		unknown,
		regexp.MustCompile(`needs \d+.*B more space|No space left on device|Insufficient space|At least .* more space needed`),
		regexp.MustCompile(`already installed|is already recorded`),
		regexp.MustCompile(`There are no enabled repo`),
		regexp.MustCompile(`Exiting on user cancel`),
		regexp.MustCompile(`checksum|Cannot download|No more mirrors|All mirrors were tried`),
	}
}

var (
	decoration = regexp.MustCompile(`^(Error: |error: |Problem( \d+)?: |- )+`)
	unknown    = regexp.MustCompile(`Unable to find a match|No [Pp]ackage .* available|[Nn]o [Mm]atch for (argument|available package)|No packages marked for` +
		`|[Gg]roup .* (does not exist|is not available)`)
	yumNeeds = regexp.MustCompile(`Package: (\S+) \([^)]*\)\n\s*Requires: (.+)`)
)

// reason returns why a transaction did not do what was wanted, in the package manager's own words,
// and which repositories were left out.
func reason(out system.Output) string {
	text := ownWords(out)
	if left := leftOut(out); left != "" && left != text {
		text += "; it was tried " + left
	}
	return text
}

func ownWords(out system.Output) string {
	if needs := yumNeeds.FindSubmatch(out.Stderr); needs != nil {
		return "nothing provides " + string(needs[2]) + " needed by " + string(needs[1])
	}
	var lines []string
	for _, text := range [][]byte{out.Stderr, out.Stdout} {
		for line := range strings.Lines(string(text)) {
			lines = append(lines, decoration.ReplaceAllString(strings.TrimSpace(line), ""))
		}
	}
	for _, telling := range reasons() {
		for _, line := range lines {
			if telling.MatchString(line) {
				return line
			}
		}
	}
	for line := range strings.Lines(string(out.Stderr)) {
		if line = decoration.ReplaceAllString(strings.TrimSpace(line), ""); line != "" {
			return line
		}
	}
	return "the package manager gives no reason; see /var/log/dnf.log or /var/log/yum.log"
}

// hopeless reports whether a transaction failed for a reason that affects all of its packages, so
// that trying fewer is pointless.
func hopeless(out system.Output) bool {
	var b strings.Builder
	for line := range strings.Lines(string(out.Stderr) + "\n" + string(out.Stdout)) {
		if !strings.HasPrefix(line, leftOutSign) { // a repository that was left out is not a reason any more
			b.WriteString(line)
		}
	}
	text := b.String()
	for _, sign := range []string{
		"There are no enabled repo", "No space left on device", "Insufficient space", "Config error", "enough cached data to continue",
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return strings.Contains(text, "Failed to download metadata") && !strings.Contains(text, "Ignoring repositories")
}

// unknownName reports whether a name or version was not found in the repositories.
func unknownName(out system.Output) bool {
	return unknown.Match(out.Stderr) || unknown.Match(out.Stdout)
}
