package policy

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// Values here become a path, a line of a file or a word of a command that runs as root. For each
// guard there is one value that it stops, and one that just passes.
func TestWhatWouldBecomeAPathALineOrAWordOfACommandIsRefused(t *testing.T) {
	const keys = `baseurl = "https://r/", gpgkey = "https://r/k", fingerprint = "123456789ABCDEF0123456789ABCDEF012345678"`
	const digest = `sha256 = "1234567812345678123456781234567812345678123456781234567812345678"`
	long := func(n int) string { return strings.Repeat("a", n-len(".conf")) + ".conf" }
	for toml, why := range map[string]string{
		`repositories."../../cron.d/x" = { ` + keys + ` }`:                                      "is not a repository id",
		`repositories."a/b" = { ensure = "absent" }`:                                            "is not a repository id",
		`repositories."a]" = { priority = 1 }`:                                                  "is not a repository id",
		`repositories.a = { ensure = "gone" }`:                                                  `ensure is "present" or "absent"`,
		`repositories.a = { name = "x\ngpgcheck=0", ` + keys + ` }`:                             "has a line break",
		`repositories.a = { ` + strings.Replace(keys, "https://r/k", `https://r/\nk`, 1) + ` }`: "has a line break",
		`repositories.a = { ` + strings.Replace(keys, "https://r/", `https://r/\rx`, 1) + ` }`:  "has a line break",
		`repositories.a = { priority = -1 }`:                                                    "is not between 1 and 99",
		`repositories.a = { priority = 100 }`:                                                   "is not between 1 and 99",
		`repositories.a = { priority = 99 }`:                                                    "",
		`repositories.a = { exclude = ["a,b"] }`:                                                "nor a pattern of names",
		`repositories.a = { includepkgs = ["x", "a=b"] }`:                                       "nor a pattern of names",
		`repositories.a = { sslclientcert = "/etc/c", sslclientkey = "/etc/../k" }`:             "sslclientkey",

		`packages."--installroot=x" = "present"`:                                    "is not the name of a package",
		`packages."git\nremove glibc" = "present"`:                                  "is not the name of a package",
		`packages."/tmp/x.rpm" = "present"`:                                         "is not the name of a package",
		`packages."git;rm" = "absent"`:                                              "is not the name of a package",
		`packages."@a\nremove glibc" = "present"`:                                   "is not the name of a group of packages",
		`packages."@-x" = "present"`:                                                "is not the name of a group of packages",
		`packages."@MATE desktop" = "present"`:                                      "",
		`packages."@a" = "absent"`:                                                  "a group can only be",
		`packages."@a" = { ensure = "present", hold = true }`:                       "a group can only be",
		`packages.git = "1 2"`:                                                      "and no version",
		`packages.git = { ensure = "1.0\nremove glibc" }`:                           "and no version",
		`packages.git = ""`:                                                         `say "present"`,
		`packages.git = { topic = "-x" }`:                                           "is not a topic",
		`packages.git = { topic = "a b" }`:                                          "is not a topic",
		`packages.git = { ensure = "latest", hold = true }`:                         "cannot be held",
		`packages.git = { ensure = "absent", hold = true }`:                         "cannot be held",
		`packages.git = { ensure = "present", hold = true }`:                        "",
		`packages.git = { url = "{{resolve:ssm:/u}}", ` + digest + ` }`:             "",
		`packages.git = { ensure = "1.0", url = "https://r/a", ` + digest + ` }`:    "",
		`packages.git = { ensure = "absent", url = "https://r/a", ` + digest + ` }`: "one version of one package",
		`packages.git = { topic = "git", url = "https://r/a", ` + digest + ` }`:     "one version of one package",

		`users.u = { home = "srv/u" }`:        "home",
		`users.u = { home = "/srv/../etc" }`:  "home",
		`users.u = { home = "/srv/u:/bin" }`:  "home",
		`users.u = { home = "/srv/u\nroot" }`: "home",
		`users.u = { shell = "/bin/sh\n" }`:   "shell",
		`users.u = { shell = "/bin/sh:" }`:    "shell",
		`users.u = { shell = "/bin//sh" }`:    "shell",
		`users.u = { home = "/srv/u" }`:       "",
		`users.u = { ensure = "gone" }`:       `ensure is "present" or "absent"`,
		`users.u = { comment = "a:b" }`:       "comment",
		`users.u = { comment = "a\nb" }`:      "comment",
		`users.u = { group = "a:b" }`:         "is not the name of a group",
		`users.u = { group = "-g" }`:          "is not the name of a group",
		`users.u = { group = "a\nb" }`:        "is not the name of a group",
		`users.u = { groups = ["a,wheel"] }`:  "is not the name of a group",
		`users.u = { uid = 1 }`:               "",
		`users.u = { uid = 4294967294 }`:      "",
		`groups.g = { ensure = "gone" }`:      `ensure is "present" or "absent"`,
		`groups.g = { ensure = "absent" }`:    "",

		`checks."a/b" = { run = ["/bin/true"] }`:               "is not a name for a check",
		`checks."a\nb" = { run = ["/bin/true"] }`:              "is not a name for a check",
		`checks.a = { run = ["/bin/true"], user = "a:b" }`:     "is not the name of a user",
		`checks.a = { run = ["/bin/true"], user = "-G" }`:      "is not the name of a user",
		`checks.a = { run = ["/bin/true"], user = "a\nb" }`:    "is not the name of a user",
		`checks.a = { run = ["/bin/true"], user = "EX\\bob" }`: "",
		`checks.a = { run = ["/bin/true"], exit = -1 }`:        "is not between 0 and 255",
		`checks.a = { run = ["/bin/true"], exit = 255 }`:       "",
		`checks.a = { run = ["/bin/true"], timeout = "0s" }`:   "is not a duration",
		`checks.a = { run = ["/bin/true"], timeout = "-1s" }`:  "is not a duration",
		`checks.a = { run = [] }`:                              "it needs a command",

		`patch = { updates = "none" }`: "is neither",
		`patch = { }`:                  "it does not say which",
		`patch = { updates = 1 }`:      "and not the number 1",
		`patch = { updates = "all" }`:  "",

		`dconf."org/x".a = { gvariant = "'a'\nb=1" }`: "the gvariant has a line break",
		`dconf."org/x".a = { gvariant = "'a'" }`:      "",
		`dconf."".a = 1`:                              "is a key in no directory",

		`system.timezone = "../../shadow"`:    "is not the name of a time zone",
		`system.timezone = "/etc/shadow"`:     "is not the name of a time zone",
		`system.timezone = "Europe/Berlin\n"`: "is not the name of a time zone",

		`dropins."/etc/sysctl.d/a.conf" = { content = "", owner = "a:b" }`:                            "is not the name of an account",
		`dropins."/etc/sysctl.d/a.conf" = { content = "", owner = "a\nb" }`:                           "is not the name of an account",
		`dropins."/etc/sysctl.d/a.conf" = { content = "", group = "a:b" }`:                            "is not the name of an account",
		`dropins."/etc/sysctl.d/a.conf" = { content = "", mode = "rw" }`:                              "is not a file mode",
		`dropins."/etc/sysctl.d/a.conf" = { content = "", mode = "17777" }`:                           "is not a file mode",
		`dropins."/etc/sysctl.d/` + long(240) + `" = { content = "" }`:                                "",
		`dropins."/etc/sysctl.d/` + long(241) + `" = { content = "" }`:                                "longer than 240 bytes",
		`dropins."/etc/app.d/a" = { content = "", activate = ["/bin/systemctl", "stop", "lightdm"] }`: "logged in",
	} {
		_, err := Parse(Source{Name: "a.toml", Text: "schema = 1\n" + toml + "\n"})
		if (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%s\n%v, and not %q", toml, err, why)
		}
	}
}

