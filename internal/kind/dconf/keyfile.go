package dconf

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// A setting is the value and lock of one key.
type setting struct {
	text   string // in GVariant text format
	locked bool
}

// settings are the contents of the keyfile and of the file of locks, by dconf path, such as
// "/org/mate/screensaver/lock-enabled".
type settings map[string]setting

const (
	notice = "# Made by soe-agent from its policy: changes to this file are undone.\n"
	// The seal after this text identifies the two files and the database that dconf made of them,
	// so that a database from any other source is noticed.
	sealed = "# sealed: "
)

// keyfile returns the values in the format of dconf(7), without notice and seal.
func (s settings) keyfile() []byte {
	var b bytes.Buffer
	dir := ""
	// Sorted by directory and then key, because a group must not appear twice.
	for _, name := range slices.SortedFunc(maps.Keys(s), byDirectory) {
		if d := path.Dir(name); d != dir {
			dir = d
			fmt.Fprintf(&b, "\n[%s]\n", strings.TrimPrefix(dir, "/"))
		}
		fmt.Fprintf(&b, "%s=%s\n", path.Base(name), s[name].text)
	}
	return b.Bytes()
}

func byDirectory(a, b string) int {
	if c := strings.Compare(path.Dir(a), path.Dir(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

// locks returns the locked paths, one per line. dconf takes each line literally, up to its end.
func (s settings) locks() []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if s[name].locked {
			fmt.Fprintln(&b, name)
		}
	}
	return b.Bytes()
}

// parse reads the output of keyfile and locks. From files that somebody has changed it takes
// whatever has the same format.
func parse(keyfile, locks []byte) settings {
	s := settings{}
	dir := ""
	for line := range bytes.SplitSeq(keyfile, []byte("\n")) {
		text := string(line)
		if inner, ok := strings.CutPrefix(text, "["); ok {
			dir = "/" + strings.TrimSuffix(inner, "]") + "/"
			continue
		}
		if key, value, ok := strings.Cut(text, "="); ok && dir != "" && !strings.HasPrefix(text, "#") {
			s[dir+key] = setting{text: value}
		}
	}
	for line := range bytes.SplitSeq(locks, []byte("\n")) {
		if entry, ok := s[string(line)]; ok {
			entry.locked = true
			s[string(line)] = entry
		}
	}
	return s
}

// withSeal returns the keyfile as it is written to disk.
func withSeal(body []byte, seal string) []byte {
	return slices.Concat([]byte(notice+sealed+seal+"\n"), body)
}

// cutSeal splits off what withSeal added. The seal is "" if the file does not begin as withSeal
// writes it.
func cutSeal(keyfile []byte) (body []byte, seal string) {
	rest, ok := bytes.CutPrefix(keyfile, []byte(notice+sealed))
	if !ok {
		return keyfile, ""
	}
	line, body, _ := bytes.Cut(rest, []byte("\n"))
	return body, string(line)
}

// sealOf returns the hash of a keyfile's body, a file of locks, and the database that dconf makes
// of them.
func sealOf(body, locks, database []byte) string {
	hash := sha256.New()
	for _, part := range [][]byte{body, locks, database} {
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(part)))
		hash.Write(size[:])
		hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
