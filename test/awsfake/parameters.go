package awsfake

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxStandardValue = 4096
	maxAdvancedValue = 8192
	maxVersions      = 100
	maxLevels        = 15
	maxNames         = 10

	standard    = "Standard"
	advanced    = "Advanced"
	intelligent = "Intelligent-Tiering"
)

type parameter struct {
	name, kind, tier string
	versions         []parameterVersion // oldest first, the last is current
}

type parameterVersion struct {
	number   int64
	value    string
	modified time.Time
	labels   []string
}

// PutParameter stores a String parameter: a new one, or a new version of one that is there. It is of the
// standard tier if the value has room there, else of the advanced tier.
// It panics where Parameter Store would refuse the name or the value.
func (s *Server) PutParameter(name, value string) {
	if err := s.put(name, value, "String"); err != nil {
		panic(err)
	}
}

// PutSecureParameter is PutParameter for a SecureString.
func (s *Server) PutSecureParameter(name, value string) {
	if err := s.put(name, value, "SecureString"); err != nil {
		panic(err)
	}
}

func (s *Server) put(name, value, kind string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := putParameterInput{Name: name, Value: &value, Type: kind, Tier: intelligent, Overwrite: true}
	if _, err := s.putParameter(in); err != nil {
		return fmt.Errorf("cannot put the parameter %s: %w", name, err)
	}
	return nil
}

// DeleteParameter removes a parameter with all its versions. It need not be there.
func (s *Server) DeleteParameter(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(name)
}

// Age makes a parameter look older: its versions were all written so much earlier. It panics if there is no
// such parameter.
func (s *Server) Age(name string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parameters[name]
	if p == nil {
		panic(fmt.Errorf("cannot age the parameter %s: there is none", name))
	}
	for i := range p.versions {
		p.versions[i].modified = p.versions[i].modified.Add(-d)
	}
}

type putParameterInput struct {
	Name, Type, Tier string
	Value            *string
	Overwrite        bool
}

var (
	parameterName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$|^(/[a-zA-Z0-9_.-]+)+$`)
	reservedPath  = regexp.MustCompile(`(?i)^/aws[^/]*/`)
	reservedName  = regexp.MustCompile(`(?i)^/?(aws|ssm)`)
	nested        = regexp.MustCompile(`(?s)\{\{.*\}\}`)
)

func (s *Server) putParameter(in putParameterInput) (any, *APIError) {
	if err := in.check(); err != nil {
		return nil, err
	}
	p, exists := s.parameters[in.Name]
	switch {
	case exists && !in.Overwrite:
		return nil, Error(http.StatusBadRequest, "ParameterAlreadyExists", "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
	case exists && in.Type != "" && in.Type != p.kind:
		return nil, Error(http.StatusBadRequest, "HierarchyTypeMismatchException", "Parameter Store does not support changing a parameter type in a hierarchy.")
	case !exists && in.Type == "":
		return nil, invalid("A parameter type is required when you create a parameter.")
	}
	current := ""
	if exists {
		current = p.tier
	}
	tier, err := chooseTier(in.Tier, current, len(*in.Value))
	if err != nil {
		return nil, err
	}
	if !exists {
		p = &parameter{name: in.Name, kind: in.Type}
		s.parameters[in.Name] = p
	}
	p.tier = tier
	version := parameterVersion{number: 1, value: *in.Value, modified: s.now()}
	if n := len(p.versions); n > 0 {
		version.number = p.versions[n-1].number + 1
	}
	p.versions = append(p.versions, version)
	if len(p.versions) > maxVersions {
		p.versions = p.versions[1:]
	}
	return map[string]any{"Version": version.number, "Tier": tier}, nil
}

func (in putParameterInput) check() *APIError {
	var v violations
	v.required(in.Value != nil, "value")
	if in.Value != nil {
		v.constraint(*in.Value != "", "", "value", "have length greater than or equal to 1")
	}
	v.length(in.Name, "name", 1, 2048)
	v.constraint(slices.Contains([]string{"", "String", "StringList", "SecureString"}, in.Type), in.Type, "type",
		"satisfy enum value set: [SecureString, StringList, String]")
	v.constraint(slices.Contains([]string{"", standard, advanced, intelligent}, in.Tier), in.Tier, "tier",
		"satisfy enum value set: [Standard, Advanced, Intelligent-Tiering]")
	if err := v.err(); err != nil {
		return err
	}
	switch {
	case reservedPath.MatchString(in.Name):
		return Error(http.StatusBadRequest, "AccessDeniedException", "No access to reserved parameter name: "+in.Name+".")
	case !parameterName.MatchString(in.Name) || reservedName.MatchString(in.Name):
		return invalid(`Parameter name: can't be prefixed with "ssm" (case-insensitive). If formed as a path, it can consist of ` +
			`sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 symbols .-_`)
	case strings.Count(in.Name, "/") > maxLevels:
		return Error(http.StatusBadRequest, "HierarchyLevelLimitExceededException", "A hierarchy can have a maximum of 15 levels.")
	case nested.MatchString(*in.Value):
		return invalid(`Parameter value can't nest another parameter. Do not use "{{}}" in the value.`)
	}
	return nil
}

