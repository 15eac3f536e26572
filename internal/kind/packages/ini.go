package packages

import "strings"

// setting is one line of an INI file.
type setting struct{ key, value string }

// parseINI reads the sections of a repository file as yum and dnf do. A line that begins with a
// blank continues the value before it.
func parseINI(content []byte) map[string][]setting {
	sections := map[string][]setting{}
	section := ""
	for line := range strings.Lines(string(content)) {
		text := strings.TrimSpace(line)
		current := sections[section]
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case text[0] == '[' && strings.Contains(text, "]"):
			section = text[1:strings.IndexByte(text, ']')]
			if sections[section] == nil {
				sections[section] = []setting{}
			}
		case (line[0] == ' ' || line[0] == '\t') && len(current) > 0:
			current[len(current)-1].value += " " + text
		default:
			at := strings.IndexAny(text, "=:")
			if at < 0 {
				at = len(text)
			}
			key, value := strings.TrimSpace(text[:at]), strings.TrimSpace(strings.TrimLeft(text[at:], "=:"))
			sections[section] = append(current, setting{strings.ToLower(key), value})
		}
	}
	return sections
}
