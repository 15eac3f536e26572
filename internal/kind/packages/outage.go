package packages

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// An outage is why a repository could not be reached, and until when that is
// believed: asking again may cost a minute and a half.
type outage struct {
	said  string
	until time.Time
}

// maxOutages is how many repositories are left out before a command has failed for
// good.
const maxOutages = 8

// unreachable finds in what yum 3 and dnf 4 say on standard error the repository
// for which they stopped. yum may add version and architecture after a slash.
var unreachable = regexp.MustCompile(`(?m)^failure: repodata/\S+ from ([\w.:-]*\w)` +
	`|yum --disablerepo=([\w.:-]*\w) \.\.\.` +
	`|Cannot find a valid baseurl for repo: ([\w.:-]*\w)` +
	`|Cannot retrieve (?:repository metadata \(\S+\)|metalink) for repository: ([\w.:-]*\w)` +
	`|Failed to download metadata for repo '([\w.:-]*\w)'`)

// outageIn is the repository for which a command stopped, and why, or "".
func outageIn(out system.Output) (repository, said string) {
	text := string(out.Stderr)
	if strings.Contains(text, "Ignoring repositories") {
		return "", "" // dnf went on without it
	}
	match := unreachable.FindStringSubmatch(text)
	if match == nil {
		return "", ""
	}
	repository = strings.Join(match[1:], "")
	for line := range strings.Lines(text) {
		if strings.Contains(line, "[Errno ") || unreachable.MatchString(line) && !strings.Contains(line, "--disablerepo") {
			return repository, decoration.ReplaceAllString(strings.TrimSpace(line), "")
		}
	}
	return repository, "it gives no reason"
}

// reaching runs a command of the package manager, and again without a repository
// that cannot be reached, unless the policy needs it: yum does nothing at all when one
// of them is down. What is left out is in the output, where leftOut finds it.
func (m manager) reaching(run func(without []string) (system.Output, error)) (system.Output, error) {
	now := m.system.Clock.Now()
	maps.DeleteFunc(m.down, func(_ string, o outage) bool { return !now.Before(o.until) })
	var first *system.Output
	for {
		var without []string
		for _, repository := range slices.Sorted(maps.Keys(m.down)) {
			without = append(without, "--disablerepo="+repository)
		}
		out, err := run(without)
		if err != nil {
			return out, err
		}
		repository, said := outageIn(out)
		_, again := m.down[repository]
		switch {
		case first != nil && (again || strings.Contains(string(out.Stderr), "There are no enabled repo")):
			return *first, nil // nothing is left that could be reached
		case repository == "" || again || len(m.down) == maxOutages || slices.Contains(m.needed, repository):
			return m.withOutages(out), nil
		}
		m.system.Log.Warn("cannot reach a repository; the transaction is tried without it", "kind", "package", "repository", repository, "said", said)
		if first == nil {
			first = &out
		}
		m.down[repository] = outage{said, m.system.Clock.Now().Add(doubtKept)}
	}
}

const leftOutSign = "without the repository "

func (m manager) withOutages(out system.Output) system.Output {
	left := skipped(out)
	for repository, o := range m.down {
		left[repository] = o.said
	}
	for _, repository := range slices.Sorted(maps.Keys(left)) {
		out.Stderr = fmt.Appendf(out.Stderr, "\n%s%s, which cannot be reached (%s)", leftOutSign, repository, left[repository])
	}
	return out
}

// skipped are the repositories that dnf went on without by itself, and why.
func skipped(out system.Output) map[string]string {
	left := map[string]string{}
	failed, why := "", map[string]string{}
	for line := range strings.Lines(string(out.Stderr)) {
		line = strings.TrimSpace(line)
		if text, found := strings.CutPrefix(line, "Errors during downloading metadata for repository '"); found {
			failed = strings.TrimRight(text, "':")
		} else if text, found := strings.CutPrefix(line, "- "); found && failed != "" && why[failed] == "" {
			why[failed] = text
		} else if text, found := strings.CutPrefix(line, "Ignoring repositories: "); found {
			for _, repository := range words(text) {
				left[repository] = cmp.Or(why[repository], "it gives no reason")
			}
		}
	}
	return left
}

// leftOut says without which repositories a command ran, or "".
func leftOut(out system.Output) string {
	var left []string
	for line := range strings.Lines(string(out.Stderr)) {
		if strings.HasPrefix(line, leftOutSign) {
			left = append(left, strings.TrimSpace(line))
		}
	}
	return strings.Join(left, "; ")
}
