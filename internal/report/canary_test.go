package report_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/kind/dropin"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/resolve"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// It contains characters that JSON, XML and HTML escape, each in its own way.
const canary = `c4n4ry/7f3a&<"9e21'>+x`

// A vault has the canary as the value of every reference.
type vault struct{}

func (vault) Fetch(_ context.Context, references []policy.Reference) (map[policy.Reference]string, map[policy.Reference]error) {
	values := map[policy.Reference]string{}
	for _, r := range references {
		values[r] = canary
	}
	return values, nil
}

// gossip is a kind whose program prints what it has read.
type gossip struct{ policy *policy.Policy }

func (gossip) Name() string { return "check" }

func (g gossip) Check(context.Context) (found []converge.Resource, err error) {
	for _, want := range g.policy.Resources {
		if want.ID.Kind() == "check" {
			r := converge.Wanted(want)
			r.AddDrift("output", "nothing", "the password is "+canary)
			r.Reason = "it said " + canary
			found = append(found, r)
		}
	}
	return found, nil
}

func (gossip) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }

func TestASecretOfThePolicyIsInNoFormat(t *testing.T) {
	fragment, err := policy.Parse(policy.Source{Name: "10-base", Text: `schema = 1
[dropins."/etc/example.d/agent.conf"]
content = "user = soe\npassword = {{resolve:secretsmanager:soe/agent}}\n"
mode = "0600"
[checks.gossip]
run = ["/bin/true"]
`})
	if err != nil {
		t.Fatal(err)
	}
	merged, err := policy.Merge([]policy.Fragment{fragment}, []string{"base"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := facts.Facts{Hostname: "A-1", MachineID: "m"}
	resolution, err := resolve.Resolve(t.Context(), merged, f, vault{})
	if err != nil {
		t.Fatal(err)
	}
	p := resolution.Policy
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Root = "/" // a running system: an image gets no secrets
	const file = "/etc/example.d/agent.conf"
	if err := s.FS.MkdirAll("/etc/example.d", 0o755); err != nil {
		t.Fatal(err)
	}
	ledger, err := converge.OpenLedger(s.FS, "/var/lib/soe-agent", facts.Identity{MachineID: "m"})
	if err != nil {
		t.Fatal(err)
	}
	kinds := []converge.Kind{dropin.New(p, s, ledger, schedule.Window{}), gossip{p}}
	engine := converge.New(p, kinds, ledger, &clock{at}, slog.New(slog.DiscardHandler))
	var changes []history.Change
	engine.Changed = func(news []converge.Change) { changes = append(changes, history.Of(news, p)...) }
	passes := 0
	look := func(step func(context.Context, ...string) converge.Result) {
		passes++
		result := step(t.Context())
		hunt(t, report.New("0.1.0", f, p, nil, at, result.Resources, result.Timing), changes)
	}
	look(engine.Check)
	look(engine.Pass)
	content, err := s.FS.ReadFile(file)
	if err != nil || !strings.Contains(string(content), canary) {
		t.Fatalf("the secret did not get where it belongs: %v\n%s", err, content)
	}
	if err := s.FS.WriteFile(file, append(content, "more\n"...), system.Attr{Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	look(engine.Check)
	look(engine.Pass)
	if len(changes) == 0 {
		t.Error("nothing was changed")
	}
}

// hunt looks for the canary in everything that is made of a report.
func hunt(t *testing.T, r report.Report, changes []history.Change) {
	t.Helper()
	inJSON, _ := json.Marshal(canary)
	forms := []string{
		canary, strings.Trim(string(inJSON), `"`), html.EscapeString(canary), hex.EncodeToString([]byte(canary)),
		base64.StdEncoding.EncodeToString([]byte(canary)), "c4n4ry", "7f3a", "9e21",
	}
	for format, write := range map[string]func(io.Writer) error{
		"text":      func(w io.Writer) error { return r.Text(w, report.Style{Verbose: true}) },
		"plan":      func(w io.Writer) error { return r.Plan(w, report.Style{Verbose: true}) },
		"json":      func(w io.Writer) error { return json.NewEncoder(w).Encode(r) },
		"junit":     r.JUnit,
		"xccdf":     r.XCCDF,
		"html":      func(w io.Writer) error { return r.HTML(w, changes) },
		"items":     func(w io.Writer) error { in, _ := r.ComplianceItems(report.Room); return json.NewEncoder(w).Encode(in) },
		"inventory": func(w io.Writer) error { in, _ := r.Inventory(r.Time); return json.NewEncoder(w).Encode(in) },
		"history":   func(w io.Writer) error { return report.History(w, changes, report.Style{Verbose: true}) },
	} {
		var content bytes.Buffer
		if err := write(&content); err != nil {
			t.Fatal(err)
		}
		if format != "history" && format != "inventory" && !strings.Contains(content.String(), "secret") {
			t.Errorf("%s says nothing of a secret: it is not looked for where it would be\n%s", format, content.String())
		}
		for _, form := range forms {
			if strings.Contains(content.String(), form) {
				t.Errorf("the secret is in the format %s, as %q", format, form)
			}
		}
	}
}
