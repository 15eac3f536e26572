package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// ComplianceType is the name under which SSM Compliance knows these reports. A
// hyphen would not be allowed in it.
const ComplianceType = "Custom:SoeAgent"

// What PutComplianceItems takes (Systems Manager API Reference). The whole call
// is held well below the size at which the service refuses it, which is not
// published.
const (
	maxItems  = 10000
	maxTitle  = 500
	maxDetail = 1000 // the limit is 4096; this many items of that size would not fit
	maxID     = 100
)

// ComplianceItems is the report as SSM Compliance takes it: the whole list, for
// each call replaces what was there. The machine must be a managed node.
func (r Report) ComplianceItems() *ssm.PutComplianceItemsInput {
	items := slices.Collect(r.items())
	return &ssm.PutComplianceItemsInput{
		ResourceId:     aws.String(r.Machine.ManagedNode),
		ResourceType:   aws.String("ManagedInstance"),
		ComplianceType: aws.String(ComplianceType),
		ExecutionSummary: &types.ComplianceExecutionSummary{
			ExecutionTime: aws.Time(r.Time), ExecutionId: aws.String(r.Policy.Digest), ExecutionType: aws.String("Custom"),
		},
		Items:           items,
		ItemContentHash: aws.String(r.itemsHash()),
	}
}

// ContentHash is the same for two reports that tell SSM Compliance the same.
func (r Report) ContentHash() string { return r.Machine.ManagedNode + r.itemsHash() }

// items are the report's items, made one by one: all of them together are large.
func (r Report) items() iter.Seq[types.ComplianceItemEntry] {
	return func(yield func(types.ComplianceItemEntry) bool) {
		room := maxItems
		if len(r.Policy.Refused) > 0 { // an Id may stand once; the rest is in the report on the machine
			room--
			if !yield(item("policy/current", "the published policy is in force", policy.Critical, false,
				map[string]string{"reason": r.Policy.Refused[0]})) {
				return
			}
		}
		for _, resource := range r.Resources[:min(room, len(r.Resources))] {
			if !yield(resourceItem(resource)) {
				return
			}
		}
	}
}

func resourceItem(r converge.Resource) types.ComplianceItemEntry {
	details := map[string]string{"state": string(r.State), "since": r.Since.UTC().Format(time.RFC3339)}
	if r.Origin.Fragment != "" {
		details["origin"] = r.Origin.String()
	}
	if r.Reason != "" {
		details["reason"] = r.Reason
	}
	if r.Cause != "" {
		details["cause"] = string(r.Cause)
	}
	if r.Effect != "" {
		details["effect"] = string(r.Effect)
	}
	if len(r.Controls) > 0 {
		details["controls"] = strings.Join(r.Controls, " ")
	}
	if len(r.Diff) > 0 {
		var wants, gots []string
		for _, d := range r.Diff {
			wants, gots = append(wants, d.Aspect+": "+d.Want), append(gots, d.Aspect+": "+d.Got)
		}
		details["expected"], details["actual"] = strings.Join(wants, "\n"), strings.Join(gots, "\n")
	}
	return item(string(r.ID), string(r.ID), r.Severity, r.State.InLine(), details)
}

func item(id, title string, severity policy.Severity, compliant bool, details map[string]string) types.ComplianceItemEntry {
	if severity == "" {
		severity = policy.Medium
	}
	status := types.ComplianceStatusNonCompliant
	if compliant {
		status = types.ComplianceStatusCompliant
	}
	for key, value := range details {
		details[key] = shorten(value, maxDetail)
	}
	return types.ComplianceItemEntry{
		Id: aws.String(shortID(id)), Title: aws.String(shorten(title, maxTitle)),
		Severity: types.ComplianceSeverity(strings.ToUpper(string(severity))), Status: status, Details: details,
	}
}

// shortID makes an ID fit: the end of a path tells more than its beginning, and a
// hash keeps two long ones apart.
func shortID(id string) string {
	if len(id) <= maxID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	mark := "…" + hex.EncodeToString(sum[:4]) + "…"
	tail := id[len(id)-(maxID-len(mark)-20):]
	for !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	return shorten(id, 20) + mark + tail
}

// shorten cuts a text to at most n bytes, with a mark where something was cut.
func shorten(text string, n int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= n {
		return text
	}
	const mark = "…"
	cut := n - len(mark)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + mark
}

// itemsHash lets the service, and the agent, recognise a report that says nothing
// new.
func (r Report) itemsHash() string {
	hash := sha256.New()
	encoder := json.NewEncoder(hash)
	for entry := range r.items() {
		_ = encoder.Encode(entry) // plain data always marshals, and a hash takes all
	}
	return hex.EncodeToString(hash.Sum(nil))
}
