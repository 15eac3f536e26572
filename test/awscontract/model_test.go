package awscontract

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/report/example"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

const node = "mi-0123456789abcdef0"

func TestWhatTheSDKSendsIsWithinTheServiceModel(t *testing.T) {
	s := awsfake.New(t)
	ssmClient, secretsClient := clients(s.URL)
	made := example.Report(3000) // some of it is cut
	items, _ := made.ComplianceItems(report.Room)
	if _, err := ssmClient.PutComplianceItems(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	line, _ := made.Inventory(time.Now())
	if _, err := ssmClient.PutInventory(t.Context(), line); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret(t.Context(), secretsClient, "soe/none", "", ""); err == nil {
		t.Fatal("there is a secret")
	}
	for _, p := range publisherProbes() {
		p.do(t.Context(), ssmClient, secretsClient)
	}
	s.SetTags(node, nil)
	if _, err := listTags("ManagedInstance", node)(t.Context(), ssmClient, nil); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, request := range s.Requests() {
		service := "ssm"
		if strings.Contains(request.Action, "Secret") {
			service = "secretsmanager"
		}
		if !seen[request.Action] {
			awsfake.CheckAgainstServiceModel(t, service, request.Action, request.Body)
		}
		seen[request.Action] = true
	}
}

// checkAgainstModel returns what the model forbids of a request to Systems Manager: nothing, if it is as it should be.
func checkAgainstModel(t *testing.T, operation string, body []byte) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "../awsfake/botocheck.py", "ssm", operation)
	cmd.Stdin = bytes.NewReader(body)
	out, err := cmd.CombinedOutput()
	if forbidden := strings.TrimSpace(string(out)); forbidden != "" || err == nil {
		return forbidden
	}
	t.Fatal(err)
	return ""
}

func TestTheServiceModelForbidsWhatAwsfakeRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(body, item map[string]any)
		about  string
	}{
		{"nothing", func(_, _ map[string]any) {}, ""},
		{"a hyphen in the type", func(body, _ map[string]any) { body["ComplianceType"] = "Custom:soe-agent" }, "does not match"},
		{"no time", func(body, _ map[string]any) { body["ExecutionSummary"] = map[string]any{} }, "ExecutionTime"},
		{"no node", func(body, _ map[string]any) { delete(body, "ResourceId") }, "ResourceId"},
		{"an empty node", func(body, _ map[string]any) { body["ResourceId"] = "" }, "ResourceId"},
		{"another status", func(_, item map[string]any) { item["Status"] = "DRIFTED" }, "none of COMPLIANT"},
		{"another severity", func(_, item map[string]any) { item["Severity"] = "MAJOR" }, "none of CRITICAL"},
		{"a long title", func(_, item map[string]any) { item["Title"] = strings.Repeat("x", 501) }, "at most 500"},
		{"a long detail", func(_, item map[string]any) { item["Details"] = map[string]any{"x": strings.Repeat("x", 4097)} }, "at most 4096"},
		{"a detail without a name", func(_, item map[string]any) { item["Details"] = map[string]any{"": "x"} }, "min length: 1"},
		{"a member that it does not know", func(_, item map[string]any) { item["State"] = "x" }, "unknown member"},
		{"a number for a text", func(_, item map[string]any) { item["Title"] = 1 }, "type"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			item := map[string]any{"Id": "a", "Severity": "HIGH", "Status": "COMPLIANT"}
			body := map[string]any{
				"ResourceId": node, "ResourceType": "ManagedInstance", "ComplianceType": "Custom:SoeAgent",
				"ExecutionSummary": map[string]any{"ExecutionTime": 1.5e9}, "Items": []any{item},
			}
			test.change(body, item)
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			out := checkAgainstModel(t, "PutComplianceItems", text)
			if forbidden := out != ""; forbidden != (test.about != "") || !strings.Contains(out, test.about) {
				t.Errorf("got %q, want %q", out, test.about)
			}
		})
	}
}

func TestTheServiceModelForbidsOfInventoryWhatAwsfakeRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(body, item map[string]any)
		about  string
	}{
		{"nothing", func(_, _ map[string]any) {}, ""},
		{"a node that is none", func(body, _ map[string]any) { body["InstanceId"] = "ws-0123456789" }, "does not match"},
		{"no items", func(body, _ map[string]any) { body["Items"] = []any{} }, "min length: 1"},
		{"a type of nobody", func(_, item map[string]any) { item["TypeName"] = "SoeAgent" }, "does not match"},
		{"a version with three parts", func(_, item map[string]any) { item["SchemaVersion"] = "1.0.0" }, "does not match"},
		{"a time with a fraction", func(_, item map[string]any) { item["CaptureTime"] = "2026-11-21T09:00:00.5Z" }, "does not match"},
		{"a long value", func(_, item map[string]any) {
			item["Content"] = []any{map[string]any{"x": strings.Repeat("x", 4097)}}
		}, "at most 4096"},
		{"51 attributes", func(_, item map[string]any) {
			entry := map[string]any{}
			for i := range 51 {
				entry[strconv.Itoa(i)] = ""
			}
			item["Content"] = []any{entry}
		}, "at most 50"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			item := map[string]any{
				"TypeName": "Custom:SoeAgent", "SchemaVersion": "1.0", "CaptureTime": "2026-11-21T09:00:00Z", "Content": []any{map[string]any{"x": "y"}},
			}
			body := map[string]any{"InstanceId": node, "Items": []any{item}}
			test.change(body, item)
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			out := checkAgainstModel(t, "PutInventory", text)
			if forbidden := out != ""; forbidden != (test.about != "") || !strings.Contains(out, test.about) {
				t.Errorf("got %q, want %q", out, test.about)
			}
		})
	}
}
