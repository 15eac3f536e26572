package protected

import (
	"path"
	"strings"
)

// Pattern says why what a pattern of glob(7) means must not be written or removed, as far
// as its letters tell, or "" when it may be. With all below it, what stands above a
// protected path is as good as that.
func Pattern(pattern string, below bool) string {
	pattern = merged(path.Clean(pattern))
	glob := strings.ContainsAny(pattern, "*?[")
	if !glob {
		if why := Path(pattern); why != "" {
			return why
		}
	}
	for _, e := range files() {
		for root := range e.each {
			if !glob && (!below || pattern != "/" && !strings.HasPrefix(root, pattern+"/")) {
				continue // Path knows
			}
			if meets(pattern, root, below) && Path(root) != "" {
				return e.why
			}
		}
	}
	if !glob {
		return ""
	}
	return unitPattern(pattern)
}

// unitPattern is Pattern for the files of units, of which only the names are known.
func unitPattern(pattern string) string {
	parts := strings.Split(strings.Trim(pattern, "/"), "/")
	for _, dir := range unitDirs() {
		depth := strings.Count(dir, "/") - 1
		if len(parts) <= depth || !meets("/"+strings.Join(parts[:depth], "/"), dir, false) {
			continue
		}
		unit, addition := strings.CutSuffix(parts[depth], ".d")
		if kind := path.Ext(unit); len(parts) > depth+1 && (kind == ".wants" || kind == ".requires") {
			unit = parts[depth+1]
		}
		for _, e := range unitEntries(strings.HasSuffix(dir, "/user/"), addition) {
			for name := range e.each {
				if meansUnit(unit, strings.ReplaceAll(name, "*", "")) {
					return e.why
				}
			}
		}
	}
	return ""
}

// unitEntries are the entries of the units whose files are protected, those of people's managers or the
// machine's; with addition, of those that may not be added to either.
func unitEntries(user, addition bool) []entry {
	if user {
		return sessionUnits()
	}
	all := theirs()
	if !addition {
		all = append(all, needed()...)
	}
	var entries []entry
	for _, c := range all {
		if !c.covers("soe-firewall") {
			entries = append(entries, c.entry)
		}
	}
	return entries
}

// meansUnit says whether a pattern means a unit of a name, which has its type or not.
func meansUnit(pattern, name string) bool {
	for _, kind := range []string{"", ".service", ".socket", ".path", ".timer", "@.service"} {
		if matched, _ := path.Match(pattern, name+kind); matched {
			return true
		}
	}
	return false
}

// meets says whether a pattern means a path, or something below it; or above it, if all
// below counts.
func meets(pattern, root string, below bool) bool {
	means, names := strings.Split(strings.Trim(pattern, "/"), "/"), strings.Split(strings.Trim(root, "/"), "/")
	if len(means) < len(names) && !below {
		return false
	}
	if pattern == "/" {
		return below
	}
	for i := range min(len(means), len(names)) {
		if matched, err := path.Match(means[i], names[i]); err == nil && !matched {
			return false
		}
	}
	return true
}
