package awsfake_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

func line() *ssm.PutInventoryInput {
	return &ssm.PutInventoryInput{InstanceId: aws.String(node), Items: []types.InventoryItem{{
		TypeName: aws.String("Custom:SoeAgent"), SchemaVersion: aws.String("1.0"), CaptureTime: aws.String("2026-11-21T09:00:00Z"),
		Content: []map[string]string{{"Compliant": "true"}}, ContentHash: aws.String("hash-1"),
	}}}
}

func putLine(t *testing.T, s *awsfake.Server, in *ssm.PutInventoryInput) string {
	t.Helper()
	_, err := ssmClient(s).PutInventory(t.Context(), in)
	return code(t, err)
}

func TestALineOfInventoryIsStoredAndOneWithTheSameHashOnlyConfirmsIt(t *testing.T) {
	s := awsfake.New(t)
	if code := putLine(t, s, line()); code != "" {
		t.Fatal(code)
	}
	same := line()
	same.Items[0].CaptureTime = aws.String("2026-11-22T09:00:00Z")
	same.Items[0].Content[0]["Compliant"] = "false"
	if code := putLine(t, s, same); code != "" {
		t.Fatal(code)
	}
	want := awsfake.InventoryItem{
		TypeName: "Custom:SoeAgent", SchemaVersion: "1.0", CaptureTime: "2026-11-22T09:00:00Z",
		Content: []map[string]string{{"Compliant": "true"}}, ContentHash: "hash-1",
	}
	got, _ := s.Inventory(node, "Custom:SoeAgent")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatInventoryRefuses(t *testing.T) {
	entries := func(n, attributes, length int) []map[string]string {
		var content []map[string]string
		for range n {
			entry := map[string]string{}
			for i := range attributes {
				entry[fmt.Sprint(i)] = strings.Repeat("x", length)
			}
			content = append(content, entry)
		}
		return content
	}
	tests := []struct {
		name   string
		change func(in *ssm.PutInventoryInput, item *types.InventoryItem)
		code   string
	}{
		{"nothing", func(*ssm.PutInventoryInput, *types.InventoryItem) {}, ""},
		{"50 attributes", func(_ *ssm.PutInventoryInput, item *types.InventoryItem) { item.Content = entries(1, 50, 4096) }, ""},
		{"51 attributes", func(_ *ssm.PutInventoryInput, item *types.InventoryItem) { item.Content = entries(1, 51, 1) }, "ValidationException"},
		{"a long value", func(_ *ssm.PutInventoryInput, item *types.InventoryItem) { item.Content = entries(1, 1, 4097) }, "ValidationException"},
		{"a large item", func(_ *ssm.PutInventoryInput, item *types.InventoryItem) { item.Content = entries(6, 50, 4000) }, "ItemSizeLimitExceededException"},
		{"too much in all", func(in *ssm.PutInventoryInput, item *types.InventoryItem) {
			item.Content = entries(4, 50, 4000)
			second := *item
			second.TypeName = aws.String("Custom:Second")
			in.Items = append(in.Items, second)
		}, "TotalSizeLimitExceededException"},
		{"a time with a fraction", func(_ *ssm.PutInventoryInput, item *types.InventoryItem) {
			item.CaptureTime = aws.String("2026-11-21T09:00:00.5Z")
		}, "ValidationException"},
		{"a version with three parts", func(_ *ssm.PutInventoryInput, item *types.InventoryItem) { item.SchemaVersion = aws.String("1.0.0") }, "ValidationException"},
		{"a type of nobody", func(_ *ssm.PutInventoryInput, item *types.InventoryItem) { item.TypeName = aws.String("SoeAgent") }, "ValidationException"},
		{"a node that is none", func(in *ssm.PutInventoryInput, _ *types.InventoryItem) { in.InstanceId = aws.String("ws-0123456789") }, "ValidationException"},
		{"no items", func(in *ssm.PutInventoryInput, _ *types.InventoryItem) { in.Items = []types.InventoryItem{} }, "ValidationException"},
		{"a hash of what is not there", func(_ *ssm.PutInventoryInput, item *types.InventoryItem) { item.Content = nil }, "ItemContentMismatchException"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := awsfake.New(t)
			in := line()
			test.change(in, &in.Items[0])
			if got := putLine(t, s, in); got != test.code {
				t.Errorf("got %q, want %q", got, test.code)
			}
			if _, stored := s.Inventory(node, "Custom:SoeAgent"); stored != (test.code == "") {
				t.Errorf("stored: %v", stored)
			}
		})
	}
}

func TestANodeSendsAtMostSoMuchInventoryADay(t *testing.T) {
	s := awsfake.New(t)
	in := line()
	in.Items[0].Content = nil
	for i := range 5 {
		in.Items[0].Content = append(in.Items[0].Content, map[string]string{})
		for j := range 50 {
			in.Items[0].Content[i][fmt.Sprint(j)] = strings.Repeat("x", 3900)
		}
	}
	for i := range 6 {
		in.Items[0].ContentHash = aws.String(fmt.Sprint(i))
		want := ""
		if i == 5 {
			want = "TotalSizeLimitExceededException"
		}
		if code := putLine(t, s, in); code != want {
			t.Fatalf("the %d. time: %q", i+1, code)
		}
	}
	another := line()
	another.InstanceId = aws.String("mi-0123456789abcdef1")
	if code := putLine(t, s, another); code != "" {
		t.Error(code)
	}
}

func TestThereAreAtMostTwentyTypesOfInventory(t *testing.T) {
	s := awsfake.New(t)
	for i := range 21 {
		in := line()
		in.Items[0].TypeName = aws.String(fmt.Sprintf("Custom:Type%d", i))
		want := ""
		if i == 20 {
			want = "CustomSchemaCountLimitExceededException"
		}
		if code := putLine(t, s, in); code != want {
			t.Fatalf("type %d: %q", i, code)
		}
	}
}

func TestCallsToOneActionCanHaveAQuotaOfTheirOwn(t *testing.T) {
	s := awsfake.New(t)
	s.SetQuotaOf("PutComplianceItems", 0.001, 1)
	if code := put(t, s, report()); code != "" {
		t.Fatal(code)
	}
	if code := put(t, s, report()); code != "ThrottlingException" {
		t.Error(code)
	}
	if code := putLine(t, s, line()); code != "" {
		t.Error(code)
	}
	if calls := s.Calls("PutComplianceItems"); calls != (awsfake.Calls{Answered: 1, Throttled: 1}) {
		t.Error(calls)
	}
}
