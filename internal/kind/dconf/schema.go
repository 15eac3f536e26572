package dconf

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/kind/dconf/gvdb"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// schemasFile is the file that GSettings itself reads. It does not read the XML files next to it.
const (
	schemasDir  = "/usr/share/glib-2.0/schemas"
	schemasFile = schemasDir + "/gschemas.compiled"
)

// schemas are the installed GSettings schemas.
type schemas struct {
	version schemasVersion
	byID    map[string]gvdb.Table
	byDir   map[string][]string // dconf directory → ids of the schemas with that path
}

// schemasVersion identifies one version of gschemas.compiled.
type schemasVersion struct {
	inode uint64
	size  int64
	mtime time.Time
}

// A schemaKey is a key's definition in a schema.
type schemaKey struct {
	schema    string
	typ       string
	choices   []string     // allowed values of a string, or of each element of an array of strings; nil: any
	low, high gvdb.Variant // the range of a number; without a type: any
}

// readSchemas returns the installed schemas. It returns before if the file has not changed.
func readSchemas(files system.FileReader, before *schemas) (*schemas, error) {
	info, err := files.Stat(schemasFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &schemas{}, nil
	}
	if err != nil {
		return nil, err
	}
	version := schemasVersion{info.Inode, info.Size, info.ModTime}
	if before != nil && before.version == version {
		return before, nil
	}
	content, err := files.ReadFile(schemasFile)
	if err != nil {
		return nil, err
	}
	s, err := parseSchemas(content)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w; run: glib-compile-schemas %s", schemasFile, err, schemasDir)
	}
	s.version = version
	return s, nil
}

func parseSchemas(content []byte) (*schemas, error) {
	root, err := gvdb.Parse(content)
	if err != nil {
		return nil, err
	}
	s := &schemas{byID: map[string]gvdb.Table{}, byDir: map[string][]string{}}
	for id, table := range root.Tables() {
		s.byID[id] = table
		if dir, ok := textOf(table, ".path"); ok {
			s.byDir[dir] = append(s.byDir[dir], id)
		}
	}
	for _, ids := range s.byDir {
		slices.Sort(ids)
	}
	return s, nil
}

func textOf(table gvdb.Table, key string) (string, bool) {
	value, _ := table.Value(key)
	scalar, _ := value.Scalar()
	text, ok := scalar.(string)
	return text, ok
}

// keyOf looks up the key that the policy means. If schemas are installed, every value needs one;
// only a gvariant does not, because its text contains the type.
func (s *schemas) keyOf(dconfPath string, want policy.Dconf) (*schemaKey, error) {
	key, err := s.key(dconfPath, want.Schema)
	if err == nil && key == nil && want.Value != nil && s.areInstalled() {
		err = errors.New("no installed schema has this path; name a relocatable one with schema, or say the value as a gvariant")
	}
	return key, err
}

func (s *schemas) areInstalled() bool { return s.byID != nil }

