// Package gvdb reads GVDB files: the databases that dconf compiles, and gschemas.compiled, from
// which GSettings takes the type of every key. It reads them as the programs on the desktop do, so
// its results are what is in effect.
//
//	root, err := gvdb.Parse(content)
//	value, ok := root.Value("/org/mate/screensaver/lock-enabled")
//	text, ok := value.Text() // "true"
//
// A file may be damaged or forged, so every offset is checked against the file's bounds before it
// is used. As in GLib, an entry that fails a check counts as missing.
//
// The format is that of gvdb-format.h in GLib; values are in the serialised form of GVariant.
package gvdb

import (
	"encoding/binary"
	"errors"
	"iter"
)

const (
	signature  = "GVariant"
	headerSize = 24
	itemSize   = 24
	// The count of bloom filter words shares its field with another value.
	bloomMask = 1<<27 - 1
	noParent  = 0xffffffff

	// Limits above those of any dconf path.
	maxKeySize  = 4096
	maxKeyParts = 64
)

// Types of items.
const (
	valueItem = 'v'
	tableItem = 'H'
)

// ErrFormat is the error of a file that is not a GVDB file, or has the other byte order.
var ErrFormat = errors.New("it is not a GVDB file of this machine's byte order, or it is damaged")

// A Table is a hash table of a file. The zero Table is empty.
type Table struct {
	file  []byte
	items []byte
}

// Parse returns the outermost table. The file must not be changed afterwards.
func Parse(file []byte) (Table, error) {
	if len(file) < headerSize || string(file[:8]) != signature || binary.LittleEndian.Uint32(file[8:]) != 0 {
		return Table{}, ErrFormat
	}
	root, ok := table(file, file[16:24])
	if !ok {
		return Table{}, ErrFormat
	}
	return root, nil
}

// table reads the table at a pointer of the file.
func table(file, pointer []byte) (Table, bool) {
	content, ok := chunk(file, pointer)
	if !ok || len(content) < 8 {
		return Table{}, false
	}
	blooms := uint64(binary.LittleEndian.Uint32(content)) & bloomMask
	buckets := uint64(binary.LittleEndian.Uint32(content[4:]))
	content = content[8:]
	skip := 4 * (blooms + buckets)
	if skip > uint64(len(content)) || (uint64(len(content))-skip)%itemSize != 0 {
		return Table{}, false
	}
	return Table{file: file, items: content[skip:]}, true
}

// chunk returns the part of the file that a pointer delimits.
func chunk(file, pointer []byte) ([]byte, bool) {
	start, end := binary.LittleEndian.Uint32(pointer), binary.LittleEndian.Uint32(pointer[4:])
	if start > end || uint64(end) > uint64(len(file)) {
		return nil, false
	}
	return file[start:end], true
}

func (t Table) item(i uint32) ([]byte, bool) {
	at := uint64(i) * itemSize
	if at >= uint64(len(t.items)) {
		return nil, false
	}
	return t.items[at : at+itemSize], true
}

// key returns the whole key of an item. An item stores only the part after its parent's key.
func (t Table) key(item []byte) (string, bool) {
	var key string
	for range maxKeyParts {
		start := uint64(binary.LittleEndian.Uint32(item[8:]))
		size := uint64(binary.LittleEndian.Uint16(item[12:]))
		if start+size > uint64(len(t.file)) || len(key)+int(size) > maxKeySize { // size has 16 bits
			return "", false
		}
		key = string(t.file[start:start+size]) + key
		parent := binary.LittleEndian.Uint32(item[4:])
		if parent == noParent {
			return key, true
		}
		var ok bool
		if item, ok = t.item(parent); !ok {
			return "", false
		}
	}
	return "", false
}

// all yields the items of one type by their keys.
func (t Table) all(kind byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for items := t.items; len(items) > 0; items = items[itemSize:] {
			item := items[:itemSize]
			if item[14] != kind {
				continue
			}
			if key, ok := t.key(item); ok && !yield(key, item) {
				return
			}
		}
	}
}

// Values yields the values of the table, in no particular order.
func (t Table) Values() iter.Seq2[string, Variant] {
	return func(yield func(string, Variant) bool) {
		for key, item := range t.all(valueItem) {
			if v, ok := t.variant(item); ok && !yield(key, v) {
				return
			}
		}
	}
}

// Value returns the value of a key.
func (t Table) Value(key string) (Variant, bool) {
	for k, item := range t.all(valueItem) {
		if k == key {
			return t.variant(item)
		}
	}
	return Variant{}, false
}

// Tables yields the nested tables, in no particular order.
func (t Table) Tables() iter.Seq2[string, Table] {
	return func(yield func(string, Table) bool) {
		for key, item := range t.all(tableItem) {
			if inner, ok := table(t.file, item[16:24]); ok && !yield(key, inner) {
				return
			}
		}
	}
}

// Table returns the nested table of a key, or an empty one if there is none.
func (t Table) Table(key string) Table {
	for k, item := range t.all(tableItem) {
		if k == key {
			inner, _ := table(t.file, item[16:24])
			return inner
		}
	}
	return Table{}
}

// variant reads an item's value, which is stored inside a variant.
func (t Table) variant(item []byte) (Variant, bool) {
	content, ok := chunk(t.file, item[16:24])
	if !ok {
		return Variant{}, false
	}
	children, ok := Variant{Type: "v", Data: content}.Children()
	if !ok {
		return Variant{}, false
	}
	return children[0], true
}
