package source

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Config says where in AWS a policy is published.
type Config struct {
	Region   string `toml:"region"`   // absent: that of the managed node's registration
	Path     string `toml:"path"`     // absent: nothing is published
	Endpoint string `toml:"endpoint"` // of a VPC endpoint or an emulator; absent: the region's own
}

// AWS is a connection to SSM and Secrets Manager.
type AWS struct {
	path        string
	http        *http.Client
	credentials *aws.CredentialsCache
	ssm         *ssm.Client
	secrets     *secretsmanager.Client
}

// Connect prepares a connection; it sends nothing. The region is the configured
// one, or else that of the registration.
func Connect(c Config, region string, s *system.System) (*AWS, error) {
	if c.Region != "" {
		region = c.Region
	}
	if region == "" {
		return nil, errors.New("cannot reach AWS: the region is not known; set region in [aws] of agent.toml")
	}
	a := &AWS{path: strings.TrimSuffix(c.Path, "/"), http: client(), credentials: newProvider(s.FS, s.Clock)}
	config := aws.Config{
		Region: region, Credentials: a.credentials, HTTPClient: a.http,
		Retryer: func() aws.Retryer { return aws.NopRetryer{} }, // Retry does, in one place
	}
	if c.Endpoint != "" {
		config.BaseEndpoint = aws.String(c.Endpoint)
	}
	a.ssm, a.secrets = ssm.NewFromConfig(config), secretsmanager.NewFromConfig(config)
	return a, nil
}

// SSM is the client for other calls to the same place.
func (a *AWS) SSM() *ssm.Client { return a.ssm }

// Forget makes the next call read the credentials again and use a new connection.
func (a *AWS) Forget() {
	a.credentials.Invalidate()
	a.http.CloseIdleConnections()
}

// A Manifest lists what is published. Its format is part of the policy's.
type Manifest struct {
	Schema    int             `toml:"schema"`
	Serial    int64           `toml:"serial"`
	Fragments []ManifestEntry `toml:"fragment"`
}

// A ManifestEntry is one published fragment.
type ManifestEntry struct {
	Name      string   `toml:"name"`
	Parameter string   `toml:"parameter"`
	SHA256    string   `toml:"sha256"`   // of the text, in hexadecimal
	Encoding  string   `toml:"encoding"` // "gzip+base64", or absent
	Personas  []string `toml:"personas"`
}

// ErrHalfPublished is wrapped by the error of a published policy that is not
// whole: its author is writing it, or has stopped in the middle.
var ErrHalfPublished = errors.New("the policy is half published")

// Published returns the remote layer for a machine of these personas, and its
// serial. The fragments are in the manifest's order. Those that are among known,
// with the same digest, are not fetched again: a look that finds nothing new
// costs one call. What only the policy's author can mend is policy.Problems.
func (a *AWS) Published(ctx context.Context, personas []string, known []policy.Source) ([]policy.Source, int64, error) {
	name := a.path + "/manifest"
	out, err := a.ssm.GetParameter(ctx, &ssm.GetParameterInput{Name: &name})
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the manifest %s: %w", name, err)
	}
	if out.Parameter == nil {
		return nil, 0, fmt.Errorf("cannot read the manifest %s: %w", name, errNonsense)
	}
	manifest, err := parseManifest(name, aws.ToString(out.Parameter.Value))
	if err != nil {
		return nil, 0, err
	}
	have := map[string]policy.Source{}
	for _, s := range known {
		if s.Layer == policy.Remote {
			have[s.Name+digest(s.Text)] = s
		}
	}
	var wanted, missing []ManifestEntry
	for _, entry := range manifest.Fragments {
		if len(entry.Personas) > 0 && !slices.ContainsFunc(entry.Personas, func(p string) bool { return slices.Contains(personas, p) }) {
			continue
		}
		wanted = append(wanted, entry)
		if _, ok := have[entry.Name+entry.SHA256]; !ok {
			missing = append(missing, entry)
		}
	}
	fetched, err := a.fragments(ctx, missing)
	if err != nil {
		return nil, 0, err
	}
	for _, s := range fetched {
		have[s.Name+digest(s.Text)] = s
	}
	sources := make([]policy.Source, len(wanted))
	for i, entry := range wanted {
		sources[i] = have[entry.Name+entry.SHA256]
	}
	return sources, manifest.Serial, agree(wanted, sources)
}

