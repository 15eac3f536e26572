package dconf

import (
	"slices"
	"strings"
)

// sources returns the databases that a profile names, in order. Only the first one can be written,
// and the value of an earlier one counts.
func sources(profile string) []string {
	var found []string
	for line := range strings.Lines(profile) {
		if s := source(line); s != "" {
			found = append(found, s)
		}
	}
	return found
}

// source returns the database that a line of a profile names, or "".
func source(line string) string {
	line, _, _ = strings.Cut(line, "#")
	line = strings.TrimSpace(line)
	for _, known := range []string{"user-db:", "service-db:", "system-db:", "file-db:"} {
		if strings.HasPrefix(line, known) {
			return line
		}
	}
	return ""
}

func isWritable(source string) bool {
	return strings.HasPrefix(source, "user-db:") || strings.HasPrefix(source, "service-db:")
}

// withDatabase returns the profile with the agent's database directly after the one that the user
// writes, and so before every other system database. All other lines stay. A profile that already
// is like that is returned unchanged.
func withDatabase(profile string) string {
	found := sources(profile)
	if len(found) > 1 && isWritable(found[0]) && found[1] == ourSource && slices.Index(found[2:], ourSource) < 0 {
		return profile
	}
	if profile != "" && !strings.HasSuffix(profile, "\n") {
		profile += "\n"
	}
	var lines []string
	placed := false
	for line := range strings.Lines(profile) {
		switch s := source(line); {
		case s == ourSource:
			continue
		case s != "" && !placed:
			placed = true
			if !isWritable(s) {
				lines = append(lines, userSource+"\n", ourSource+"\n", line)
				continue
			}
			lines = append(lines, line, ourSource+"\n")
		default:
			lines = append(lines, line)
		}
	}
	if !placed {
		lines = append(lines, userSource+"\n", ourSource+"\n")
	}
	return strings.Join(lines, "")
}

// withSources returns a person's own profile as it must be in force: with the agent's database, and
// at the end those databases of everybody's profile that it does not name, so that no lock of
// either is lost.
func withSources(own, everybodys string) string {
	profile := withDatabase(own)
	named := sources(profile)
	var more []string
	for _, s := range sources(everybodys) {
		if !isWritable(s) && !slices.Contains(named, s) {
			more = append(more, s+"\n")
		}
	}
	if len(more) > 0 && !strings.HasSuffix(profile, "\n") {
		profile += "\n"
	}
	return profile + strings.Join(more, "")
}

// namesOurs reports whether a profile names the agent's database.
func namesOurs(profile string) bool { return slices.Contains(sources(profile), ourSource) }

// withoutDatabase returns the profile without the agent's database.
func withoutDatabase(profile string) string {
	var lines []string
	for line := range strings.Lines(profile) {
		if source(line) != ourSource {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

const (
	userSource = "user-db:user"
	ourSource  = "system-db:soe"
)
