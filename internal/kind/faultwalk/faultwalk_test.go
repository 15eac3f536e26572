package faultwalk_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

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