// chooseTier applies the limits of the tiers. They are documented as 4 KB and 8 KB, and reported by the
// service in characters: counting bytes is the stricter reading.
func chooseTier(wanted, current string, size int) (tier string, err *APIError) {
	switch {
	case wanted == "" && current != "":
		wanted = current
	case wanted == "":
		wanted = standard
	case wanted == intelligent && (current == advanced || size > maxStandardValue):
		wanted = advanced
	case wanted == intelligent:
		wanted = standard
	}
	switch {
	case wanted == standard && current == advanced:
		return "", invalid("This parameter uses the advanced-parameter tier. You can't downgrade a parameter from the advanced-parameter tier to the standard-parameter tier.")
	case wanted == standard && size > maxStandardValue:
		return "", invalid("Standard tier parameters support a maximum parameter value of %d characters. "+
			"To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier.", maxStandardValue)
	case size > maxAdvancedValue:
		return "", invalid("Advanced tier parameters support a maximum parameter value of %d characters.", maxAdvancedValue)
	}
	return wanted, nil
}

type getParameterInput struct {
	Name           string
	WithDecryption bool
}

func (s *Server) getParameter(in getParameterInput) (any, *APIError) {
	var v violations
	v.length(in.Name, "name", 1, 2048)
	if err := v.err(); err != nil {
		return nil, err
	}
	out, err := s.read(in.Name, in.WithDecryption)
	if err != nil {
		return nil, err
	}
	return map[string]any{"Parameter": out}, nil
}

type getParametersInput struct {
	Names          []string
	WithDecryption bool
}

func (s *Server) getParameters(in getParametersInput) (any, *APIError) {
	if err := checkNames(in.Names); err != nil {
		return nil, err
	}
	found, missing := []parameterOutput{}, []string{}
	for _, name := range in.Names {
		out, err := s.read(name, in.WithDecryption)
		switch {
		case err == nil:
			found = append(found, out)
		case err.Code == accessDenied:
			return nil, err
		default:
			missing = append(missing, name)
		}
	}
	slices.SortFunc(found, func(a, b parameterOutput) int { return strings.Compare(a.Name, b.Name) })
	return map[string]any{"Parameters": found, "InvalidParameters": missing}, nil
}

func (s *Server) deleteParameter(in struct{ Name string }) (any, *APIError) {
	if _, exists := s.parameters[in.Name]; !exists {
		return nil, Error(http.StatusBadRequest, "ParameterNotFound", "")
	}
	s.forget(in.Name)
	return map[string]any{}, nil
}

func (s *Server) deleteParameters(in struct{ Names []string }) (any, *APIError) {
	if err := checkNames(in.Names); err != nil {
		return nil, err
	}
	deleted, missing := []string{}, []string{}
	for _, name := range in.Names {
		if _, exists := s.parameters[name]; !exists {
			missing = append(missing, name)
			continue
		}
		s.forget(name)
		deleted = append(deleted, name)
	}
	return map[string]any{"DeletedParameters": deleted, "InvalidParameters": missing}, nil
}

