package dconf

import (
	"context"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

// compiled returns the database that dconf makes of settings that are booleans, numbers and
// strings.
func compiled(s settings) []byte {
	file := append([]byte("GVariant"), make([]byte, 16)...)
	add := func(content []byte) (pointer []byte) {
		for len(file)%8 != 0 {
			file = append(file, 0)
		}
		pointer = binary.LittleEndian.AppendUint32(nil, uint32(len(file)))
		file = append(file, content...)
		return binary.LittleEndian.AppendUint32(pointer, uint32(len(file)))
	}
	item := func(key string, kind byte, value []byte) []byte {
		at := add([]byte(key))
		b := binary.LittleEndian.AppendUint32(nil, 0)
		b = binary.LittleEndian.AppendUint32(b, ^uint32(0))
		b = append(b, at[:4]...)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(key)))
		return append(append(b, kind, 0), value...)
	}
	table := func(items []byte) []byte { return add(append(make([]byte, 8), items...)) }
	var values, locks []byte
	for _, path := range slices.Sorted(maps.Keys(s)) {
		boxed := []byte{0, 0, 'b'}
		switch text := s[path].text; {
		case text == "true":
			boxed[0] = 1
		case strings.HasPrefix(text, "'"):
			boxed = append([]byte(strings.Trim(text, "'")), 0, 0, 's')
		case text != "false":
			boxed = append([]byte{byte(len(text)), 0, 0, 0}, 0, 'i')
			number := 0
			for _, digit := range text {
				number = number*10 + int(digit-'0')
			}
			binary.LittleEndian.PutUint32(boxed, uint32(number))
		}
		values = append(values, item(path, 'v', add(boxed))...)
		if s[path].locked {
			locks = append(locks, item(path, 'v', add([]byte{1, 0, 'b'}))...)
		}
	}
	if locks != nil {
		values = append(values, item(locksTable, 'H', table(locks))...)
	}
	root := table(values) // calling table has replaced file
	copy(file[16:], root)
	return file
}

// tool is a fake dconf. It compiles what compiled can, and without can make it leave something out.
type tool struct {
	root    string
	without func(settings)
}

func (d tool) Run(_ context.Context, c system.Command) (system.Output, error) {
	if c.Argv[0] != "dconf" {
		return system.Output{}, system.ErrNotInstalled
	}
	database, dir := databaseFile, keyfileDir
	if c.Argv[1] == "compile" {
		database, dir = c.Argv[2], c.Argv[3]
	}
	body, err := os.ReadFile(filepath.Join(d.root, dir, keyfileName))
	if err != nil {
		return system.Output{ExitCode: 1, Stderr: []byte(err.Error())}, nil
	}
	locks, _ := os.ReadFile(filepath.Join(d.root, dir, "locks", keyfileName))
	body, _ = cutSeal(body)
	s := parse(body, locks)
	if d.without != nil {
		d.without(s)
	}
	return system.Output{}, os.WriteFile(filepath.Join(d.root, database), compiled(s), 0o644)
}

// If dconf could not read a file, or ran out of memory, it exits with 0 and prints nothing. Its
// database must not be installed, and nothing may be called compliant.
func TestADatabaseOfWhichDconfHasLeftOutAPartIsAFailure(t *testing.T) {
	const opacity = "/org/example/background/opacity"
	for name, without := range map[string]func(settings){
		"a lock":  func(s settings) { s[opacity] = setting{text: s[opacity].text} },
		"a value": func(s settings) { delete(s, opacity) },
		"all":     func(s settings) { clear(s) },
		"what it was": func(s settings) {
			s[opacity] = setting{text: "49", locked: true}
		},
		"nothing, but something is added": func(s settings) { s["/org/example/more"] = setting{text: "1"} },
	} {
		i := newImage(t, examplePolicy)
		i.kind.system.Runner = tool{i.root, without}
		for _, r := range i.engine.Pass(t.Context()).Resources {
			if r.State.InLine() && r.ID != profileID {
				t.Errorf("without %s: %s is %s", name, r.ID, r.State)
			}
			if r.ID == databaseID && (r.State != converge.Failed || !strings.Contains(r.Reason, "cannot compile the dconf settings: dconf has")) {
				t.Errorf("without %s: %s is %s: %s", name, r.ID, r.State, r.Reason)
			}
		}
		if _, err := os.Stat(filepath.Join(i.root, databaseFile)); err == nil {
			t.Errorf("without %s: the half of it is in place", name)
		}
	}
	i := newImage(t, examplePolicy)
	i.kind.system.Runner = tool{i.root, nil}
	for _, r := range i.engine.Pass(t.Context()).Resources {
		if r.State != converge.Corrected {
			t.Errorf("with all of it: %s is %s: %s %v", r.ID, r.State, r.Reason, r.Diff)
		}
	}
}

// An earlier version of the agent, which did not check this, sealed such a database.
func TestASealOnHalfADatabaseIsNotBelieved(t *testing.T) {
	i := newImage(t, examplePolicy)
	i.inLine(t)
	_, body, locks := example(t)
	half := parse(body, locks)
	half = settings{"/org/example/lock-enabled": half["/org/example/lock-enabled"]}
	i.write(t, databaseFile, compiled(half))
	i.write(t, keyfilePath, withSeal(body, sealOf(body, locks, compiled(half))))
	if r := i.check(t)["dconf/org/example/background/opacity"]; r.State != converge.Drifted {
		t.Errorf("it is %s", r.State)
	}
}

func TestNoSettingIsJudgedByALookThatFailed(t *testing.T) {
	const wanted = "[dconf.\"org/example\"]\nlock-enabled = true\n[dconf.\"org/example/background\"]\nopacity = 50\n"
	right := settings{"/org/example/lock-enabled": {"true", true}, "/org/example/background/opacity": {"50", true}}
	less := settings{"/org/example/lock-enabled": {"false", true}}
	files := func(s settings, more ...string) map[string]string {
		all := map[string]string{
			keyfilePath: string(withSeal(s.keyfile(), sealOf(s.keyfile(), s.locks(), compiled(s)))), locksPath: string(s.locks()),
			databaseFile: string(compiled(s)), profilePath: "user-db:user\nsystem-db:soe\n",
		}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	scene := func(name, toml string, files map[string]string, owned bool) faultwalk.Scene {
		return faultwalk.Scene{Name: name, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
			root := kindtest.Root(t, files)
			ledger := kindtest.Ledger(t, root)
			if owned {
				ledger.Own(databaseID)
			}
			s := kindtest.Open(t, system.Options{Root: root, Look: look})
			s.Runner = faultwalk.Runner(tool{root, nil}, look)
			p := kindtest.Policy(t, toml)
			k := New(p, s, ledger)
			return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, ledger, s.Clock)}
		}}
	}
	goes := scene("there though wanted no more", "", files(right), true)
	// Running programs are notified of an empty database before it is removed.
	goes.Passes = func(name string) bool { return strings.HasPrefix(name, databasesDir) }
	faultwalk.Walk(t, "dconf",
		goes,
		scene("in line", wanted, files(right), false),
		scene("drifted", wanted, files(less, locksDir+"/99-mine", "/org/x\n"), false),
		scene("never made", wanted, nil, false),
		scene("overruled", wanted, files(right, profilePath, "user-db:user\nsystem-db:soe\nsystem-db:site\n", databasesDir+"/site",
			string(compiled(settings{"/org/example/background/opacity": {"7", true}}))), false),
	)
}
