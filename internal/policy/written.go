package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

// A TmpfilesLine is one line of tmpfiles.d(5).
type TmpfilesLine struct {
	Number   int
	Kind     byte
	Boot     bool   // only for the boot (!)
	Added    bool   // in addition to other lines for its path (+)
	Path     string // with specifiers replaced, if they are the same on every machine
	Age      string // "": nothing is removed because of its age
	Argument string
	rest     string // everything after the path
}

// Conflicts reports whether only one of two lines has an effect.
func (l TmpfilesLine) Conflicts(other TmpfilesLine) bool {
	const owning, patterns = "fFwdDevqQpLcbCxXrR", "wexXrR"
	is := func(kinds string, line TmpfilesLine) bool { return strings.IndexByte(kinds, line.Kind) >= 0 }
	return l.Path == other.Path && !l.Added && is(owning, l) && is(owning, other) && is(patterns, l) == is(patterns, other) &&
		(l.Kind != other.Kind || l.rest != other.rest)
}

// TmpfilesLines returns the lines of a file for systemd-tmpfiles.
func TmpfilesLines(content string) []TmpfilesLine {
	var lines []TmpfilesLine
	number := 0
	for text := range strings.SplitSeq(content, "\n") {
		number++
		fields := quotedFields(text)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		line := TmpfilesLine{Number: number, Kind: fields[0][0], Boot: strings.Contains(fields[0], "!"), Added: strings.Contains(fields[0], "+"), Path: specified(fields[1])}
		line.rest = strings.Join(fields[2:], "\x00")
		if len(fields) > 5 && fields[5] != "-" {
			line.Age = fields[5]
		}
		if len(fields) > 6 {
			line.Argument = specified(strings.Join(fields[6:], " "))
		}
		lines = append(lines, line)
	}
	return lines
}

// quotedFields splits a line of systemd into words, which may be quoted.
func quotedFields(line string) []string {
	var fields []string
	var word strings.Builder
	quote, inside := rune(0), false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, inside = c, true
		case c == ' ' || c == '\t' || c == '\r':
			if inside {
				fields = append(fields, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(c)
			inside = true
		}
	}
	if inside {
		fields = append(fields, word.String())
	}
	return fields
}

// specified replaces specifiers. Those that only the machine knows, such as its name, do not occur
// in protected names, and stay.
func specified(text string) string {
	known := map[byte]string{
		'%': "%", 'h': "/root", 't': "/run", 'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 'T': "/tmp", 'V': "/var/tmp",
		'u': "root", 'g': "root", 'U': "0", 'G': "0",
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		if value, is := known[text[i]]; is {
			b.WriteString(value)
		} else {
			b.WriteString(text[i-1 : i+1])
		}
	}
	return b.String()
}

// Written returns why a drop-in must not have this content, or "": it makes other programs write
// what no policy may, as far as that can be told from the text. If a path contains a reference,
// Written is called again on the machine.
func Written(file, content string) string {
	switch dir := path.Dir(file); {
	case path.Base(dir) == "tmpfiles.d":
		return writtenByTmpfiles(content)
	case path.Base(dir) == "sysusers.d":
		return writtenBySysusers(content)
	case strings.HasPrefix(file, "/etc/systemd/system/"):
		return coveredByMount(content)
	}
	return ""
}

// coveredByMount returns a message if a unit mounts something over a protected path, or "".
func coveredByMount(content string) string {
	number := 0
	for text := range strings.SplitSeq(content, "\n") {
		number++
		where, found := strings.CutPrefix(strings.ReplaceAll(text, " ", ""), "Where=")
		if why := protected.Pattern(specified(where), false); found && (why != "" || path.Clean(where) == "/etc") {
			return strings.TrimSuffix(fmt.Sprintf("line %d has systemd mount something over %s: %s", number, where, why), ": ")
		}
	}
	return ""
}

func writtenByTmpfiles(content string) string {
	lines := TmpfilesLines(content)
	links := map[string]string{}
	for _, line := range lines {
		if line.Kind == 'L' && line.Argument != "" {
			target := line.Argument
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(line.Path), target)
			}
			links[path.Clean(line.Path)] = path.Clean(target)
		}
	}
	for _, line := range lines {
		if strings.IndexByte("xX", line.Kind) >= 0 || strings.Contains(line.Path, "{{") {
			continue // these lines only keep others from being removed
		}
		// A line that works recursively, or removes old files, affects everything below its path.
		below := strings.IndexByte("RZTHACD", line.Kind) >= 0 || line.Age != ""
		for _, name := range []string{line.Path, through(links, line.Path)} {
			why := protected.Pattern(name, below)
			if why == "" && strings.IndexByte("fFwLCcbprR", line.Kind) >= 0 {
				why = grantedElsewhere(name)
			}
			if why != "" {
				return fmt.Sprintf("line %d has systemd-tmpfiles write %s: %s", line.Number, name, why)
			}
		}
	}
	return ""
}

