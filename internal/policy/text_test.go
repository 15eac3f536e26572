package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// readAgain checks that the text of a policy parses to the same policy.
func readAgain(t *testing.T, p *Policy) {
	t.Helper()
	text := p.Text()
	f, err := Parse(Source{Name: "shown.toml", Text: text})
	if err != nil {
		t.Fatalf("it cannot be parsed: %v\n%s", err, text)
	}
	again, err := Merge([]Fragment{f}, nil, nil)
	if err != nil {
		t.Fatalf("it cannot be merged: %v\n%s", err, text)
	}
	anywhere := cmp.Options{cmpopts.IgnoreFields(Resource{}, "Origin"), cmpopts.IgnoreUnexported(Resource{}), cmpopts.IgnoreFields(Rule{}, "Origin"), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(p.Resources, again.Resources, anywhere); diff != "" {
		t.Errorf("resources (-want +got):\n%s\n%s", diff, text)
	}
	if diff := cmp.Diff(p.Rules, again.Rules, anywhere); diff != "" {
		t.Errorf("rules (-want +got):\n%s\n%s", diff, text)
	}
	if p.Digest() != again.Digest() {
		t.Errorf("its digest is another:\n%s", text)
	}
}

const everything = `
schema = 1
[system]
timezone = "Europe/Berlin"
selinux = "enforcing"
[groups.a]
gid = 5
system = true
[groups.b]
ensure = "absent"
[users.u]
uid = 600
group = "a"
groups = []
comment = "A \"B\""
home = "/srv/u"
shell = "/bin/sh"
system = true
[ids]
uid.apache = 48
gid.apache = 48
report_unregistered = true
[sudo]
allow = ["root", "%EX\\Admins of it"]
root_groups = ["docker"]
[sudo.commands]
'%EX\Devs' = ['(root) /usr/bin/dmesg ""', '(a:b) NOPASSWD: /usr/bin/x a\,b']
bob = ["sudoedit /etc/motd"]
[dropins."/etc/profile.d/a.sh"]
content = "one\ntwo\tthree\n\nfour"
mode = "0640"
owner = "0"
group = "daemon"
activate = []
[dropins."/etc/profile.d/b.sh"]
content = "one\ntwo '' three\n'"
[dropins."/etc/profile.d/c.sh"]
content = ""
[dropins."/etc/profile.d/d.sh"]
content = "a\r\nb\u0001\u007f\u2028\n"
[dropins."/etc/profile.d/e.sh"]
ensure = "absent"
activate = ["/bin/true"]
[dropins."/etc/profile.d/f.sh"]
content = "\nx\n{{resolve:ssm:a}}\n"
[directories."/etc/modprobe.d"]
purge = true
[files."/etc/crontab"]
owner = "root"
group = "root"
mode = "at most 0600"
[files."/etc/motd"]
content = "one\ntwo\nthree {{resolve:ssm:a}}\n"
if_exists = true
[files."/etc/issue"]
content = ""
[files."/etc/cron.deny"]
ensure = "absent"
[files."/etc/shells"]
lines = ["/bin/fish"]
absent_lines = ["/sbin/nologin"]
[pcoip]
allow_unknown = true
server_clipboard_state = 0
desktop_session = "mate"
enable_audio = "01"
something_new = "x y"
something_newer = true
[dconf."org/x/y"]
text = "a\nb"
number = 1
float = 1.0
flag = false
list = ["a", "b"]
mixed = [1, [2.5, "x"]]
open = { value = "z", lock = false }
variant = { gvariant = "(uint32 3, 'soft')" }
relocated = { value = 24, schema = "org.mate.panel.toplevel" }
[repositories.corp]
name = "Corp"
baseurl = "https://r/$basearch"
gpgkey = "https://r/KEY"
fingerprint = "1234 5678 9abc def0 1234  5678 9abc def0 1234 5678"
priority = 5
enabled = false
[repositories.old]
ensure = "absent"
[packages]
git = "latest"
"@mate-desktop" = "present"
nodejs = "16.20.2-1.el7"
jdk = { ensure = "11.0.2", hold = true }
office = { topic = "libreoffice" }
[patch]
updates = "security"
[services."a@b.service"]
enabled = true
running = false
[services."c.service"]
masked = true
[checks.x]
run = ["/bin/true", "a b"]
user = "nobody"
stdout = '^\d+$'
stderr = "x"
exit = 3
timeout = "1m30s"
controls = ["cis-al2:1.1", "own word"]
severity = "high"
[checks.y]
run = ["/bin/true"]
every = "6h"
[checks.f]
find = "duplicate-uids"
except = ["toor"]
controls = ["cis-al2:6.2.6"]
[checks.z]
run = ["/bin/true"]
every = "2d"
timeout = "10s"
[benchmarks.cis-al2]
controls = ["1.1", "1.10", "1.9"]
[benchmarks."other.one"]
controls = ["V-1"]
[[rules]]
match = ["*"]
severity = "low"
controls = ["A", "B"]
pending = "3d"
disrupt = "window"
[[rules]]
match = ["package/*", "sudo/allow"]
mode = "audit"
until = 2026-12-31
reason = "TICKET-123"
[[rules]]
match = ["pcoip/*"]
pending = "90m"
`

func TestAPolicyThatIsWrittenDownIsTheSamePolicy(t *testing.T) {
	for name, text := range map[string]string{"everything": everything, "nothing": "schema = 1\n"} {
		t.Run(name, func(t *testing.T) { readAgain(t, mustMerge(t, nil, mustParse(t, "a.toml", text))) })
	}
	examples, _ := filepath.Glob("../../policies/*/*.toml")
	if len(examples) == 0 {
		t.Fatal("there are no examples")
	}
	for _, file := range append(examples, "testdata/design.toml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f := mustParse(t, file, string(text))
			readAgain(t, mustMerge(t, f.Personas, f))
		})
	}
}

