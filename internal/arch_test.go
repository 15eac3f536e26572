// Package internal_test holds the house to its plan: imports point downwards,
// and the machine is touched through one door.
package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
)

const module = "github.com/soe-agent/soe-agent/"

// A source is one Go file.
type source struct {
	file    string // below the module's root
	pkg     string // the folder, below the module's root
	fset    *token.FileSet
	syntax  *ast.File
	imports []string
}

// line is where something of it stands.
func (s source) line(n ast.Node) int { return s.fset.Position(n.Pos()).Line }

// sources are those of the product; tests do not count.
func sources(t *testing.T) []source {
	t.Helper()
	return slices.DeleteFunc(everySource(t, "../internal", "../cmd"), func(s source) bool { return strings.HasSuffix(s.file, "_test.go") })
}

func everySource(t *testing.T, tops ...string) []source {
	t.Helper()
	var all []source
	fset := token.NewFileSet()
	for _, top := range tops {
		err := filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() && entry.Name() == "testdata" {
				return filepath.SkipDir
			}
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") {
				return err
			}
			syntax, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution|parser.ParseComments)
			if err != nil {
				return err
			}
			file := strings.TrimPrefix(filepath.ToSlash(name), "../")
			s := source{file: file, pkg: path.Dir(file), fset: fset, syntax: syntax}
			for _, spec := range syntax.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				s.imports = append(s.imports, imported)
			}
			all = append(all, s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 30 {
		t.Fatalf("only %d files were found", len(all))
	}
	return all
}

// allowed says which packages of the product one may import, all others being
// below it: a package imports those of earlier lines only.
func allowed() [][]string {
	return [][]string{
		{"internal/own", "internal/sshdtext", "internal/target"},
		{"internal/protected", "internal/public", "internal/schedule", "internal/document", "internal/dropindir", "internal/sudotext", "internal/keyed", "internal/mounts"},
		{"internal/policy"},
		{"internal/manifest"},
		{"internal/system"},
		{"internal/facts", "internal/sudoers", "internal/credentials", "internal/unitfiles"},
		{"internal/persona", "internal/publish", "internal/resolve", "internal/source"},
		{"internal/policysync"},
		{"internal/converge"},
		{"internal/sessionguard", "internal/history", "internal/redact", "internal/sshd"},
		{"internal/kind"},
		{"internal/watch", "internal/report", "internal/bus", "internal/image", "internal/support"},
		{"internal/agent"},
		{"cmd"},
		{"internal/kind/kindtest"}, // for tests, which are not counted: nothing of the product imports it
		{"internal/kind/faultwalk"},
	}
}

// floor is the line of allowed on which a package stands.
func floor(pkg string) int {
	last := -1
	for i, line := range allowed() {
		if slices.ContainsFunc(line, func(top string) bool { return pkg == top || strings.HasPrefix(pkg, top+"/") }) {
			last = i
		}
	}
	return last
}

func TestImportsPointDownwards(t *testing.T) {
	for _, s := range sources(t) {
		own := floor(s.pkg)
		if own < 0 {
			t.Errorf("%s: %s has no place in the house; give it one in this test", s.file, s.pkg)
			continue
		}
		for _, imported := range s.imports {
			below, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			sameKind := path.Dir(s.pkg) == "internal/kind" && strings.HasPrefix(below, s.pkg+"/") || strings.HasPrefix(s.pkg, below+"/")
			sameLine := slices.ContainsFunc(allowed()[own], func(top string) bool {
				return top != "internal/kind" && strings.HasPrefix(s.pkg+"/", top+"/") && strings.HasPrefix(below+"/", top+"/")
			})
			if floor(below) >= own && !sameKind && !sameLine {
				t.Errorf("%s imports %s, which is not below it", s.file, below)
			}
		}
	}
}

// exempt are the packages that may do what the rule forbids, and why.
func exempt(pkg, imported string) bool {
	switch {
	case pkg == "internal/system", strings.HasPrefix(pkg, "cmd/"):
		return true // the door itself; and the command line, whose files are its user's
	case pkg == "internal/watch":
		return imported != "os/exec" // inotify wants descriptors
	case pkg == "internal/kind/faultwalk", pkg == "internal/kind/kindtest":
		return imported != "os/exec" // they make machines for tests, and nothing of the product imports them
	}
	return false
}

