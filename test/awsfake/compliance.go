package awsfake

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxComplianceItems = 10_000
	maxCustomTypes     = 10
	// maxComplianceBytes is not documented; the field reports that sets of items of more than 800 KB are refused.
	// Here it is the items as they are written in the request, more than whatever the service may count.
	maxComplianceBytes = 800_000
	// maxComplianceID is not in the service's model; all other IDs of the API end there.
	maxComplianceID = 100
)

type complianceKey struct{ resourceID, complianceType string }

// A ComplianceReport is what is stored of one compliance type for one node: the last that counted.
type ComplianceReport struct {
	ExecutionTime time.Time
	ExecutionID   string
	ExecutionType string
	ContentHash   string
	Items         []ComplianceItem
}

// A ComplianceItem is one item of a report.
type ComplianceItem struct {
	ID       string `json:"Id"`
	Title    string `json:",omitempty"`
	Severity string
	Status   string
	Details  map[string]string `json:",omitempty"`
}

// Compliance returns what PutComplianceItems stored for a node and a type such as Custom:SoeAgent, if it did.
func (s *Server) Compliance(nodeID, complianceType string) (report ComplianceReport, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	report, ok = s.compliance[complianceKey{nodeID, complianceType}]
	return report, ok
}

type putComplianceItemsInput struct {
	ResourceID       string `json:"ResourceId"`
	ResourceType     string
	ComplianceType   string
	ExecutionSummary *struct {
		ExecutionTime *float64
		ExecutionID   string `json:"ExecutionId"`
		ExecutionType string
	}
	Items           []ComplianceItem
	ItemContentHash string
	UploadType      string
}

var (
	complianceTypeName = regexp.MustCompile(`^([A-Za-z0-9_\-]\w+|Custom:[a-zA-Z0-9_\-]\w+)$`)
	managedNodeID      = regexp.MustCompile(`^(i-(\w{8}|\w{17})|mi-\w{17})$`)
	severities         = []string{"CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNSPECIFIED"}
	statuses           = []string{"COMPLIANT", "NON_COMPLIANT"}
)

func (s *Server) putComplianceItems(in putComplianceItemsInput) (any, *APIError) {
	if err := in.check(); err != nil {
		return nil, err
	}
	key := complianceKey{in.ResourceID, in.ComplianceType}
	stored, exists := s.compliance[key]
	if !exists && strings.HasPrefix(in.ComplianceType, "Custom:") && s.customTypes(in.ResourceID) >= maxCustomTypes {
		return nil, Error(http.StatusBadRequest, "ComplianceTypeCountLimitExceededException", "You specified too many custom compliance types. You can specify a maximum of 10 different types.")
	}
	report := ComplianceReport{
		ExecutionTime: time.UnixMilli(int64(*in.ExecutionSummary.ExecutionTime * 1000)).UTC(),
		ExecutionID:   in.ExecutionSummary.ExecutionID,
		ExecutionType: in.ExecutionSummary.ExecutionType,
		ContentHash:   in.ItemContentHash,
		Items:         in.Items,
	}
	unchanged := exists && report.ContentHash != "" && report.ContentHash == stored.ContentHash
	outdated := exists && report.ExecutionTime.Before(stored.ExecutionTime) // seen in the field, not documented
	if !unchanged && !outdated {
		s.compliance[key] = report
	}
	return map[string]any{}, nil
}

func (s *Server) customTypes(resourceID string) int {
	n := 0
	for key := range s.compliance {
		if key.resourceID == resourceID && strings.HasPrefix(key.complianceType, "Custom:") {
			n++
		}
	}
	return n
}

func (in putComplianceItemsInput) check() *APIError {
	var v violations
	v.length(in.ResourceID, "resourceId", 1, 100)
	v.length(in.ResourceType, "resourceType", 1, 50)
	v.length(in.ComplianceType, "complianceType", 1, 100)
	v.constraint(complianceTypeName.MatchString(in.ComplianceType), in.ComplianceType, "complianceType",
		`satisfy regular expression pattern: [A-Za-z0-9_\-]\w+|Custom:[a-zA-Z0-9_\-]\w+`)
	v.required(in.ExecutionSummary != nil, "executionSummary")
	if in.ExecutionSummary != nil {
		v.required(in.ExecutionSummary.ExecutionTime != nil, "executionSummary.executionTime")
		v.length(in.ExecutionSummary.ExecutionID, "executionSummary.executionId", 0, 100)
		v.length(in.ExecutionSummary.ExecutionType, "executionSummary.executionType", 0, 50)
	}
	v.required(in.Items != nil, "items")
	v.constraint(len(in.Items) <= maxComplianceItems, len(in.Items), "items", "have length less than or equal to 10000")
	v.length(in.ItemContentHash, "itemContentHash", 0, 256)
	v.constraint(slices.Contains([]string{"", "COMPLETE", "PARTIAL"}, in.UploadType), in.UploadType, "uploadType", "satisfy enum value set: [COMPLETE, PARTIAL]")
	for i, item := range in.Items {
		item.check(&v, fmt.Sprintf("items.%d.member", i+1))
	}
	if err := v.err(); err != nil {
		return err
	}
	return in.checkContent()
}

func (item ComplianceItem) check(v *violations, path string) {
	v.length(item.ID, path+".id", 1, maxComplianceID)
	v.length(item.Title, path+".title", 0, 500)
	v.constraint(slices.Contains(severities, item.Severity), item.Severity, path+".severity", fmt.Sprintf("satisfy enum value set: %v", severities))
	v.constraint(slices.Contains(statuses, item.Status), item.Status, path+".status", fmt.Sprintf("satisfy enum value set: %v", statuses))
	for _, key := range slices.Sorted(maps.Keys(item.Details)) {
		v.length(key, path+".details.key", 1, 64)
		v.length(item.Details[key], path+".details."+key, 0, 4096)
	}
}

// checkContent judges what the service's model cannot say. Which item is too large for itself, an
// ItemSizeLimitExceededException, is not documented: the model bounds all its parts but the number of its details. That two items must not share an ID is not
// documented: but one of them would be invisible wherever items are looked up.
func (in putComplianceItemsInput) checkContent() *APIError {
	switch {
	case in.ResourceType != "ManagedInstance":
		return Error(http.StatusBadRequest, "InvalidResourceType", "")
	case !managedNodeID.MatchString(in.ResourceID):
		return Error(http.StatusBadRequest, "InvalidResourceId", "")
	case in.UploadType == "PARTIAL":
		return invalid("UploadType PARTIAL is only valid for association compliance.")
	}
	seen := map[string]bool{}
	for _, item := range in.Items {
		if seen[item.ID] {
			return Error(http.StatusBadRequest, "InvalidItemContentException", fmt.Sprintf("One or more content items is not valid: two items have the ID '%s'.", item.ID))
		}
		seen[item.ID] = true
	}
	if items, err := json.Marshal(in.Items); err != nil || len(items) > maxComplianceBytes {
		return Error(http.StatusBadRequest, "TotalSizeLimitExceededException", "The size of inventory data has exceeded the total size limit for the resource.")
	}
	return nil
}
