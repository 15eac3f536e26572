package packages

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	yumState = "/var/lib/yum"
	// completable is how old an unfinished transaction may be and still be completed. An older one
	// may no longer be wanted.
	completable = 24 * time.Hour
)

// mendInterrupted repairs what a killed transaction left behind: packages that are recorded in two
// versions, and yum's list of unfinished work. It waits until no other package manager is at work.
// A nil error means that rpm confirms that nothing is left to repair and no package has gone. It
// returns the packages recorded at the end, also with an error if they are known. The environment
// of Berkeley DB (__db.*) is left alone: rpm recovers it, and removing it destroys the database
// while anybody has it open.
func (m manager) mendInterrupted(ctx context.Context) (installed, error) {
	before, err := m.recorded(ctx)
	if err != nil {
		return nil, err
	}
	twice, unfinished := before.twice(), m.unfinished()
	if len(twice) == 0 && len(unfinished) == 0 {
		return before, nil
	}
	// Another package manager that is at work leaves the same traces until it is done.
	if err := m.idle(ctx); err != nil {
		return nil, err
	}
	if before, err = m.recorded(ctx); err != nil {
		return nil, err
	}
	if twice, unfinished = before.twice(), m.unfinished(); len(twice) == 0 && len(unfinished) == 0 {
		return before, nil
	}
	m.system.Log.Warn("repairing the package database after an interrupted transaction", "kind", "package", "twice", twice, "unfinished", unfinished)
	var problems []error
	if len(twice) > 0 {
		problems = append(problems, m.removeOlder(ctx))
	}
	if len(unfinished) > 0 {
		problems = append(problems, m.finish(ctx, unfinished, len(twice) > 0))
	}
	after, err := m.recorded(ctx)
	if err != nil {
		return nil, errors.Join(append(problems, err)...)
	}
	for name := range before {
		if len(after[name]) == 0 {
			problems = append(problems, fmt.Errorf("%s has gone with the repair of an interrupted transaction", name))
		}
	}
	left := after.twice()
	if len(left) == 0 && len(m.unfinished()) == 0 {
		return after, errors.Join(problems...)
	}
	if len(left) > 0 {
		problems = append(problems, fmt.Errorf("%s still recorded in two versions", strings.Join(left, ", ")))
	}
	return after, fmt.Errorf("cannot repair the package database after an interrupted transaction: %w", errors.Join(problems...))
}

// unkilled runs a transaction. If somebody kills it, unkilled repairs what it left behind and runs
// it once more. That is safe because its lines describe the wanted result.
func (m manager) unkilled(ctx context.Context, run func(without []string) (system.Output, error)) (system.Output, error) {
	out, err := m.reaching(run)
	if !wasKilled(out, err) {
		return out, err
	}
	m.system.Log.Warn("a package transaction was killed; the package database is repaired, and the transaction is tried once more", "kind", "package")
	if _, err := m.mendInterrupted(ctx); err != nil {
		return out, fmt.Errorf("%w: %w", errKilled, err)
	}
	if out, err = m.reaching(run); wasKilled(out, err) {
		return out, errKilled
	}
	return out, err
}

// errKilled is the error of a transaction that was killed before its end.
var errKilled = errors.New("the package manager was killed before it was done")

// wasKilled reports whether a command, or one that it ran, was ended by a signal.
func wasKilled(out system.Output, err error) bool {
	return errors.Is(err, system.ErrKilled) || err == nil && out.ExitCode > 128 && out.ExitCode < 160 // dnf exits with 200 because of locks
}

// recorded returns all packages in the rpm database.
func (m manager) recorded(ctx context.Context) (installed, error) {
	argv := append([]string{"rpm", "-qa"}, query(nil)[1:]...)
	out, err := m.system.Runner.Run(ctx, system.Command{Argv: argv, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("cannot ask the rpm database: %w", err)
	}
	if err := trouble(out); err != nil {
		return nil, fmt.Errorf("cannot ask the rpm database: %w", err)
	}
	there, err := m.parseQuery(nil, out)
	if err == nil && len(there) == 0 && len(strings.TrimSpace(string(out.Stdout))) > 0 {
		err = fmt.Errorf("cannot ask the rpm database: it says %q", out.LastLine())
	}
	if err == nil && out.ExitCode != 0 {
		err = fmt.Errorf("cannot ask the rpm database: %s", out.LastLine())
	}
	return there, err
}

// twice returns the sorted names of packages that are recorded in two versions although they cannot
// be installed side by side.
func (i installed) twice() []string {
	var names []string
	for name, instances := range i {
		if name != keyPackage && interrupted(instances) != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// removeOlder removes the older of two recorded versions.
func (m manager) removeOlder(ctx context.Context) error {
	if m.program() == "dnf" {
		_, err := m.reaching(func(without []string) (system.Output, error) {
			argv := []string{"dnf", "-y", "--setopt=exit_on_lock=True", "--setopt=clean_requirements_on_remove=False"}
			return m.unlocked(ctx, transaction(append(append(argv, without...), "remove", "--duplicates")...))
		})
		return err
	}
	if !m.hasYumUtils("package-cleanup") {
		return errors.New("package-cleanup is not installed; install yum-utils")
	}
	_, err := m.unlocked(ctx, transaction("package-cleanup", "-y", "--cleandupes"))
	return err
}

func (m manager) hasYumUtils(program string) bool {
	for _, dir := range []string{"/usr/bin/", "/usr/sbin/"} {
		if _, err := m.system.FS.Stat(dir + program); err == nil {
			return true
		}
	}
	return false
}

// unfinished returns the names of yum's lists of unfinished work in yumState, the newest last.
func (m manager) unfinished() []string {
	names, err := m.system.FS.ReadDir(yumState)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "transaction-all.") })
}

// finish completes yum's killed transactions or makes yum forget them. It does not complete one if
// a package is recorded twice (which cannot be completed), if the transaction is too old, if it
// would remove a protected package, or if a repository of the policy is not to be trusted.
func (m manager) finish(ctx context.Context, unfinished []string, twice bool) error {
	const program = "yum-complete-transaction"
	if !m.hasYumUtils(program) {
		return errors.New(program + " is not installed; install yum-utils")
	}
	if !twice && !slices.ContainsFunc(unfinished, m.unwanted) && len(m.untrusted()) == 0 {
		if _, err := m.unlocked(ctx, transaction(program, "-y")); err != nil {
			return err
		}
	}
	if len(m.unfinished()) == 0 {
		return nil
	}
	if _, err := m.unlocked(ctx, transaction(program, "-y", "--cleanup-only")); err != nil {
		return err
	}
	if left := m.unfinished(); len(left) > 0 {
		return fmt.Errorf("%s has left %s in %s", program, strings.Join(left, ", "), yumState)
	}
	return nil
}

// unwanted reports whether an unfinished transaction must not be completed.
func (m manager) unwanted(list string) bool {
	name := path.Join(yumState, list)
	info, err := m.system.FS.Stat(name)
	if err != nil || m.system.Clock.Now().Sub(info.ModTime).Abs() > completable {
		return true
	}
	content, err := m.system.FS.ReadFile(name)
	if err != nil {
		return true
	}
	comes, goes := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(content)) { // for example: install 0:soe-slow-2.0-1.noarch
		verb, nevra, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, nevra, _ = strings.Cut(nevra, ":")
		if verb == "erase" {
			goes[nameOf(nevra)] = true
		} else {
			comes[nameOf(nevra)] = true
		}
	}
	for name := range goes {
		if !comes[name] && protected.Package(name) != "" {
			return true
		}
	}
	return false
}
