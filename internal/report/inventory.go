package report

import (
	"crypto/md5" //nolint:gosec // what SSM Inventory compares content by; nothing is protected by it
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// Inventory returns the report as input for SSM Inventory: one line about the machine, for queries over a
// fleet. The machine must be a managed node. contact is when the policy was last confirmed. The digest is
// equal for two reports with the same content, whatever contact is.
//
// PutInventory takes values of up to 4,096 characters, names of up to 64, and 50 of them (Systems Manager API
// Reference, "InventoryItem"). The names of attributes never change.
func (r Report) Inventory(contact time.Time) (in *ssm.PutInventoryInput, digest string) {
	line := map[string]string{
		"AgentVersion": r.Agent,
		"Hostname":     r.Machine.Hostname,
		"OS":           r.Machine.OS,
		"PolicySerial": strconv.FormatInt(r.Policy.Serial, 10),
		"PolicyDigest": r.Policy.Digest,
		"Refused":      strings.Join(r.Policy.Refused, "\n"),
		"Personas":     strings.Join(r.Policy.Personas, " "),
		"Compliant":    strconv.FormatBool(r.Compliant),
		"Verdict":      string(r.verdict()),
		"Resources":    strconv.Itoa(len(r.Resources)),
	}
	overdue := 0
	for _, resource := range r.Resources {
		if resource.Overdue {
			overdue++
		}
	}
	line["Overdue"] = strconv.Itoa(overdue)
	for _, state := range stateOrder() {
		line[attributeOf(state)] = strconv.Itoa(r.Summary[state])
	}
	for name, value := range line {
		line[name] = tidy(value, maxDetail)
	}
	digest = r.Machine.ManagedNode + md5Of(line)
	line["LastContact"] = captured(contact)
	content := []map[string]string{line}
	return &ssm.PutInventoryInput{
		InstanceId: aws.String(r.Machine.ManagedNode),
		Items: []types.InventoryItem{{
			TypeName: aws.String(ComplianceType), SchemaVersion: aws.String("1.0"), CaptureTime: aws.String(captured(r.Time)),
			Content: content, ContentHash: aws.String(md5Of(content)),
		}},
	}, digest
}

// captured returns a time in Inventory's format, and "" for the zero time.
func captured(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func md5Of(content any) string {
	text, _ := json.Marshal(content) // maps of texts always marshal
	sum := md5.Sum(text)             //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// attributeOf returns the attribute that counts the resources in a state, such as NotApplicableResources.
func attributeOf(state converge.State) string {
	name := ""
	for word := range strings.SplitSeq(string(state), "-") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	return name + "Resources"
}
