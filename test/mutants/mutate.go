package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A mutant is a mistake in a package. Its number, in the environment of a test, makes it.
type mutant struct {
	number int
	what   string // FILE:LINE: what is wrong: the line
}

// An edit replaces a piece of a source. Its replacement may contain parts of the source, with the
// edits that are within them.
type edit struct {
	from, to int // offsets
	make     func(part func(from, to ast.Node) string) string
}

// A source is a file of the package, with every mutant of it as a choice.
type source struct {
	name    string
	content []byte
	files   *token.FileSet
	edits   []edit // in the order of the syntax: outer ones before those within them
}

// mutated is a package with all its mutants.
type mutated struct {
	mutants []mutant
	files   map[string]string // name of the file → what the compiler reads instead
}

// mutate reads a package and builds all mutants into it. lookup returns the export data of what it
// imports.
func mutate(pkg goPackage, lookup func(path string) (io.ReadCloser, error)) (mutated, error) {
	files := token.NewFileSet()
	var trees []*ast.File
	var sources []*source
	for _, name := range pkg.GoFiles {
		file := filepath.Join(pkg.Dir, name)
		content, err := os.ReadFile(file)
		if err != nil {
			return mutated{}, err
		}
		tree, err := parser.ParseFile(files, file, content, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return mutated{}, err
		}
		trees = append(trees, tree)
		sources = append(sources, &source{name: file, content: content, files: files})
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	config := types.Config{Importer: importer.ForCompiler(files, "gc", lookup)}
	if _, err := config.Check(pkg.ImportPath, files, trees, info); err != nil {
		return mutated{}, err
	}
	all := mutated{files: map[string]string{}}
	for i, tree := range trees {
		m := maker{source: sources[i], info: info, mutants: &all.mutants}
		ast.Inspect(tree, m.node)
		all.files[sources[i].name] = sources[i].text()
	}
	all.files[filepath.Join(pkg.Dir, "mutants_.go")] = fmt.Sprintf(choice, trees[0].Name.Name, len(all.mutants)+1)
	return all, nil
}

// choice is the file that is added to a package: which of its mutants is made is chosen by MUTANT;
// the numbers of those that were reached are written to MUTANTS_REACHED.
const choice = `package %s

import (
	"cmp"
	"os"
	"strconv"
	"sync/atomic"
)

var mutantChosen_, _ = strconv.Atoi(os.Getenv("MUTANT"))

var mutantsReachedFile_ = func() *os.File {
	name := os.Getenv("MUTANTS_REACHED")
	if name == "" {
		return nil
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil
	}
	return file
}()

var mutantsReached_ [%d]atomic.Bool

func mutant_(n int) bool {
	if mutantsReachedFile_ != nil && !mutantsReached_[n].Swap(true) {
		_, _ = mutantsReachedFile_.WriteString(strconv.Itoa(n) + "\n")
	}
	return n == mutantChosen_
}

func mutantBoth_[T cmp.Ordered](x, y T) (T, T) { return x, y }

func mutantAnd_(n int, x bool, y func() bool) bool {
	if mutant_(n) {
		return x || y()
	}
	return x && y()
}

func mutantOr_(n int, x bool, y func() bool) bool {
	if mutant_(n) {
		return x && y()
	}
	return x || y()
}

func mutantLess_[T cmp.Ordered](n int, x, y T) bool {
	if mutant_(n) {
		return x <= y
	}
	return x < y
}

func mutantLessOrEqual_[T cmp.Ordered](n int, x, y T) bool {
	if mutant_(n) {
		return x < y
	}
	return x <= y
}

type mutantNumber_ interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

func mutantPlus_[T mutantNumber_](n int, x, y T) T {
	if mutant_(n) {
		return x - y
	}
	return x + y
}

func mutantMinus_[T mutantNumber_](n int, x, y T) T {
	if mutant_(n) {
		return x + y
	}
	return x - y
}
`

// A maker finds the mutants of a file.
type maker struct {
	*source
	info    *types.Info
	mutants *[]mutant
}

// add returns the number of a new mutant.
func (m maker) add(at token.Pos, what string) int {
	place := m.files.Position(at)
	line := strings.TrimSpace(strings.Split(string(m.content), "\n")[place.Line-1])
	number := len(*m.mutants) + 1
	*m.mutants = append(*m.mutants, mutant{number, fmt.Sprintf("%s:%d: %s: %s", filepath.Base(m.name), place.Line, what, line)})
	return number
}

func (m maker) replace(node ast.Node, with func(part func(from, to ast.Node) string) string) {
	m.edits = append(m.edits, edit{m.offset(node.Pos()), m.offset(node.End()), with})
}

func (s *source) offset(p token.Pos) int { return s.files.Position(p).Offset }

func (m maker) node(node ast.Node) bool {
	switch node := node.(type) {
	case *ast.GenDecl:
		return node.Tok != token.CONST
	case *ast.ArrayType: // the length is a constant
		return false
	case *ast.BinaryExpr:
		m.operator(node)
	case *ast.IfStmt:
		if !isPlain(m.info.TypeOf(node.Cond)) {
			return true
		}
		never, round := m.add(node.If, "never"), m.add(node.If, "turned round")
		m.replace(node.Cond, func(part func(from, to ast.Node) string) string {
			return fmt.Sprintf("((%s) != mutant_(%d)) && !mutant_(%d)", part(node.Cond, node.Cond), round, never)
		})
	case *ast.BlockStmt:
		m.statements(node.List)
	case *ast.CaseClause:
		m.statements(node.Body)
	}
	return true
}

// operators are those that are mistaken for others, and the functions that make the mistake.
func operators() map[token.Token]struct{ mistake, function string } {
	return map[token.Token]struct{ mistake, function string }{
		token.EQL: {"!=", ""}, token.NEQ: {"==", ""},
		token.LSS: {"<=", "Less"}, token.LEQ: {"<", "LessOrEqual"}, token.GTR: {">=", "Less"}, token.GEQ: {">", "LessOrEqual"},
		token.LAND: {"||", "And"}, token.LOR: {"&&", "Or"},
		token.ADD: {"-", "Plus"}, token.SUB: {"+", "Minus"},
	}
}

func (m maker) operator(node *ast.BinaryExpr) {
	other, ok := operators()[node.Op]
	whole := m.info.Types[node]
	if !ok || whole.Value != nil || (node.Op == token.ADD || node.Op == token.SUB) && !isNumber(whole.Type) {
		return
	}
	if (node.Op == token.LAND || node.Op == token.LOR) && !isPlain(whole.Type) {
		return
	}
	n := m.add(node.OpPos, node.Op.String()+" is "+other.mistake)
	m.replace(node, func(part func(from, to ast.Node) string) string {
		x, y := part(node.X, node.X), part(node.Y, node.Y)
		switch node.Op {
		case token.EQL, token.NEQ:
			return fmt.Sprintf("((%s) != mutant_(%d))", part(node.X, node.Y), n)
		case token.LAND, token.LOR:
			return fmt.Sprintf("mutant%s_(%d, %s, func() bool { return %s })", other.function, n, x, y)
		case token.GTR, token.GEQ: // x > y is y < x; Go evaluates calls from left to right
			return fmt.Sprintf("func() bool { x_, y_ := mutantBoth_(%s, %s); return mutant%s_(%d, y_, x_) }()", x, y, other.function, n)
		default:
			return fmt.Sprintf("mutant%s_(%d, %s, %s)", other.function, n, x, y)
		}
	})
}

// isPlain reports whether a type is bool itself.
func isPlain(t types.Type) bool {
	return t != nil && types.Identical(types.Default(t), types.Typ[types.Bool])
}

func isNumber(t types.Type) bool {
	basic, ok := t.Underlying().(*types.Basic)
	return ok && basic.Info()&(types.IsInteger|types.IsFloat) != 0
}

// statements leaves out each of some statements.
func (m maker) statements(list []ast.Stmt) {
	for i, statement := range list {
		switch s := statement.(type) {
		case *ast.ExprStmt:
			// A function may have to end with it.
			if call, ok := s.X.(*ast.CallExpr); ok && i == len(list)-1 {
				if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "panic" {
					continue
				}
			}
		case *ast.IncDecStmt:
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE || doesNothing(s) {
				continue
			}
		default:
			continue
		}
		n := m.add(statement.Pos(), "left out")
		m.replace(statement, func(part func(from, to ast.Node) string) string {
			return fmt.Sprintf("if !mutant_(%d) { %s }", n, part(statement, statement))
		})
	}
}

// doesNothing reports whether an assignment is only there for the compiler.
func doesNothing(s *ast.AssignStmt) bool {
	isBlank := func(e ast.Expr) bool { name, ok := e.(*ast.Ident); return ok && name.Name == "_" }
	isName := func(e ast.Expr) bool { _, ok := e.(*ast.Ident); return ok }
	return !slices.ContainsFunc(s.Lhs, func(e ast.Expr) bool { return !isBlank(e) }) && !slices.ContainsFunc(s.Rhs, func(e ast.Expr) bool { return !isName(e) })
}

// text returns the source with all edits.
func (s *source) text() string {
	slices.SortStableFunc(s.edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to))
	})
	return s.part(0, len(s.content), 0)
}

// part returns a piece of the source with those of the edits within it that come at or after first.
func (s *source) part(from, to, first int) string {
	var out strings.Builder
	at := from
	for i := first; i < len(s.edits); i++ {
		e := s.edits[i]
		if e.from < at || e.to > to {
			continue
		}
		out.Write(s.content[at:e.from])
		out.WriteString(e.make(func(from, to ast.Node) string {
			return s.part(s.offset(from.Pos()), s.offset(to.End()), i+1)
		}))
		at = e.to
	}
	out.Write(s.content[at:to])
	return out.String()
}
