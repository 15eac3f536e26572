package manifest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/document"
)

// Compressed is the encoding of fragments that Parameter Store would not accept as plain text:
// large ones, and those with references, because it interprets {{…}} itself.
const Compressed = "gzip+base64"

// ErrHalfPublished is wrapped by the error of an incomplete published policy: its author is writing
// it, or stopped half-way.
var ErrHalfPublished = errors.New("the policy is half published")

// Digest returns the SHA-256 of a text in hexadecimal.
func Digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Parameters returns the names of the parameters that hold the fragment, in order.
func (e Entry) Parameters() []string {
	if e.Parts <= 1 {
		return []string{e.Parameter}
	}
	names := make([]string, e.Parts)
	for i := range names {
		names[i] = e.Parameter + "/" + strconv.Itoa(i+1)
	}
	return names
}

// Assemble returns the fragment's text, assembled from the values of its parameters by name. If a
// parameter is missing or wrong, the error wraps ErrHalfPublished. whose returns which fragment a
// digest belongs to, if known, so that the message can distinguish a swapped fragment from an
// outdated one; it may be nil.
func (e Entry) Assemble(values map[string]string, whose func(digest string) string) (string, error) {
	var whole strings.Builder
	for _, name := range e.Parameters() {
		value, there := values[name]
		if !there {
			return "", e.half("there is no parameter %s", name)
		}
		whole.WriteString(value)
	}
	text, err := decode(whole.String(), e.Encoding)
	found := Digest(text)
	switch {
	case err == nil && found == e.SHA256:
		return text, nil
	case err == nil && whose != nil && whose(found) != "":
		return "", e.half("%s holds %s", e.Parameter, whose(found))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "", e.half("%s is cut off", e.Parameter)
	case errors.Is(err, errTooLarge):
		return "", e.half("%s %s", e.Parameter, err)
	case err == nil && len(text) < e.Size:
		return "", e.half("%s is cut off: it has %d bytes of %d", e.Parameter, len(text), e.Size)
	}
	return "", e.half("%s is not what the manifest lists", e.Parameter)
}

func (e Entry) half(format string, args ...any) error {
	return fmt.Errorf("cannot read the fragment %s: %w: %s", e.Name, ErrHalfPublished, fmt.Sprintf(format, args...))
}

// largestText limits the size of an unpacked fragment, in bytes.
const largestText = document.Largest

var errTooLarge = fmt.Errorf("unpacks to more than %d bytes; split it", largestText)

// decode returns the text of a value. If the value is truncated, it returns the beginning with
// io.ErrUnexpectedEOF; if the text is too large, with errTooLarge.
func decode(value, encoding string) (string, error) {
	if encoding != Compressed {
		return value, nil
	}
	unzipped, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(value)))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(unzipped, largestText+1))
	if err == nil && len(text) > largestText {
		err = errTooLarge
	}
	return string(text), err
}

// A Parameter is a parameter to be written to Parameter Store.
type Parameter struct{ Name, Value string }

// LargestValue is the limit of a standard parameter's value, in bytes (Systems Manager API
// Reference, PutParameter).
const LargestValue = 4096

// parameterName matches fragment names that can be part of a parameter's name.
var parameterName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// Pack returns a fragment's entry and the parameters that hold it, below the path where the policy
// is published. Each value fits a standard parameter. The names include a digest of the text, so
// that another text gets other names.
func Pack(path, name, text string, personas []string) (Entry, []Parameter, error) {
	if !parameterName.MatchString(name) {
		return Entry{}, nil, fmt.Errorf("cannot publish the fragment %q: its name becomes part of a parameter's; use letters, digits, and ._- only", name)
	}
	if len(text) > largestText {
		return Entry{}, nil, fmt.Errorf("cannot publish the fragment %s: it has %d bytes, and an agent takes %d; split it", name, len(text), largestText)
	}
	e := Entry{Name: name, SHA256: Digest(text), Size: len(text), Personas: personas}
	value := text
	if len(text) > LargestValue || text == "" || strings.Contains(text, "{{") {
		var err error
		if value, err = compress(text); err != nil {
			return e, nil, fmt.Errorf("cannot publish the fragment %s: %w", name, err)
		}
		e.Encoding = Compressed
	}
	e.Parameter = fmt.Sprintf("%s/policy/%s/%s", strings.TrimSuffix(path, "/"), name, Digest(value)[:12])
	if parts := (len(value) + LargestValue - 1) / LargestValue; parts > 1 {
		e.Parts = parts
	}
	if e.Parts > mostParts {
		return e, nil, fmt.Errorf("cannot publish the fragment %s: it would take %d parameters; split it", name, e.Parts)
	}
	var parameters []Parameter
	for _, parameter := range e.Parameters() {
		n := min(len(value), LargestValue)
		parameters = append(parameters, Parameter{Name: parameter, Value: value[:n]})
		value = value[n:]
	}
	return e, parameters, nil
}

func compress(text string) (string, error) {
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(zip, text); err != nil {
		return "", err
	}
	if err := zip.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(packed.Bytes()), nil
}
