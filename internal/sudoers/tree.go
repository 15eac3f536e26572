package sudoers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A Tree is everything that sudo reads, in the order in which it does: of two
// lines that match, the later one decides.
type Tree struct {
	Lines   []Placed
	Missing []string // files that are included and cannot be read
	joined  bytes.Buffer
	origins []string // of the lines of joined
}

// A Placed line is a line and the file it is in.
type Placed struct {
	File string
	Line
}

// maxDepth is the depth of includes at which sudo gives up.
const maxDepth = 128

// Read reads Main and all that it includes. Where changes names a file, that
// content counts instead of what is on disk; nil means that the file is gone.
func Read(files system.FS, changes map[string][]byte) (*Tree, error) {
	t := &Tree{}
	r := reader{files, changes, t}
	content, err := r.content(Main)
	if err != nil {
		return nil, err
	}
	r.file(Main, content, 0)
	return t, nil
}

type reader struct {
	files   system.FS
	changes map[string][]byte
	tree    *Tree
}

func (r reader) content(name string) ([]byte, error) {
	if content, changed := r.changes[name]; changed {
		if content == nil {
			return nil, fs.ErrNotExist
		}
		return content, nil
	}
	return ReadFile(r.files, name)
}

// ReadFile reads a file as sudo does, through symbolic links.
func ReadFile(files system.FS, name string) ([]byte, error) {
	for range 8 {
		info, err := files.Stat(name)
		if err != nil {
			return nil, err
		}
		if info.Type != fs.ModeSymlink {
			break
		}
		target, err := files.Readlink(name)
		if err != nil {
			return nil, err
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		name = target
	}
	return files.ReadFile(name)
}

func (r reader) file(name string, content []byte, depth int) {
	physical := bytes.SplitAfter(content, []byte("\n"))
	for _, line := range Parse(content) {
		r.tree.Lines = append(r.tree.Lines, Placed{name, line})
		target := line.Path
		if target != "" && !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		switch {
		case line.Sort == Include && depth < maxDepth && r.include(target, depth):
		case line.Sort == IncludeDir && depth < maxDepth:
			r.directory(path.Clean(target), depth)
		default:
			for i := line.First; i <= line.Last; i++ {
				r.join(name, i, physical[i-1])
			}
		}
	}
	// The last line must not run into the first one of the next file.
	r.join(name, len(physical), []byte("\n"))
	r.join(name, len(physical), []byte("\n"))
}

func (r reader) join(name string, number int, physical []byte) {
	r.tree.joined.Write(physical)
	if bytes.HasSuffix(physical, []byte("\n")) {
		r.tree.origins = append(r.tree.origins, fmt.Sprintf("%s:%d", name, number))
	}
}

func (r reader) include(name string, depth int) bool {
	content, err := r.content(name)
	if err != nil {
		r.tree.Missing = append(r.tree.Missing, name)
		return false
	}
	r.file(name, content, depth+1)
	return true
}

func (r reader) directory(dir string, depth int) {
	names := map[string]bool{}
	listed, _ := r.files.ReadDir(dir) // sudo does not mind a directory that is not there
	for _, name := range listed {
		names[name] = true
	}
	for changed := range r.changes {
		if path.Dir(changed) == dir {
			names[path.Base(changed)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if Skipped(name) {
			continue
		}
		content, err := r.content(path.Join(dir, name))
		if err != nil {
			continue // nor a file there that it cannot read
		}
		r.file(path.Join(dir, name), content, depth+1)
	}
}

// Skipped says whether sudo passes over a file of this name in a directory.
func Skipped(name string) bool {
	return strings.Contains(name, ".") || strings.HasSuffix(name, "~")
}

// Aliases are all aliases of users that the tree defines.
func (t *Tree) Aliases() map[string][]Subject {
	aliases := map[string][]Subject{}
	for _, line := range t.Lines {
		maps.Copy(aliases, line.Aliases)
	}
	return aliases
}

// Old visudo says ">>> stdin: syntax error near line 3 <<<", later ones say
// "stdin:3:9: syntax error".
var reportedLine = regexp.MustCompile(`stdin:(\d+)(?::\d+)?: *| near line (\d+)`)

// ErrInvalid is wrapped by Validate's error when visudo has read the files and
// found fault with them.
var ErrInvalid = errors.New("visudo refuses it")

// Validate has visudo(8) judge the tree as a whole. It is handed over on
// standard input with everything that is included in its place, so that nothing
// need be written anywhere to ask about a change. The error says which file and
// line is wrong.
func (t *Tree) Validate(ctx context.Context, runner system.Runner) error {
	out, err := runner.Run(ctx, system.Command{
		Argv: []string{"visudo", "-c", "-f", "-"}, Stdin: t.joined.Bytes(), ReadOnly: true,
	})
	switch {
	case errors.Is(err, system.ErrNotInstalled):
		return fmt.Errorf("cannot check the sudoers files: visudo: %w", err)
	case err != nil:
		return fmt.Errorf("cannot check the sudoers files: %w", err)
	case out.ExitCode == 0:
		return nil
	}
	said := string(out.Stderr) + string(out.Stdout)
	for text := range strings.SplitSeq(said, "\n") {
		if match := reportedLine.FindStringSubmatch(text); match != nil && !strings.Contains(text, "Warning") {
			number, _ := strconv.Atoi(match[1] + match[2])
			reason := strings.TrimPrefix(strings.Trim(reportedLine.ReplaceAllString(text, ""), "> <"), "stdin: ")
			return fmt.Errorf("%w: %s: %s", ErrInvalid, t.place(number), reason)
		}
	}
	return fmt.Errorf("%w: %s", ErrInvalid, out.LastLine())
}

// place names the file and line that stand in a line of the joined text. visudo
// may name the one behind the culprit.
func (t *Tree) place(number int) string {
	if number < 1 || number > len(t.origins) {
		return Main
	}
	return t.origins[number-1]
}
