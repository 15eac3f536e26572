package report_test

import (
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/report/example"
)

// A counter counts the bytes that are written.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func BenchmarkReport(b *testing.B) {
	for _, n := range []int{10, 500, 10000} {
		r := example.Report(n)
		for _, format := range []struct {
			name  string
			write func(io.Writer) error
		}{
			{"text", func(w io.Writer) error { return r.Text(w, report.Style{Verbose: true}) }},
			{"json", func(w io.Writer) error { return json.NewEncoder(w).Encode(r) }},
			{"junit", r.JUnit},
			{"html", func(w io.Writer) error { return r.HTML(w, example.Changes()) }},
		} {
			b.Run(fmt.Sprintf("%s/%d", format.name, n), func(b *testing.B) {
				var size counter
				for b.Loop() {
					size = 0
					if err := format.write(&size); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(size)/1024, "KiB")
			})
		}
	}
}
