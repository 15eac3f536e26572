package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Reference stands in a policy for a value that is stored elsewhere. The syntax is that of the
// dynamic references of AWS CloudFormation:
//
//	{{resolve:ssm:NAME[:VERSION]}}
//	{{resolve:ssm-secure:NAME[:VERSION]}}
//	{{resolve:secretsmanager:ID[:SecretString[:JSON-KEY[:STAGE[:VERSION-ID]]]]}}
//	{{fact:NAME}}
//
// References are comparable.
type Reference struct {
	Service string // "ssm", "ssm-secure", "secretsmanager" or "fact"
	Name    string // of the parameter or fact; name or ARN of the secret
	Version string // a number, or a secret's VersionId; empty: the current one
	JSONKey string // key in a secret that is a JSON object; empty: the whole text
	Stage   string // stage of a secret; empty: AWSCURRENT
}

// Secret reports whether the value must not be shown.
func (r Reference) Secret() bool { return r.Service == "ssm-secure" || r.Service == "secretsmanager" }

// String returns the reference as it is written.
func (r Reference) String() string {
	switch r.Service {
	case "fact":
		return "{{fact:" + r.Name + "}}"
	case "secretsmanager":
		parts := strings.TrimRight(":"+r.JSONKey+":"+r.Stage+":"+r.Version, ":")
		if parts != "" {
			parts = ":SecretString" + parts
		}
		return "{{resolve:secretsmanager:" + r.Name + parts + "}}"
	}
	version := r.Version
	if version != "" {
		version = ":" + version
	}
	return "{{resolve:" + r.Service + ":" + r.Name + version + "}}"
}

// A text such as "{{ansible}}" is not a reference and stays as it is.
var (
	referenceSyntax  = regexp.MustCompile(`\{\{(resolve|fact):[^{}]*\}\}`)
	meantAsReference = regexp.MustCompile(`(?i)\{\{\s*(resolve|fact)\s*:`)
)

// arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE
var completeARN = regexp.MustCompile(`^arn(:[^:]+){4}:(secret:[^:]+|parameter/[^:]+)$`)

// ParseReference parses a reference as String writes it.
func ParseReference(text string) (Reference, error) {
	refuse := func(why string) (Reference, error) {
		return Reference{}, fmt.Errorf("cannot read the reference %s: %s", text, why)
	}
	inner, braced := strings.CutPrefix(text, "{{")
	inner, closed := strings.CutSuffix(inner, "}}")
	if !braced || !closed || strings.ContainsAny(inner, "{}") {
		return refuse("it is not in double braces")
	}
	if name, ok := strings.CutPrefix(inner, "fact:"); ok {
		if name == "" {
			return refuse("it names no fact")
		}
		return Reference{Service: "fact", Name: name}, nil
	}
	inner, isResolve := strings.CutPrefix(inner, "resolve:")
	if !isResolve {
		return refuse("it begins with neither resolve: nor fact:")
	}
	service, rest, _ := strings.Cut(inner, ":")
	name, parts := cutName(rest)
	switch {
	case name == "":
		return refuse("it names nothing")
	case strings.HasPrefix(name, "arn:") && !completeARN.MatchString(name):
		return refuse("its ARN is not complete")
	}
	switch service {
	case "ssm", "ssm-secure":
		if len(parts) > 1 {
			return refuse("after the parameter's name comes its version at most")
		}
		r := Reference{Service: service, Name: name}
		if len(parts) == 1 {
			if n, err := strconv.ParseUint(parts[0], 10, 63); err != nil || n < 1 {
				return refuse(fmt.Sprintf("%q is not a version number", parts[0]))
			}
			r.Version = parts[0]
		}
		return r, nil
	case "secretsmanager":
		if len(parts) > 0 && parts[0] != "SecretString" && parts[0] != "" {
			return refuse("after the secret's name comes SecretString")
		}
		if len(parts) > 4 {
			return refuse("it has more parts than ID:SecretString:JSON-KEY:STAGE:VERSION-ID")
		}
		parts = append(parts, "", "", "", "")
		if parts[2] != "" && parts[3] != "" {
			return refuse("it names both a stage and a version")
		}
		return Reference{Service: service, Name: name, JSONKey: parts[1], Stage: parts[2], Version: parts[3]}, nil
	}
	return refuse(fmt.Sprintf("%q is none of ssm, ssm-secure, secretsmanager", service))
}

// cutName splits off the name, which may be an ARN with colons in it.
func cutName(text string) (name string, parts []string) {
	parts = strings.Split(text, ":")
	n := 1
	if parts[0] == "arn" {
		n = 6 // arn:aws:ssm:REGION:ACCOUNT:parameter/NAME
		if len(parts) > 2 && parts[2] == "secretsmanager" {
			n = 7 // arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME
		}
	}
	n = min(n, len(parts))
	return strings.Join(parts[:n], ":"), slices.Clip(parts[n:])
}

// References returns the references in a spec, in order of appearance, without duplicates. The
// error joins those that cannot be parsed, and texts that were probably meant to be references.
func References(spec Spec) ([]Reference, error) {
	found, errs := findReferences(spec)
	return found, errors.Join(errs...)
}

func findReferences(spec Spec) (found []Reference, errs []error) {
	known := map[string]bool{}
	spec.Expand(func(text string) string {
		if !strings.Contains(text, "{{") {
			return text
		}
		for _, match := range referenceSyntax.FindAllString(text, -1) {
			if known[match] {
				continue
			}
			known[match] = true
			if r, err := ParseReference(match); err != nil {
				errs = append(errs, err)
			} else if written := r.String(); written == match || !known[written] {
				known[written] = true
				found = append(found, r)
			}
		}
		rest := referenceSyntax.ReplaceAllString(text, "")
		if at := meantAsReference.FindStringIndex(rest); at != nil {
			line, _, _ := strings.Cut(rest[at[0]:], "\n")
			errs = append(errs, fmt.Errorf("cannot read the reference that begins with %.40q: it has no blanks and no capitals around its first word, and ends in }}", line))
		}
		return text
	})
	return found, errs
}

func hasReference(text string) bool { return referenceSyntax.MatchString(text) }
