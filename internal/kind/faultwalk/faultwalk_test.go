package faultwalk_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestEveryKindIsWalkedWithEachLookFailing(t *testing.T) {
	files, err := filepath.Glob("../*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	walked := map[string]bool{}
	for _, file := range files {
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || selector.Sel.Name != "Walk" {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); !ok || x.Name != "faultwalk" {
				return true
			}
			if kind, ok := call.Args[1].(*ast.BasicLit); ok && kind.Kind == token.STRING {
				name, _ := strconv.Unquote(kind.Value)
				walked[name] = true
			}
			return true
		})
	}
	for _, kind := range policy.Kinds() {
		if !walked[kind] {
			t.Errorf("no test of %s walks its looks: call faultwalk.Walk(t, %q, …) in one, with the kind in line, drifted, and there though unwanted", kind, kind)
		}
	}
	for kind := range walked {
		if !slices.Contains(policy.Kinds(), kind) {
			t.Errorf("%s is no kind", kind)
		}
	}
}

// A walk tries only one of them at each read, as a representative.
func TestTheAgentTellsNoneOfTheIndistinctErrorsFromTheOthers(t *testing.T) {
	names := map[string]bool{}
	for _, errno := range faultwalk.Indistinct() {
		names[unix.ErrnoName(errno)] = true
	}
	if len(names) < 2 || names[""] {
		t.Fatalf("they are %v", names)
	}
	files := 0
	err := filepath.WalkDir("../..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/faultwalk/") {
			return err
		}
		files++
		syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok && names[selector.Sel.Name] {
				t.Errorf("%s tells %s from the others: take it out of faultwalk.Indistinct, and have it walked by itself", name, selector.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil || files < 100 {
		t.Fatalf("%d files were read: %v", files, err)
	}
}
