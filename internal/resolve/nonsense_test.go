package resolve_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/resolve"
)

// A placeOfValue is a place where a policy may have a reference, written REF, and the resource it belongs to.
type placeOfValue struct {
	document string
	id       policy.ID
}

// placesOfValues has at least one place of each kind, or the reason why there is none.
func placesOfValues() (places map[string][]placeOfValue, none map[string]string) {
	const fingerprint = "fingerprint = \"0123456789012345678901234567890123456789\"\n"
	repository := "[repositories.corp]\nbaseurl = \"https://example.com/REF/\"\ngpgkey = \"https://example.com/KEY\"\n" + fingerprint
	whole := strings.ReplaceAll(repository, "https://example.com/REF/", "REF")
	file := func(name, content string) placeOfValue {
		return placeOfValue{fmt.Sprintf("[dropins.%q]\ncontent = %q\n", name, content), policy.NewID("dropin", name)}
	}
	digest := strings.Repeat("a", 64)
	places = map[string][]placeOfValue{
		"system": {{"[system]\ntimezone = \"REF\"\n", "system/timezone"}, {"[system]\ntimezone = \"Europe/REF\"\n", "system/timezone"}, {"[system]\nselinux = \"REF\"\n", "system/selinux"}},
		"sudo": {
			{"[sudo]\nallow = [\"alice\", \"REF\"]\n", "sudo/allow"},
			{"[sudo]\nallow = [\"REF\"]\n", "sudo/allow"},
			{"[sudo]\nallow = [\"%REF\"]\n", "sudo/allow"},
			{"[sudo]\nallow = [\"alice\", \"%EXAMPLE\\\\REF\"]\n", "sudo/allow"},
		},
		"file": {
			{"[files.\"/etc/security/pwquality.conf\"]\nkeys = { minlen = \"REF\" }\n", "file/etc/security/pwquality.conf"},
			{"[files.\"/etc/audit/auditd.conf\"]\nkeys = { disk_full_action = \"REF\" }\n", "file/etc/audit/auditd.conf"},
			{"[files.\"/etc/dnf/dnf.conf\"]\nkeys = { \"main/proxy\" = \"http://REF:3128\" }\n", "file/etc/dnf/dnf.conf"},
			{"[files.\"/etc/motd\"]\ncontent = \"Hello, REF\"\n", "file/etc/motd"},
			{"[files.\"/etc/shells\"]\nlines = [\"REF\"]\n", "file/etc/shells"},
			{"[files.\"/etc/aliases\"]\nabsent_lines = [\"a: REF\"]\n", "file/etc/aliases"},
			{"[files.\"/etc/default/useradd\"]\nkeys = { INACTIVE = \"REF\" }\n", "file/etc/default/useradd"},
		},
		"dropin": {
			file("/etc/foo.d/x", "REF"), file("/etc/cron.d/x", "# REF\n@daily root /bin/true\n"), file("/etc/sysctl.d/x.conf", "vm.swappiness = REF\n"), file("/etc/tmpfiles.d/x.conf", "f /run/REF 0600\n"),
			file("/etc/tmpfiles.d/y.conf", "REF\n"), file("/etc/sudoers.d/x", "REF\n"), file("/etc/sudoers.d/y", "Defaults:REF !lecture\n"), file("/etc/systemd/system/x.service", "[Service]\nExecStart=/bin/true REF\n"),
			file("/etc/sysusers.d/x.conf", "u REF -\n"), file("/etc/polkit-1/rules.d/x.rules", "// REF\n"), file("/etc/firefox/policies/policies.json", "{\"a\": \"REF\"}\n"), file("/etc/systemd/system/x.mount", "[Mount]\nWhere=REF\n"),
		},
		"pcoip": {
			{"[pcoip]\nusb_auth_table = \"REF\"\n", "pcoip/usb_auth_table"},
			{"[pcoip]\nmaximum_frame_rate = \"REF\"\n", "pcoip/maximum_frame_rate"},
			{"[pcoip]\nserver_clipboard_state = \"REF\"\n", "pcoip/server_clipboard_state"},
			{"[pcoip]\nencryption = \"REF\"\n", "pcoip/encryption"},
			{"[pcoip]\nallow_unknown = true\nx = \"REF\"\n", "pcoip/x"},
		},
		"dconf": {
			{"[dconf.\"a/b\"]\nc = \"REF\"\n", "dconf/a/b/c"},
			{"[dconf.\"a/b\"]\nc = [\"x\", \"y REF\"]\n", "dconf/a/b/c"},
			{"[dconf.\"a/b\"]\nc.gvariant = \"REF\"\n", "dconf/a/b/c"},
			{"[dconf.\"a/b\"]\nc.gvariant = \"['REF']\"\n", "dconf/a/b/c"},
			{"[dconf.\"a/b\"]\nc = { value = \"REF\", lock = false }\n", "dconf/a/b/c"},
		},
		"repository": {
			{repository, "repository/corp"},
			{whole, "repository/corp"},
			{strings.ReplaceAll(repository, "KEY", "REF"), "repository/corp"},
			{strings.ReplaceAll(repository, "0123456789012345678901234567890123456789", "REF"), "repository/corp"},
			{strings.ReplaceAll(repository, "baseurl", "metalink"), "repository/corp"},
			{strings.ReplaceAll(repository, "baseurl", "mirrorlist"), "repository/corp"},
			{strings.ReplaceAll(repository, "REF", "x") + "proxy = \"REF\"\n", "repository/corp"},
			{strings.ReplaceAll(repository, "REF", "x") + "proxy = \"http://REF:3128\"\n", "repository/corp"},
		},
		"package": {
			{"[packages]\ngit = \"REF\"\n", "package/git"},
			{"[packages]\ngit = \"1.REF\"\n", "package/git"},
			{"[packages]\ngit = \"REF\"\n\"git.i686\" = \"1.0-1\"\n", "package/git"},
			{"[packages]\ngit = { ensure = \"present\", url = \"https://example.com/REF.rpm\", sha256 = \"" + digest + "\" }\n", "package/git"},
			{"[packages]\ngit = { ensure = \"present\", url = \"https://example.com/x.rpm\", sha256 = \"REF\" }\n", "package/git"},
			{"[packages]\nglibc = \"REF\"\n", "package/glibc"},
		},
		"check": {{"[checks.c]\nrun = [\"/bin/true\", \"--x=REF\"]\n", "check/c"}, {"[checks.c]\nrun = [\"/bin/true\"]\nstdout = \"^REF$\"\n", "check/c"}, {"[checks.c]\nrun = [\"/bin/true\"]\nstderr = \"REF\"\n", "check/c"}},
	}
	return places, map[string]string{
		"ageing": "numbers are written out", "group": "names and numbers are written out", "mount": "options are words", "user": "names and numbers are written out",
		"firewall": "who gets in is written out, to be reviewed", "patch": "it is one of two words", "service": "each key is true or false",
	}
}

