package protected

import "path"

// Merged is the clean name of a file, below /usr and /run where it is known by an older one.
func Merged(name string) string { return merged(path.Clean(name)) }

// Meets says whether a pattern of glob(7) means a path, or something below it; or above it, if all below counts.
func Meets(pattern, name string, below bool) bool { return meets(pattern, name, below) }
