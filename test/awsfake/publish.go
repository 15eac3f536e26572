package awsfake

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/BurntSushi/toml"
)

type manifest struct {
	Schema    int                `toml:"schema"`
	Serial    int                `toml:"serial"`
	Fragments []manifestFragment `toml:"fragment"`
}

type manifestFragment struct {
	Name      string   `toml:"name"`
	Parameter string   `toml:"parameter"`
	SHA256    string   `toml:"sha256"`
	Encoding  string   `toml:"encoding,omitempty"`
	Personas  []string `toml:"personas,omitempty"`
}

// PublishPolicy publishes fragments (TOML documents by name) below path as the agent expects them: each in
// a parameter path/policy/NAME/SHA256 that is written once, and last path/manifest, which lists them by name.
// A fragment's personas are those that it says itself; one that is not TOML is published all the same, for
// everybody. A value over 4 KB goes into the advanced tier; over 8 KB is an error.
//
// Parameter Store refuses values with {{…}} in them. A fragment that has them is compressed with gzip and
// stored in base64, and the manifest says so: encoding = "gzip+base64". Its SHA-256 is that of its text.
func (s *Server) PublishPolicy(path string, serial int, fragments map[string]string) error {
	m := manifest{Schema: 1, Serial: serial}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fragments)) {
		fragment, err := s.publishFragment(path, name, fragments[name])
		m.Fragments = append(m.Fragments, fragment)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot publish the policy %d: %w", serial, err)
	}
	text, err := toml.Marshal(m)
	if err != nil {
		return fmt.Errorf("cannot write the manifest of policy %d: %w", serial, err)
	}
	return s.put(path+"/manifest", string(text), "String")
}

func (s *Server) publishFragment(path, name, text string) (manifestFragment, error) {
	sum := sha256.Sum256([]byte(text))
	hash := hex.EncodeToString(sum[:])
	fragment := manifestFragment{Name: name, Parameter: path + "/policy/" + name + "/" + hash[:12], SHA256: hash}
	var document struct {
		Personas []string `toml:"personas"`
	}
	if _, err := toml.Decode(text, &document); err == nil {
		fragment.Personas = document.Personas
	}
	value := text
	if nested.MatchString(text) {
		fragment.Encoding = "gzip+base64"
		value = compress(text)
	}
	if s.hasParameter(fragment.Parameter) {
		return fragment, nil
	}
	return fragment, s.put(fragment.Parameter, value, "String")
}

func (s *Server) hasParameter(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parameters[name] != nil
}

func compress(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}
