package packages

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	scope      = "soe-agent-packages"
	scriptFile = own.RunDir + "/packages.script"

	transactionTimeout = time.Hour
)

// manager is yum or dnf.
type manager struct {
	system   *system.System
	secrets  []string      // that it may print, as part of a repository's URL
	patience time.Duration // how long a transaction waits for another package manager
	down     map[string]outage
	needed   []string                    // repositories without which the policy wants nothing to be done
	may      func(context.Context) error // asked before a transaction starts; nil: it may
}

// ifStill makes the manager ask whether a transaction may still start, right before
// it does: who was not logged in may be after the wait for another package manager.
func (m manager) ifStill(may func(context.Context) error) manager {
	m.may = may
	return m
}

// errPostponed is wrapped by the error of a transaction that did not start since
// somebody has logged in.
var errPostponed = errors.New("somebody has logged in meanwhile")

func newManager(p *policy.Policy, s *system.System, patience time.Duration) manager {
	m := manager{system: s, patience: patience, down: map[string]outage{}}
	for _, want := range policy.Of[policy.Repository](p) {
		m.secrets = append(m.secrets, want.Secrets...)
		if skip := want.Spec.SkipIfUnavailable; skip != nil && !*skip {
			m.needed = append(m.needed, want.ID.Name())
		}
	}
	return m
}

var userInfo = regexp.MustCompile(`://[^/@\s]*@`)

// run runs a command, and takes out of what it says the passwords in URLs.
func (m manager) run(ctx context.Context, c system.Command) (system.Output, error) {
	out, err := m.system.Runner.Run(ctx, c)
	out.Stdout, out.Stderr = m.redact(out.Stdout), m.redact(out.Stderr)
	return out, err
}

// redact takes the passwords out of a text.
func (m manager) redact(text []byte) []byte {
	for _, secret := range m.secrets {
		text = bytes.ReplaceAll(text, []byte(secret), []byte(public.Secret))
	}
	return userInfo.ReplaceAll(text, []byte("://"+public.Secret+"@"))
}

// transaction is a command that changes what is installed. Python is to pass on
// each line that it prints at once, so that the progress can be followed.
func transaction(argv ...string) system.Command {
	return system.Command{Argv: argv, Env: []string{"PYTHONUNBUFFERED=1"}, Timeout: transactionTimeout, Scope: scope}
}

// program is the package manager that is there. Where that cannot be told it is dnf:
// what does not exist cannot be run, while yum may be another name of dnf.
func (m manager) program() string {
	if _, err := m.system.FS.Stat("/usr/bin/dnf"); errors.Is(err, fs.ErrNotExist) {
		return "yum"
	}
	return "dnf"
}

// transact carries out one transaction of the package manager's shell: a line for
// each package, with options of the package manager. What came of it the caller must ask rpm.
func (m manager) transact(ctx context.Context, lines, guarded []string, options ...string) (system.Output, error) {
	script := strings.Join(lines, "\n") + "\nrun\n"
	if err := m.system.FS.WriteFile(scriptFile, []byte(script), system.Attr{Mode: 0o600}); err != nil {
		return system.Output{}, err
	}
	out, err := m.change(ctx, guarded, append(options, "shell", scriptFile)...)
	if err == nil {
		err = m.system.FS.Remove(scriptFile)
	}
	return out, err
}

// update installs all updates that the options leave. What came of it the caller
// must ask the repositories.
func (m manager) update(ctx context.Context, guarded []string, options ...string) (system.Output, error) {
	return m.change(ctx, guarded, append(options, "update")...)
}

// change runs a command of the package manager that changes what is installed. One
// that would take a guarded package along is refused by the package manager before
// anything happens. Plugins stay on: AWS has one that stops updates while a WorkSpace
// must not be changed.
func (m manager) change(ctx context.Context, guarded []string, args ...string) (system.Output, error) {
	out, err := m.unkilled(ctx, func(without []string) (system.Output, error) {
		// Packages that nothing needs any longer stay: nobody has looked whether the
		// desktop does.
		argv := []string{m.program(), "-y", "--setopt=exit_on_lock=True", "--setopt=clean_requirements_on_remove=False"}
		if len(guarded) > 0 { // the option takes the place of what is configured, which by default are these files
			argv = append(argv, "--setopt=protected_packages="+strings.Join(append(guarded, "glob:/etc/yum/protected.d/*.conf", "glob:/etc/dnf/protected.d/*.conf"), ","))
		}
		return m.unlocked(ctx, transaction(slices.Concat(argv, without, args)...))
	})
	for line := range strings.Lines(string(out.Stderr) + "\n" + string(out.Stdout)) {
		if strings.Contains(line, "scriptlet failed") || strings.Contains(line, "scriptlet failure") {
			m.system.Log.Warn("a package's own script failed", "kind", "package", "said", strings.TrimSpace(line))
		}
	}
	return out, err
}
