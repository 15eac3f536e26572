package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/soe-agent/soe-agent/internal/document"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// Schema is the only version of the format so far.
const Schema = 1

// A Manifest lists the published fragments.
type Manifest struct {
	Schema int  `toml:"schema"`
	Pause  bool `toml:"pause,omitempty"` // every machine stays at the serial that it has
	Generation
	Rollout *Rollout `toml:"rollout,omitempty"`
}

// A Generation is one complete policy.
type Generation struct {
	Serial    int64   `toml:"serial"` // 1 or more; a newer policy has a greater one
	Fragments []Entry `toml:"fragment,omitempty"`
}

// A Rollout is a newer generation for a share of the fleet.
type Rollout struct {
	Generation
	Percent float64 `toml:"percent"` // share of the fleet, from 0 to 100
	Salt    string  `toml:"salt"`    // another salt selects another share
}

// An Entry is one published fragment.
type Entry struct {
	Name      string   `toml:"name"`
	Parameter string   `toml:"parameter"`
	SHA256    string   `toml:"sha256"` // of the text, in hexadecimal
	Size      int      `toml:"size,omitzero"`
	Encoding  string   `toml:"encoding,omitempty"` // Compressed, or absent
	Parts     int      `toml:"parts,omitzero"`     // number of parameters that hold it, if more than one
	Personas  []string `toml:"personas,omitempty"`
}

// Name returns the name of the manifest's parameter for a policy published below path.
func Name(path string) string { return strings.TrimSuffix(path, "/") + "/manifest" }

// Parse parses a manifest. If anything is wrong with it, all of it is refused, and the error is a
// policy.Problems. name is the parameter's name, for messages.
func Parse(name, text string) (Manifest, error) {
	var m Manifest
	if strings.HasPrefix(text, packedPrefix) {
		plain, err := decode(text, Compressed)
		if err != nil {
			return m, policy.Problems{{File: name, Message: "cannot read the manifest: it is packed, and " + err.Error()}}
		}
		text = plain
	}
	unknown, err := document.Decode(text, &m)
	if err != nil {
		return m, policy.Problems{policy.Unreadable(name, "the manifest", err)}
	}
	var problems policy.Problems
	refuse := func(format string, args ...any) {
		problems = append(problems, policy.Problem{File: name, Message: "cannot use the manifest: " + fmt.Sprintf(format, args...)})
	}
	if m.Schema != Schema {
		refuse("this agent knows schema %d and not %d", Schema, m.Schema)
		return m, problems // any other problem would follow from that
	}
	for _, key := range unknown {
		refuse("unknown key %s", key)
	}
	m.check(refuse)
	if r := m.Rollout; r != nil {
		r.check(refuse)
		if r.Serial <= m.Serial {
			refuse("the rollout's serial is %d, and not greater than %d", r.Serial, m.Serial)
		}
		if !(r.Percent >= 0 && r.Percent <= 100) { // written so that NaN is refused
			refuse("the rollout is for %v percent, and not for 0 to 100", r.Percent)
		}
		if r.Salt == "" {
			refuse("the rollout has no salt")
		}
	}
	if len(problems) > 0 {
		return m, problems
	}
	return m, nil
}

// mostParts limits the number of parameters of a fragment.
const mostParts = 100

func (g Generation) check(refuse func(format string, args ...any)) {
	if g.Serial < 1 {
		refuse("its serial is %d, and not 1 or more", g.Serial)
	}
	names := map[string]bool{}
	for _, f := range g.Fragments {
		if names[f.Name] {
			refuse("two fragments are called %q", f.Name)
		}
		names[f.Name] = true
		if f.Name == "" || f.Parameter == "" || len(f.SHA256) != sha256.Size*2 {
			refuse("the fragment %q lacks its name, parameter or sha256", f.Name)
		}
		if f.Encoding != "" && f.Encoding != Compressed {
			refuse("the fragment %q has the encoding %q, which this agent does not know", f.Name, f.Encoding)
		}
		if f.Parts < 0 || f.Parts > mostParts {
			refuse("the fragment %q has %d parts, and not 1 to %d", f.Name, f.Parts, mostParts)
		}
	}
}

// packedPrefix is the beginning of packed text: the first bytes of the gzip format (RFC 1952,
// section 2.3.1) in base64. No manifest in TOML begins like that.
const packedPrefix = "H4sI"

// Text returns the manifest as it is published: packed if it would not fit a standard parameter
// otherwise. Packed, an entry takes about 90 bytes, and the second copy of an entry that both
// generations have almost none.
func (m Manifest) Text() (string, error) {
	var text bytes.Buffer
	encoder := toml.NewEncoder(&text)
	encoder.Indent = ""
	if err := encoder.Encode(m); err != nil {
		return "", fmt.Errorf("cannot write the manifest: %w", err)
	}
	if text.Len() <= LargestValue {
		return text.String(), nil
	}
	return compress(text.String())
}

// Newest returns the greatest serial in the manifest.
func (m Manifest) Newest() int64 {
	if m.Rollout != nil {
		return m.Rollout.Serial
	}
	return m.Serial
}

// Place returns a machine's place in a rollout, from 0 up to 100: a rollout has reached the machine
// if the place is less than its percentage. It depends only on the salt and the machine's identity.
func Place(salt, identity string) float64 {
	sum := sha256.Sum256([]byte(salt + "\x00" + identity))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53) * 100
}

// For returns the generation that a machine should use, given the serial that it uses now, or 0 if
// it has none. ok is false if the rollout is paused and the machine should keep a serial that the
// manifest does not contain any more.
func (m Manifest) For(identity string, current int64) (g Generation, ok bool) {
	switch {
	case m.Pause && m.Rollout != nil && current == m.Rollout.Serial:
		return m.Rollout.Generation, true
	case m.Pause:
		return m.Generation, current == 0 || current == m.Serial
	case m.Rollout != nil && Place(m.Rollout.Salt, identity) < m.Rollout.Percent:
		return m.Rollout.Generation, true
	}
	return m.Generation, true
}

// Described summarizes what is rolled out or paused, for a machine with this identity. It returns
// "" if the manifest is the same for all machines.
func (m Manifest) Described(identity string) string {
	var text string
	if r := m.Rollout; r != nil {
		text = fmt.Sprintf("serial %d is for %s %% of the machines; this one's place is %.2f",
			r.Serial, strconv.FormatFloat(r.Percent, 'f', -1, 64), Place(r.Salt, identity))
	}
	if m.Pause {
		text = strings.TrimPrefix(text+"; paused: every machine stays at the serial that it has", "; ")
	}
	return text
}

// Of returns the entries for a machine with these personas, in order.
func (g Generation) Of(personas []string) []Entry {
	var of []Entry
	for _, e := range g.Fragments {
		if len(e.Personas) == 0 || slices.ContainsFunc(e.Personas, func(p string) bool { return slices.Contains(personas, p) }) {
			of = append(of, e)
		}
	}
	return of
}