// through returns where a name leads through links that the same file creates.
func through(links map[string]string, name string) string {
	for range 8 {
		dir := path.Clean(name)
		for dir != "/" && dir != "." && (links[dir] == "" || dir == path.Clean(name)) {
			dir = path.Dir(dir)
		}
		target := links[dir]
		if target == "" {
			break
		}
		name = target + strings.TrimPrefix(path.Clean(name), dir)
	}
	return name
}

// grantedElsewhere returns why a file must not be written by way of another one, or "".
func grantedElsewhere(name string) string {
	for _, dir := range []string{"/etc/sudoers.d", "/etc/polkit-1"} {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return "it gives rights; write it in [sudo], or as a drop-in of its own"
		}
	}
	return ForbiddenDropin(name)
}

// writtenBySysusers checks a file of sysusers.d(5).
func writtenBySysusers(content string) string {
	number := 0
	for text := range strings.SplitSeq(content, "\n") {
		number++
		fields := quotedFields(text)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		name := fields[1]
		switch kind := fields[0][0]; {
		case kind == 'r':
		case protected.Account(name) != "":
			return fmt.Sprintf("line %d has systemd-sysusers see to the account %s: %s", number, name, protected.Account(name))
		case kind == 'm' && len(fields) > 2 && slices.Contains([]string{"root", "wheel", "sudo", "adm", "disk", "shadow", "docker", "lxd", "kmem"}, fields[2]):
			return fmt.Sprintf("line %d has systemd-sysusers put %s into the group %s, which gives rights: say it in [sudo] or [users]", number, name, fields[2])
		case (kind == 'u' || kind == 'g') && len(fields) > 2 && slices.Contains([]string{"0", "0:0"}, fields[2]):
			return fmt.Sprintf("line %d has systemd-sysusers give %s the id 0, which is root's", number, name)
		}
	}
	return ""
}

// A Mention is a line of a drop-in with a command that seems to write a protected path.
type Mention struct {
	Line      int
	Path, Why string
}

// mentioned finds such lines in what cron and systemd run. What a script does can only be guessed.
func mentioned(file, content string) (found []Mention) {
	dir := path.Dir(file)
	cron, unit := strings.HasPrefix(dir, "/etc/cron."), dir == "/etc/systemd/system" || path.Dir(dir) == "/etc/systemd/system"
	if !cron && !unit {
		return nil
	}
	number := 0
	for text := range strings.SplitSeq(content, "\n") {
		number++
		text = strings.TrimSpace(text)
		if _, output, found := strings.Cut(text, ":/"); unit && found && strings.HasPrefix(text, "Standard") {
			text = "ExecStart=> /" + output // file:, append: and truncate: write to a file
		}
		if strings.HasPrefix(text, "#") || unit && !strings.HasPrefix(text, "Exec") {
			continue
		}
		if name, why := writes(text); why != "" {
			found = append(found, Mention{number, name, why})
		}
	}
	return found
}

// writes returns a protected path that a command seems to write, and why it is protected.
func writes(command string) (name, why string) {
	all := "tee rm rmdir unlink mv truncate chmod chown chgrp touch shred chattr setfacl mkdir mkfifo sed ed patch dd"
	last := "cp install ln rsync"
	spaced := strings.NewReplacer(">>", " > ", ">", " > ", ";", " ; ", "|", " | ", "&", " ; ", "(", " ", ")", " ", "`", " ", `"`, " ", "'", " ", "=", " ").Replace(command)
	words := strings.Fields(spaced)
	program, redirected := "", false
	for i, word := range words {
		switch word {
		case ";", "|":
			program, redirected = "", false
			continue
		case ">":
			redirected = true
			continue
		}
		base := path.Base(word)
		switch {
		case strings.HasPrefix(word, "/") && protected.Pattern(word, false) != "":
			ends := i+1 == len(words) || words[i+1] == ";" || words[i+1] == "|" || words[i+1] == ">"
			if redirected || program == "all" || program == "last" && ends {
				return word, protected.Pattern(word, false)
			}
		case slices.Contains(strings.Fields(all), base):
			program = "all"
		case slices.Contains(strings.Fields(last), base):
			program = "last"
		}
		redirected = false
	}
	return "", ""
}
