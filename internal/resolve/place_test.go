package resolve_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/resolve"
)

// Line ends in the eyes of some reader, and other control characters.
var breaks = []string{"\n", "\r", "\r\n", "\v", "\f", "\x00", "\x1b", "\x7f", "\u0085", "\u009b", "\u2028", "\u2029"}

// resolved returns a policy in which every reference has this value.
func resolved(t *testing.T, document, value string) *policy.Policy {
	t.Helper()
	f, err := policy.Parse(policy.Source{Name: "x.toml", Text: "schema = 1\n" + document})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge([]policy.Fragment{f}, []string{"base"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := values{}
	for _, r := range p.References() {
		all[r.String()] = value
	}
	got, err := resolve.Resolve(t.Context(), p, facts.Facts{Hostname: value}, all)
	if err != nil {
		t.Fatalf("one value refuses the whole policy: %v", err)
	}
	return got.Policy
}

// stays says whether a resource is left as it is because of a value, and does not show the value.
func stays(t *testing.T, p *policy.Policy, id policy.ID, value string) bool {
	t.Helper()
	r, ok := p.Lookup(id)
	if !ok {
		t.Fatalf("there is no %s", id)
	}
	if strings.Contains(r.Unusable, value) || strings.Contains(r.Unusable, "evil") || strings.Contains(r.Unusable, fmt.Sprintf("%q", value)) {
		t.Errorf("the reason shows the value: %s", r.Unusable)
	}
	if r.Unusable == "" {
		return false
	}
	if len(r.Missing) == 0 || len(r.Secrets) > 0 || r.Shown != nil {
		t.Errorf("what cannot be used may be enforced: %+v", r)
	}
	return true
}

func TestAValueOfSeveralLinesGoesInOnlyWhereItIsTheWholeOrStandsAloneOnItsLine(t *testing.T) {
	for content, fits := range map[string]bool{
		"REF":                             true,
		"REF\n":                           true,
		"# a key\nREF\n# its end\n":       true,
		"# a key\r\nREF\r\n# its end\r\n": true,
		"a\nREF":                          true,
		"REF\nREF\n":                      true,
		"# REF\n":                         false,
		"REF # what for\n":                false,
		" REF\n":                          false,
		"REF \n":                          false,
		"a = REF\n":                       false,
		"\"REF\"\n":                       false,
		"a\rREF\n":                        false,
		"REF\r":                           false,
		"REFREF":                          false,
		"a\\\nREF\n":                      false, // the backslash continues the line before
		"a\\\r\nREF\n":                    false,
		"REF\n# and REF\n":                false,
	} {
		for _, reference := range []string{"{{resolve:ssm:/p}}", "{{resolve:ssm-secure:/p}}", "{{resolve:secretsmanager:s}}", "{{resolve:secretsmanager:s:SecretString:k}}", "{{fact:hostname}}"} {
			for _, lineBreak := range breaks {
				value := "x" + lineBreak + "* * * * * root /home/u/evil"
				p := resolved(t, fmt.Sprintf("[dropins.\"/etc/x.d/y\"]\nactivate = []\ncontent = %q\n[packages]\ngit = \"latest\"\n", strings.ReplaceAll(content, "REF", reference)), value)
				fits := fits && lineBreak != "\x00" // which no text has
				if stays(t, p, "dropin/etc/x.d/y", value) == fits {
					t.Errorf("a value with %q in %q of %s: fits is %v", lineBreak, content, reference, !fits)
				}
				if len(policy.Of[policy.Package](p)) != 1 {
					t.Error("the rest is not enforced")
				}
			}
		}
	}
}

func TestAValueOfOneLineGoesInEverywhere(t *testing.T) {
	for _, content := range []string{"REF", "# REF\n", "a = \"REF\"\nREF\n", " REF"} {
		p := resolved(t, fmt.Sprintf("[dropins.\"/etc/x.d/y\"]\nactivate = []\ncontent = %q\n", strings.ReplaceAll(content, "REF", "{{resolve:ssm:/p}}")), "Grüße 100% \\ $x")
		if stays(t, p, "dropin/etc/x.d/y", "\n") {
			t.Errorf("it is refused in %q", content)
		}
	}
}

func TestAValueThatWouldMakeTheNextLineAPartOfItIsRefused(t *testing.T) {
	for content, fits := range map[string]bool{"REF": true, "# REF\nb\n": false, "REF\nb\n": false, "a=REF b\n": true, "# REF\r\nb": false, "a=REF": true} {
		p := resolved(t, fmt.Sprintf("[dropins.\"/etc/x.d/y\"]\nactivate = []\ncontent = %q\n", strings.ReplaceAll(content, "REF", "{{resolve:ssm:/p}}")), `evil\`)
		if stays(t, p, "dropin/etc/x.d/y", "evil") == fits {
			t.Errorf("%q: fits is %v", content, !fits)
		}
	}
}

// Every place in which a policy may have a reference, except the content of a file.
func TestNoValueReachesBeyondItsPlaceWhateverTheKind(t *testing.T) {
	const fingerprint = "fingerprint = \"0123456789012345678901234567890123456789\"\n"
	repository := "[repositories.corp]\nbaseurl = \"https://example.com/REF/\"\ngpgkey = \"https://example.com/KEY\"\n" + fingerprint
	for name, place := range map[string]struct {
		document string
		id       policy.ID
	}{
		"time zone":             {"[system]\ntimezone = \"REF\"\n", "system/timezone"},
		"part of a subject":     {"[sudo]\nallow = [\"alice\", \"%EXAMPLE\\\\REF\"]\n", "sudo/allow"},
		"subject":               {"[sudo]\nallow = [\"alice\", \"REF\"]\n", "sudo/allow"},
		"PCoIP":                 {"[pcoip]\nusb_auth_table = \"REF\"\n", "pcoip/usb_auth_table"},
		"unknown PCoIP":         {"[pcoip]\nallow_unknown = true\nx = \"REF\"\n", "pcoip/x"},
		"part of a dconf value": {"[dconf.\"a/b\"]\nc = \"x REF\"\n", "dconf/a/b/c"},
		"element of an array":   {"[dconf.\"a/b\"]\nc = [\"x\", \"y REF\"]\n", "dconf/a/b/c"},
		"gvariant":              {"[dconf.\"a/b\"]\nc.gvariant = \"REF\"\n", "dconf/a/b/c"},
		"part of a gvariant":    {"[dconf.\"a/b\"]\nc.gvariant = \"'REF'\"\n", "dconf/a/b/c"},
		"URL":                   {repository, "repository/corp"},
		"whole URL":             {strings.ReplaceAll(repository, "https://example.com/REF/", "REF"), "repository/corp"},
		"URL of a key":          {strings.ReplaceAll(repository, "KEY", "REF"), "repository/corp"},
		"fingerprint":           {strings.ReplaceAll(repository, "0123456789012345678901234567890123456789", "REF"), "repository/corp"},
		"version":               {"[packages]\ngit = \"REF\"\n", "package/git"},
		"argument":              {"[checks.c]\nrun = [\"/bin/true\", \"--x=REF\"]\n", "check/c"},
		"pattern":               {"[checks.c]\nrun = [\"/bin/true\"]\nstdout = \"^REF$\"\n", "check/c"},
		"pattern of errors":     {"[checks.c]\nrun = [\"/bin/true\"]\nstderr = \"^REF$\"\n", "check/c"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, lineBreak := range breaks {
				value := "https://x" + lineBreak + "evil"
				p := resolved(t, strings.ReplaceAll(place.document, "REF", "{{resolve:ssm:/p}}")+"[services.\"x.service\"]\nrunning = true\n", value)
				if !stays(t, p, place.id, value) {
					t.Errorf("a value with %q goes in", lineBreak)
				}
				if len(policy.Of[policy.Service](p)) != 1 {
					t.Error("the rest is not enforced")
				}
			}
		})
	}
	for _, value := range []string{"a https://evil/", "a,https://evil/", "a\u00a0https://evil/"} {
		p := resolved(t, strings.ReplaceAll(repository, "REF", "{{resolve:ssm:/p}}"), value)
		if !stays(t, p, "repository/corp", value) {
			t.Errorf("another URL goes in with %q", value)
		}
	}
}

// In a GVariant a quote ends a text; another value could follow.
func TestNoValueEndsTheTextOfAGVariantInWhichItStands(t *testing.T) {
	for _, text := range []string{"['REF']", "[\\\"REF\\\", 'x']", "('a', 'b REF')", "'REF'", "[REF]"} {
		for _, value := range []string{"x', 'evil", `x", "evil`, `evil\`, "evil'"} {
			p := resolved(t, strings.ReplaceAll("[dconf.\"a/b\"]\nc.gvariant = \""+text+"\"\n", "REF", "{{resolve:ssm:/p}}"), value)
			if !stays(t, p, "dconf/a/b/c", value) {
				t.Errorf("%s goes into %s", value, text)
			}
		}
	}
	for _, value := range []string{"['a', 'b']", "@as []"} {
		if p := resolved(t, "[dconf.\"a/b\"]\nc.gvariant = \"{{resolve:ssm:/p}}\"\n", value); stays(t, p, "dconf/a/b/c", value) {
			t.Errorf("%s does not go in as the whole", value)
		}
	}
}

func TestAValueOfSeveralLinesMayBeTheWholeOfWhatIsQuotedForItsReader(t *testing.T) {
	const value = "Welcome\nto the desktop"
	p := resolved(t, "[dconf.\"org/gnome/login-screen\"]\nbanner-message-text = \"{{resolve:ssm:/p}}\"\n[checks.c]\nrun = [\"/bin/true\", \"{{resolve:ssm:/p}}\"]\n", value)
	settings, checks := policy.Of[policy.Dconf](p), policy.Of[policy.Check](p)
	if len(settings) != 1 || settings[0].Spec.Value != value || len(checks) != 1 || !slices.Contains(checks[0].Spec.Run, value) {
		t.Errorf("%+v %+v", settings, checks)
	}
}
