package sudoers

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Tree is everything that sudo reads, in the order in which sudo reads it. If two lines match,
// the later one decides.
type Tree struct {
	Lines   []Placed
	Missing []string // included files that sudo cannot read, or ignores
	Unread  []error  // errors of files that sudo may be able to read but the agent could not

	// Content has the content of each file that was read, by the name under which it was included.
	Content map[string][]byte
	// Places are where a change may affect what sudo reads: the included directories, and the names
	// of all files, existing or not, and of the links that lead to them.
	Places []Place

	circular bool
}

// A Placed is a line and the file it is in.
type Placed struct {
	File string
	sudotext.Line
}

// A Place is a name in a directory, or the whole directory if Name is empty.
type Place struct{ Dir, Name string }

func (t *Tree) place(p Place) {
	if !slices.Contains(t.Places, p) {
		t.Places = append(t.Places, p)
	}
}

// maxDepth is the depth of includes at which sudo gives up and refuses everybody. Includes that
// deep are circular.
const maxDepth = 128

// Read reads Main and everything that it includes. If changes has a file, that content is used
// instead of the one on disk; nil means that the file is missing.
func Read(files system.FileReader, changes map[string][]byte) (*Tree, error) {
	t := &Tree{Content: map[string][]byte{}}
	r := reader{files, changes, t}
	content, err := r.content(Main)
	if err != nil {
		return nil, err
	}
	r.file(Main, content, 0)
	return t, nil
}

type reader struct {
	files   system.FileReader
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
	_, info, err := r.follow(name)
	switch {
	case err != nil:
		return nil, err
	case !info.IsRegular(), name != Main && !trusted(info):
		return nil, errPassedOver
	}
	return ReadFile(r.files, name)
}

// errPassedOver is the error of content for what sudo ignores: it is not a regular file, or others
// than root can write it.
var errPassedOver = errors.New("sudo passes over it")

// unread records that a file which sudo may be able to read could not be read.
func (r reader) unread(err error) {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errPassedOver) {
		r.tree.Unread = append(r.tree.Unread, err)
	}
}

// ReadFile reads a file as sudo does, following symbolic links.
func ReadFile(files system.FileReader, name string) ([]byte, error) {
	name, _, err := follow(files, name)
	if err != nil {
		return nil, err
	}
	return files.ReadFile(name)
}

// Trusted reports whether sudo reads a file or directory: it belongs to root, and only root can
// write it. sudo ignores others, with everything that they grant.
func Trusted(files system.FileReader, name string) bool {
	_, info, err := follow(files, name)
	return err == nil && trusted(info)
}

// IsDir returns a function that reports whether a path is a directory, or a link to one.
func IsDir(files system.FS) func(string) bool {
	return func(name string) bool {
		_, info, err := follow(files, name)
		return err == nil && info.IsDir()
	}
}

func trusted(info system.Info) bool {
	return info.UID == 0 && info.Mode&0o002 == 0 && (info.Mode&0o020 == 0 || info.GID == 0)
}

func follow(files system.FileReader, name string) (string, system.Info, error) {
	return followed(files, name, func(string) {})
}

// follow follows symbolic links and records all names on the way.
func (r reader) follow(name string) (string, system.Info, error) {
	return followed(r.files, name, func(name string) { r.tree.place(Place{path.Dir(name), path.Base(name)}) })
}

