// Package check keeps nothing: it runs the policy's own checks and reports what
// came of them, as the kind "check".
//
// A check that does not hold is failed and not drifted: there is nothing that a
// repair could try. One that cannot be run, or does not end in time, is unknown.
// Checks run as root, also for a plan, and must not change anything. The beginning
// of what a failed check prints is in the report, which everybody may read.
package check

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// atOnce is how many checks run at a time: a quiet guest leaves the desktop room.
const atOnce = 4

// maxExcerpt is how many characters of the output a report shows.
const maxExcerpt = 160

// Kind runs the policy's checks.
type Kind struct {
	policy *policy.Policy
	system *system.System
}

// New returns the kind "check".
func New(p *policy.Policy, s *system.System) *Kind {
	return &Kind{policy: p, system: s}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return "check" }

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := policy.Of[policy.Check](k.policy)
	resources := make([]converge.Resource, len(wants))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, want := range wants {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			resources[i] = k.check(ctx, want)
		})
	}
	wg.Wait()
	return resources, ctx.Err()
}

func (k *Kind) check(ctx context.Context, want policy.Want[policy.Check]) converge.Resource {
	r := converge.Wanted(want.Resource)
	spec := want.Spec
	pattern, err := regexp.Compile(spec.Stdout)
	if err != nil {
		r.Doubt(fmt.Sprintf("stdout is not a regular expression: %v", err))
		return r
	}
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: spec.Run, Timeout: spec.Timeout, ReadOnly: true})
	if err != nil {
		r.Doubt(err.Error())
		return r
	}
	// Without the last line break, as in a shell's $(…), so that "$" means the end.
	stdout := strings.TrimRight(string(out.Stdout), "\n")
	var broken []string
	if out.ExitCode != spec.Exit {
		r.Differs("exit", strconv.Itoa(spec.Exit), strconv.Itoa(out.ExitCode))
		broken = append(broken, fmt.Sprintf("%s exited with %d: %s", spec.Run[0], out.ExitCode, excerpt(out.LastLine())))
	}
	if !pattern.MatchString(stdout) {
		r.Differs("stdout", "/"+spec.Stdout+"/", strconv.Quote(excerpt(stdout)))
		broken = append(broken, "its output is not as wanted")
	}
	if len(broken) > 0 {
		r.Fail("the check does not hold: " + strings.Join(broken, "; "))
	}
	return r
}

// excerpt is the beginning of a text, without what a terminal would obey.
func excerpt(text string) string {
	var b strings.Builder
	length := 0
	for _, c := range text {
		if length++; length > maxExcerpt {
			return b.String() + "…"
		}
		if c != '\n' && !unicode.IsPrint(c) {
			c = unicode.ReplacementChar
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Repair implements converge.Kind. It is never asked to: no check drifts.
func (k *Kind) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }
