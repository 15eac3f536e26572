package awsfake

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What Inventory takes (AWS General Reference, "AWS Systems Manager endpoints and quotas"; Systems Manager API Reference).
const (
	maxInventoryItems      = 30
	maxInventoryEntries    = 10_000
	maxInventoryAttributes = 50
	maxInventoryItemBytes  = 1024 * 1024
	maxInventoryDayBytes   = 5000 * 1024
	maxInventoryTypes      = 20
)

type inventoryKey struct{ node, typeName string }

// An InventoryItem is what is stored of one inventory type for one node.
type InventoryItem struct {
	TypeName      string
	SchemaVersion string
	CaptureTime   string
	Content       []map[string]string
	ContentHash   string
}

// A traffic is how many bytes of inventory a node has sent on a day.
type traffic struct {
	day   string
	bytes int
}

// Inventory returns what PutInventory stored for a node and a type such as Custom:SoeAgent, if it did.
func (s *Server) Inventory(nodeID, typeName string) (item InventoryItem, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	item, ok = s.inventory[inventoryKey{nodeID, typeName}]
	return item, ok
}

type putInventoryInput struct {
	InstanceID string `json:"InstanceId"`
	Items      []InventoryItem
}

var (
	inventoryTypeName = regexp.MustCompile(`^(AWS|Custom):.*$`)
	inventorySchema   = regexp.MustCompile(`^([0-9]{1,6})(\.[0-9]{1,6})$`)
	inventoryTime     = regexp.MustCompile(`^(20)[0-9][0-9]-(0[1-9]|1[012])-([12][0-9]|3[01]|0[1-9])(T)(2[0-3]|[0-1][0-9])(:[0-5][0-9])(:[0-5][0-9])(Z)$`)
)

func (s *Server) putInventory(in putInventoryInput) (any, *APIError) {
	if err := in.check(); err != nil {
		return nil, err
	}
	size := 0
	for _, item := range in.Items {
		n := item.size()
		if n > maxInventoryItemBytes {
			return nil, Error(http.StatusBadRequest, "ItemSizeLimitExceededException", "The inventory item size has exceeded the size limit.")
		}
		size += n
	}
	sent := s.traffic[in.InstanceID]
	if day := s.now().Format(time.DateOnly); sent.day != day {
		sent = traffic{day: day}
	}
	sent.bytes += size
	if size > maxInventoryItemBytes || sent.bytes > maxInventoryDayBytes {
		return nil, Error(http.StatusBadRequest, "TotalSizeLimitExceededException", "The size of inventory data has exceeded the total size limit for the resource.")
	}
	for _, item := range in.Items {
		if err := s.mayStore(in.InstanceID, item); err != nil {
			return nil, err
		}
	}
	s.traffic[in.InstanceID] = sent
	for _, item := range in.Items {
		key := inventoryKey{in.InstanceID, item.TypeName}
		if stored, exists := s.inventory[key]; exists && item.ContentHash != "" && item.ContentHash == stored.ContentHash {
			stored.CaptureTime = item.CaptureTime
			item = stored // the content is not looked at
		}
		s.inventory[key] = item
	}
	return map[string]any{"Message": "Inventory was uploaded"}, nil
}

// mayStore refuses what is beyond the number of types, and what only refers to content that is not there.
func (s *Server) mayStore(node string, item InventoryItem) *APIError {
	stored, exists := s.inventory[inventoryKey{node, item.TypeName}]
	if len(item.Content) == 0 && item.ContentHash != "" && item.ContentHash != stored.ContentHash {
		return Error(http.StatusBadRequest, "ItemContentMismatchException", "The inventory item has invalid content.")
	}
	known := map[string]bool{}
	for key := range s.inventory {
		if strings.HasPrefix(key.typeName, "Custom:") {
			known[key.typeName] = true
		}
	}
	if !exists && !known[item.TypeName] && len(known) >= maxInventoryTypes {
		return Error(http.StatusBadRequest, "CustomSchemaCountLimitExceededException", "You have exceeded the limit for custom schemas. Delete one or more custom schemas and try again.")
	}
	return nil
}

func (in putInventoryInput) check() *APIError {
	var v violations
	v.constraint(managedNodeID.MatchString(in.InstanceID), in.InstanceID, "instanceId", `satisfy regular expression pattern: (^i-(\w{8}|\w{17})$)|(^mi-\w{17}$)`)
	v.required(in.Items != nil, "items")
	v.constraint(len(in.Items) >= 1, len(in.Items), "items", "have length greater than or equal to 1")
	v.constraint(len(in.Items) <= maxInventoryItems, len(in.Items), "items", "have length less than or equal to 30")
	for i, item := range in.Items {
		item.check(&v, fmt.Sprintf("items.%d.member", i+1))
	}
	return v.err()
}

func (item InventoryItem) check(v *violations, path string) {
	v.length(item.TypeName, path+".typeName", 1, 100)
	for _, pattern := range []struct {
		name, value string
		pattern     *regexp.Regexp
	}{
		{".typeName", item.TypeName, inventoryTypeName},
		{".schemaVersion", item.SchemaVersion, inventorySchema},
		{".captureTime", item.CaptureTime, inventoryTime},
	} {
		v.constraint(pattern.pattern.MatchString(pattern.value), pattern.value, path+pattern.name, "satisfy regular expression pattern: "+pattern.pattern.String())
	}
	v.length(item.ContentHash, path+".contentHash", 0, 256)
	v.constraint(len(item.Content) <= maxInventoryEntries, len(item.Content), path+".content", "have length less than or equal to 10000")
	for i, entry := range item.Content {
		at := fmt.Sprintf("%s.content.%d.member", path, i+1)
		v.constraint(len(entry) <= maxInventoryAttributes, len(entry), at, "have length less than or equal to 50")
		for _, name := range slices.Sorted(maps.Keys(entry)) {
			v.length(name, at+".key", 1, 64)
			v.length(entry[name], at+"."+name, 0, 4096)
		}
	}
}

func (item InventoryItem) size() int {
	n := len(item.TypeName)
	for _, entry := range item.Content {
		for name, value := range entry {
			n += len(name) + len(value)
		}
	}
	return n
}
