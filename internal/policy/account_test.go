package policy_test

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestAnIdIsGivenOnce(t *testing.T) {
	for toml, want := range map[string]string{
		"users.a = { uid = 480 }\nusers.b = { uid = 480 }\n":                      "f.toml:3: cannot merge user/b: uid 480 also belongs to user/a, set at f.toml:2 (seed)",
		"[ids]\ngid.a = 480\n[groups]\nb = { gid = 480 }\n":                       "f.toml:5: cannot merge group/b: gid 480 also belongs to group/a, set at f.toml:3 (seed)",
		"users.a = { uid = 480 }\nusers.b = { uid = 480, ensure = \"absent\" }\n": "",
		"users.a = { uid = 480 }\ngroups.b = { gid = 480 }\n":                     "",
		"[ids]\nuid.a = 480\ngid.a = 480\nreport_unregistered = true\n":           "",
		"users.unregistered = {}\nids.report_unregistered = true\n":               "unregistered is the name of no account",
		"ids.report_unregistered = 1\n":                                           "report_unregistered",
	} {
		f, err := policy.Parse(policy.Source{Name: "f.toml", Text: "schema = 1\n" + toml})
		if err == nil {
			_, err = policy.Merge([]policy.Fragment{f}, nil, nil)
		}
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", toml, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", toml, err, want)
		}
	}
}

// Each distribution's useradd has its own rules: those of Amazon Linux 2 and Debian accept capitals
// and dots, others do not.
func TestWhatAnAccountMayBeCalledTheMachineDecides(t *testing.T) {
	for name, want := range map[string]string{
		"john.doe": "", "Alice": "", "3com": "", "_svc": "", "machine$": "", "josé": "", "a@b": "", "svc-x_1": "",
		strings.Repeat("long", 8): "", strings.Repeat("long", 20): "longer than 32",
		"": "useradd and groupadd accept", "-rf": "useradd and groupadd accept", "~me": "useradd and groupadd accept", "+nis": "useradd and groupadd accept", "#no": "useradd and groupadd accept",
		"a:b": "useradd and groupadd accept", "a,b": "useradd and groupadd accept", "a/b": "useradd and groupadd accept", "a b": "useradd and groupadd accept", `EXAMPLE\\bob`: "useradd and groupadd accept",
		"a\\u0000b": "control character", "1000": "for an id", ".": "for a home", "..": "for a home", "root": "administrator of last resort",
		"{{fact:hostname}}": "a reference where none is replaced",
	} {
		for _, toml := range []string{`users."` + name + `" = {}`, `groups."` + name + `" = {}`, `ids.uid."` + name + `" = 480`} {
			_, err := policy.Parse(policy.Source{Name: "f.toml", Text: "schema = 1\n" + toml + "\n"})
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, and not %q", toml, err, want)
			}
		}
	}
}