func TestTheMachineIsTouchedThroughTheDoorAlone(t *testing.T) {
	harmless := []string{"Getenv", "LookupEnv", "Getpid", "Getuid", "Geteuid", "Stderr", "Stdout", "Stdin", "ErrNotExist", "ErrExist", "Hostname", "Signal", "Interrupt", "Executable"}
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			switch imported {
			case "os/exec", "io/ioutil", "plugin":
				if !exempt(s.pkg, imported) || s.pkg != "internal/system" && imported == "os/exec" {
					t.Errorf("%s imports %s", s.file, imported)
				}
			}
		}
		if exempt(s.pkg, "os") || !slices.Contains(s.imports, "os") {
			continue
		}
		used := map[string]bool{}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := selector.X.(*ast.Ident); ok && x.Name == "os" && !slices.Contains(harmless, selector.Sel.Name) {
					used[selector.Sel.Name] = true
				}
			}
			return true
		})
		if len(used) > 0 {
			t.Errorf("%s uses %v of package os", s.file, slices.Sorted(maps.Keys(used)))
		}
	}
}

// A pipe would block whoever opens it to read, and a device or a growing file may have no end. Whatever
// is read without a limit, or opened in a way that may block, is in this list.
func TestNoFileIsReadThatMayBlockOrHaveNoEnd(t *testing.T) {
	allowed := map[string]string{
		"cmd/soe-agent/pages.go ReadFile":             "of the source tree, when a release is built",
		"internal/system/given.go OpenFile":           "after Stat, with O_NONBLOCK",
		"internal/system/links.go OpenFile":           "with O_DIRECTORY",
		"internal/system/runner.go OpenFile":          "to write",
		"internal/system/runner.go ReadFile":          "what the agent's own command has written",
		"internal/system/staged.go Open":              "a descriptor of a directory",
		"internal/system/confine.go Open":             "/proc",
		"internal/system/holders.go Open":             "/proc",
		"internal/system/mounts.go ReadFile":          "/proc",
		"internal/system/ownscope.go ReadFile":        "/proc",
		"internal/system/personal.go ReadFile":        "/proc",
		"internal/system/walkvolumes.go ReadFile":     "/proc",
		"internal/system/walkvolumes.go OpenFile":     "with O_DIRECTORY",
		"internal/system/writers.go ReadFile":         "/proc",
		"cmd/soe-agent/policy.go OpenFile":            "with O_DIRECTORY and O_NONBLOCK",
		"internal/kind/kindtest/kindtest.go ReadFile": "for tests",
		"internal/kind/kindtest/sshd.go ReadFile":     "for tests",
	}
	found := map[string]bool{}
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			selector, is := call.Fun.(*ast.SelectorExpr)
			if !is {
				return true
			}
			x, is := selector.X.(*ast.Ident)
			switch {
			case !is:
			case x.Name == "os" && slices.Contains([]string{"ReadFile", "Open", "OpenFile"}, selector.Sel.Name):
				found[s.file+" "+selector.Sel.Name] = true
			case x.Name == "io" && selector.Sel.Name == "ReadAll" && !isLimited(call.Args[0]):
				t.Errorf("%s reads without a limit", s.file)
			}
			return true
		})
	}
	for call := range found {
		if allowed[strings.TrimPrefix(call, "../")] == "" {
			t.Errorf("%s may block, or have no end: read what a user names with system.ReadGiven, and the machine with system.FS", call)
		}
	}
	for call := range allowed {
		if !found[call] && !found["../"+call] {
			t.Errorf("%s is allowed and not there any more", call)
		}
	}
}

func isLimited(reader ast.Expr) bool {
	call, is := reader.(*ast.CallExpr)
	if !is {
		return false
	}
	selector, is := call.Fun.(*ast.SelectorExpr)
	return is && selector.Sel.Name == "LimitReader"
}

// Everybody may send to a connection to the bus; what passes is decided where all are made.
func TestTheBusIsReachedThroughTheDoorAlone(t *testing.T) {
	makes := []string{"NewConn", "Dial", "DialHandler", "Connect", "ConnectSystemBus", "SystemBus", "SystemBusPrivate", "ConnectSessionBus", "SessionBus", "SessionBusPrivate"}
	for _, s := range sources(t) {
		if s.pkg == "internal/system" {
			continue
		}
		if slices.Contains(s.imports, "github.com/coreos/go-systemd/v22/dbus") {
			t.Errorf("%s asks systemd by a connection of its own", s.file)
		}
		if !slices.Contains(s.imports, "github.com/godbus/dbus/v5") {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := selector.X.(*ast.Ident); ok && x.Name == "dbus" && slices.Contains(makes, selector.Sel.Name) {
					t.Errorf("%s makes a connection of its own: dbus.%s", s.file, selector.Sel.Name)
				}
			}
			return true
		})
	}
}

