package internal_test

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A logCall is one line that the product logs.
type logCall struct {
	file    string
	level   string
	message string // "" when it is no literal
	keys    []string
}

// logCalls are all calls of the loggers' methods.
func logCalls(t *testing.T) []logCall {
	t.Helper()
	var calls []logCall
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || len(call.Args) == 0 || !slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, method.Sel.Name) || !isLogger(method.X) {
				return true
			}
			calls = append(calls, logCall{s.file, method.Sel.Name, literal(call.Args[0]), keysOf(call.Args[1:])})
			return true
		})
	}
	if len(calls) < 60 {
		t.Fatalf("only %d log lines were found", len(calls))
	}
	return calls
}

// isLogger says whether an expression is a logger, by its name.
func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return slices.Contains([]string{"log", "slog", "logger"}, x.Name)
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "log")
	}
	return false
}

// literal is the text of a string literal, or of several that are added; "" of what is
// only known when the program runs.
func literal(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.BasicLit:
		if x.Kind == token.STRING {
			text, _ := strconv.Unquote(x.Value)
			return text
		}
	case *ast.BinaryExpr:
		return literal(x.X) + literal(x.Y)
	}
	return ""
}

// keysOf are the keys of a call's attributes.
func keysOf(args []ast.Expr) (keys []string) {
	for i := 0; i < len(args); i += 2 {
		keys = append(keys, literal(args[i]))
	}
	return keys
}

// unclear are forms of a message that leave its reader guessing.
var unclear = regexp.MustCompile(`(?i)^what\b|\bstays?$|\bis said\b|\b(life|lives|young|born|heard|walk(s|ed|ing)?|witness)( |$)|\blook(s|ed|ing)? (at|again)\b|\bsomebody\b|\bnobody\b|\bmachine stands\b|\bis over$|\bluck\b`)

// logProblem says what is wrong with a line of the log, or "".
func logProblem(c logCall) string {
	about := []string{"err", "problems", "resource", "path", "kind", "kinds", "said", "for", "why", "holder", "unwatched", "policy", "argv", "panic"}
	grave := c.level == "Warn" || c.level == "Error"
	switch {
	case c.message == "":
		return ""
	case unclear.MatchString(c.message):
		return "says " + strconv.Quote(unclear.FindString(c.message)) + ": name what happened, and to what"
	case grave && !strings.Contains(c.message, "the system bus") && !slices.ContainsFunc(c.keys, func(key string) bool { return slices.Contains(about, key) }):
		return "says neither of what it speaks nor why: give it err, resource, path or kind"
	case grave && strings.HasPrefix(c.message, "cannot ") && !slices.ContainsFunc(c.keys, func(key string) bool { return slices.Contains([]string{"err", "problems", "said", "for", "why"}, key) }):
		return "says that something cannot be done, and not why: give it err"
	case grave && len(strings.Fields(c.message)) < 3 && !slices.Contains([]string{"cannot repair"}, c.message):
		return "is too short for somebody who reads nothing else"
	}
	return ""
}

func TestEveryLogLineSaysWhatHappenedAndToWhat(t *testing.T) {
	for _, c := range logCalls(t) {
		if problem := logProblem(c); problem != "" {
			t.Errorf("%s: %q %s", c.file, c.message, problem)
		}
	}
}

// Whoever searches the journal, or has a collector do so, goes by the keys.
func TestLogLinesShareTheirKeys(t *testing.T) {
	known := strings.Fields(`account action after ahead argv attempts busy by cause changed command debug done err exit for from holder kind kinds
		left list mode next package packages path person policy problems repository resource rounds said scope seen serial since stack
		state step to took twice uid unfinished until unwatched user wanted why`)
	for _, c := range logCalls(t) {
		for _, key := range c.keys {
			if key != "" && !slices.Contains(known, key) {
				t.Errorf("%s: %q has the key %q, which no other line has: use one of %q, or add it here", c.file, c.message, key, known)
			}
		}
	}
}

func TestARiddleInTheLogIsFound(t *testing.T) {
	for message, keys := range map[string][]string{
		"what is written here is looked at twice":        {"err"},
		"what an interrupted transaction has left stays": {"err"},
		"cannot note how this life goes":                 {"err"},
		"the wait is over":                               {"for"},
		"cannot write the ledger":                        {"kind"},
		"waiting":                                        {"err"},
	} {
		if logProblem(logCall{"x.go", "Warn", message, keys}) == "" {
			t.Errorf("%q with %q passes", message, keys)
		}
	}
	for message, keys := range map[string][]string{
		"cannot write life.json": {"err"},
		"removed a stale lock":   {"path"},
	} {
		if problem := logProblem(logCall{"x.go", "Warn", message, keys}); problem != "" {
			t.Errorf("%q with %q: %s", message, keys, problem)
		}
	}
}