func TestAPolicyIsWrittenDownWithWhoSetWhat(t *testing.T) {
	p := mustMerge(t, []string{"base", "kiosk"},
		mustParse(t, "10-base.toml", "schema = 1\n[packages]\ngit = \"latest\"\nvim = \"present\"\n[dropins.\"/etc/profile.d/a.sh\"]\ncontent = \"a\\nb\\n\"\n[[rules]]\nmatch = [\"*\"]\nseverity = \"low\"\n"),
		mustParse(t, "20-\n.toml", "schema = 1\npersonas = [\"kiosk\"]\n[packages]\ngit = \"absent\"\n"),
	)
	want := strings.TrimPrefix(`
# personas: base, kiosk

schema = 1

# set by 10-base.toml:5 (seed)
[dropins."/etc/profile.d/a.sh"]
content = '''
a
b
'''

[packages]
# set by 20-�.toml:4 (seed), instead of 10-base.toml:3 (seed)
git = "absent"
# set by 10-base.toml:4 (seed)
vim = "present"

# set by 10-base.toml:7 (seed)
[[rules]]
match = ["*"]
severity = "low"
`, "\n")
	if diff := cmp.Diff(want, p.Text()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	git, _ := p.Lookup("package/git")
	if diff := cmp.Diff("[packages]\ngit = \"absent\"\n", git.Text()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzAnyContentAndNameIsWrittenDownAsItIs(f *testing.F) {
	f.Add("a\nb\n", "org/x")
	f.Add("'''\r\n\x00", "o\"x/\\y")
	f.Add("\n\n\n", "a/b")
	f.Add("x\n\ny''", "é/ü")
	f.Fuzz(func(t *testing.T, content, dir string) {
		if !strings.Contains(dir, "/") {
			return
		}
		document := "schema = 1\n" + pair("dropins", map[string]any{"/etc/profile.d/a.sh": map[string]any{"content": content}}) +
			"\n[dconf." + keyText(dir) + "]\n" + pair("key", content) + "\n"
		fragment, err := Parse(Source{Name: "f", Text: document})
		if err != nil {
			return
		}
		readAgain(t, mustMerge(t, nil, fragment))
	})
}
