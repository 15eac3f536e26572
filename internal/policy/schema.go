package policy

import "slices"

// Schema returns the JSON Schema of a fragment, as encoding/json writes it, for editors and
// validators of TOML. It accepts everything that Parse does. Only Parse checks relations between
// keys, protected names, and limits that depend on the machine.
//
// It is draft 7, the newest that the TOML language servers understand, and needs no other schema.
// Its patterns are Go's, restricted to what means the same in ECMAScript.
func Schema() map[string]any {
	schema := language().schema()
	schema["$schema"] = "http://json-schema.org/draft-07/schema#"
	schema["$id"] = "urn:soe-agent:policy:1"
	schema["title"] = "Policy fragment of soe-agent"
	return schema
}

// describe adds a form's meaning to its schema.
func (f *form) describe(schema map[string]any) map[string]any {
	text := f.doc
	if f.is != "" {
		text = f.is + "; " + text
	}
	if f.example != "" {
		text += ". Example: `" + f.example + "`"
	}
	if text != "" {
		schema["description"] = text
	}
	return schema
}

func (f *form) schema() map[string]any {
	switch {
	case len(f.either) > 0:
		var schemas []any
		for _, other := range f.either {
			schemas = append(schemas, other.schema())
		}
		return f.describe(map[string]any{"anyOf": schemas})
	case f.isDate:
		return f.describe(map[string]any{"type": aString, "pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`})
	case f.types[0] == aTable:
		return f.describe(f.tableSchema())
	}
	schema := map[string]any{"type": f.types[0]}
	if len(f.types) > 1 {
		schema["type"] = f.types
	}
	if f.bounded {
		schema["minimum"], schema["maximum"] = f.least, f.most
	}
	if f.items != nil {
		schema["items"] = f.items.schema()
	}
	if choices := f.choices(); len(choices) == 1 {
		for keyword, value := range choices[0].(map[string]any) {
			schema[keyword] = value
		}
	} else if len(choices) > 1 {
		schema["anyOf"] = choices
	}
	return f.describe(schema)
}

// choices returns the alternatives for a string; none: anything is valid.
func (f *form) choices() []any {
	var choices []any
	if len(f.words) > 0 {
		choices = append(choices, map[string]any{"enum": f.words})
	}
	if f.pattern != "" {
		choices = append(choices, map[string]any{"pattern": f.pattern})
	}
	if f.open && len(choices) > 0 {
		choices = append(choices, map[string]any{"pattern": referenceSyntax.String()})
	}
	return choices
}

func (f *form) tableSchema() map[string]any {
	schema := map[string]any{"type": aTable}
	properties := map[string]any{}
	for _, k := range f.keys {
		if k.refused == "" {
			properties[k.name] = k.schema()
		}
	}
	if len(properties) > 0 {
		schema["properties"] = properties
	}
	switch {
	case f.each == nil:
		schema["additionalProperties"] = false
	case f.names == "": // PCoIP: other names need allow_unknown
		insists := map[string]any{"required": []string{"allow_unknown"}, "properties": map[string]any{"allow_unknown": map[string]any{"const": true}}}
		schema["additionalProperties"] = f.each.schema()
		schema["if"], schema["else"] = insists, map[string]any{"propertyNames": map[string]any{"enum": f.known()}}
	default:
		schema["additionalProperties"] = f.each.schema()
		schema["propertyNames"] = map[string]any{"pattern": f.names}
	}
	if len(f.needs) == 1 {
		schema["required"] = f.needs[0]
	} else if len(f.needs) > 1 {
		var lists []any
		for _, keys := range f.needs {
			lists = append(lists, map[string]any{"required": slices.Clone(keys)})
		}
		schema["anyOf"] = lists
	}
	return schema
}
