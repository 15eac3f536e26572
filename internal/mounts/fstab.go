package mounts

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// FstabFile is the file of fstab(5).
const FstabFile = "/etc/fstab"

// Options are those of a mount that take rights away and nothing else. Each belongs to the mount, and
// not to the file system.
func Options() []string { return []string{"nodev", "nosuid", "noexec"} }

// undoes is the option that takes one of Options back.
func undoes(option string) string { return strings.TrimPrefix(option, "no") }

// An Fstab is the text of a file of fstab(5), line by line. All that is not changed stays to the byte.
type Fstab struct{ lines []string }

// ParseFstab reads a file.
func ParseFstab(content string) Fstab { return Fstab{slices.Collect(strings.Lines(content))} }

func (f Fstab) String() string { return strings.Join(f.lines, "") }

// A field is where one stands in a line.
type field struct{ begin, end int }

// fields are those of a line, none of a comment.
func fields(line string) (all []field) {
	isBlank := func(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }
	for i := 0; i < len(line); {
		if isBlank(line[i]) {
			i++
			continue
		}
		begin := i
		for i < len(line) && !isBlank(line[i]) {
			i++
		}
		if len(all) == 0 && line[begin] == '#' {
			return nil
		}
		all = append(all, field{begin, i})
	}
	return all
}

func (f Fstab) text(line int, number int) string {
	at := fields(f.lines[line])[number]
	return f.lines[line][at.begin:at.end]
}

// Lines are the numbers of the lines of a mount point.
func (f Fstab) Lines(point string) (numbers []int) {
	for i, line := range f.lines {
		if all := fields(line); len(all) > 1 && path.Clean(Unescape(f.text(i, 1))) == point {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// Line is a line as it stands.
func (f Fstab) Line(number int) string { return f.lines[number] }

// Unsure says why it cannot be told what the options of a line are, or "".
func (f Fstab) Unsure(number int) string {
	switch all := fields(f.lines[number]); {
	case len(all) < 4:
		return "it names no options"
	case strings.ContainsAny(f.lines[number], "\r\x00\""):
		return "not every reader takes it alike"
	case strings.HasPrefix(f.text(number, 3), "#"):
		return "a comment stands in it where the options should be"
	}
	return ""
}

// Has says whether one of Options is in effect by a line that is not Unsure.
func (f Fstab) Has(number int, option string) bool {
	has := false
	for word := range strings.SplitSeq(f.text(number, 3), ",") {
		switch word {
		case option:
			has = true
		case undoes(option):
			has = false
		}
	}
	return has
}

// Set has one of Options be in effect by a line, by adding it at the end, or takes it out once.
func (f *Fstab) Set(number int, option string, on bool) {
	words := strings.Split(f.text(number, 3), ",")
	if on {
		words = append(words, option)
	} else if last := lastIndex(words, option); last >= 0 {
		words = slices.Delete(words, last, last+1)
	}
	if len(words) == 0 {
		words = []string{"defaults"}
	}
	line, at := f.lines[number], fields(f.lines[number])[3]
	f.lines = slices.Clone(f.lines)
	f.lines[number] = line[:at.begin] + strings.Join(words, ",") + line[at.end:]
}

func lastIndex(words []string, word string) int {
	for i := len(words) - 1; i >= 0; i-- {
		if words[i] == word {
			return i
		}
	}
	return -1
}

// SharedMemory is the mount point for which a line can be made: systemd mounts it by itself, and
// has it remounted as the line says (systemd-remount-fs.service(8)).
const SharedMemory = "/dev/shm"

// SharedMemoryLine is that line.
func SharedMemoryLine(options []string) string {
	return "tmpfs " + SharedMemory + " tmpfs " + strings.Join(options, ",") + " 0 0\n"
}

// Insert puts a line before the first that mounts anything.
func (f *Fstab) Insert(line string) {
	at := max(0, slices.IndexFunc(f.lines, func(l string) bool { return len(fields(l)) > 0 }))
	f.lines = slices.Insert(slices.Clone(f.lines), at, line)
}

// Delete takes a line out.
func (f *Fstab) Delete(number int) { f.lines = slices.Delete(slices.Clone(f.lines), number, number+1) }

// IsSharedMemoryLine says whether a line is one that SharedMemoryLine makes.
func IsSharedMemoryLine(line string) bool {
	all := fields(line)
	if len(all) < 4 {
		return false
	}
	options := strings.Split(line[all[3].begin:all[3].end], ",")
	return line == SharedMemoryLine(options) && !slices.ContainsFunc(options, func(o string) bool { return !slices.Contains(Options(), o) })
}

// OnlyOptions returns an error unless two files of fstab(5) differ in nothing but Options, and lines
// of SharedMemoryLine: a machine that starts with one starts with the other.
func OnlyOptions(before, after string) error {
	old, changed := ParseFstab(before).lines, ParseFstab(after).lines
	old, changed = slices.DeleteFunc(old, IsSharedMemoryLine), slices.DeleteFunc(changed, IsSharedMemoryLine)
	if len(old) != len(changed) {
		return errors.New("another number of file systems would be mounted")
	}
	for i := range old {
		if old[i] != changed[i] && without(old[i]) != without(changed[i]) {
			return fmt.Errorf("line %d would say something else than before besides %s", i+1, strings.Join(Options(), ", "))
		}
	}
	return nil
}

// without is a line without any of Options.
func without(line string) string {
	all := fields(line)
	if len(all) < 4 {
		return line
	}
	words := slices.DeleteFunc(strings.Split(line[all[3].begin:all[3].end], ","), func(word string) bool { return slices.Contains(Options(), word) })
	if len(words) == 0 {
		words = []string{"defaults"}
	}
	return line[:all[3].begin] + strings.Join(words, ",") + line[all[3].end:]
}
