package dconf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// example returns a database and the files that dconf made it from; see gvdb/testdata/README.
func example(t *testing.T) (database, body, locks []byte) {
	t.Helper()
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join("gvdb", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	return read("dconf"), read("keyfile.txt"), []byte("/org/example/lock-enabled\n/org/example/background/opacity\n")
}

const examplePolicy = `
[dconf."org/example"]
lock-enabled = true
[dconf."org/example/background"]
opacity = 50
picture-options = { value = "zoom", lock = false }
`

// An image is a machine that is not running, so that its profile needs no mandatory files. dconf is
// not installed.
type image struct {
	root   string
	kind   *Kind
	engine *converge.Engine
}

func newImage(t *testing.T, toml string) image {
	t.Helper()
	p := kindtest.Policy(t, toml)
	root := kindtest.Dir(t)
	s := kindtest.Open(t, system.Options{Root: root})
	ledger := kindtest.LedgerIn(t, s.FS)
	k := New(p, s, ledger)
	return image{root: root, kind: k, engine: kindtest.Engine(p, k, ledger, s.Clock)}
}

func (i image) write(t *testing.T, name string, content []byte) {
	t.Helper()
	kindtest.Put(t, i.root, name, string(content))
}

// inLine writes what a repair of examplePolicy would leave, and the other settings of the example's
// database.
func (i image) inLine(t *testing.T) {
	t.Helper()
	database, body, locks := example(t)
	i.write(t, keyfilePath, withSeal(body, sealOf(body, locks, database)))
	i.write(t, locksPath, locks)
	i.write(t, databaseFile, database)
	i.write(t, profilePath, []byte("user-db:user\nsystem-db:soe\n"))
}

func (i image) check(t *testing.T) map[policy.ID]converge.Resource {
	t.Helper()
	return kindtest.ByID(kindtest.Check(t, i.kind))
}

func TestAKeyIsJudgedByFileDatabaseAndProfile(t *testing.T) {
	const locked, free = policy.ID("dconf/org/example/background/opacity"), policy.ID("dconf/org/example/background/picture-options")
	inFile := func(old, new string) func(t *testing.T, i image) {
		return func(t *testing.T, i image) {
			database, body, locks := example(t)
			body = []byte(strings.Replace(string(body), old, new, 1))
			i.write(t, keyfilePath, withSeal(body, sealOf(body, locks, database)))
		}
	}
	for _, c := range []struct {
		name string
		harm func(t *testing.T, i image)
		id   policy.ID
		want []converge.Difference
	}{
		{"all is well", func(*testing.T, image) {}, locked, nil},
		{"another value", inFile("opacity=50", "opacity=51"), locked, []converge.Difference{{Aspect: "value", Want: "50", Got: "51"}}},
		{"no value", inFile("opacity=50\n", ""), locked, []converge.Difference{
			{Aspect: "value", Want: "50", Got: "not set"}, {Aspect: "lock", Want: "locked", Got: "not locked"},
		}},
		{"no lock", func(t *testing.T, i image) {
			i.write(t, locksPath, []byte("/org/example/lock-enabled\n"))
		}, locked, []converge.Difference{{Aspect: "lock", Want: "locked", Got: "not locked"}}},
		{"a lock too many", func(t *testing.T, i image) {
			i.write(t, locksPath, []byte("/org/example/lock-enabled\n/org/example/background/opacity\n/org/example/background/picture-options\n"))
		}, free, []converge.Difference{{Aspect: "lock", Want: "not locked", Got: "locked"}}},
		{"no database", func(t *testing.T, i image) {
			if err := os.Remove(filepath.Join(i.root, databaseFile)); err != nil {
				t.Fatal(err)
			}
		}, locked, []converge.Difference{{Aspect: "value", Want: "50", Got: "not in the database"}}},
		{"a database that is none", func(t *testing.T, i image) {
			i.write(t, databaseFile, []byte("GVariant, or so"))
		}, free, []converge.Difference{{Aspect: "value", Want: "'zoom'", Got: "not in the database"}}},
		{"a database made of something else, with this right", func(t *testing.T, i image) {
			database, _, _ := example(t)
			i.write(t, databaseFile, append(database, 0))
		}, locked, []converge.Difference{{Aspect: "effect", Want: "in force", Got: "not in force: see dconf/database"}}},
		{"a database that nobody can read", func(t *testing.T, i image) {
			if err := os.Chmod(filepath.Join(i.root, databaseFile), 0o600); err != nil {
				t.Fatal(err)
			}
		}, locked, []converge.Difference{{Aspect: "effect", Want: "in force", Got: "not in force: see dconf/database"}}},
		{"a profile without the database", func(t *testing.T, i image) {
			i.write(t, profilePath, []byte("user-db:user\n"))
		}, free, []converge.Difference{{Aspect: "effect", Want: "in force", Got: "not in force: see dconf/profile"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := newImage(t, examplePolicy)
			i.inLine(t)
			c.harm(t, i)
			if diff := cmp.Diff(c.want, i.check(t)[c.id].Diff); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsNotThePolicysIsADifferenceOfTheDatabase(t *testing.T) {
	i := newImage(t, strings.Replace(examplePolicy, "opacity = 50", "", 1))
	database, _, _ := example(t)
	s := settings{"/org/example/lock-enabled": {text: "true", locked: true}, "/org/example/background/opacity": {text: "50"}}
	i.write(t, keyfilePath, withSeal(s.keyfile(), sealOf(s.keyfile(), s.locks(), database)))
	i.write(t, locksPath, s.locks())
	i.write(t, databaseFile, database)
	i.write(t, locksDir+"/99-mine", nil)
	i.write(t, keyfileDir+"/.hidden", nil)
	want := []converge.Difference{
		{Aspect: "keys", Want: "those of the policy", Got: "also org/example/background/opacity"},
		{Aspect: "files", Want: "50-soe alone", Got: "also " + locksDir + "/99-mine"},
	}
	if diff := cmp.Diff(want, i.check(t)[databaseID].Diff); diff != "" {
		t.Error(diff)
	}
}

func TestAMachineWithoutSettingsIsLeftAlone(t *testing.T) {
	i := newImage(t, "")
	if found := i.check(t); len(found) != 0 {
		t.Errorf("it reports %v", found)
	}
}

func TestTheValueOfAKeyWhoseReferenceIsNotKnownYetStays(t *testing.T) {
	i := newImage(t, examplePolicy+"picture-filename = \"{{resolve:ssm:/soe/picture}}\"\n")
	i.kind.policy = i.kind.policy.Expand(func(policy.Reference) (string, bool) { return "", false })
	now := settings{"/org/example/background/picture-filename": {text: "'/a.png'", locked: true}, "/org/example/gone": {text: "1"}}
	next := i.kind.next(now, map[policy.ID]bool{"dconf/org/example/lock-enabled": true})
	want := settings{
		"/org/example/background/picture-filename": {text: "'/a.png'", locked: true},
		"/org/example/lock-enabled":                {text: "true", locked: true},
	}
	if diff := cmp.Diff(want, next, cmp.AllowUnexported(setting{})); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutDconfAPassSaysSoAndLeavesTheConfigurationAlone(t *testing.T) {
	i := newImage(t, examplePolicy)
	for _, r := range i.engine.Pass(t.Context()).Resources {
		if r.State != converge.Failed || !strings.HasPrefix(r.Reason, "cannot ") {
			t.Errorf("%s is %s: %s", r.ID, r.State, r.Reason)
		}
	}
	if _, err := os.Stat(filepath.Join(i.root, "etc")); err == nil {
		t.Error("something was written below /etc")
	}
	if left, _ := os.ReadDir(filepath.Join(i.root, "run/soe-agent")); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
}

func TestWithoutAnySchemasTheReportSaysThatATypeIsGuessed(t *testing.T) {
	i := newImage(t, examplePolicy)
	i.inLine(t)
	r := i.check(t)["dconf/org/example/background/opacity"]
	if r.State != converge.Compliant || !strings.Contains(r.Reason, "guessed") {
		t.Errorf("it is %s: %q", r.State, r.Reason)
	}
}

func TestDamagedSchemasAreAnErrorThatSaysWhatToDo(t *testing.T) {
	i := newImage(t, examplePolicy)
	i.write(t, schemasFile, []byte("damaged"))
	if _, err := i.kind.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "glib-compile-schemas") {
		t.Errorf("the error is %v", err)
	}
}

func TestSchemasAreReadAgainOnlyWhenTheyHaveChanged(t *testing.T) {
	i := newImage(t, examplePolicy)
	content, err := os.ReadFile("gvdb/testdata/gschemas.compiled")
	if err != nil {
		t.Fatal(err)
	}
	i.write(t, schemasFile, content)
	i.check(t)
	first := i.kind.schemas
	i.check(t)
	if i.kind.schemas != first {
		t.Error("they were read twice")
	}
	i.write(t, schemasFile+".new", content)
	if err := os.Rename(filepath.Join(i.root, schemasFile+".new"), filepath.Join(i.root, schemasFile)); err != nil {
		t.Fatal(err)
	}
	i.check(t)
	if i.kind.schemas == first {
		t.Error("new ones were not read")
	}
}

func TestOwnSettingsInPlaceOfLockedOnesAreToldByKeyAndBounded(t *testing.T) {
	locked := map[string]string{"/org/a/lock": "true", "/org/a/n": "uint32 5", "/org/a/same": "'x'", "/top": "1"}
	for keyfile, want := range map[string]string{
		"[org/a]\nlock=false\n":                      "org/a/lock",
		"[org/a]\nlock=true\nsame='x'\nn=5\n":        "",
		"[/org/a/]\r\n lock = false \r\n":            "org/a/lock",
		"[org/a]\nlock=true\nlock=false\nn=6\n":      "org/a/lock, org/a/n",
		"[/]\ntop=2\n":                               "top",
		"lock=false\n[org/b]\nlock=false\n":          "",
		"#[org/a]\n[org/a\nlock=false":               "org/a/lock",
		"\x00\xff[org/a]\n[[[org/a]]]\n=\n[]\n=\x00": "",
	} {
		if got := few(overridden(personalSettings(keyfile), locked), maxKeys); got != want {
			t.Errorf("%q says otherwise than %q, and not than %q", keyfile, got, want)
		}
	}
	if got := few([]string{"a", "b", "c", "d", "e"}, 2); got != "a, b and 3 more" {
		t.Error(got)
	}
}
