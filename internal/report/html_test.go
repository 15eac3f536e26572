package report_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/report/example"
)

// page is a report as a browser would parse it.
func page(t testing.TB, r report.Report, changes ...history.Change) *html.Node {
	t.Helper()
	document, err := html.Parse(strings.NewReader(source(t, r, changes...)))
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func source(t testing.TB, r report.Report, changes ...history.Change) string {
	t.Helper()
	var content strings.Builder
	if err := r.HTML(&content, changes); err != nil {
		t.Fatal(err)
	}
	return content.String()
}

// all returns the elements of a name.
func all(root *html.Node, name string) (found []*html.Node) {
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == name {
			found = append(found, n)
		}
	}
	return found
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

// texts returns the texts of the elements of a name.
func texts(root *html.Node, name string) (said []string) {
	for _, n := range all(root, name) {
		said = append(said, text(n))
	}
	return said
}

func TestThePageSaysTheVerdictFirstAndTheGravestFindingNext(t *testing.T) {
	document := page(t, example.Report(50), example.Changes()...)
	if got := texts(document, "h1"); len(got) != 1 || got[0] != "✗ Not compliant" {
		t.Errorf("%q", got)
	}
	var cards []string
	for _, heading := range texts(document, "h3") {
		cards = append(cards, strings.TrimSpace(heading))
	}
	want := []string{
		"✗ contestedsudo/allow", "~ drifteddropin/etc/ssh/sshd_config.d/50-soe.conf", // critical
		"✗ failedpackage/firefox", "? unknowndropin/etc/rsyslog.d/60-forward.conf", "… pendingpackage/kernel", // high; overdue
		"? unknowncheck/home-encrypted",
		"! expired waiverservice/cups.service",
		"… pendingpcoip/server_clipboard_state", // pending, and so not a finding
	}
	if !slices.Equal(cards, want) {
		t.Errorf("%q", cards)
	}
	in := example.Report(0)
	in.Resources, in.Waivers, in.Verdict = nil, nil, report.Compliant
	if got := texts(page(t, in), "h1"); got[0] != "✓ Compliant" {
		t.Errorf("%q", got)
	}
}

func TestAFindingSaysAllThatTheReportKnowsOfIt(t *testing.T) {
	r := example.Report(50)
	r.Policy.Refused = []string{"10-base:3: expected '='"}
	document := page(t, r)
	cards := texts(document, "article")
	for i, parts := range [][]string{
		{"refused", "10-base:3: expected '='"},
		{
			"contested", "sudo/allow", "puppet (pid 2114)", "Severity: critical", "Since: 2026-11-21 05:13:00 UTC (47 min)",
			"the machine changed", "CIS-AL2-5.2.2", "10-base:14 (remote)", "Instead of: 00-seed.toml:21 (seed)", "granted", "root, %helpdesk",
		},
		{"- X11Forwarding yes", "+ X11Forwarding no", "0644", "0600"},
		{"For persona: developer"},
		{},
		{"Takes effect: with the next start", "overdue"},
		{},
		{"expired waiver", "service/cups.service", "2026-10-31: label printer in the lab", "90-rules:13 (remote)"},
	} {
		for _, part := range parts {
			if !strings.Contains(cards[i], part) {
				t.Errorf("%q is not in %q", part, cards[i])
			}
		}
	}
	for _, part := range []string{"package/nodejs-*, 90-rules:18 (remote)", "2026-12-20", "1 resource"} {
		if !strings.Contains(text(document), part) {
			t.Errorf("%q is not said", part)
		}
	}
}

func TestTheTimelineShowsTheLastChanges(t *testing.T) {
	changes := example.Changes()
	for len(changes) < 800 {
		changes = append(changes, changes[len(changes)%15])
	}
	changes = append(changes, history.Change{Time: example.At(), Omitted: 5})
	var timeline *html.Node
	for _, section := range all(page(t, example.Report(50), changes...), "section") {
		if strings.HasPrefix(text(section), "Drift and repair (800)") {
			timeline = section
		}
	}
	if timeline == nil {
		t.Fatal("there is none")
	}
	if rows := len(all(timeline, "tr")); rows != 501 {
		t.Errorf("%d rows", rows)
	}
	for _, picture := range all(timeline, "svg") {
		if says := attribute(picture, "aria-label"); !strings.HasPrefix(says, "500 changes from 2026-11-12 06:00 to 2026-11-21 06:00 UTC") {
			t.Errorf("the picture is said to be %q", says)
		}
	}
}

// Whoever prints a report, mails it, or opens it without a network sees the same. Nothing in it is loaded from
// elsewhere, and the page's policy forbids it.
func TestThePageNeedsNothingElse(t *testing.T) {
	content := source(t, example.Report(50), example.Changes()...)
	document := page(t, example.Report(50), example.Changes()...)
	for n := range document.Descendants() {
		for _, a := range n.Attr {
			if slices.Contains([]string{"src", "href", "srcset", "action", "style", "data"}, a.Key) || strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s> has %s", n.Data, a.Key)
			}
		}
	}
	if strings.Contains(content, "url(") || strings.Contains(content, "@import") || strings.Contains(content, "http://") || strings.Contains(content, "https://") {
		t.Error("it names something elsewhere")
	}
	guarded := false
	for _, meta := range all(document, "meta") {
		if attribute(meta, "http-equiv") == "Content-Security-Policy" {
			guarded = strings.HasPrefix(attribute(meta, "content"), "default-src 'none'; style-src 'sha256-") && !strings.Contains(attribute(meta, "content"), "unsafe")
		}
	}
	if !guarded {
		t.Error("the browser is not told to load nothing")
	}
}

