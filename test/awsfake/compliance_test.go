package awsfake_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

const node = "mi-0123456789abcdef0"

var executed = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func report() *ssm.PutComplianceItemsInput {
	return &ssm.PutComplianceItemsInput{
		ResourceId: aws.String(node), ResourceType: aws.String("ManagedInstance"), ComplianceType: aws.String("Custom:SoeAgent"),
		ExecutionSummary: &types.ComplianceExecutionSummary{ExecutionTime: &executed, ExecutionId: aws.String("pass-1")},
		Items: []types.ComplianceItemEntry{{
			Id: aws.String("package/firefox"), Title: aws.String("firefox"), Severity: types.ComplianceSeverityHigh,
			Status: types.ComplianceStatusNonCompliant, Details: map[string]string{"want": "present"},
		}},
	}
}

func put(t *testing.T, s *awsfake.Server, in *ssm.PutComplianceItemsInput) string {
	t.Helper()
	_, err := ssmClient(s).PutComplianceItems(t.Context(), in)
	return code(t, err)
}

func TestAReportIsStoredAndReplacesTheLast(t *testing.T) {
	s := awsfake.New(t)
	if _, ok := s.Compliance(node, "Custom:SoeAgent"); ok {
		t.Error("there is a report before the first")
	}
	if code := put(t, s, report()); code != "" {
		t.Fatal(code)
	}
	want := awsfake.ComplianceReport{
		ExecutionTime: executed, ExecutionID: "pass-1",
		Items: []awsfake.ComplianceItem{{ID: "package/firefox", Title: "firefox", Severity: "HIGH", Status: "NON_COMPLIANT", Details: map[string]string{"want": "present"}}},
	}
	got, _ := s.Compliance(node, "Custom:SoeAgent")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	empty := report()
	empty.Items = []types.ComplianceItemEntry{}
	if code := put(t, s, empty); code != "" {
		t.Fatal(code)
	}
	if got, _ := s.Compliance(node, "Custom:SoeAgent"); len(got.Items) != 0 {
		t.Errorf("left of the last report: %v", got.Items)
	}
}

func TestAReportThatIsOlderOrHasTheSameHashIsIgnored(t *testing.T) {
	s := awsfake.New(t)
	first := report()
	first.ItemContentHash = aws.String("hash-1")
	put(t, s, first)
	older, same := report(), report()
	older.ExecutionSummary.ExecutionTime = aws.Time(executed.Add(-time.Minute))
	older.ExecutionSummary.ExecutionId = aws.String("older")
	same.ItemContentHash = aws.String("hash-1")
	same.ExecutionSummary.ExecutionTime = aws.Time(executed.Add(time.Minute))
	same.ExecutionSummary.ExecutionId = aws.String("same")
	for _, in := range []*ssm.PutComplianceItemsInput{older, same} {
		if code := put(t, s, in); code != "" {
			t.Error(code)
		}
		if got, _ := s.Compliance(node, "Custom:SoeAgent"); got.ExecutionID != "pass-1" {
			t.Errorf("stored: %s", got.ExecutionID)
		}
	}
}

func TestWhatComplianceRefuses(t *testing.T) {
	items := func(n int, details string) []types.ComplianceItemEntry {
		var list []types.ComplianceItemEntry
		for i := range n {
			list = append(list, types.ComplianceItemEntry{
				Id: aws.String(fmt.Sprint(i)), Severity: types.ComplianceSeverityLow, Status: types.ComplianceStatusCompliant,
				Details: map[string]string{"d": details},
			})
		}
		return list
	}
	tests := []struct {
		name   string
		change func(*ssm.PutComplianceItemsInput)
		code   string
	}{
		{"nothing", func(*ssm.PutComplianceItemsInput) {}, ""},
		{"10,000 items", func(in *ssm.PutComplianceItemsInput) { in.Items = items(10_000, "") }, ""},
		{"10,001 items", func(in *ssm.PutComplianceItemsInput) { in.Items = items(10_001, "") }, "ValidationException"},
		{"too much in all", func(in *ssm.PutComplianceItemsInput) { in.Items = items(300, strings.Repeat("x", 4096)) }, "TotalSizeLimitExceededException"},
		{"a long detail", func(in *ssm.PutComplianceItemsInput) { in.Items = items(1, strings.Repeat("x", 4097)) }, "ValidationException"},
		{"a long title", func(in *ssm.PutComplianceItemsInput) { in.Items[0].Title = aws.String(strings.Repeat("x", 501)) }, "ValidationException"},
		{"a long name of a detail", func(in *ssm.PutComplianceItemsInput) {
			in.Items[0].Details = map[string]string{strings.Repeat("x", 65): ""}
		}, "ValidationException"},
		{"a status of another service", func(in *ssm.PutComplianceItemsInput) { in.Items[0].Status = "DRIFTED" }, "ValidationException"},
		{"a severity of another service", func(in *ssm.PutComplianceItemsInput) { in.Items[0].Severity = "MAJOR" }, "ValidationException"},
		{"a hyphen in the type", func(in *ssm.PutComplianceItemsInput) { in.ComplianceType = aws.String("Custom:soe-agent") }, "ValidationException"},
		{"a long hash", func(in *ssm.PutComplianceItemsInput) { in.ItemContentHash = aws.String(strings.Repeat("x", 257)) }, "ValidationException"},
		{"another type of resource", func(in *ssm.PutComplianceItemsInput) { in.ResourceType = aws.String("WorkSpace") }, "InvalidResourceType"},
		{"a resource that is no node", func(in *ssm.PutComplianceItemsInput) { in.ResourceId = aws.String("ws-0123456789") }, "InvalidResourceId"},
		{"a long ID", func(in *ssm.PutComplianceItemsInput) { in.Items[0].Id = aws.String(strings.Repeat("x", 101)) }, "ValidationException"},
		{"two items with one ID", func(in *ssm.PutComplianceItemsInput) { in.Items = append(in.Items, in.Items[0]) }, "InvalidItemContentException"},
		{"a partial upload", func(in *ssm.PutComplianceItemsInput) { in.UploadType = types.ComplianceUploadTypePartial }, "ValidationException"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := awsfake.New(t)
			in := report()
			test.change(in)
			if got := put(t, s, in); got != test.code {
				t.Errorf("got %q, want %q", got, test.code)
			}
			if _, stored := s.Compliance(node, "Custom:SoeAgent"); stored != (test.code == "") {
				t.Errorf("stored: %v", stored)
			}
		})
	}
}

func TestANodeHasAtMostTenCustomTypes(t *testing.T) {
	s := awsfake.New(t)
	for i := range 10 {
		in := report()
		in.ComplianceType = aws.String(fmt.Sprintf("Custom:Type%d", i))
		if code := put(t, s, in); code != "" {
			t.Fatal(code)
		}
	}
	if code := put(t, s, report()); code != "ComplianceTypeCountLimitExceededException" {
		t.Error(code)
	}
	another := report()
	another.ResourceId = aws.String("mi-0123456789abcdef1")
	if code := put(t, s, another); code != "" {
		t.Error(code)
	}
}
