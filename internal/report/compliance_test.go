package report_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/report/example"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// accepts sends a report to an endpoint with the service's limits, which must take all of it.
func accepts(t *testing.T, r report.Report) awsfake.ComplianceReport {
	t.Helper()
	stored, _ := arrives(t, r, report.Room)
	return stored
}

// arrives is accepts, and returns how large the request was.
func arrives(t testing.TB, r report.Report, room int) (stored awsfake.ComplianceReport, size int) {
	t.Helper()
	server := awsfake.InMemory()
	client := ssm.New(ssm.Options{
		BaseEndpoint: &server.URL, Region: awsfake.Region, Retryer: aws.NopRetryer{}, HTTPClient: &http.Client{Transport: server.RoundTripper()},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return awsfake.DefaultCredentials(), nil }),
	})
	in, _ := r.ComplianceItems(room)
	if _, err := client.PutComplianceItems(t.Context(), in); err != nil {
		t.Fatalf("the service would refuse the report: %v", err)
	}
	line, _ := r.Inventory(r.Time)
	if _, err := client.PutInventory(t.Context(), line); err != nil {
		t.Fatalf("the service would refuse the line: %v", err)
	}
	for _, request := range server.Requests() {
		const head = 1000
		if request.Action == "PutComplianceItems" && len(request.Body) > room+head {
			t.Fatalf("there was room for %d bytes, and it has %d", room, len(request.Body))
		}
		if !utf8.Valid(request.Body) {
			t.Fatalf("%s is not UTF-8", request.Action)
		}
	}
	stored, _ = server.Compliance(r.Machine.ManagedNode, report.ComplianceType)
	if len(stored.Items) != len(in.Items) {
		t.Fatalf("%d items were sent, and %d have arrived", len(in.Items), len(stored.Items))
	}
	return stored, len(server.Requests()[0].Body)
}