func (s *Server) forget(name string) {
	delete(s.parameters, name)
	delete(s.tags, resource{parameterResource, name})
}

func (s *Server) labelParameterVersion(in struct {
	Name             string
	ParameterVersion int64
	Labels           []string
},
) (any, *APIError) {
	p, exists := s.parameters[in.Name]
	if !exists {
		return nil, Error(http.StatusBadRequest, "ParameterNotFound", "")
	}
	number := in.ParameterVersion
	if number == 0 {
		number = p.versions[len(p.versions)-1].number
	}
	if !slices.ContainsFunc(p.versions, func(v parameterVersion) bool { return v.number == number }) {
		return nil, Error(http.StatusBadRequest, "ParameterVersionNotFound", fmt.Sprintf("Systems Manager could not find version %d of %s.", number, in.Name))
	}
	// A label is on one version at a time.
	for i := range p.versions {
		v := &p.versions[i]
		v.labels = slices.DeleteFunc(v.labels, func(label string) bool { return slices.Contains(in.Labels, label) })
		if v.number == number {
			v.labels = append(v.labels, in.Labels...)
		}
	}
	return map[string]any{"InvalidLabels": []string{}, "ParameterVersion": number}, nil
}

func checkNames(names []string) *APIError {
	var v violations
	v.required(names != nil, "names")
	if names != nil {
		v.constraint(len(names) >= 1, names, "names", "have length greater than or equal to 1")
		v.constraint(len(names) <= maxNames, names, "names", "have length less than or equal to 10")
	}
	return v.err()
}

type parameterOutput struct {
	Name, Type, Value, ARN, DataType string
	Version                          int64
	LastModifiedDate                 float64
	Selector                         string `json:",omitempty"`
}

// read returns the parameter that a name with or without a selector (:VERSION or :LABEL) stands for.
// The error for a label that is not there is not documented: it is taken to be that of a version.
func (s *Server) read(nameAndSelector string, decrypt bool) (parameterOutput, *APIError) {
	name, selector, selected := strings.Cut(nameAndSelector, ":")
	p, exists := s.parameters[name]
	if !exists {
		return parameterOutput{}, Error(http.StatusBadRequest, "ParameterNotFound", "")
	}
	version := &p.versions[len(p.versions)-1]
	if selected {
		if version = p.find(selector); version == nil {
			return parameterOutput{}, Error(http.StatusBadRequest, "ParameterVersionNotFound",
				fmt.Sprintf("Systems Manager could not find version %s of %s. Verify the version and try again.", selector, name))
		}
	}
	out := parameterOutput{
		Name: name, Type: p.kind, Value: version.value, DataType: "text",
		ARN:     parameterARN(name),
		Version: version.number, LastModifiedDate: epoch(version.modified),
	}
	if selected {
		out.Selector = ":" + selector
	}
	switch {
	case p.kind != "SecureString":
	case !decrypt:
		out.Value = ciphertext(name, version)
	case s.denied(decryption, out.ARN):
		return parameterOutput{}, nodeRole.mayNot(decryption, keyARN)
	}
	return out, nil
}

func (p *parameter) find(selector string) *parameterVersion {
	number, err := strconv.ParseInt(selector, 10, 64)
	for i := range p.versions {
		v := &p.versions[i]
		if err == nil && v.number == number || slices.Contains(v.labels, selector) {
			return v
		}
	}
	return nil
}

// ciphertext looks like what KMS makes, and tells nothing of the value.
func ciphertext(name string, v *parameterVersion) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s:%d", name, v.number))
	blob := append([]byte{0x01, 0x02, 0x02, 0x00, 0x78}, slices.Repeat(sum[:], 5)...)
	return base64.StdEncoding.EncodeToString(blob)
}

// parameterARN returns the ARN of the parameter that a name with or without a selector stands for.
func parameterARN(name string) string {
	name, _, _ = strings.Cut(name, ":")
	return arn("ssm", "parameter/"+strings.TrimPrefix(name, "/"))
}

func arn(service, resource string) string {
	return "arn:aws:" + service + ":" + Region + ":" + Account + ":" + resource
}
