package e2e

import (
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/soe-agent/soe-agent/docs"
)

// keepsToSchema holds a report to its published schema, as a validator that this
// project did not write understands it.
func keepsToSchema(t *testing.T, report string) {
	t.Helper()
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(docs.ReportSchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("report.schema.json", schema); err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(report))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MustCompile("report.schema.json").Validate(document); err != nil {
		t.Errorf("%v\n%s", err, report)
	}
}