func TestThePageCanBeReadByThoseWhoDoNotSeeIt(t *testing.T) {
	document := page(t, example.Report(50), example.Changes()...)
	for _, cell := range all(document, "th") {
		if attribute(cell, "scope") == "" {
			t.Errorf("the heading %q heads nothing", text(cell))
		}
	}
	for _, picture := range all(document, "svg") {
		if attribute(picture, "role") != "img" || len(attribute(picture, "aria-label")) < 20 {
			t.Error("a picture says nothing")
		}
	}
	for _, name := range []string{"select", "input"} {
		for _, field := range all(document, name) {
			if field.Parent.Data != "label" {
				t.Errorf("nobody knows what the %s is for", name)
			}
		}
	}
	if form := all(document, "form")[0]; attribute(form, "hidden") == "" {
		t.Error("without JavaScript there are filters that do nothing")
	}
}

// WCAG 2.2, 1.4.3.
func TestEveryTextStandsOutFromItsGround(t *testing.T) {
	style := texts(page(t, example.Report(0)), "style")[0]
	palettes := regexp.MustCompile(`:root \{[^}]*\}`).FindAllString(style, -1)
	if len(palettes) != 3 {
		t.Fatalf("%d palettes: light, dark and paper are wanted", len(palettes))
	}
	for i, palette := range palettes {
		colours := map[string]float64{}
		for _, match := range regexp.MustCompile(`--(\w+): #([0-9a-f]+);`).FindAllStringSubmatch(palette, -1) {
			colours[match[1]] = luminance(t, match[2])
		}
		for _, text := range []string{"ink", "soft", "good", "bad", "wait", "link"} {
			grounds := []string{"paper", "card"}
			if text == "ink" {
				grounds = append(grounds, "added", "taken")
			}
			for _, ground := range grounds {
				a, b := colours[text], colours[ground]
				if contrast := (max(a, b) + 0.05) / (min(a, b) + 0.05); contrast < 4.5 {
					t.Errorf("palette %d: %s on %s has a contrast of %.1f", i, text, ground, contrast)
				}
			}
		}
	}
}

// luminance returns the relative luminance of sRGB, as WCAG defines it.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	value, err := strconv.ParseUint(hex, 16, 24)
	if err != nil {
		t.Fatal(err)
	}
	linear := func(c uint64) float64 {
		s := float64(c&0xff) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(value>>16) + 0.7152*linear(value>>8) + 0.0722*linear(value)
}