// nonsense are values that nobody can have meant, by what is wrong with them.
func nonsense() map[string]string {
	return map[string]string{
		"nothing": "", "a blank": " ", "a NUL": "a\x00b", "a line break": "a\nroot ALL=(ALL) NOPASSWD: ALL", "an escape": "\x1b[2J", "no UTF-8": "a\xff\xfe", "another reference": "{{resolve:ssm:/other}}",
		"a broken reference": "{{resolve:", "too long": strings.Repeat("x", 8192), "a path": "../../etc/passwd", "an option": "--root=/", "a number": "-1", "a large number": "99999999999999999999999", "a fraction": "1e400",
		"a list": "[1, 2]", "an object": `{"a": {"b": null}}`, "quotes": `'"'"`, "a backslash": `\`, "a percent": "%s%n", "a dollar": "$(reboot)", "a variable": "$basearch", "a pattern": "(((", "a star": "*", "true": "true", "null": "null",
		"a protected path": "/etc/pam.d/su", "root": "root", "ALL": "ALL", "wheel": "%wheel", "a word": "absent", "a colour": "Grüße", "a hash": "#0", "a comma": "a,b", "a colon": "a:b", "a right-to-left mark": "a\u202eb", "a file": "file:///etc/shadow",
	}
}

func TestEachKindHasAPlaceOfAValueOrAReasonWhyItHasNone(t *testing.T) {
	places, none := placesOfValues()
	for _, kind := range policy.Kinds() {
		if (len(places[kind]) == 0) == (none[kind] == "") {
			t.Errorf("of %s there is no place of a value, and no reason: or both", kind)
		}
	}
}

func TestNonsenseInOneValueIsOneBrokenResourceWhereverItStands(t *testing.T) {
	const rest = "[services.\"x.service\"]\nrunning = true\n[groups.g]\ngid = 4711\n"
	places, _ := placesOfValues()
	for kind, some := range places {
		for _, place := range some {
			for what, value := range nonsense() {
				p := resolved(t, strings.ReplaceAll(place.document, "REF", "{{resolve:ssm:/p}}")+rest, value)
				if len(policy.Of[policy.Service](p)) != 1 || len(policy.Of[policy.Group](p)) != 1 {
					t.Errorf("%s: with %s in %q the rest is not enforced", kind, what, place.document)
				}
				r, ok := p.Lookup(place.id)
				if !ok || r.Unusable != "" && (len(r.Missing) == 0 || !strings.Contains(r.Unusable, string(place.id))) {
					t.Errorf("%s: with %s in %q it is %+v", kind, what, place.document, r)
				}
				if r.Unusable != "" || strings.Contains(value, "{{") || kind == "dropin" && !utf8.ValidString(value) {
					continue
				}
				// A value that is accepted could also have been written there.
				f, err := policy.Parse(policy.Source{Name: "again.toml", Text: p.Text()})
				if err == nil {
					_, err = policy.Merge([]policy.Fragment{f}, []string{"base"}, nil)
				}
				if err != nil {
					t.Errorf("%s: with %s in %q nobody could have written what is enforced: %v", kind, what, place.document, err)
				}
			}
		}
	}
}

// A secret may only be in the content of a file.
func TestWhatIsWrongWithAFileForASecretInItIsSaidWithoutIt(t *testing.T) {
	places, _ := placesOfValues()
	for _, place := range places["dropin"] {
		f, err := policy.Parse(policy.Source{Name: "x.toml", Text: "schema = 1\n" + strings.ReplaceAll(place.document, "REF", "{{resolve:secretsmanager:s}}")})
		if err != nil {
			continue // it allows no secrets
		}
		p, err := policy.Merge([]policy.Fragment{f}, []string{"base"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for what, value := range nonsense() {
			value += "s3cr3t-of-nobody"
			if what == "a protected path" {
				value = "/etc/pam.d/s3cr3t-of-nobody"
			}
			got, err := resolve.Resolve(t.Context(), p, facts.Facts{}, values{"{{resolve:secretsmanager:s}}": value})
			if err != nil {
				t.Fatal(err)
			}
			if r, _ := got.Policy.Lookup(place.id); strings.Contains(r.Unusable, "s3cr3t") {
				t.Errorf("%s with %s: %s", place.id, what, r.Unusable)
			}
		}
	}
}
