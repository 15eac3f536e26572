package awsfake

import (
	"maps"
	"net/http"
	"slices"
)

const (
	parameterResource = "Parameter"
	nodeResource      = "ManagedInstance"
)

// A resource is what Systems Manager keeps tags of.
type resource struct{ kind, id string }

// SetTags makes a managed node known, such as mi-0123456789abcdef0, with these tags in place of those it had.
func (s *Server) SetTags(node string, tags map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tags[resource{nodeResource, node}] = maps.Clone(tags)
}

type tag struct{ Key, Value string }

func (s *Server) addTagsToResource(in struct {
	ResourceType string
	ResourceID   string `json:"ResourceId"`
	Tags         []tag
},
) (any, *APIError) {
	var v violations
	v.required(in.Tags != nil, "tags")
	for _, tag := range in.Tags {
		v.length(tag.Key, "tags.key", 1, 128)
		v.length(tag.Value, "tags.value", 1, 256)
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	tagged, err := s.taggable(in.ResourceType, in.ResourceID)
	if err != nil {
		return nil, err
	}
	if s.tags[tagged] == nil {
		s.tags[tagged] = map[string]string{}
	}
	for _, tag := range in.Tags {
		s.tags[tagged][tag.Key] = tag.Value
	}
	return map[string]any{}, nil
}

func (s *Server) listTagsForResource(in struct {
	ResourceType string
	ResourceID   string `json:"ResourceId"`
},
) (any, *APIError) {
	tagged, err := s.taggable(in.ResourceType, in.ResourceID)
	if err != nil {
		return nil, err
	}
	list := []tag{}
	for _, key := range slices.Sorted(maps.Keys(s.tags[tagged])) {
		list = append(list, tag{key, s.tags[tagged][key]})
	}
	return map[string]any{"TagList": list}, nil
}

// taggable returns the resource of a kind that has tags, or can get some.
func (s *Server) taggable(kind, id string) (resource, *APIError) {
	known := false
	switch kind {
	case parameterResource:
		known = s.parameters[id] != nil
	case nodeResource:
		_, known = s.tags[resource{kind, id}]
	default:
		return resource{}, Error(http.StatusBadRequest, "InvalidResourceType", "")
	}
	if !known {
		return resource{}, Error(http.StatusBadRequest, "InvalidResourceId", "")
	}
	return resource{kind, id}, nil
}