// Who opens the machine says where to its lines go: system.Options.Log.
func TestTheLoggerIsHandedIn(t *testing.T) {
	global := []string{"Debug", "Info", "Warn", "Error", "Log", "LogAttrs", "With", "Default", "SetDefault"}
	for _, s := range sources(t) {
		if strings.HasPrefix(s.pkg, "cmd/") {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok {
				x, ok := selector.X.(*ast.Ident)
				if ok && x.Name == "slog" && slices.Contains(global, strings.TrimSuffix(selector.Sel.Name, "Context")) {
					t.Errorf("%s uses the logger of the whole program: slog.%s", s.file, selector.Sel.Name)
				}
			}
			return true
		})
		if slices.Contains(s.imports, "log") {
			t.Errorf("%s imports log", s.file)
		}
	}
}

// most is how many methods an interface may have, with those that it embeds. Who asks for
// more than five asks for more than it needs, and what plays it in a test is no longer small.
const most = 5

// What is longer has an idea in it that has no name yet. Tests may be longer.
const (
	longestFunction = 60  // lines, with its first and its last
	longestFile     = 450 // lines
)

func TestNoFunctionAndNoFileIsTooLong(t *testing.T) {
	functions := 0
	for _, s := range everySource(t, "../internal", "../cmd", "../test", "../policies", "../docs", "../systemd") {
		if strings.HasSuffix(s.file, "_test.go") || ast.IsGenerated(s.syntax) {
			continue
		}
		if lines := s.fset.File(s.syntax.Pos()).LineCount(); lines > longestFile {
			t.Errorf("%s has %d lines, and may have %d: find what it is two of", s.file, lines, longestFile)
		}
		for _, declaration := range s.syntax.Decls {
			f, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			functions++
			if lines := s.fset.Position(f.End()).Line - s.line(f.Type) + 1; lines > longestFunction {
				t.Errorf("%s:%d: %s has %d lines, and may have %d", s.file, s.line(f), f.Name.Name, lines, longestFunction)
			}
		}
	}
	if functions < 1000 {
		t.Fatalf("only %d functions were found", functions)
	}
}

// An interfaceOf is an interface and the file in which it stands.
type interfaceOf struct {
	source
	syntax *ast.InterfaceType
}

func TestNoInterfaceHasMoreThanFiveMethods(t *testing.T) {
	var all []interfaceOf
	named := map[string]interfaceOf{} // by folder and name
	for _, s := range everySource(t, "../internal", "../cmd", "../test", "../policies", "../docs", "../systemd") {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.InterfaceType:
				all = append(all, interfaceOf{s, n})
			case *ast.TypeSpec:
				if i, ok := n.Type.(*ast.InterfaceType); ok {
					named[s.pkg+"."+n.Name.Name] = interfaceOf{s, i}
				}
			}
			return true
		})
	}
	if len(named) < 20 {
		t.Fatalf("only %d interfaces were found", len(named))
	}
	for _, i := range all {
		switch n, err := i.methods(named); {
		case err != nil:
			t.Errorf("%s:%d: %v", i.file, i.line(i.syntax), err)
		case n > most:
			t.Errorf("%s:%d: an interface has %d methods; split it by who needs them", i.file, i.line(i.syntax), n)
		}
	}
}

// methods counts an interface's methods, those that it embeds too.
func (i interfaceOf) methods(named map[string]interfaceOf) (int, error) {
	count := 0
	for _, field := range i.syntax.Methods.List {
		var embedded string
		switch e := field.Type.(type) {
		case *ast.FuncType:
			count++
			continue
		case *ast.Ident:
			embedded = i.pkg + "." + e.Name
		case *ast.SelectorExpr:
			pkg := fmt.Sprint(e.X)
			at := slices.IndexFunc(i.imports, func(imported string) bool { return path.Base(imported) == pkg })
			if at >= 0 {
				pkg = strings.TrimPrefix(i.imports[at], module)
			}
			embedded = pkg + "." + e.Sel.Name
		default: // of a constraint: types, and no methods
			continue
		}
		other, ours := named[embedded]
		if !ours {
			return 0, fmt.Errorf("it embeds %s, of which nobody counts the methods; name those that are needed", embedded)
		}
		n, err := other.methods(named)
		if err != nil {
			return 0, err
		}
		count += n
	}
	return count, nil
}

func TestNoPackageHasAnInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, declaration := range s.syntax.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init", s.file)
			}
		}
	}
}

// What these bring makes a small binary a large one.
func TestNoHeavyPackageIsImported(t *testing.T) {
	heavy := []string{"html/template", "text/template", "net/http/pprof", "encoding/gob", "expvar", "github.com/aws/aws-sdk-go-v2/config"}
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			if slices.Contains(heavy, imported) {
				t.Errorf("%s imports %s", s.file, imported)
			}
		}
	}
}

