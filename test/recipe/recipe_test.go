// Package recipe_test follows what CONTRIBUTING.md says of a new kind, from nothing, in a
// copy of the tree.
package recipe_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A line is what the recipe has one add to a file that is there.
type line struct {
	file   string
	before string // what it is put before; "" is the end
	text   string
}

const (
	inSections = "internal/policy/sections.go"
	inKinds    = "internal/agent/kinds.go"
)

// recipe is all that a kind needs besides the file of its section and its own folder, which
// are in testdata.
var recipe = []line{
	{inSections, "\t\tpcoipSection(),\n", "\t\tcasSection(),\n"},
	{inKinds, "\t\"github.com/soe-agent/soe-agent/internal/kind/check\"\n", "\t\"github.com/soe-agent/soe-agent/internal/kind/ca\"\n"},
	{inKinds, "\t\t{\"pcoip\",", "\t\t{\"ca\", func(m *Machine, p *policy.Policy) converge.Kind { return ca.New(p, m.System, m.Ledger) }, quick, lockDown, nothing},\n"},
	{"policies/example/10-base.toml", "", "\n[cas.corp]\npem = \"" + pem + "\"\n"},
	{"README.md", "| `pcoip` |", "| `ca` | authorities that the machine trusts | the trust store |\n"},
	{"docs/policy.md", "## `[pcoip]`\n", "## `[cas.NAME]`\n\nThe certificate of an authority that the machine trusts.\n\n"},
	{"docs/kinds.md", "## pcoip\n", "## ca\n\n| pitfall | what is done | held by |\n|---|---|---|\n| the store cannot be read | `unknown` | `TestNoCertificateIsJudgedByALookThatFailed` |\n\n"},
}

const pem = `-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n`

// A tree is a copy of this one.
type tree struct{ dir string }

func newTree(t *testing.T) tree {
	t.Helper()
	c := tree{t.TempDir()}
	for _, name := range []string{"cmd", "docs", "internal", "packaging", "policies", "systemd", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md", "go.mod", "go.sum", "test"} {
		from := filepath.Join("../..", name)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(filepath.Join(c.dir, name), os.DirFS(from))
		} else {
			c.write(t, name, read(t, from))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(c.dir, "internal"), os.DirFS("testdata/internal")); err != nil {
		t.Fatal(err)
	}
	for _, l := range recipe {
		c.insert(t, l)
	}
	return c
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func (c tree) read(t *testing.T, name string) string {
	t.Helper()
	return read(t, filepath.Join(c.dir, name))
}

func (c tree) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c tree) insert(t *testing.T, l line) {
	t.Helper()
	content := c.read(t, l.file)
	before, after, found := strings.Cut(content, l.before)
	if l.before == "" {
		before, after, found = content, "", true
	}
	if !found {
		t.Fatalf("%s has no %q any more", l.file, l.before)
	}
	c.write(t, l.file, before+l.text+l.before+after)
}

// without takes a text out of a file until the test ends.
func (c tree) without(t *testing.T, file, text string) {
	t.Helper()
	content := c.read(t, file)
	if !strings.Contains(content, text) {
		t.Fatalf("%s has no %q", file, text)
	}
	c.write(t, file, strings.Replace(content, text, "", 1))
	t.Cleanup(func() { c.write(t, file, content) })
}

// run runs a command in the tree, the compiler as for the package: what is built for that is
// not built again.
func (c tree) run(t *testing.T, argv ...string) (out string, code int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	command.Dir = c.dir
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off", "GOPROXY=off")
	var all bytes.Buffer
	command.Stdout, command.Stderr = &all, &all
	if err := command.Run(); err != nil && command.ProcessState == nil {
		t.Fatal(err)
	}
	return all.String(), command.ProcessState.ExitCode()
}

func (c tree) must(t *testing.T, code int, says string, argv ...string) {
	t.Helper()
	if out, got := c.run(t, argv...); got != code || !strings.Contains(out, says) {
		t.Errorf("%s: exit code %d, not %d, or nothing of %q:\n%s", strings.Join(argv, " "), got, code, says, out)
	}
}

