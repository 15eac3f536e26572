package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/docs"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

func (a *app) reportCommand() *cobra.Command {
	var format, output, by string
	c := &cobra.Command{
		Use:   "report",
		Short: "Show the last compliance report",
		Long: `Report shows the last compliance report, resource by resource; with --verbose also
the resources that are in line.

Formats: text for people, json for programs (soe-agent report schema describes it),
html as one file that needs no network, junit for pipelines, xccdf (1.2) for auditors and
the tools that read results of scanners.

With --by control it is told by what standards demand: each control with its resources,
its state, which is that of the worst of them, since when, and its waivers. A control that a
benchmark of the policy names and no resource is there for is not covered.

Exit code: 0 when everything is in line or pending, 2 when something is not, 1 when
there is no report.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.json && !c.Flags().Changed("format") {
				format = "json"
			}
			write, known := a.reportFormats()[format]
			if !known {
				return fmt.Errorf("cannot write a report as %q: known formats are text, json, html, junit, xccdf", format)
			}
			if by != "resource" && by != "control" {
				return fmt.Errorf("cannot write a report by %q: it is told by resource or by control", by)
			}
			r, err := a.lastReport(c.Context())
			if err != nil {
				return err
			}
			if by == "control" {
				r = r.ByControl()
			}
			if err := a.writeReport(r, write, output); err != nil {
				return err
			}
			if !r.Compliant {
				return errNotCompliant
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, json, html, junit or xccdf")
	completeFlag(c, "format", cobra.FixedCompletions([]cobra.Completion{"text", "json", "html", "junit", "xccdf"}, cobra.ShellCompDirectiveNoFileComp))
	c.Flags().StringVar(&by, "by", "resource", "what it is told by: resource or control")
	completeFlag(c, "by", cobra.FixedCompletions([]cobra.Completion{"resource", "control"}, cobra.ShellCompDirectiveNoFileComp))
	c.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` instead of standard output")
	c.AddCommand(a.reportSchemaCommand())
	return c
}

// A reportWriter writes a report in one format.
type reportWriter func(r report.Report, w io.Writer) error

func (a *app) reportFormats() map[string]reportWriter {
	return map[string]reportWriter{
		"text": func(r report.Report, w io.Writer) error {
			style := a.style()
			style.Color = style.Color && w == a.stdout
			return r.Text(w, style)
		},
		"json":  func(r report.Report, w io.Writer) error { return encodeJSON(w, r) },
		"junit": func(r report.Report, w io.Writer) error { return r.JUnit(w) },
		"xccdf": func(r report.Report, w io.Writer) error { return r.XCCDF(w) },
		"html":  func(r report.Report, w io.Writer) error { return r.HTML(w, a.reportHistory()) },
	}
}

// writeReport writes a report to a file, or to standard output when none is named.
func (a *app) writeReport(r report.Report, write reportWriter, output string) error {
	if output == "" {
		if err := write(r, a.stdout); err != nil {
			return fmt.Errorf("cannot print the report: %w", err)
		}
		return nil
	}
	var content bytes.Buffer
	err := write(r, &content)
	if err == nil {
		err = system.Replace(output, content.Bytes())
	}
	if err != nil {
		return fmt.Errorf("cannot write the report to %s: %w", output, err)
	}
	return nil
}

func (a *app) reportSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a report",
		Long: `Schema prints the JSON Schema (draft 2020-12) that describes what report --json
prints, field by field.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.printf("%s", docs.ReportSchema())
			return nil
		},
	}
}

// reportHistory is what the timeline shows. The history is for root alone; a report
// without it is one all the same.
func (a *app) reportHistory() []history.Change {
	changes, err := a.history(history.Query{Limit: 2000})
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		slog.Warn("cannot read the history; the report has no timeline", "err", err)
	}
	return changes
}