// agree says which fragments are for other personas than the manifest has it: a
// machine that goes by the manifest would not even fetch one that is for it.
func agree(entries []ManifestEntry, sources []policy.Source) error {
	var problems policy.Problems
	for i, entry := range entries {
		fragment, err := policy.Parse(sources[i])
		if err != nil {
			continue // whoever parses it next says what is wrong
		}
		listed, said := slices.Sorted(slices.Values(entry.Personas)), slices.Sorted(slices.Values(fragment.Personas))
		if !slices.Equal(listed, said) {
			problems = append(problems, policy.Problem{File: entry.Name, Message: fmt.Sprintf(
				"cannot use the fragment: its personas are %q, and in the manifest %q; publish it again", said, listed)})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func parseManifest(name, text string) (Manifest, error) {
	var m Manifest
	meta, err := toml.Decode(text, &m)
	if err != nil {
		p := policy.Problem{File: name, Message: "cannot read the manifest: " + strings.TrimPrefix(err.Error(), "toml: ")}
		var parse toml.ParseError
		if errors.As(err, &parse) {
			p.Line, p.Message = parse.Position.Line, "cannot read the manifest: "+parse.Message
		}
		return m, policy.Problems{p}
	}
	var problems policy.Problems
	refuse := func(format string, args ...any) {
		problems = append(problems, policy.Problem{File: name, Message: "cannot use the manifest: " + fmt.Sprintf(format, args...)})
	}
	for _, key := range meta.Undecoded() {
		refuse("unknown key %s", key)
	}
	if m.Schema != 1 {
		refuse("this agent knows schema 1 and not %d", m.Schema)
	}
	if m.Serial < 1 {
		refuse("its serial is %d, and not 1 or more", m.Serial)
	}
	names := map[string]bool{}
	for _, f := range m.Fragments {
		if names[f.Name] {
			refuse("two fragments are called %q", f.Name)
		}
		names[f.Name] = true
		if f.Name == "" || f.Parameter == "" || len(f.SHA256) != sha256.Size*2 {
			refuse("the fragment %q lacks its name, parameter or sha256", f.Name)
		}
		if f.Encoding != "" && f.Encoding != compressed {
			refuse("the fragment %q has the encoding %q, which this agent does not know", f.Name, f.Encoding)
		}
	}
	if len(problems) > 0 {
		return m, problems
	}
	return m, nil
}

// compressed is the encoding of fragments that Parameter Store would refuse as
// they are: those with references in them.
const compressed = "gzip+base64"

// fragments fetches what a manifest lists.
func (a *AWS) fragments(ctx context.Context, entries []ManifestEntry) ([]policy.Source, error) {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Parameter
	}
	values, err := a.parameters(ctx, names, false)
	if err != nil {
		return nil, err
	}
	var sources []policy.Source
	var errs []error
	for _, e := range entries {
		p, there := values[e.Parameter]
		if !there {
			errs = append(errs, fmt.Errorf("cannot read the fragment %s: %w: there is no parameter %s", e.Name, ErrHalfPublished, e.Parameter))
			continue
		}
		text, err := decode(aws.ToString(p.Value), e.Encoding)
		if err != nil || digest(text) != e.SHA256 {
			errs = append(errs, fmt.Errorf("cannot read the fragment %s: %w: %s is not what the manifest lists", e.Name, ErrHalfPublished, e.Parameter))
			continue
		}
		sources = append(sources, policy.Source{Name: e.Name, Layer: policy.Remote, Text: text})
	}
	return sources, errors.Join(errs...)
}

// largestText bounds what a compressed fragment may become.
const largestText = 1 << 20

func decode(value, encoding string) (string, error) {
	if encoding != compressed {
		return value, nil
	}
	unzipped, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(value)))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(unzipped, largestText+1))
	if err == nil && len(text) > largestText {
		err = fmt.Errorf("it is larger than %d bytes", largestText)
	}
	return string(text), err
}

// parameters reads parameters by name or ARN, ten a call, which is what the
// service allows. Those that are not there are left out.
func (a *AWS) parameters(ctx context.Context, names []string, decrypt bool) (map[string]types.Parameter, error) {
	found := map[string]types.Parameter{}
	for batch := range slices.Chunk(names, 10) {
		out, err := a.ssm.GetParameters(ctx, &ssm.GetParametersInput{Names: batch, WithDecryption: &decrypt})
		if err != nil {
			return nil, fmt.Errorf("cannot read the parameters %s: %w", strings.Join(batch, ", "), err)
		}
		for _, p := range out.Parameters {
			found[aws.ToString(p.Name)+aws.ToString(p.Selector)] = p
			found[aws.ToString(p.ARN)+aws.ToString(p.Selector)] = p // asked by ARN, the service answers with the bare name
		}
	}
	return found, nil
}