// key looks up a key by its dconf path, and by the id of its schema if one is given. It returns nil
// without an error if no schema is given and no installed schema has the path. That may be right: a
// relocatable schema has no path.
func (s *schemas) key(dconfPath, schema string) (*schemaKey, error) {
	slash := strings.LastIndexByte(dconfPath, '/') + 1
	dir, name := dconfPath[:slash], dconfPath[slash:]
	ids := s.byDir[dir]
	if schema != "" {
		table, installed := s.byID[schema]
		if !installed {
			return nil, fmt.Errorf("no schema %s is installed", schema)
		}
		if fixed, ok := textOf(table, ".path"); ok && fixed != dir {
			return nil, fmt.Errorf("the installed schema %s is for %s alone", schema, fixed)
		}
		ids = []string{schema}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var known []string
	for _, id := range ids {
		for table := range s.withBases(id) {
			for key, value := range table.Values() {
				if key == name {
					return parseSchemaKey(id, value)
				}
				if !strings.HasPrefix(key, ".") && !strings.HasSuffix(key, "/") {
					known = append(known, key)
				}
			}
		}
	}
	hint := ""
	if meant := policy.Nearest(name, known); meant != "" {
		hint = fmt.Sprintf("; did you mean %q?", meant)
	}
	return nil, fmt.Errorf("the installed schema %s has no key %q%s", strings.Join(ids, ", "), name, hint)
}

// withBases yields a schema and the schemas that it extends.
func (s *schemas) withBases(id string) func(yield func(gvdb.Table) bool) {
	const deepest = 8
	return func(yield func(gvdb.Table) bool) {
		for range deepest {
			table, ok := s.byID[id]
			if !ok || !yield(table) {
				return
			}
			id, _ = textOf(table, ".extends")
		}
	}
}

// parseSchemaKey reads a key as glib-compile-schemas writes it: a tuple of the default and the
// restrictions of the value, each with a letter for its sort.
func parseSchemaKey(schema string, value gvdb.Variant) (*schemaKey, error) {
	parts, ok := value.Children()
	if !ok || len(parts) == 0 {
		return nil, fmt.Errorf("the installed schema %s is damaged", schema)
	}
	key := &schemaKey{schema: schema, typ: parts[0].Type}
	for _, part := range parts[1:] {
		fields, ok := part.Children()
		if !ok || len(fields) != 2 {
			continue
		}
		letter, _ := fields[0].Scalar()
		switch letter {
		case uint64('e'), uint64('f'), uint64('c'):
			key.choices = choices(fields[1].Data)
		case uint64('r'):
			if ends, ok := fields[1].Children(); ok && len(ends) == 2 {
				key.low, key.high = ends[0], ends[1]
			}
		}
	}
	return key, nil
}

// choices parses GLib's "string info map": for each choice a four-byte number, 0xff, the string,
// zeros, 0xff. An alias begins with 0xfe instead.
func choices(data []byte) []string {
	found := []string{}
	for len(data) > 5 {
		data = data[4:]
		end := slices.Index(data[1:], 0xff)
		if end < 0 {
			break
		}
		found = append(found, strings.TrimRight(string(data[1:1+end]), "\x00"))
		data = data[end+2:]
	}
	return found
}

// allows returns an error if a value is not one of the choices or is out of range.
func (k *schemaKey) allows(value any) error {
	switch value := value.(type) {
	case string:
		if k.choices != nil && !slices.Contains(k.choices, value) {
			return fmt.Errorf("%q is none of %s", value, strings.Join(k.choices, ", "))
		}
	case []any:
		if k.typ == "as" {
			for _, element := range value {
				if err := k.allows(element); err != nil {
					return err
				}
			}
		}
	case int64, uint64, float64:
		low, ok1 := k.low.Scalar()
		high, ok2 := k.high.Scalar()
		if ok1 && ok2 && (compareNumbers(value, low) < 0 || compareNumbers(value, high) > 0) {
			return fmt.Errorf("%v is not between %v and %v", value, low, high)
		}
	}
	return nil
}

// judge returns an error if a value in a database violates the schema. GSettings would silently
// ignore such a value.
func (k *schemaKey) judge(value gvdb.Variant) error {
	if value.Type != k.typ {
		return fmt.Errorf("it is of type %s, and the installed schema %s has the key as %s", describeType(value.Type), k.schema, describeType(k.typ))
	}
	content, ok := value.Scalar()
	if !ok {
		elements, _ := value.Children()
		values := make([]any, len(elements))
		for i, element := range elements {
			values[i], _ = element.Scalar()
		}
		content = values
	}
	if err := k.allows(content); err != nil {
		return fmt.Errorf("%w, says the installed schema %s", err, k.schema)
	}
	return nil
}

// compareNumbers compares two numbers of type int64, uint64 or float64.
func compareNumbers(a, b any) int {
	x, xIsInt := a.(int64)
	switch y := b.(type) {
	case int64:
		if xIsInt {
			return cmp.Compare(x, y)
		}
	case uint64:
		if unsigned, ok := a.(uint64); ok {
			return cmp.Compare(unsigned, y)
		}
		if xIsInt {
			if x < 0 {
				return -1
			}
			return cmp.Compare(uint64(x), y)
		}
	}
	return cmp.Compare(asFloat(a), asFloat(b))
}

func asFloat(n any) float64 {
	switch n := n.(type) {
	case int64:
		return float64(n)
	case uint64:
		return float64(n)
	case float64:
		return n
	}
	return 0
}
