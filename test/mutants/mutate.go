package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// A mutant is a file with one mistake in it.
type mutant struct {
	file   string // which it stands for
	what   string // FILE:LINE: what is wrong
	source []byte
}

// turned are the operators that are mistaken for others.
func turned() map[token.Token]token.Token {
	return map[token.Token]token.Token{
		token.EQL: token.NEQ, token.NEQ: token.EQL,
		token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
		token.LAND: token.LOR, token.LOR: token.LAND,
		token.ADD: token.SUB, token.SUB: token.ADD,
	}
}

// mutantsIn are all the mutants of a package.
func mutantsIn(pkg goPackage) ([]mutant, error) {
	var all []mutant
	for _, name := range pkg.GoFiles {
		file := filepath.Join(pkg.Dir, name)
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		found, err := mutantsOf(file, content)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// mutantsOf are all the mutants of a file.
func mutantsOf(file string, content []byte) ([]mutant, error) {
	files := token.NewFileSet()
	tree, err := parser.ParseFile(files, file, content, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var all []mutant
	// add makes the mistake, has it printed, and takes it back.
	add := func(at token.Pos, what string, make, unmake func()) {
		make()
		var out bytes.Buffer
		err := format.Node(&out, files, tree)
		unmake()
		if err != nil || bytes.Equal(out.Bytes(), content) {
			return
		}
		place := files.Position(at)
		line := strings.TrimSpace(strings.Split(string(content), "\n")[place.Line-1])
		all = append(all, mutant{file, fmt.Sprintf("%s:%d: %s: %s", filepath.Base(file), place.Line, what, line), out.Bytes()})
	}
	ast.Inspect(tree, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.BinaryExpr:
			if other, ok := turned()[node.Op]; ok && !isText(node.X) && !isText(node.Y) {
				op := node.Op
				add(node.OpPos, op.String()+" is "+other.String(), func() { node.Op = other }, func() { node.Op = op })
			}
		case *ast.IfStmt:
			condition := node.Cond
			never := &ast.BinaryExpr{X: &ast.ParenExpr{X: condition}, Op: token.LAND, Y: ast.NewIdent("false")}
			reverse := &ast.UnaryExpr{Op: token.NOT, X: &ast.ParenExpr{X: condition}}
			add(node.If, "never", func() { node.Cond = never }, func() { node.Cond = condition })
			add(node.If, "turned round", func() { node.Cond = reverse }, func() { node.Cond = condition })
		case *ast.BlockStmt:
			statements(node.List, add)
		case *ast.CaseClause:
			statements(node.Body, add)
		}
		return true
	})
	return all, nil
}

// statements leaves out each of some statements whose result nothing else needs to compile.
func statements(list []ast.Stmt, add func(token.Pos, string, func(), func())) {
	for i, statement := range list {
		switch s := statement.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt:
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				continue
			}
		default:
			continue
		}
		add(statement.Pos(), "left out", func() { list[i] = &ast.EmptyStmt{Semicolon: statement.Pos(), Implicit: true} }, func() { list[i] = statement })
	}
}

// isText says whether an operand is a text, which + joins.
func isText(e ast.Expr) bool {
	literal, ok := e.(*ast.BasicLit)
	return ok && literal.Kind == token.STRING
}
