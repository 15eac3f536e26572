// Package check runs the policy's own checks and reports the results, as the kind "check". It changes
// nothing.
//
// A check with an interval ("every") runs in the background with low priority. Its result is kept in
// the ledger until it is due again.
//
// A check whose expectation is not met is failed and not drifted: a repair has nothing to try. A check
// that cannot be run, or does not end in time, is unknown. Checks also run for a plan, as root unless
// they name a user. They cannot write files (see system.Confinement). The report has the beginning of
// a failed check's output without the policy's secrets, since everybody may read a report.
package check

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
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

// atOnce is how many checks run in parallel. It is low, so that the desktop stays responsive.
const atOnce = 4

// maxExcerpt is how many characters of the output a report shows.
const maxExcerpt = 160

// atOnceInBackground is how many checks with an interval run in parallel.
const atOnceInBackground = 2

// Kind runs the policy's checks.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger

	mu    sync.Mutex
	news  int               // number of calls of LookAgain
	asked map[policy.ID]int // the value of news when a check with an interval was started
}

// New returns the kind "check".
func New(p *policy.Policy, s *system.System, ledger *converge.Ledger) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, ledger: ledger, asked: map[policy.ID]int{}}
}

// LookAgain tells the kind that a repair has changed the machine. A result that a check with an
// interval had before that, under this policy, is outdated and no longer counts.
func (k *Kind) LookAgain() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.news++
}

// starts notes that a check is started now.
func (k *Kind) starts(id policy.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked[id] = k.news
}

// outrun reports whether LookAgain was called since the check was started.
func (k *Kind) outrun(id policy.ID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	asked, was := k.asked[id]
	return was && asked < k.news
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return "check" }

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := policy.Of[policy.Check](k.policy)
	resources := make([]converge.Resource, len(wants))
	mark := k.Mark()
	secrets := k.secrets()
	if err := k.Since(mark); err != nil { // what could not be read may have a secret that a check's output shows
		return nil, fmt.Errorf("cannot run the checks: %w", err)
	}
	quick, background := make(chan struct{}, atOnce), make(chan struct{}, atOnceInBackground)
	var wg sync.WaitGroup
	for i, want := range wants {
		slots := quick
		if want.Spec.Every > 0 {
			slots = background
			if last, counts := k.last(want); counts && !k.outrun(want.ID) {
				resources[i] = last.resource(want)
				continue
			}
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			resources[i] = k.check(ctx, want, secrets)
		})
	}
	var long []converge.Resource
	wg.Go(func() { long = k.searchFiles(ctx) })
	wg.Wait()
	k.forget()
	return slices.Concat(resources, long, k.searches()), ctx.Err()
}

// check runs a check, and keeps the result of one with an interval until it is due again.
func (k *Kind) check(ctx context.Context, want policy.Want[policy.Check], secrets converge.Secrets) converge.Resource {
	k.starts(want.ID)
	found, err := k.run(ctx, want.Spec, secrets)
	if err != nil {
		found = outcome{OfUser: found.OfUser, Unanswered: err.Error(), Public: public.Text(err) == err.Error()}
	}
	if want.Spec.Every == 0 {
		r := found.resource(want)
		if err != nil {
			r.SetUnknownErr(err) // which knows the public part of the error
		}
		return r
	}
	found.at = k.system.Clock.Now().Round(0)
	if ctx.Err() == nil { // a cancelled check has no result
		k.keep(want, found)
	}
	return found.resource(want)
}

// killed is the exit code of a killed process. A check does not use it to report a result.
const killed = 128 + 9

// run runs a check. An error says why there is no result.
func (k *Kind) run(ctx context.Context, spec policy.Check, secrets converge.Secrets) (found outcome, err error) {
	command := system.Command{Argv: spec.Run, Timeout: spec.Timeout, ReadOnly: true, Confined: &system.Confinement{Capabilities: asks(spec.Run)}}
	if spec.User != "" {
		if err := k.runAs(ctx, &command, spec.User); err != nil {
			return found, err
		}
	} else if err := k.system.TrustedCommand(spec.Run); err != nil {
		return found, err
	}
	command.Confined.Background = spec.Every > 0
	found.OfUser = command.Confined.UID != 0
	out, err := k.system.Runner.Run(ctx, command)
	if err != nil {
		return found, err
	}
	if out.ExitCode == killed && spec.Exit != killed {
		return found, public.Error(fmt.Errorf("%s was killed", spec.Run[0]))
	}
	if out.ExitCode != spec.Exit {
		found.Exit = &exit{out.ExitCode, excerpt(secrets.Hide(out.LastLine()))}
	}
	for _, output := range []struct {
		name, pattern string
		printed       []byte
	}{{"stdout", spec.Stdout, out.Stdout}, {"stderr", spec.Stderr, out.Stderr}} {
		pattern, err := regexp.Compile(output.pattern)
		if err != nil {
			return found, fmt.Errorf("%s is not a regular expression: %w", output.name, err)
		}
		// Drop the last line break, as a shell's $(…) does, so that "$" matches the end.
		printed := strings.TrimRight(string(output.printed), "\n")
		if !pattern.MatchString(printed) {
			found.Printed = append(found.Printed, printing{output.name, output.pattern, strconv.Quote(excerpt(secrets.Hide(printed)))})
		}
	}
	return found, nil
}

// runAs makes a command run as an account, local or from the directory, with all its groups.
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

// excerpt returns the beginning of a text, without terminal control characters.
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

// Repair implements converge.Kind. It is never called, for no check drifts.
func (k *Kind) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }
