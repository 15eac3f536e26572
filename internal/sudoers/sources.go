package sudoers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A source is one source that sudo queries, and whether the search ends after it.
type source struct {
	name       string // "files", "sss" or "ldap"
	ifFound    bool   // [SUCCESS=return]
	ifNotFound bool   // [NOTFOUND=return]
}

const nsswitch = "/etc/nsswitch.conf"

// parseSources reads the first line of nsswitch.conf(5) for sudoers, as sudo does.
func parseSources(content []byte) (sources []source) {
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		text = strings.TrimSpace(text)
		if len(text) < len("sudoers:") || !strings.EqualFold(text[:len("sudoers:")], "sudoers:") {
			continue
		}
		named := false // whether an action may follow, which applies to the last source
		for _, word := range strings.Fields(text[len("sudoers:"):]) {
			word = strings.ToLower(word)
			last := len(sources) - 1
			isNew := !slices.ContainsFunc(sources, func(s source) bool { return s.name == word })
			switch {
			case isNew && (word == "files" || word == "sss" || word == "ldap"):
				sources = append(sources, source{name: word})
				named = true
				continue
			case named && word == "[success=return]":
				sources[last].ifFound = true
			case named && word == "[notfound=return]":
				sources[last].ifNotFound = true
			}
			named = false
		}
		break
	}
	if len(sources) == 0 {
		sources = []source{{name: "files"}}
	}
	return sources
}

// asTheyCount sorts the entries of a list in order of evaluation. sudo lists the entries of every
// source in the order of nsswitch.conf, even of sources that it would not query.
func asTheyCount(ctx context.Context, s *system.System, entries []Entry) ([]Entry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	content, err := s.FS.ReadFile(nsswitch)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	sources := parseSources(content)
	if !slices.ContainsFunc(sources, func(s source) bool { return s.ifFound || s.ifNotFound }) {
		return entries, nil
	}
	directories := slices.DeleteFunc(slices.Clone(sources), func(s source) bool { return s.name == "files" })
	of := make([][]Entry, len(sources))
	for _, e := range entries {
		if len(directories) > 1 && !strings.HasPrefix(e.Source, localSource) {
			return nil, fmt.Errorf("%s names two directories, and what ends the search: sudo does not say which of them %s is from", nsswitch, e.Source)
		}
		i := slices.IndexFunc(sources, func(s source) bool { return (s.name == "files") == strings.HasPrefix(e.Source, localSource) })
		if i < 0 {
			return nil, fmt.Errorf("sudo lists something of %s, which %s does not name", e.Source, nsswitch)
		}
		of[i] = append(of[i], e)
	}
	old, err := isOld(ctx, s)
	if err != nil {
		return nil, err
	}
	return inForce(sources, of, old)
}

var version = regexp.MustCompile(`(?m)^Sudo version (\d+)\.(\d+)`)

// isOld reports whether sudo is older than 1.9.
func isOld(ctx context.Context, s *system.System) (bool, error) {
	out, err := s.Runner.Run(ctx, system.Command{Argv: []string{"sudo", "-V"}, ReadOnly: true, Timeout: AnswerTimeout})
	if err != nil {
		return false, fmt.Errorf("cannot ask sudo for its version, which decides whether it queries the next source: %w", err)
	}
	m := version.FindStringSubmatch(string(out.Stdout))
	if m == nil {
		return false, fmt.Errorf("cannot tell the version of sudo, which decides whether it queries the next source, from %q", firstLine(string(out.Stdout)))
	}
	return number(m[1]) < 1 || number(m[1]) == 1 && number(m[2]) < 9, nil
}

// inForce returns the entries of all sources in an order in which the last match decides. A source
// that ends the search if it has an answer comes last, because its answer is final. Before 1.9 only
// its grants are final: the next source may grant what it denies.
func inForce(sources []source, of [][]Entry, old bool) ([]Entry, error) {
	if len(sources) == 0 {
		return nil, nil
	}
	first := of[0]
	rest, err := inForce(sources[1:], of[1:], old)
	switch {
	case err != nil:
		return nil, err
	case sources[0].ifFound && old:
		return slices.Concat(first, rest, Listing{Entries: first}.Granted()), nil
	case sources[0].ifFound:
		return slices.Concat(rest, first), nil
	case sources[0].ifNotFound && len(rest) > 0 && !settles(first):
		return nil, fmt.Errorf("after %s, %s has [NOTFOUND=return], with which sudo does not always query the sources after it; remove that", sources[0].name, nsswitch)
	case sources[0].ifNotFound && old && !(Listing{Entries: first}).Administers():
		return first, nil // it denies everything, and that ends the search
	}
	return slices.Concat(first, rest), nil
}

// settles reports whether a source has an answer for every command, so that it is known whether
// sudo queries the next one.
func settles(entries []Entry) bool {
	if len(entries) == 0 {
		return false
	}
	last := entries[len(entries)-1]
	command := last.Commands[len(last.Commands)-1]
	all, _ := matches(last.As, func(name string) bool { return name == "ALL" }, anybody)
	return all && len(last.Bounds) == 0 && (command == Everything || command == "!"+Everything)
}