func followed(files system.FileReader, name string, passed func(name string)) (string, system.Info, error) {
	passed(name)
	info, err := files.Stat(name)
	for range 8 {
		if err != nil || info.Type != fs.ModeSymlink {
			break
		}
		target, err2 := files.Readlink(name)
		if err2 != nil {
			return "", info, err2
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		name = target
		passed(name)
		info, err = files.Stat(name)
	}
	return name, info, err
}

func (r reader) file(name string, content []byte, depth int) {
	r.tree.Content[name] = content
	for _, line := range sudotext.Parse(content) {
		target := r.first(line.Path)
		if target != "" && !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		if line.Sort == sudotext.IncludeDir {
			target = r.named(target)
			if target == Dir {
				line.Path = Dir
			}
		}
		r.tree.Lines = append(r.tree.Lines, Placed{name, line})
		switch {
		case line.Sort == sudotext.Include && r.deepens(depth) && !strings.Contains(target, "%"):
			r.include(target, depth)
		case line.Sort == sudotext.IncludeDir && r.deepens(depth):
			r.directory(target, depth)
		}
	}
}

// first returns the path that an include means. Since 1.9.14, sudo uses the first existing one of
// several paths separated by colons. All of them are recorded.
func (r reader) first(written string) string {
	if !strings.Contains(written, ":") || r.isThere(written) {
		return written
	}
	for name := range strings.SplitSeq(written, ":") {
		if path.IsAbs(name) && r.isThere(name) {
			return name
		}
	}
	return written
}

func (r reader) isThere(name string) bool {
	if _, changed := r.changes[name]; changed {
		return true
	}
	_, _, err := r.follow(name)
	return err == nil
}

// named returns Dir if dir is the same directory under any name, and otherwise the cleaned path.
func (r reader) named(dir string) string {
	if dir == Dir || r.resolved(dir, true) == r.resolved(Dir, false) {
		return Dir
	}
	return path.Clean(dir)
}

// resolved returns where a path leads after following all links. If note is set, the links are
// recorded.
func (r reader) resolved(name string, note bool) string {
	at, left := "/", strings.Split(name, "/")
	for links := 0; len(left) > 0 && links < maxLinks; {
		next := path.Join(at, left[0])
		left = left[1:]
		info, err := r.files.Stat(next)
		if err != nil || info.Type != fs.ModeSymlink {
			at = next
			continue
		}
		target, err := r.files.Readlink(next)
		if err != nil {
			at = next
			continue
		}
		if links++; note {
			r.tree.place(Place{path.Dir(next), path.Base(next)})
		}
		if path.IsAbs(target) {
			at = "/"
		}
		left = append(strings.Split(target, "/"), left...)
	}
	return path.Join(at, path.Join(left...))
}

// maxLinks is how many links in a path are followed.
const maxLinks = 40

// deepens reports whether to follow an include. After one circle none is followed any more: two in
// one file would be followed 2¹²⁸ times.
func (r reader) deepens(depth int) bool {
	r.tree.circular = r.tree.circular || depth >= maxDepth
	return !r.tree.circular
}

// include reads a file that another one includes.
func (r reader) include(name string, depth int) {
	content, err := r.content(name)
	if err != nil {
		r.unread(err)
		r.tree.Missing = append(r.tree.Missing, name)
		return
	}
	r.file(name, content, depth+1)
}

func (r reader) directory(dir string, depth int) {
	r.tree.place(Place{Dir: dir})
	names := map[string]bool{}
	listed, err := r.files.ReadDir(dir) // sudo ignores a directory that does not exist
	if err != nil {
		r.unread(err)
	}
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
			r.unread(err)
			continue // and a file in it that it cannot read
		}
		r.file(path.Join(dir, name), content, depth+1)
	}
}

// Skipped reports whether sudo ignores a file with this name in an included directory.
func Skipped(name string) bool {
	return strings.Contains(name, ".") || strings.HasSuffix(name, "~")
}

// Aliases returns all user aliases that the tree defines. If a name is defined twice, sudo uses the
// first definition or refuses everybody.
func (t *Tree) Aliases() map[string][]sudotext.Subject {
	aliases := map[string][]sudotext.Subject{}
	for _, line := range t.Lines {
		for name, users := range line.Aliases {
			if _, defined := aliases[name]; !defined {
				aliases[name] = users
			}
		}
	}
	return aliases
}

// CommandAliases returns all command aliases that the tree defines, as lists.
func (t *Tree) CommandAliases() map[string]string {
	aliases := map[string]string{}
	for _, line := range t.Lines {
		for name, commands := range line.Commands {
			if _, defined := aliases[name]; !defined {
				aliases[name] = commands
			}
		}
	}
	return aliases
}