func TestWhatIsSaidOfACheckAndOfASettingIsReadInFull(t *testing.T) {
	f := mustParse(t, "a.toml", everything)
	for _, s := range f.Settings {
		switch spec := s.Spec.(type) {
		case Check:
			if s.ID == "check/x" && (spec.Timeout != 90*time.Second || spec.User != "nobody" || spec.Exit != 3 || spec.Stdout == "" || spec.Stderr != "x") {
				t.Errorf("%s is %+v", s.ID, spec)
			}
		case Dconf:
			if relocated := s.ID == "dconf/org/x/y/relocated"; relocated != (spec.Schema == "org.mate.panel.toplevel") {
				t.Errorf("%s is %+v", s.ID, spec)
			}
		}
	}
}

// A value from AWS arrives after the fragment was checked, and is checked by the same guards.
func TestAValueThatIsPutInLaterPassesNoGuard(t *testing.T) {
	const digest = `sha256 = "{{resolve:ssm:/digest}}"`
	const mirrors = `repositories.a = { mirrorlist = "https://r/{{resolve:ssm:/v}}", gpgkey = "https://k", fingerprint = "123456789ABCDEF0123456789ABCDEF012345678" }`
	p := mustMerge(t, nil, mustParse(t, "a.toml", "schema = 1\n"+mirrors+"\n"))
	if r := p.Expand(func(Reference) (string, bool) { return "one", true }).Resources[0]; r.Unusable != "" {
		t.Errorf("one URL: %q", r.Unusable)
	}
	for toml, value := range map[string]string{
		`system.timezone = "{{resolve:ssm:/v}}"`:                        "../../shadow",
		`system.selinux = "{{resolve:ssm:/v}}"`:                         "off",
		`packages.git = "{{resolve:ssm:/v}}"`:                           "1.0 --nogpgcheck",
		`packages.git = { url = "{{resolve:ssm:/v}}", ` + digest + ` }`: "ftp://r/a.rpm",
		`repositories.a = { proxy = "{{resolve:ssm:/v}}" }`:             "proxy\ngpgcheck=0",
		`repositories.a = { baseurl = "https://r/{{resolve:ssm:/v}}", gpgkey = "https://k", fingerprint = "123456789ABCDEF0123456789ABCDEF012345678" }`: "a https://evil/",
		mirrors: "a,https://evil/",
		`dconf."org/x".a = { gvariant = "{{resolve:ssm:/v}}" }`:   "'a'\nb=1",
		`dconf."org/x".a = { gvariant = "'{{resolve:ssm:/v}}'" }`: "a'b",
	} {
		p := mustMerge(t, nil, mustParse(t, "a.toml", "schema = 1\n"+toml+"\n"))
		p = p.Expand(func(r Reference) (string, bool) {
			if r.Name == "/digest" {
				return strings.Repeat("a", 64), true
			}
			return value, true
		})
		if r := p.Resources[0]; r.Unusable == "" {
			t.Errorf("%s with %q: %q", toml, value, r.Unusable)
		}
	}
}

