package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/soe-agent/soe-agent/docs"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/report/example"
	"github.com/soe-agent/soe-agent/internal/system"
)

var update = flag.Bool("update", false, "write the golden files in testdata anew")

// validator is the published schema, compiled by a library that this project did not write.
func validator(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(docs.ReportSchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("report.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("report.schema.json") // also checked against the metaschema
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func encode(t testing.TB, document any) []byte {
	t.Helper()
	raw, err := json.MarshalIndent(document, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(raw, '\n')
}

func validate(t *testing.T, schema *jsonschema.Schema, raw []byte) error {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(document)
}

func TestReportsKeepToThePublishedSchema(t *testing.T) {
	schema := validator(t)
	refused := example.Report(50)
	refused.Policy.Refused, refused.Compliant = []string{"10-base:3: cannot read the fragment: expected '='"}, false
	for name, r := range map[string]report.Report{
		"of an example":              example.Report(50),
		"with a policy refused":      refused,
		"of nothing at all":          report.New("0.1.0", facts.Facts{}, &policy.Policy{}, nil, at, nil, nil),
		"of an engine, before":       everyState(t).before,
		"of an engine, after a pass": everyState(t).after,
	} {
		if err := validate(t, schema, encode(t, r)); err != nil {
			t.Errorf("a report %s: %v", name, err)
		}
	}
}

// A change of this file changes the format that others read.
func TestTheFormatIsWhatItWas(t *testing.T) {
	const name = "testdata/report.json"
	got := encode(t, example.Report(14))
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got; go test ./internal/report -update writes it anew)\n%s", diff)
	}
	if err := validate(t, validator(t), want); err != nil {
		t.Error(err)
	}
}

func TestTheSchemaAndTheCodeNameTheSameFields(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(docs.ReportSchema()), &schema); err != nil {
		t.Fatal(err)
	}
	if got := schema["properties"].(map[string]any)["schema"].(map[string]any)["const"]; got != float64(report.Schema) {
		t.Errorf("the schema is of version %v, the report of %d", got, report.Schema)
	}
	if want := fmt.Sprintf("urn:soe-agent:report:%d", report.Schema); schema["$id"] != want {
		t.Errorf("$id is %v, not %s", schema["$id"], want)
	}
	agree(t, schema, schema, reflect.TypeFor[report.Report](), map[reflect.Type]bool{})
}

// agree compares a Go type with the schema: the same fields, each with a description, and those required that
// are always there.
func agree(t *testing.T, whole, schema map[string]any, of reflect.Type, done map[reflect.Type]bool) {
	t.Helper()
	described, _ := schema["description"].(string)
	if name, ok := schema["$ref"].(string); ok {
		definition := whole["$defs"].(map[string]any)[strings.TrimPrefix(name, "#/$defs/")]
		schema = definition.(map[string]any)
		if described == "" {
			described, _ = schema["description"].(string)
		}
	}
	if described == "" {
		t.Errorf("%s is not described", of)
	}
	switch {
	case done[of]:
		return
	case of.Kind() == reflect.Slice:
		items := schema["items"].(map[string]any)
		if items["type"] != "string" {
			agree(t, whole, items, of.Elem(), done)
		}
		return
	case of.Kind() != reflect.Struct, of == reflect.TypeFor[time.Time]():
		return
	}
	done[of] = true
	properties, _ := schema["properties"].(map[string]any)
	var names, always, required []string
	for _, field := range reflect.VisibleFields(of) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous || !field.IsExported() || name == "-" {
			continue
		}
		names = append(names, name)
		if options == "" {
			always = append(always, name)
		}
		if property, ok := properties[name].(map[string]any); ok {
			agree(t, whole, property, field.Type, done)
		}
	}
	for _, name := range schema["required"].([]any) {
		required = append(required, name.(string))
	}
	slices.Sort(names)
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(properties))); diff != "" {
		t.Errorf("%s (-Go +schema)\n%s", of, diff)
	}
	slices.Sort(always)
	slices.Sort(required)
	if diff := cmp.Diff(always, required); diff != "" {
		t.Errorf("what %s always has (-Go +schema)\n%s", of, diff)
	}
}

