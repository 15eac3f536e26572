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
	if !strings.ContainsAny(pattern, "*?[") {
		if why := Path(pattern); why != "" {
			return why
		}
	}
	for _, part := range []struct {
		roots []string
		why   string
	}{
		{required(), "it belongs to WorkSpaces: the desktop may become unreachable"},
		{access(), "it decides who can log in and how the machine is reached"},
	} {
		for _, root := range part.roots {
			if meets(pattern, root, below) && Path(root) != "" {
				return part.why
			}
		}
	}
	return ""
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