func TestALargeReportMakesAPageThatOpens(t *testing.T) {
	if size := len(source(t, example.Report(5000), example.Changes()...)); size > 2<<20 {
		t.Errorf("%d bytes", size)
	}
	broken := example.Report(5000)
	for i := range broken.Resources {
		broken.Resources[i].State = converge.Drifted
		broken.Resources[i].Reason = strings.Repeat("reason ", 30)
		broken.Resources[i].Diff = []converge.Difference{{Aspect: "content", Want: strings.Repeat("wanted\n", 300), Got: strings.Repeat("found\n", 300)}}
	}
	if size := len(source(t, broken)); size > 3<<20 {
		t.Errorf("with all of it broken: %d bytes", size)
	}
}

// The names of elements and attributes come from this program, whatever the data is.
func FuzzNoDataBecomesMarkup(f *testing.F) {
	f.Add(`<script>alert(1)</script>`, `" onload="x`)
	f.Add("--><img src=x onerror=y>", "</title></style></textarea><svg onload=z>")
	f.Add("\u202egpj\r\n\x00\x1b[2J\xff", "'`&lt;&#60;\u2028</pre>\n</td>")
	elements := map[string]int{"html": 1, "head": 1, "body": 1, "title": -1, "style": 1, "script": 1, "header": 1, "main": 1, "footer": 1, "form": 1}
	for _, name := range strings.Fields("meta h1 h2 h3 p b ul li div span section article table thead tbody tr th td time pre ins del svg rect path text label select option input output") {
		elements[name] = -1
	}
	attributes := strings.Fields("lang charset http-equiv content name class datetime scope colspan role viewBox aria-label x y width height d id data-kind hidden value type autocomplete")
	script := text(all(page(f, example.Report(0)), "script")[0])
	f.Fuzz(func(t *testing.T, a, b string) {
		r := of([]string{b, a}, hostile(a, b)...)
		r.Agent, r.Machine = a, report.Machine{Hostname: a, MachineID: b, ManagedNode: a, OS: b}
		r.Policy.Personas, r.Policy.Idle = []string{a, b}, []report.Rule{{Match: []string{b, a}}}
		r.Waivers = []report.Waiver{{Rule: report.Rule{Match: []string{a}, Origin: policy.Origin{Fragment: b}}, Until: a, Reason: b, Expired: true}}
		document := page(t, r, history.Change{Time: at, ID: policy.ID("dropin/" + a), Event: converge.Event(b), Cause: converge.Cause(a)})
		count := map[string]int{}
		for n := range document.Descendants() {
			if n.Type == html.CommentNode {
				t.Errorf("there is a comment: %q", n.Data)
			}
			if n.Type != html.ElementNode {
				continue
			}
			count[n.Data]++
			if limit, known := elements[n.Data]; !known || limit > 0 && count[n.Data] > limit {
				t.Errorf("there is a <%s> too many", n.Data)
			}
			for _, attribute := range n.Attr {
				if !slices.Contains(attributes, attribute.Key) {
					t.Errorf("<%s> has %s", n.Data, attribute.Key)
				}
			}
		}
		if text(all(document, "script")[0]) != script || count["h1"] != 1 || count["article"] != 2+2+1+1 { // refused, not in line, expired, waiting
			t.Errorf("%v", count)
		}
		for _, unseen := range []string{"\x00", "\x1b", "\u202e", "\u2066", "\u200f"} {
			if strings.Contains(text(document), unseen) {
				t.Errorf("%q is in the text", unseen)
			}
		}
	})
}

// The compiler cannot see whether somebody converts data to markup.
func TestOnlyWhatIsWrittenHereIsMarkup(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	fset, checked := token.NewFileSet(), 0
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		syntax, err := parser.ParseFile(fset, file.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if conversion, ok := call.Fun.(*ast.Ident); ok && conversion.Name == "markup" {
				checked++
				from := types.ExprString(call.Args[0])
				if from != "strings.TrimSpace(pageStyle)" && from != "strings.TrimSpace(pageScript)" {
					t.Errorf("%s: markup is made of %s", fset.Position(n.Pos()), from)
				}
			}
			return true
		})
	}
	if checked != 2 {
		t.Errorf("%d conversions were found", checked)
	}
}
