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
	"github.com/soe-agent/soe-agent/internal/target"
)

// Versions of the format. A manifest is published in the oldest one that has all that it says: agents refuse
// a version that they do not know, and keep the policy that they have.
const (
	Schema1 = 1
	// Schema2 adds conditions of fragments, and room for what is to come: see Later.
	Schema2 = 2
)

// Since2 is the first release whose agents know Schema2.
const Since2 = "0.2.0"

// A Manifest lists the published fragments.
type Manifest struct {
	Schema int  `toml:"schema"`
	Pause  bool `toml:"pause,omitempty"` // every machine stays at the serial that it has
	// Signature is room for a signature over the generations. Agents of this release do not verify it.
	Signature string `toml:"signature,omitempty"`
	Generation
	Rollout *Rollout `toml:"rollout,omitempty"`
}

// A Generation is one complete policy.
type Generation struct {
	Serial int64 `toml:"serial"` // 1 or more; a newer policy has a greater one
	// Commit, Author and Message are what its publisher says of it, in up to mostSaid bytes each.
	Commit    string  `toml:"commit,omitempty"`
	Author    string  `toml:"author,omitempty"`
	Message   string  `toml:"message,omitempty"`
	Fragments []Entry `toml:"fragment,omitempty"`
}

// A Rollout is a newer generation for a share of the fleet.
type Rollout struct {
	Generation
	Percent float64 `toml:"percent"` // share of the fleet, from 0 to 100
	Salt    string  `toml:"salt"`    // another salt selects another share
	// Rings is room for names of groups of machines that get it whatever their place is. Agents of this
	// release are in none.
	Rings []string `toml:"rings,omitempty"`
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
	// When are the conditions of the fragment. A machine that does not fulfil them does not fetch it.
	When target.Conditions `toml:"when,omitempty"`
}

// Oldest returns the oldest version of the format that has all that the manifest says.
func (m Manifest) Oldest() int {
	if m.Signature != "" || m.needs2() || m.Rollout != nil && (len(m.Rollout.Rings) > 0 || m.Rollout.needs2()) {
		return Schema2
	}
	return Schema1
}

func (g Generation) needs2() bool {
	return g.Commit+g.Author+g.Message != "" || slices.ContainsFunc(g.Fragments, func(e Entry) bool { return len(e.When) > 0 })
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
	if m.Schema != Schema1 && m.Schema != Schema2 {
		refuse("this agent knows the schemas %d and %d, and not %d; upgrade the agent", Schema1, Schema2, m.Schema)
		return m, problems // any other problem would follow from that
	}
	if m.Schema < m.Oldest() {
		refuse("its schema is %d, and it says what only schema %d has", m.Schema, m.Oldest())
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

// mostSaid limits what a publisher says of a generation, in bytes.
const mostSaid = 200

// mostParts limits the number of parameters of a fragment.
const mostParts = 100

func (g Generation) check(refuse func(format string, args ...any)) {
	if g.Serial < 1 {
		refuse("its serial is %d, and not 1 or more", g.Serial)
	}
	for name, said := range map[string]string{"commit": g.Commit, "author": g.Author, "message": g.Message} {
		if len(said) > mostSaid {
			refuse("its %s has %d bytes, and may have %d", name, len(said), mostSaid)
		}
	}
	names := map[string]bool{}
	for _, f := range g.Fragments {
		for fact, values := range f.When {
			if why := policy.FactProblem(fact, values); why != "" {
				refuse("the fragment %q: when %s: %s", f.Name, fact, why)
			}
		}
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
	m.Schema = m.Oldest()
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

// Of returns the entries for a machine with these personas and facts, in order. One whose conditions cannot
// be told is among them.
func (g Generation) Of(personas []string, facts target.Facts) []Entry {
	var of []Entry
	for _, e := range g.Fragments {
		if answer, _ := e.When.Hold(facts); answer == target.No {
			continue
		}
		if len(e.Personas) == 0 || slices.ContainsFunc(e.Personas, func(p string) bool { return slices.Contains(personas, p) }) {
			of = append(of, e)
		}
	}
	return of
}
