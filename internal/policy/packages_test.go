package policy

import (
	"strings"
	"testing"
)

func TestAPackageAndAnArchitectureOfItAreNotWantedInContradiction(t *testing.T) {
	for _, c := range []struct{ all, arch, one, why string }{
		{`"absent"`, "i686", `"present"`, `"absent" without an architecture means all of them`},
		{`"absent"`, "i686", `"absent"`, ""},
		{`"present"`, "x86_64", `"absent"`, "the machine's own is meant"},
		{`"present"`, "i686", `"absent"`, ""},
		{`"present"`, "noarch", `"absent"`, ""},
		{`"1.0"`, "aarch64", `"absent"`, "the machine's own is meant"},
		{`"1.0"`, "x86_64", `"1.0-1"`, ""},
		{`"0:1.0-1"`, "x86_64", `"1.0"`, ""},
		{`"1.0"`, "x86_64", `"1.01"`, "they want different versions"},
		{`"1.0"`, "i686", `"2.0"`, ""},
		{`"1.0"`, "noarch", `"2.0"`, "they want different versions"},
		{`"1.0"`, "x86_64", `"latest"`, "the other is to be the latest"},
		{`"1.0"`, "i686", `"latest"`, ""},
		{`"latest"`, "i686", `"1.0"`, `"latest" without an architecture means all of them`},
		{`"latest"`, "i686", `"present"`, ""},
		{`{ ensure = "present", hold = true }`, "i686", `"latest"`, "a hold is on all architectures"},
		{`"1.0"`, "x86_64", `"{{resolve:ssm:/v}}"`, ""},
	} {
		text := "schema = 1\n[packages]\ntool = " + c.all + "\n\"tool." + c.arch + "\" = " + c.one + "\n"
		fragment, err := Parse(Source{Name: "50-a", Text: text})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Merge([]Fragment{fragment}, nil, nil)
		if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%s\n%v, and not %q", text, err, c.why)
		}
	}
}

func TestAValueThatContradictsAnotherArchitectureIsNotUsed(t *testing.T) {
	for _, text := range []string{`tool = "{{resolve:ssm:/v}}"` + "\n" + `"tool.x86_64" = "1.0"`, `tool = "1.0"` + "\n" + `"tool.x86_64" = "{{resolve:ssm:/v}}"`} {
		fragment, err := Parse(Source{Name: "50-a", Text: "schema = 1\n[packages]\n" + text + "\n"})
		if err != nil {
			t.Fatal(err)
		}
		p, err := Merge([]Fragment{fragment}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		p = p.Expand(func(Reference) (string, bool) { return "2.0", true })
		if wants := Of[Package](p); len(wants) != 1 || wants[0].Spec.Ensure != "1.0" {
			t.Errorf("%s: of both there is left %v", text, wants)
		}
	}
}

func TestANameWithAVersionInItOrOfWhatIsNoPackageIsRefused(t *testing.T) {
	for name, why := range map[string]string{
		"foo-1.0-1.amzn2":        `say foo = "1.0-1.amzn2"`,
		"foo-1.0-1.amzn2.x86_64": `say foo = "1.0-1.amzn2"`,
		"gcc-c++-7.3-17.el7_9":   `say gcc-c++ = "7.3-17.el7_9"`,
		"gpg-pubkey":             "it is no package but a key",
		"python3.9":              "", "java-1.8.0-openjdk": "", "kernel-livepatch-4.14.231-173.360": "", "compat-libtiff3": "", "soe-multi.i686": "",
	} {
		_, err := Parse(Source{Name: "50-a", Text: "schema = 1\n[packages]\n\"" + name + "\" = \"present\"\n"})
		if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%s: %v, and not %q", name, err, why)
		}
	}
	for text, why := range map[string]string{
		`"systemd.x86_64" = "absent"`:                                                                       "must not be removed",
		`tool = { url = "https://x/tool.rpm" }`:                                                             "url and sha256 belong together",
		`tool = { sha256 = "` + strings.Repeat("a", 64) + `" }`:                                             "url and sha256 belong together",
		`tool = { url = "ftp://x/tool.rpm", sha256 = "` + strings.Repeat("a", 64) + `" }`:                   "is none of https://",
		`tool = { url = "https://me:word@x/tool.rpm", sha256 = "` + strings.Repeat("a", 64) + `" }`:         "holds a password",
		`tool = { url = "https://x/tool.rpm", sha256 = "abc" }`:                                             "is not a SHA-256",
		`tool = { ensure = "latest", url = "https://x/t.rpm", sha256 = "` + strings.Repeat("a", 64) + `" }`: "a file is one version of one package",
		`"tool.i686" = { ensure = "present", hold = true }`:                                                 "say it of tool",
	} {
		if _, err := Parse(Source{Name: "50-a", Text: "schema = 1\n[packages]\n" + text + "\n"}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAnArchitectureAtTheEndOfAVersionIsRefusedWithWhereItBelongs(t *testing.T) {
	for version, why := range map[string]string{
		"1.0-1.noarch": `say "git.noarch" = "1.0-1"`, "1:2.0-3.amzn2.x86_64": `say "git.x86_64" = "1:2.0-3.amzn2"`,
		"1.0-1": "", "2.40.1-1.amzn2.0.1": "", "latest": "",
	} {
		_, err := Parse(Source{Name: "a.toml", Text: "schema = 1\n[packages]\ngit = \"" + version + "\"\n"})
		if (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", version, err)
		}
	}
}