// complete fails if a resource is neither in the list nor counted as left out, or if a finding is left out
// while there is something in the list that is worth less.
func complete(t *testing.T, r report.Report, items []awsfake.ComplianceItem) {
	t.Helper()
	findings, inLine := 0, 0
	for _, resource := range r.Resources {
		if resource.State.InLine() {
			inLine++
		} else {
			findings++
		}
	}
	told := map[string]int{}
	bare, left := true, false
	for _, item := range items {
		if item.ID == "report/left-out" {
			left = true
			told["COMPLIANT"] += number(t, item.Details["compliant"])
			told["NON_COMPLIANT"] += number(t, item.Details["non-compliant"])
			if item.Details["non-compliant"] != "0" && (!bare || told["COMPLIANT"] != number(t, item.Details["compliant"])) {
				t.Error("findings are left out for something that is worth less")
			}
			if wrong := (item.Status == "COMPLIANT") != (item.Details["non-compliant"] == "0"); wrong {
				t.Errorf("what is left out is called %s: %v", item.Status, item.Details)
			}
			continue
		}
		told[item.Status]++
		bare = bare && len(item.Details) == 0
		if left {
			t.Error("something stands after what is left out")
		}
	}
	if told["NON_COMPLIANT"] != findings || told["COMPLIANT"] != inLine {
		t.Errorf("of %d findings and %d in line are told %v", findings, inLine, told)
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n := 0
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return n
}

// many makes n resources; some are not in line, and each has details of a length.
func many(n, findings, length int) []converge.Resource {
	var all []converge.Resource
	for i := range n {
		r := resource(policy.ID(fmt.Sprintf("dropin/etc/example.d/%05d-soe.conf", i)), converge.Compliant)
		r.Origin = policy.Origin{Layer: policy.Remote, Fragment: "10-base", Line: i + 1}
		if i >= n-findings { // the last ones, so that the order matters
			r.Reason = "because"
			r.AddDrift("content", strings.Repeat("w\n", length/2), strings.Repeat("g\"", length/2))
		}
		all = append(all, r)
	}
	return all
}

func TestAReportOfAnySizeIsWithinTheLimitsOfTheService(t *testing.T) {
	for _, test := range []struct{ resources, findings, length int }{
		{0, 0, 0},
		{10, 10, 100_000},
		{500, 20, 10_000},
		{500, 500, 10_000},
		{3000, 100, 5000},
		{9999, 0, 0},
		{10000, 10, 5000},
		{10000, 10000, 5000},
		{10001, 0, 0},
		{12000, 6000, 100},
		{20000, 20000, 0},
	} {
		t.Run(fmt.Sprintf("%d resources, %d not in line, with %d bytes each", test.resources, test.findings, test.length), func(t *testing.T) {
			r := of(nil, many(test.resources, test.findings, test.length)...)
			complete(t, r, accepts(t, r).Items)
		})
	}
}

func TestTheLongestDetailsAreCutFirstAndMarked(t *testing.T) {
	resources := many(1500, 0, 0)
	whole := map[string]string{}
	for i := range 400 {
		resources[i].AddDrift("length", "short", strings.Repeat("x", 300*(1+i%20)))
		whole[string(resources[i].ID)] = "length: " + resources[i].Diff[0].Got
	}
	items := accepts(t, of(nil, resources...)).Items
	longest := 0
	for _, item := range items {
		longest = max(longest, len(item.Details["actual"]))
	}
	if longest < 300 || longest > 1024 {
		t.Errorf("the longest detail has %d bytes", longest)
	}
	for _, item := range items {
		want, got := whole[item.ID], item.Details["actual"]
		if len(want) > longest && (!strings.HasSuffix(got, "x…") || len(got) < longest-3) || len(want) <= longest && got != want {
			t.Fatalf("%s: of %d bytes %d are told: %q", item.ID, len(want), len(got), got)
		}
		if want != "" && item.Details["expected"] != "length: short" || item.Details["origin"] == "" {
			t.Fatalf("%s has lost its details: %v", item.ID, item.Details)
		}
	}
}

func TestWhatIsInLineIsToldShorterBeforeAnythingIsLeftOut(t *testing.T) {
	for _, item := range accepts(t, of(nil, many(6000, 100, 3000)...)).Items {
		switch inLine := item.Status == "COMPLIANT"; {
		case item.ID == "report/left-out":
			t.Error("something is left out")
		case inLine && len(item.Details) > 0:
			t.Fatalf("%s has details: %v", item.ID, item.Details)
		case !inLine && (item.Details["reason"] != "because" || !strings.HasPrefix(item.Details["actual"], "content: g")):
			t.Fatalf("%s: %v", item.ID, item.Details)
		}
	}
}

func TestTheMostSevereFindingsHaveTheirPlaceFirst(t *testing.T) {
	resources := many(30000, 30000, 0)
	for i := range resources {
		resources[i].Severity = []policy.Severity{policy.Low, policy.Critical, policy.Medium}[i%3]
	}
	pending := resource("pcoip/x", converge.Pending)
	pending.Severity = policy.Critical
	items := accepts(t, of(nil, append(resources, pending)...)).Items
	for i, item := range items[:len(items)-1] {
		if (item.Severity == "CRITICAL") != (i < min(10000, len(items)-1)) || item.ID == "pcoip/x" {
			t.Fatalf("item %d of %d is %s, %s", i, len(items), item.ID, item.Severity)
		}
	}
}

func TestAPolicyThatIsRefusedIsAFindingOfItsOwn(t *testing.T) {
	items := accepts(t, of([]string{"first problem", "second problem"}, resource("package/a", converge.Compliant))).Items
	if len(items) != 2 || items[0].ID != "policy/current" || items[0].Severity != "CRITICAL" || items[0].Status != "NON_COMPLIANT" ||
		items[0].Details["reason"] != "first problem\nsecond problem" {
		t.Errorf("%+v", items)
	}
}

func TestIDsThatDifferAreToldApartHoweverLongOrStrange(t *testing.T) {
	long := "dropin/etc/x.d/" + strings.Repeat("ä", 200)
	ids := []policy.ID{
		"", "package/a", policy.ID(long), policy.ID(long + "2"), policy.ID("1" + long), "dropin/etc/\x1b[2J", `dropin/etc/\x1b[2J`,
		"dropin/\xff", "dropin/\xfe", policy.ID(strings.Repeat("\x00", 60)), policy.ID(strings.Repeat("\x00", 61)),
	}
	var resources []converge.Resource
	for _, id := range ids {
		resources = append(resources, resource(id, converge.Drifted))
	}
	seen := map[string]bool{}
	for _, item := range accepts(t, of(nil, resources...)).Items {
		seen[item.ID] = true
		if len(item.ID) > 100 || len(item.Title) > 500 {
			t.Errorf("the ID has %d bytes, the title %d", len(item.ID), len(item.Title))
		}
	}
	if len(seen) != len(ids) || !seen["package/a"] {
		t.Errorf("%d IDs became %q", len(ids), slices.Collect(func(yield func(string) bool) {
			for id := range seen {
				if !yield(id) {
					return
				}
			}
		}))
	}
}

func TestOneIDStandsOnceAndTheWorseOfTwoStays(t *testing.T) {
	items := accepts(t, of(nil, resource("package/a", converge.Compliant), resource("package/a", converge.Failed))).Items
	if len(items) != 1 || items[0].Status != "NON_COMPLIANT" {
		t.Errorf("%+v", items)
	}
}

func TestTheDigestChangesWithWhatIsToldAndWithNothingElse(t *testing.T) {
	digests := func(r report.Report) [2]string {
		_, compliance := r.ComplianceItems(report.Room)
		_, inventory := r.Inventory(r.Time)
		return [2]string{compliance, inventory}
	}
	a, b := of(nil, resource("package/a", converge.Compliant)), of(nil, resource("package/a", converge.Compliant))
	b.Time = at.Add(time.Hour)
	if diff := cmp.Diff(digests(a), digests(b)); diff != "" {
		t.Errorf("the time of the report counts: %s", diff)
	}
	c := of(nil, resource("package/a", converge.Failed))
	d := of(nil, resource("package/a", converge.Compliant))
	d.Machine.ManagedNode = "mi-0123456789abcdef1"
	for _, other := range []report.Report{c, d} {
		for i, digest := range digests(other) {
			if digest == digests(a)[i] {
				t.Errorf("%d: nothing seems to have changed", i)
			}
		}
	}
	first, _ := a.ComplianceItems(report.Room)
	again, _ := b.ComplianceItems(report.Room)
	if *first.ItemContentHash == *again.ItemContentHash {
		t.Error("the service would ignore a report that says the same an hour later")
	}
}

func TestTheInventoryLineIsForQueries(t *testing.T) {
	overdue := resource("package/kernel", converge.Pending)
	overdue.Overdue = true
	r := of([]string{"x:1: y"}, resource("package/a", converge.Compliant), resource("package/b", converge.Failed), overdue)
	in, _ := r.Inventory(at.Add(-time.Minute))
	want := types.InventoryItem{
		TypeName: aws.String("Custom:SoeAgent"), SchemaVersion: aws.String("1.0"), CaptureTime: aws.String("2026-11-21T06:00:00Z"),
		Content: []map[string]string{{
			"AgentVersion": "0.1.0", "Hostname": "A-1", "OS": "Amazon Linux 2", "PolicySerial": "7", "PolicyDigest": r.Policy.Digest,
			"Personas": "base", "Refused": "x:1: y", "Compliant": "false", "Verdict": "not compliant", "LastContact": "2026-11-21T05:59:00Z", "Resources": "3", "Overdue": "1",
			"CompliantResources": "1", "CorrectedResources": "0", "WaivedResources": "0", "NotApplicableResources": "0", "PendingResources": "1",
			"FailedResources": "1", "ContestedResources": "0", "DriftedResources": "0", "UnknownResources": "0",
		}},
		ContentHash: in.Items[0].ContentHash,
	}
	if diff := cmp.Diff([]types.InventoryItem{want}, in.Items, cmpopts.IgnoreUnexported(types.InventoryItem{})); diff != "" {
		t.Error(diff)
	}
	accepts(t, r)
}

// FuzzReportsForTheService makes reports of anything, for little room. The service must take the request, and
// no finding may be left out before what is in line.
func FuzzReportsForTheService(f *testing.F) {
	f.Add(uint64(1), 10, uint16(3000), "content", "\x1b[2J\xff\u2028\"\\")
	f.Add(uint64(2), 50, uint16(60000), strings.Repeat("é", 700), strings.Repeat("\x00", 3000))
	f.Add(uint64(3), 100, uint16(20000), "", "x")
	f.Fuzz(func(t *testing.T, seed uint64, n int, room uint16, a, b string) {
		random := rand.New(rand.NewPCG(seed, seed))
		states := []converge.State{
			converge.Compliant, converge.Drifted, converge.Corrected, converge.Pending, converge.Failed, converge.Contested, converge.Waived,
			converge.Unknown, converge.State(a),
		}
		text := func() string { return strings.Repeat([]string{a, b, a + b}[random.IntN(3)], random.IntN(4)) }
		var resources []converge.Resource
		seen := map[policy.ID]bool{}
		for i := range min(max(n, 0), 100) {
			r := converge.Resource{
				ID: policy.ID(fmt.Sprintf("%s%d%s", text(), i, text())), State: states[random.IntN(len(states))], Reason: text(),
				Effect: converge.Effect(text()), Cause: converge.Cause(text()), Severity: policy.Severity(text()), Controls: []string{text()},
				Origin: policy.Origin{Fragment: text()}, Overdue: random.IntN(2) == 0,
			}
			for range random.IntN(3) {
				r.Diff = append(r.Diff, converge.Difference{Aspect: text(), Want: text(), Got: text()})
			}
			if !seen[r.ID] {
				resources = append(resources, r)
			}
			seen[r.ID] = true
		}
		r := of(nil, resources...)
		r.Agent, r.Machine.Hostname, r.Machine.OS, r.Policy.Personas = a, b, a+b, []string{a, b}
		r.Policy.Digest = "digest"
		stored, _ := arrives(t, r, max(2000, int(room)))
		complete(t, r, stored.Items)
	})
}

func BenchmarkComplianceItems(b *testing.B) {
	for name, r := range map[string]report.Report{
		"10": example.Report(10), "500": example.Report(500), "10000": example.Report(10000),
		"10000 in disorder": of(nil, many(10000, 10000, 5000)...),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.ComplianceItems(report.Room)
			}
			stored, size := arrives(b, r, report.Room)
			b.ReportMetric(float64(size)/1024, "KiB")
			b.ReportMetric(float64(len(stored.Items)), "items")
		})
	}
}