func TestWhatIsNoReportIsRefused(t *testing.T) {
	schema := validator(t)
	for what, spoil := range map[string]func(report map[string]any){
		"no verdict":          func(r map[string]any) { delete(r, "compliant") },
		"another schema":      func(r map[string]any) { r["schema"] = 2 },
		"a time of its own":   func(r map[string]any) { r["time"] = "yesterday" },
		"no resources":        func(r map[string]any) { r["resources"] = nil },
		"an unknown state":    func(r map[string]any) { resourceOf(r)["state"] = "fine" },
		"a state counted":     func(r map[string]any) { r["summary"] = map[string]any{"fine": 1} },
		"less than nothing":   func(r map[string]any) { r["summary"] = map[string]any{"failed": -1} },
		"no severity":         func(r map[string]any) { resourceOf(r)["severity"] = "" },
		"an unknown effect":   func(r map[string]any) { resourceOf(r)["effect"] = "soon" },
		"an unknown layer":    func(r map[string]any) { resourceOf(r)["origin"].(map[string]any)["layer"] = "top" },
		"no origin":           func(r map[string]any) { delete(resourceOf(r), "origin") },
		"half a difference":   func(r map[string]any) { resourceOf(r)["diff"] = []any{map[string]any{"aspect": "mode"}} },
		"a waiver of no day":  func(r map[string]any) { r["waivers"].([]any)[0].(map[string]any)["until"] = "2026-02-30" },
		"a machine of no one": func(r map[string]any) { delete(r["machine"].(map[string]any), "machine_id") },
	} {
		var document map[string]any
		if err := json.Unmarshal(encode(t, example.Report(20)), &document); err != nil {
			t.Fatal(err)
		}
		spoil(document)
		if validate(t, schema, encode(t, document)) == nil {
			t.Errorf("a report with %s is taken", what)
		}
	}
}

func resourceOf(report map[string]any) map[string]any {
	return report["resources"].([]any)[0].(map[string]any)
}

// moody is a kind whose resources behave as their names say.
type moody struct {
	policy *policy.Policy
	broken map[policy.ID]bool
}

func (m *moody) Name() string { return "check" }

func (m *moody) Check(context.Context) ([]converge.Resource, error) {
	var found []converge.Resource
	for _, want := range m.policy.Resources {
		if len(want.Missing) > 0 {
			continue
		}
		r := converge.Wanted(want)
		switch r.ID.Name() {
		case "unknown":
			r.SetUnknown("it does not answer")
		case "pending":
			r.SetPending(converge.Reboot, "it is read at boot")
		default:
			if m.broken[r.ID] {
				r.AddDrift("value", "right", "wrong\x1b")
			}
		}
		found = append(found, r)
	}
	return found, nil
}

func (m *moody) Repair(_ context.Context, drifted []converge.Resource) (outcomes []converge.Outcome) {
	for _, r := range drifted {
		switch r.ID.Name() {
		case "failed":
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: errors.New("cannot mend it: no way")})
		default:
			delete(m.broken, r.ID)
		}
	}
	return outcomes
}

// clock is a clock that only the test advances.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func (c *clock) Sleep(context.Context, time.Duration) error { panic("nobody sleeps here") }

type reports struct{ before, after report.Report }

// everyState makes an engine report resources in every state.
func everyState(t *testing.T) reports {
	t.Helper()
	p := &policy.Policy{Personas: []string{"base"}, Rules: []policy.Rule{
		{Match: []string{"check/waived"}, Audit: true, Until: at.AddDate(0, 0, 9), Reason: "r", Origin: policy.Origin{Fragment: "f", Line: 1}},
		{Match: []string{"check/a*"}, Audit: true, Until: at.AddDate(0, 0, -9), Reason: "r", Origin: policy.Origin{Fragment: "f", Line: 2}},
		{Match: []string{"check/audited"}, Audit: true, Origin: policy.Origin{Fragment: "f", Line: 3}},
		{Match: []string{"sudo/*"}, Severity: policy.Critical, Origin: policy.Origin{Fragment: "f", Line: 4}},
	}}
	names := []string{"audited", "compliant", "contested", "corrected", "failed", "pending", "unknown", "waived"}
	kind := &moody{policy: p, broken: map[policy.ID]bool{}}
	for _, name := range names {
		id := policy.NewID("check", name)
		p.Resources = append(p.Resources, policy.Resource{ID: id, Spec: policy.Package{Ensure: policy.Present}})
		kind.broken[id] = name != "compliant"
	}
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := converge.OpenLedger(s.FS, "/var/lib/soe-agent", facts.Identity{MachineID: "m"})
	if err != nil {
		t.Fatal(err)
	}
	now := &clock{at}
	engine := converge.New(p, []converge.Kind{kind}, ledger, now, slog.New(slog.DiscardHandler))
	var both reports
	made := func(result converge.Result) report.Report {
		return report.New("0.1.0", facts.Facts{MachineID: "m"}, p, open("f:9: refused"), result.Started, result.Resources, result.Timing)
	}
	both.before = made(engine.Check(t.Context()))
	delete(kind.broken, "check/corrected")
	for i := range 10 { // eight of these make it contested
		kind.broken["check/contested"] = true
		if i == 9 {
			kind.broken["check/corrected"] = true
		}
		both.after = made(engine.Pass(t.Context()))
		now.now = now.now.Add(time.Second)
	}
	return both
}

func TestTheReportOfAnEngineHasEveryState(t *testing.T) {
	got := everyState(t)
	want := map[converge.State]int{
		converge.Compliant: 1, converge.Drifted: 1, converge.Corrected: 1, converge.Pending: 1,
		converge.Failed: 1, converge.Contested: 1, converge.Waived: 1, converge.Unknown: 1,
	}
	if diff := cmp.Diff(want, got.after.Summary); diff != "" {
		t.Error(diff)
	}
}
