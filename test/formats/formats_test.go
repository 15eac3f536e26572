// Package formats holds what the agent writes for others to tools that this project
// did not write. Package internal/report has the tests that need no such tool.
package formats

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/report/example"
)

// reports are of all sizes, one of them with texts that a stranger wrote.
func reports() map[string]report.Report {
	all := map[string]report.Report{
		"hostile": example.Report(20),
		"empty":   report.New("", facts.Facts{}, &policy.Policy{}, nil, example.At(), nil, nil),
	}
	for _, n := range []int{0, 50, 5000} {
		all[fmt.Sprint(n)] = example.Report(n)
	}
	hostile := all["hostile"]
	hostile.Machine.Hostname = "<b>\x00\x1b\"'&]]>"
	hostile.Policy.Refused = []string{"</p><script>alert(1)</script> \u202e --> \xff"}
	for i := range hostile.Resources {
		r := &hostile.Resources[i]
		r.ID += "\"'><img src=x onerror=alert(1)>\n\x0b\ufffe]]>"
		r.Reason = "</article>\r\n&nbsp; &#0; <!-- "
		r.Controls = []string{"<svg/onload=alert(1)>"}
		r.Diff = append(r.Diff, converge.Difference{Aspect: "</pre>", Want: "a\n</del>\x1b[2J\n", Got: "\n<ins>\n"})
	}
	hostile.Policy.Benchmarks = []policy.Benchmark{{Name: "<b>]]>", Controls: []string{"<svg/onload=alert(1)>", "-->\x0b\u202e"}}}
	for name, r := range map[string]report.Report{"hostile": hostile, "empty": all["empty"], "5000": all["5000"]} {
		all[name+" by control"] = r.ByControl()
	}
	return all
}

// written is a report in a file of its own.
func written(t *testing.T, name string, write func(*os.File) error) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := write(file); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

// HTML Tidy knows elements, attributes, and what may stand in what.
func TestTidyHasNothingToSayOfAPage(t *testing.T) {
	for name, r := range reports() {
		file := written(t, name+".html", func(f *os.File) error { return r.HTML(f, example.Changes()) })
		if said, err := exec.Command("tidy", "-errors", "-quiet", "-utf8", file).CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("%s: %v\n%.2000s", name, err, said)
		}
	}
}

func TestXmllintReadsAReportForPipelines(t *testing.T) {
	for name, r := range reports() {
		file := written(t, name+".xml", func(f *os.File) error { return r.JUnit(f) })
		if said, err := exec.Command("xmllint", "--noout", "--nonet", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%.2000s", name, err, said)
		}
	}
}

// OpenSCAP holds a document against the schema of XCCDF 1.2 and the rules beyond that. The time for
// these grows with the square of the size.
func TestOpenSCAPReadsTheEvidenceForAuditors(t *testing.T) {
	for name, r := range reports() {
		if len(r.Resources) > 100 {
			continue
		}
		file := written(t, name+".xml", func(f *os.File) error { return r.XCCDF(f) })
		for _, arguments := range [][]string{{"xccdf", "validate", file}, {"info", file}} {
			if said, err := exec.Command("oscap", arguments...).CombinedOutput(); err != nil {
				t.Errorf("%s: oscap %v: %v\n%.2000s", name, arguments, err, said)
			}
		}
	}
}