func TestANewKindNeedsItsFolderItsSectionAndALineOfEachList(t *testing.T) {
	t.Parallel()
	c := newTree(t)
	const agent = "./soe-agent"

	c.must(t, 0, "ok", "go", "test", "-vet=off", "./internal/policy", "-run", "TestTheSchema|TestTheParser|TestEach|TestWhat|TestNoKey", "-update")
	for file, says := range map[string]string{"docs/policy.schema.json": `"cas": {`, "docs/policy-reference.md": "## `[cas.NAME]`"} {
		if !strings.Contains(c.read(t, file), says) {
			t.Errorf("%s has no %s", file, says)
		}
	}
	c.must(t, 0, "ok", "go", "test", "-vet=off", "./internal/kind/ca", "./policies", "./docs", "./internal/kind/faultwalk")
	c.must(t, 0, "", "go", "build", "-o", "soe-agent", "./cmd/soe-agent")

	for name, content := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
	} {
		if err := os.MkdirAll(filepath.Join(c.dir, "root/etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		c.write(t, "root/"+name, content)
	}
	if err := os.Mkdir(filepath.Join(c.dir, "policy"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.write(t, "policy/10.toml", "schema = 1\n[cas.corp]\npem = \""+pem+"\"\n[[rules]]\nmatch = [\"ca/*\"]\nseverity = \"high\"\n")
	c.must(t, 0, "nothing wrong", agent, "policy", "lint", "--policy", "policy")
	c.must(t, 0, "[cas.corp]\npem = ", agent, "policy", "show", "--policy", "policy")
	c.must(t, 0, `"cas": {`, agent, "policy", "schema")
	c.must(t, 2, "1 would change", agent, "--root", "root", "plan", "--policy", "policy")
	c.must(t, 0, "compliant", agent, "--root", "root", "apply", "--policy", "policy")
	c.must(t, 0, "ca/corp  corrected", agent, "--root", "root", "report", "--verbose")
	c.must(t, 0, "[cas.corp]", agent, "--root", "root", "explain", "ca/corp", "--policy", "policy")
	c.must(t, 0, "nothing would change", agent, "--root", "root", "plan", "--policy", "policy")
	c.must(t, 0, "MIIB", "cat", "root/etc/pki/ca-trust/source/anchors/soe-corp.pem")
	c.write(t, "policy/10.toml", "schema = 1\n[cas.corp]\npem = \"x\"\ncolour = 1\n")
	c.must(t, 1, "cannot use cas.corp: \"x\" is not a certificate in PEM", agent, "policy", "lint", "--policy", "policy")
}

// What is left out, somebody asks for: the compiler, or a fast test that says what is missing.
func TestWhatIsForgottenOfANewKindIsAskedFor(t *testing.T) {
	t.Parallel()
	c := newTree(t)
	for _, forgotten := range []struct{ name, file, text, asks string }{
		{"what is judged of its values", "internal/policy/cas.go", "func (c CA) validate(v *validator) {\n\tv.match(caName, v.name, \"is not a name of small letters, digits and hyphens\")\n\tv.refuse(!v.open(c.PEM) && !caPEM.MatchString(c.PEM), \"%q is not a certificate in PEM\", c.PEM)\n}\n", "missing method validate"},
		{"how it is written", "internal/policy/cas.go", "func (c CA) entry(name string) entry { return ownTable(\"cas\", name, pair(\"pem\", c.PEM)) }\n", "missing method entry"},
		{"what it is read as", "internal/policy/cas.go", ", []Spec{CA{}}", "too few values"},
		{"its section", inSections, recipe[0].text, "specs are [Ageing CA"},
		{"who walks it", inKinds, recipe[2].text, "internal/kind/ca\" imported and not used"},
		{"all of it in the agent", inKinds, recipe[1].text + "|" + recipe[2].text, "the kinds are"},
	} {
		t.Run(forgotten.name, func(t *testing.T) {
			for text := range strings.SplitSeq(forgotten.text, "|") {
				c.without(t, forgotten.file, text)
			}
			argv := []string{"go", "test", "-vet=off", "./internal/policy", "-run", "TestEachSpec"}
			if forgotten.file == inKinds {
				argv = []string{"go", "test", "-vet=off", "./internal/agent", "-run", "TestTheListOfKinds"}
			}
			if out, code := c.run(t, argv...); code == 0 || !strings.Contains(out, forgotten.asks) {
				t.Errorf("exit code %d, and nothing of %q:\n%s", code, forgotten.asks, out)
			}
		})
	}
}

func TestTheRecipeIsWhatIsWrittenOfIt(t *testing.T) {
	t.Parallel()
	_, written, found := strings.Cut(read(t, "../../CONTRIBUTING.md"), "## A new kind\n")
	written, _, _ = strings.Cut(written, "\n## ")
	if !found {
		t.Fatal("CONTRIBUTING.md says nothing of a new kind")
	}
	files := []string{"internal/kind", "internal/policy"}
	for _, l := range recipe {
		files = append(files, l.file)
	}
	slices.Sort(files)
	for _, file := range slices.Compact(files) {
		if strings.HasPrefix(file, "policies/") {
			file = filepath.Dir(file)
		}
		if !strings.Contains(written, "`"+file+"`") {
			t.Errorf("it does not name %s:\n%s", file, written)
		}
	}
}
