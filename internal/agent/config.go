package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/document"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/persona"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Paths and defaults.
const (
	ConfigFile  = "/etc/soe-agent/agent.toml"
	SeedDir     = "/usr/share/soe-agent/policy.d"
	LocalDir    = "/etc/soe-agent/policy.d"
	StateDir    = own.StateDir
	HistoryDir  = StateDir + "/history"
	RunDir      = own.RunDir
	ReportFile  = RunDir + "/report.json"   // for everybody
	WholeReport = StateDir + "/report.json" // for root
	StatusFile  = RunDir + "/status.json"
	markFile    = RunDir + "/watched" // see watch.Watcher.MarkWith
	defaultPoll = 15 * time.Minute
	defaultScan = 30 * time.Minute
	defaultLock = 2 * time.Minute
	shortest    = time.Second
)

// Config is the agent's own configuration, agent.toml. The zero Config with Default's personas enforces the
// seed policy.
type Config struct {
	Personas []string       `toml:"personas"`
	Rules    []persona.Rule `toml:"persona"` // each may add a persona
	// PersonaRules says which of the rules that hold add their personas: firstRule (also "") or everyRule.
	PersonaRules string        `toml:"persona_rules"`
	AWS          source.Config `toml:"aws"`
	Schedule     Schedule      `toml:"schedule"`
	Report       Reporting     `toml:"report"`

	unsure bool // the file cannot be used, so the real configuration may differ
	hidden bool // not everybody may read the file
}

// The values of Config.PersonaRules.
const (
	firstRule = "first"
	everyRule = "all"
)

// Schedule says when the agent does something, and how long it waits.
type Schedule struct {
	Poll        duration        `toml:"poll"`         // how often it looks for a newer policy
	Verify      duration        `toml:"verify"`       // how often it checks everything on the machine
	Window      schedule.Window `toml:"window"`       // when it may install updates
	LockTimeout duration        `toml:"lock_timeout"` // how long it waits for another package manager
}

// Reporting says where reports go besides the machine itself.
type Reporting struct {
	SSM bool `toml:"ssm"` // to SSM Compliance and Inventory
}

// duration is written as "15m".
type duration struct{ time.Duration }

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as \"15m\"", text)
	}
	if parsed < shortest {
		return fmt.Errorf("%q is shorter than %s", text, shortest)
	}
	d.Duration = parsed
	return nil
}

// Default is the configuration of a machine that has no agent.toml.
func Default() Config {
	return Config{
		Personas: []string{"base"},
		Schedule: Schedule{Poll: duration{defaultPoll}, Verify: duration{defaultScan}, LockTimeout: duration{defaultLock}},
		Report:   Reporting{SSM: true},
	}
}

// TrustedConfig is ReadConfig for a caller that changes a machine by it. A file that others than root could
// have written is refused: the error wraps system.ErrUnsafe.
func TrustedConfig(files system.FileReader, name string) (Config, error) {
	_, _, err := system.Trusted(files, path.Clean("/"+name), os.Geteuid())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Default(), fmt.Errorf("%s: cannot use the configuration: %w", name, err)
	}
	c, err := ReadConfig(files, name)
	_, missing := files.Stat(name)
	c.hidden = !errors.Is(missing, fs.ErrNotExist) && !system.MayBeReadByAll(files, name)
	return c, err
}

// ReadConfig reads the configuration. If name is ConfigFile and does not exist, it returns the default.
func ReadConfig(files system.FileReader, name string) (Config, error) {
	c := Default()
	content, err := files.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && name == ConfigFile {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	unknown, err := document.Decode(string(content), &c)
	if err != nil {
		var e *document.Error
		if errors.As(err, &e) && e.Line > 0 {
			return c, fmt.Errorf("%s:%d: cannot read the configuration: %w", name, e.Line, err)
		}
		return c, fmt.Errorf("%s: cannot read the configuration: %w", name, err)
	}
	var errs []error
	for _, key := range unknown {
		errs = append(errs, fmt.Errorf("%s: cannot use %s: no such setting is known; see soe-agent.toml(5)", name, key))
	}
	if len(c.Personas) == 0 {
		errs = append(errs, fmt.Errorf("%s: cannot use personas: it is empty; leave it out for [\"base\"]", name))
	}
	if !slices.Contains([]string{"", firstRule, everyRule}, c.PersonaRules) {
		errs = append(errs, fmt.Errorf("%s: cannot use persona_rules = %q: it is %q (the first rule that holds gives its persona), or %q (each does)", name, c.PersonaRules, firstRule, everyRule))
	}
	errs = append(errs, inFile(name, persona.Validate(c.Rules)), inFile(name, c.AWS.Credentials.Validate()), inFile(name, c.AWS.ValidateEndpoints()))
	return c, errors.Join(errs...)
}

// inFile puts the name of the file in front of each line of an error.
func inFile(name string, err error) error {
	if err == nil {
		return nil
	}
	var errs []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		errs = append(errs, fmt.Errorf("%s: %s", name, line))
	}
	return errors.Join(errs...)
}
