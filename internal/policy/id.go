package policy

import (
	"fmt"
	"strings"
)

// An ID names a resource: the name of its kind, a slash, and its name within
// the kind, such as "package/firefox" or "dropin/etc/sysctl.d/60-soe.conf".
type ID string

// NewID returns the ID of a resource. The slash that begins a path is the one that separates it
// from the kind.
func NewID(kind, name string) ID {
	return ID(kind + "/" + strings.TrimPrefix(name, "/"))
}

// Kind returns the part before the first slash.
func (id ID) Kind() string {
	kind, _, _ := strings.Cut(string(id), "/")
	return kind
}

// Name returns the part after the first slash.
func (id ID) Name() string {
	_, name, _ := strings.Cut(string(id), "/")
	return name
}

// A Layer is where a fragment comes from. A higher layer replaces what a lower one says about the
// same resource.
type Layer int

// The layers, lowest first.
const (
	Seed   Layer = iota // in the image
	Remote              // published in SSM Parameter Store
	Local               // on this machine only
)

func (l Layer) String() string {
	switch l {
	case Seed:
		return "seed"
	case Remote:
		return "remote"
	case Local:
		return "local"
	}
	return fmt.Sprintf("Layer(%d)", int(l))
}

// MarshalText writes the layer as its name.
func (l Layer) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (l *Layer) UnmarshalText(text []byte) error {
	for _, known := range []Layer{Seed, Remote, Local} {
		if string(text) == known.String() {
			*l = known
			return nil
		}
	}
	return fmt.Errorf("cannot read layer %q: it is none of seed, remote, local", text)
}

// An Origin is the place in a fragment that set a resource.
type Origin struct {
	Layer    Layer    `json:"layer"`
	Fragment string   `json:"fragment"` // as its author knows it: a file name, or a name in the manifest
	Line     int      `json:"line"`
	Persona  string   `json:"persona,omitempty"`  // the persona that selected the fragment; empty if it is for everybody
	Overrode []Origin `json:"overrode,omitempty"` // the places of lower rank that it replaced, nearest first
}

// String returns the place for people.
func (o Origin) String() string {
	return fmt.Sprintf("%s:%d (%s)", o.Fragment, o.Line, o.Layer)
}
