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

// manager runs yum or dnf.
type manager struct {
	system       *system.System
	secrets      []string      // passwords in URLs of repositories, which it may print
	patience     time.Duration // how long a transaction waits for another package manager
	down         map[string]outage
	repositories []policy.Want[policy.Repository]
	needed       []string                    // repositories with skip_if_unavailable = false: without one of them nothing is done
	may          func(context.Context) error // called right before a transaction starts; an error keeps it from starting; may be nil
}

// ifStill returns a manager that calls may right before a transaction starts, because somebody may
// have logged in while another package manager was waited for.
func (m manager) ifStill(may func(context.Context) error) manager {
	m.may = may
	return m
}

// errPostponed is wrapped by the error of a transaction that did not start because somebody has
// logged in.
var errPostponed = errors.New("somebody has logged in meanwhile")

func newManager(p *policy.Policy, s *system.System, patience time.Duration) manager {
	m := manager{system: s, patience: patience, down: map[string]outage{}, repositories: policy.Of[policy.Repository](p)}
	for _, want := range m.repositories {
		m.secrets = append(m.secrets, want.Secrets...)
		if skip := want.Spec.SkipIfUnavailable; skip != nil && !*skip {
			m.needed = append(m.needed, want.ID.Name())
		}
	}
	return m
}

var userInfo = regexp.MustCompile(`://[^/@\s]*@`)

// run runs a command and removes the passwords in URLs from its output.
func (m manager) run(ctx context.Context, c system.Command) (system.Output, error) {
	out, err := m.system.Runner.Run(ctx, c)
	out.Stdout, out.Stderr = m.redact(out.Stdout), m.redact(out.Stderr)
	return out, err
}

// redact removes the passwords from a text.
func (m manager) redact(text []byte) []byte {
	for _, secret := range m.secrets {
		text = bytes.ReplaceAll(text, []byte(secret), []byte(public.Secret))
	}
	return userInfo.ReplaceAll(text, []byte("://"+public.Secret+"@"))
}

// transaction is a command that changes what is installed. PYTHONUNBUFFERED makes Python print each
// line at once, so that the progress can be followed.
func transaction(argv ...string) system.Command {
	return system.Command{Argv: argv, Env: []string{"PYTHONUNBUFFERED=1"}, Timeout: transactionTimeout, Scope: scope}
}

// program returns "yum" or "dnf". If that cannot be told it is dnf: a dnf that is not installed
// does nothing, whereas yum may be another name for dnf.
func (m manager) program() string {
	if _, err := m.system.FS.Stat("/usr/bin/dnf"); errors.Is(err, fs.ErrNotExist) {
		return "yum"
	}
	return "dnf"
}

// transact runs one transaction in the package manager's shell, with a line for each package and
// options of the package manager. The output does not tell the result; the caller must query rpm.
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

// update installs all updates that the options do not exclude. The output does not tell the result;
// the caller must query the repositories.
func (m manager) update(ctx context.Context, guarded []string, options ...string) (system.Output, error) {
	return m.change(ctx, guarded, append(options, "update")...)
}

// change runs a command of the package manager that changes what is installed. The package manager
// refuses a transaction that would remove a guarded package before it changes anything. Plugins
// stay enabled: AWS has one that stops updates while a WorkSpace must not be changed.
func (m manager) change(ctx context.Context, guarded []string, args ...string) (system.Output, error) {
	out, err := m.unkilled(ctx, func(without []string) (system.Output, error) {
		// Keep dependencies that nothing needs any longer: nobody has checked whether the desktop
		// needs them.
		argv := []string{m.program(), "-y", "--setopt=exit_on_lock=True", "--setopt=clean_requirements_on_remove=False"}
		if len(guarded) > 0 { // the option replaces the configured value, whose default is these files
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
