// Package docs carries those documents with the agent that have to be at hand where
// there is no network.
package docs

import _ "embed"

//go:embed report.schema.json
var reportSchema string

// ReportSchema is the JSON Schema of a compliance report, as JSON.
func ReportSchema() string { return reportSchema }