// Newer clients of AWS do, and go.mod says what that costs: an update of all modules
// would bring them in without a word.
func TestNoClientDescribesAllOfItsServiceAtStart(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../cmd/soe-agent").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	for _, client := range []string{"secretsmanager", "ssm"} {
		name := "github.com/aws/aws-sdk-go-v2/service/" + client
		if !slices.Contains(packages, name) {
			t.Errorf("%s is not among the %d packages of the program", name, len(packages))
		}
		if slices.Contains(packages, name+"/schemas") {
			t.Errorf("%s has been updated: it describes all operations of its service at start; go.mod says why it was pinned", client)
		}
	}
}

// What becomes another user does so where the runner has put it, out of the agent's cgroup.
func TestNobodyButTheRunnerMakesAProcessAnotherUsers(t *testing.T) {
	becoming := []string{"setpriv", "runuser", "su", "setuidgid", "chpst", "pkexec"}
	calls := []string{"Setuid", "Setgid", "Setreuid", "Setresuid", "Seteuid", "Setfsuid", "Credential"}
	door := []string{"internal/system/confine.go", "internal/system/ownscope.go"}
	found := map[string]bool{}
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit: // an argv
				for _, element := range n.Elts {
					word, ok := element.(*ast.BasicLit)
					if ok && word.Kind == token.STRING && slices.Contains(becoming, strings.Trim(word.Value, "\"`")) {
						t.Errorf("%s runs %s", s.file, word.Value)
					}
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok || x.Name != "syscall" && x.Name != "unix" || !slices.Contains(calls, n.Sel.Name) {
					break
				}
				if found[s.file] = true; !slices.Contains(door, s.file) {
					t.Errorf("%s makes a process another user's: %s.%s", s.file, x.Name, n.Sel.Name)
				}
			}
			return true
		})
	}
	if len(found) != len(door) {
		t.Errorf("the runner is looked for in the wrong files: %v", found)
	}
}

// What is done to a thread for one command must never be done to the one by which /proc knows the process:
// nobody takes a thread to spend it but by the one function that sees to that.
func TestNobodyTakesAThreadButToSpendIt(t *testing.T) {
	takes := []string{"internal/system/spend.go", "internal/system/ownscope.go"} // and what is to become a command
	found := map[string]bool{}
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok && selector.Sel.Name == "LockOSThread" {
				if found[s.file] = true; !slices.Contains(takes, s.file) {
					t.Errorf("%s:%d takes a thread: use system.spend", s.file, s.line(n))
				}
			}
			return true
		})
	}
	if len(found) != len(takes) {
		t.Errorf("it is looked for in the wrong files: %v", found)
	}
}

// A command that is started at that moment would inherit it: one of the root directory is, to a check for which all
// mounts are read-only, a way to write.
func TestNobodyMakesADescriptorThatACommandInherits(t *testing.T) {
	found := false
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok {
				found = found || selector.Sel.Name == "F_DUPFD_CLOEXEC"
				if slices.Contains([]string{"Dup", "Dup2", "F_DUPFD"}, selector.Sel.Name) {
					t.Errorf("%s:%d makes a descriptor that is not closed on exec: use F_DUPFD_CLOEXEC", s.file, s.line(n))
				}
			}
			return true
		})
	}
	if !found {
		t.Error("it is looked for in the wrong files")
	}
}

// What several packages have to agree on is written once.
func TestWhatSeveralPackagesGoByIsWrittenInOnePlace(t *testing.T) {
	places := map[string]string{
		"/var/lib/soe-agent": "internal/own/own.go",
		"/run/soe-agent":     "internal/own/own.go",
		".soe.swp":           "internal/own/own.go",
		"‹secret›":           "internal/public/public.go",
	}
	found := map[string]bool{}
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			for text, place := range places {
				if !strings.Contains(literal.Value, text) {
					continue
				}
				if found[text] = true; s.file != place {
					t.Errorf("%s has %s: %s is where that is written", s.file, literal.Value, place)
				}
			}
			return true
		})
	}
	if len(found) != len(places) {
		t.Errorf("only %v were found at all", slices.Sorted(maps.Keys(found)))
	}
}

// What the core knows of single kinds stands in the agent's list of them, and in what they
// implement.
func TestTheCoreKnowsNoKindByName(t *testing.T) {
	for _, s := range sources(t) {
		if s.pkg != "internal/agent" && s.pkg != "internal/converge" || s.file == "internal/agent/kinds.go" {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err == nil && slices.ContainsFunc(policy.Kinds(), func(kind string) bool { return text == kind || strings.HasPrefix(text, kind+"/") }) {
				t.Errorf("%s speaks of the kind %s", s.file, literal.Value)
			}
			return true
		})
	}
}