// anywhere returns the fields in which a control character does no harm, and why.
func anywhere() map[string]string {
	return map[string]string{
		"Dropin.Content": "it is a whole file", "Dropin.Activate": "no shell reads it",
		"Check.Run": "no shell reads it", "Check.Stdout": "it is what is looked for", "Check.Stderr": "it is what is looked for",
		"Dconf.Value": "it is written as GVariant, in quotes", "Dconf.Schema": "it is looked up and not written", "Registry.Of": "the parser's own word",
		"Sudo.Commands": "sudotext judges it",
	}
}

// variations calls f for each text of a spec, with a copy in which that text ends in end.
func variations(spec Spec, end string, f func(field string, spec Spec)) {
	changed := reflect.New(reflect.TypeOf(spec)).Elem()
	changed.Set(reflect.ValueOf(spec))
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			field, name := v.Field(i), reflect.TypeOf(spec).Name()+"."+v.Type().Field(i).Name
			was := reflect.ValueOf(field.Interface())
			switch {
			case field.Kind() == reflect.Struct:
				walk(field)
				continue
			case field.Kind() == reflect.String && field.Len() > 0:
				field.SetString(field.String() + end)
			case field.Type() == reflect.TypeFor[[]string]() && field.Len() > 0:
				field.Set(reflect.ValueOf(append(slices.Clone(was.Interface().([]string)[1:]), was.Index(0).String()+end)))
			default:
				continue
			}
			f(name, changed.Interface().(Spec))
			field.Set(was)
		}
	}
	walk(changed)
}

func TestNoNameAndNoValueHoldsAControlCharacterForWhichItHasNoPlace(t *testing.T) {
	const rest = `
[repositories.more]
metalink = "https://r/m"
mirrorlist = "https://r/l"
gpgkey = "https://r/k"
fingerprint = "123456789ABCDEF0123456789ABCDEF012345678"
exclude = ["a"]
includepkgs = ["b*"]
proxy = "http://p:3128"
sslcacert = "/etc/ca"
sslclientcert = "/etc/c"
sslclientkey = "/etc/k"
metadata_expire = "6h"
[files."/etc/security/pwquality.conf"]
owner = "root"
group = "root"
keys = { minlen = 14 }
absent = ["dictpath"]
[files."/etc/aliases"]
lines = ["root: ops"]
absent_lines = ["x: y"]
[firewall.more]
action = "deny"
direction = "out"
protocol = "tcp"
ports = ["25"]
to = ["192.0.2.7"]
[mounts."/dev/shm"]
options = ["nodev"]
[users.more]
groups = ["a", "b"]
expires = "2099-12-31"
[packages]
file = { url = "https://r/a.rpm", sha256 = "1234567812345678123456781234567812345678123456781234567812345678" }
`
	f := mustParse(t, "a.toml", strings.Replace(everything, "[packages]\n", rest, 1))
	tried := map[string]bool{}
	for _, s := range f.Settings {
		for _, end := range []string{"\n", "\r", "\v", "\x00", "\x1b", "\u0085", "\u2028"} {
			fixed := slices.Contains([]string{"system", "sudo", "patch"}, s.ID.Kind()) || s.ID.Name() == "unregistered" // the parser's own names
			if !fixed && len(validate(s.ID+ID(end), s.Spec, true)) == 0 {
				t.Errorf("%s may be called %q", s.ID, s.ID.Name()+end)
			}
			variations(s.Spec, end, func(field string, spec Spec) {
				tried[field] = true
				if anywhere()[field] == "" && len(validate(s.ID, spec, true)) == 0 {
					t.Errorf("%s takes %q in %s", s.ID, end, field)
				}
			})
		}
	}
	for _, s := range sections() {
		for _, spec := range s.specs {
			for _, f := range reflect.VisibleFields(reflect.TypeOf(spec)) {
				name := reflect.TypeOf(spec).Name() + "." + f.Name
				if texts := f.Type.Kind() == reflect.String || f.Type == reflect.TypeFor[[]string](); texts && !tried[name] && anywhere()[name] == "" {
					t.Errorf("no example has %s in it", name)
				}
			}
		}
	}
}
