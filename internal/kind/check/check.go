// Package check keeps nothing: it runs the policy's own checks and reports what
// came of them, as the kind "check".
//
// A check that does not hold is failed and not drifted: there is nothing that a
// repair could try. One that cannot be run, or does not end in time, is unknown.
// Checks also run for a plan, as root unless they name a user, and can change
// nothing: no file can be written (see system.Confinement). The beginning of what a
// failed check prints is in the report, which everybody may read; the policy's secrets
// are taken out of it.
package check

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// atOnce is how many checks run at a time: a quiet guest leaves the desktop room.
const atOnce = 4

// maxExcerpt is how many characters of the output a report shows.
const maxExcerpt = 160

// Kind runs the policy's checks.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
}

// New returns the kind "check".
func New(p *policy.Policy, s *system.System) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return "check" }

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := policy.Of[policy.Check](k.policy)
	resources := make([]converge.Resource, len(wants))
	mark := k.Mark()
	secrets := k.secrets()
	if err := k.Since(mark); err != nil { // a secret may stand in what could not be read, and a check show it
		return nil, fmt.Errorf("cannot run the checks: %w", err)
	}
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, want := range wants {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			resources[i] = k.check(ctx, want, secrets)
		})
	}
	wg.Wait()
	return resources, ctx.Err()
}

func (k *Kind) check(ctx context.Context, want policy.Want[policy.Check], secrets converge.Secrets) converge.Resource {
	r := converge.Wanted(want.Resource)
	spec := want.Spec
	command := system.Command{Argv: spec.Run, Timeout: spec.Timeout, ReadOnly: true, Confined: &system.Confinement{Capabilities: asks(spec.Run)}}
	if spec.User != "" {
		if err := k.runAs(ctx, &command, spec.User); err != nil {
			r.SetUnknownErr(err)
			return r
		}
	} else if err := k.system.TrustedCommand(spec.Run); err != nil {
		r.SetUnknown(err.Error())
		return r
	}
	if command.Confined.UID != 0 {
		r.WordOf = spec.User
	}
	out, err := k.system.Runner.Run(ctx, command)
	if err != nil {
		r.SetUnknownErr(err)
		return r
	}
	var broken []string
	if out.ExitCode != spec.Exit {
		r.AddPublicDrift("exit", strconv.Itoa(spec.Exit), strconv.Itoa(out.ExitCode))
		broken = append(broken, fmt.Sprintf("%s exited with %d: %s", spec.Run[0], out.ExitCode, excerpt(secrets.Hide(out.LastLine()))))
	}
	for _, output := range []struct {
		name, pattern string
		printed       []byte
	}{{"stdout", spec.Stdout, out.Stdout}, {"stderr", spec.Stderr, out.Stderr}} {
		pattern, err := regexp.Compile(output.pattern)
		if err != nil {
			r.SetUnknown(fmt.Sprintf("%s is not a regular expression: %v", output.name, err))
			return r
		}
		// Without the last line break, as in a shell's $(…), so that "$" means the end.
		printed := strings.TrimRight(string(output.printed), "\n")
		if !pattern.MatchString(printed) {
			shown := strconv.Quote(excerpt(secrets.Hide(printed)))
			r.AddDrift(output.name, "/"+output.pattern+"/", shown)
			broken = append(broken, fmt.Sprintf("its %s is %s", output.name, shown))
		}
	}
	if len(broken) > 0 {
		r.SetFailedErr(public.Because("the check does not hold", errors.New(strings.Join(broken, "; "))))
	}
	return r
}

// runAs has a command run as an account, local or of the directory, with all its
// groups.
func (k *Kind) runAs(ctx context.Context, command *system.Command, user string) error {
	account, there, err := facts.LookupUser(ctx, k.system, user)
	if err == nil && !there {
		err = public.Error(errors.New("there is no such user"))
	}
	if err != nil {
		return public.Because("cannot run the check as "+user, err)
	}
	groups, err := facts.GroupIDs(ctx, k.system, account.Name)
	if err != nil {
		return public.Because("cannot run the check as "+user, err)
	}
	command.Confined = &system.Confinement{UID: account.UID, GID: account.GID, Groups: groups}
	command.Env = []string{"HOME=" + account.Home, "USER=" + account.Name, "LOGNAME=" + account.Name}
	return nil
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
