package packages

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// An outage says why a repository could not be reached, and until when it is left out. Trying again
// may take a minute and a half.
type outage struct {
	said  string
	until time.Time
}

// maxOutages is how many repositories are left out before a command counts as failed.
const maxOutages = 8

// unreachable matches the messages of yum 3 and dnf 4 on standard error that name the repository
// for which they stopped. yum may append version and architecture after a slash.
var unreachable = regexp.MustCompile(`(?m)^failure: repodata/\S+ from ([\w.:-]*\w)` +
	`|yum --disablerepo=([\w.:-]*\w) \.\.\.` +
	`|Cannot find a valid baseurl for repo: ([\w.:-]*\w)` +
	`|Cannot retrieve (?:repository metadata \(\S+\)|metalink) for repository: ([\w.:-]*\w)` +
	`|Failed to download metadata for repo '([\w.:-]*\w)'`)

// outageIn returns the repository for which a command stopped, and the reason. Both are "" if it
// did not stop for one.
func outageIn(out system.Output) (repository, said string) {
	text := string(out.Stderr)
	if strings.Contains(text, "Ignoring repositories") {
		return "", "" // dnf continued without it
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

// reaching runs a command of the package manager. If a repository cannot be reached, it runs the
// command again without it, unless the policy needs that repository: yum does nothing at all when
// one of them is down. It never uses a repository whose definition is not to be trusted. The output
// lists what was left out; see leftOut.
func (m manager) reaching(run func(without []string) (system.Output, error)) (system.Output, error) {
	now := m.system.Clock.Now()
	maps.DeleteFunc(m.down, func(_ string, o outage) bool { return !now.Before(o.until) })
	untrusted := m.untrusted()
	for _, repository := range slices.Sorted(maps.Keys(untrusted)) {
		if slices.Contains(m.needed, repository) {
			return system.Output{}, public.Error(fmt.Errorf("nothing is done without the repository %s, which is not used: %s", repository, untrusted[repository]))
		}
		m.system.Log.Warn("a repository is not used", "kind", "package", "repository", repository, "why", untrusted[repository])
	}
	var first *system.Output
	for {
		left := maps.Clone(untrusted)
		for repository := range m.down {
			left[repository] = ""
		}
		var without []string
		for _, repository := range slices.Sorted(maps.Keys(left)) {
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
			return *first, nil // no reachable repository is left
		case repository == "" || again || len(m.down) == maxOutages || slices.Contains(m.needed, repository):
			return m.withOutages(out, untrusted), nil
		}
		m.system.Log.Warn("cannot reach a repository; the transaction is tried without it", "kind", "package", "repository", repository, "said", said)
		if first == nil {
			first = &out
		}
		m.down[repository] = outage{said, m.system.Clock.Now().Add(doubtKept)}
	}
}

const leftOutSign = "without the repository "

func (m manager) withOutages(out system.Output, untrusted map[string]string) system.Output {
	left := skipped(out)
	for repository, o := range m.down {
		left[repository] = o.said
	}
	for _, repository := range slices.Sorted(maps.Keys(left)) {
		out.Stderr = fmt.Appendf(out.Stderr, "\n%s%s, which cannot be reached (%s)", leftOutSign, repository, left[repository])
	}
	for _, repository := range slices.Sorted(maps.Keys(untrusted)) {
		out.Stderr = fmt.Appendf(out.Stderr, "\n%s%s, which is not used: %s", leftOutSign, repository, untrusted[repository])
	}
	return out
}

// skipped returns the repositories that dnf itself continued without, and why.
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

// leftOut says which repositories a command ran without, or "".
func leftOut(out system.Output) string {
	var left []string
	for line := range strings.Lines(string(out.Stderr)) {
		if strings.HasPrefix(line, leftOutSign) {
			left = append(left, strings.TrimSpace(line))
		}
	}
	return strings.Join(left, "; ")
}
