package main

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// onCPU is the processor time of this thread, so that it does not depend on what else the machine does.
func onCPU(do func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_THREAD, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := spent()
	do()
	return spent() - start
}

// With quadratic work four times as much takes sixteen times as long.
func TestALintTakesAsLongAsItsPolicyIs(t *testing.T) {
	for what, of := range map[string]func(n int) string{
		"literal matches": func(n int) string {
			return "[[rules]]\nseverity = \"low\"\nmatch = [" + each(n, func(i int) string { return fmt.Sprintf("\"package/k%d\", ", i) }) + "]\n"
		},
		"packages and patterns": func(n int) string {
			return "[packages]\n" + each(n, func(i int) string { return fmt.Sprintf("k%d = \"latest\"\n", i) }) +
				"[[rules]]\nseverity = \"low\"\nmatch = [" + each(n/20, func(i int) string { return fmt.Sprintf("\"package/q%d*\", ", i) }) + "]\n"
		},
		"commands": func(n int) string {
			return "[sudo]\nallow = [\"alice\"]\ncommands.bob = [" + each(n, func(i int) string { return fmt.Sprintf("\"/usr/bin/vim /srv/%d\", ", i) }) + "]\n"
		},
		"rules": func(n int) string {
			return each(n, func(i int) string {
				return fmt.Sprintf("[[rules]]\nmatch = [\"package/k%d\"]\nseverity = \"low\"\n", i)
			})
		},
	} {
		took := func(n int) time.Duration {
			sources := []policy.Source{{Name: "x.toml", Text: "schema = 1\n" + of(n)}}
			return onCPU(func() { lint(sources, nil) })
		}
		took(100)
		quarter, whole := took(5000), took(20000)
		if whole > 6*quarter+50*time.Millisecond {
			t.Errorf("%s: 5000 take %s, and 20000 %s", what, quarter, whole)
		}
	}
}

func each(n int, of func(i int) string) string {
	var all strings.Builder
	for i := range n {
		all.WriteString(of(i))
	}
	return all.String()
}
