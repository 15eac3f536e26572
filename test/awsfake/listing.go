package awsfake

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
)

const maxPage = 10

func (s *Server) getParametersByPath(in struct {
	Path, NextToken           string
	Recursive, WithDecryption bool
	MaxResults                *int
	ParameterFilters          []any
},
) (any, *APIError) {
	var v violations
	v.length(in.Path, "path", 1, 2048)
	limit := maxPage
	if in.MaxResults != nil {
		limit = *in.MaxResults
		v.constraint(limit >= 1, limit, "maxResults", "have value greater than or equal to 1")
		v.constraint(limit <= maxPage, limit, "maxResults", "have value less than or equal to 10")
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	after, err := readToken(in.NextToken)
	switch {
	case err != nil:
		return nil, err
	case !strings.HasPrefix(in.Path, "/"):
		return nil, invalid("The parameter path must begin with a forward slash (/): %s", in.Path)
	case in.ParameterFilters != nil:
		return nil, Error(http.StatusBadRequest, "InvalidFilterKey", "awsfake has no filters.")
	}
	names := s.below(in.Path, in.Recursive, after)
	page := map[string]any{}
	if len(names) > limit {
		names = names[:limit]
		page["NextToken"] = newToken(names[limit-1])
	}
	found := []parameterOutput{}
	for _, name := range names {
		out, err := s.read(name, in.WithDecryption)
		if err != nil {
			return nil, err
		}
		found = append(found, out)
	}
	page["Parameters"] = found
	return page, nil
}

// below returns the sorted names of the parameters below a path, those that sort after the one given.
func (s *Server) below(path string, recursive bool, after string) []string {
	path = strings.TrimSuffix(path, "/") + "/"
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.parameters)) {
		rest, ok := strings.CutPrefix(name, path)
		if ok && name > after && (recursive || !strings.Contains(rest, "/")) {
			names = append(names, name)
		}
	}
	return names
}

// A token is opaque to clients, another one each time, and says after which name to go on.
func newToken(after string) string {
	return base64.StdEncoding.EncodeToString([]byte(uuid() + after))
}

func readToken(token string) (after string, err *APIError) {
	if token == "" {
		return "", nil
	}
	text, decodeErr := base64.StdEncoding.DecodeString(token)
	if decodeErr != nil || len(text) < len(uuid()) {
		return "", Error(http.StatusBadRequest, "InvalidNextToken", "The specified token isn't valid.")
	}
	return string(text[len(uuid()):]), nil
}
