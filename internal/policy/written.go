package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

// Written returns why a drop-in must not have this content, or "": it makes other programs write
// what no policy may, as far as that can be told from the text. If a path contains a reference,
// Written is called again on the machine.
func Written(file, content string) string {
	switch dir := path.Dir(file); {
	case path.Base(dir) == "tmpfiles.d":
		return WrittenByTmpfiles(content, nil)
	case path.Base(dir) == "sysusers.d":
		return writtenBySysusers(content)
	case strings.Contains(file, "/systemd/"):
		if why := coveredByMount(content); why != "" {
			return why
		}
		return doneByUnit(file, content)
	}
	return ""
}

// UnquotedWritten is what Written returns without any text of the content.
func UnquotedWritten(why string) string {
	number, _, _ := strings.Cut(strings.TrimPrefix(why, "line "), " ")
	return "line " + strings.TrimSuffix(number, ":") + " has others do what no policy may; which place it is about is not shown, for a part of it may be secret"
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
