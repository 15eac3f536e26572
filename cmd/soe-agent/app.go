package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

// version is the release, set by the linker.
var version = "development"

// app is one run of the command line.
type app struct {
	stdout, stderr io.Writer

	configFile string
	rootDir    string
	json       bool
	noColor    bool
	verbose    bool
	level      slog.LevelVar // of what is logged
	log        *system.Log   // nil until it is known what is to be done
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "soe-agent",
		Short: "Makes a desktop the standard operating environment of its persona, and keeps it so",
		Long: `soe-agent makes of a thin-image Linux desktop the standard operating environment
of its persona: packages, drop-ins, PCoIP settings, MATE settings and locks, users
and groups, sudo. It keeps it so while people work, and reports compliance,
resource by resource.

Look first:   soe-agent plan
Do it once:   soe-agent apply
Keep it so:   systemctl enable --now soe-agent
`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if a.verbose {
				a.level.Set(slog.LevelDebug)
			}
			a.log = system.LogTo(a.stderr, &a.level, c.Name() == daemonCommand)
			slog.SetDefault(slog.New(a.log))
			if a.rootDir == "" {
				return nil
			}
			absolute, err := filepath.Abs(a.rootDir)
			if err != nil {
				return fmt.Errorf("cannot use --root %s: %w", a.rootDir, err)
			}
			a.rootDir = absolute
			return nil
		},
	}
	flags := c.PersistentFlags()
	flags.StringVar(&a.configFile, "config", agent.ConfigFile, "the agent's configuration `FILE`")
	flags.StringVar(&a.rootDir, "root", "", "work on the system below `DIR`, which is not running")
	flags.BoolVar(&a.json, "json", false, "print one JSON document")
	flags.BoolVar(&a.noColor, "no-color", false, "print without colours (also with NO_COLOR set)")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "say more")
	c.AddCommand(
		a.planCommand(), a.applyCommand(), a.statusCommand(), a.reportCommand(), a.explainCommand(), a.historyCommand(), a.factsCommand(),
		a.policyCommand(), a.imageCommand(), a.supportBundleCommand(), a.runCommand(), a.purgeCommand(), a.versionCommand(),
	)
	return c
}

// needsRoot refuses to begin what an ordinary user could not finish, nor even see:
// sudoers files, for one, are root's alone.
func (a *app) needsRoot() error {
	if a.rootDir == "" && os.Geteuid() != 0 {
		return errors.New("cannot look at this machine: it takes root; try again with sudo")
	}
	return nil
}

// style is how reports are written here: coloured only for a person who looks on.
func (a *app) style() report.Style {
	return report.Style{Color: a.colored(), Verbose: a.verbose}
}

func (a *app) colored() bool {
	if _, set := os.LookupEnv("NO_COLOR"); set || a.noColor || os.Getenv("TERM") == "dumb" {
		return false
	}
	return a.onTerminal()
}

// onTerminal says whether a person looks on.
func (a *app) onTerminal() bool {
	file, ok := a.stdout.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// printJSON prints one document.
func (a *app) printJSON(document any) error {
	if err := encodeJSON(a.stdout, document); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

func encodeJSON(w io.Writer, document any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(document)
}

// printf prints for people. What it is about may quote strangers, who must not speak to
// the terminal.
func (a *app) printf(format string, args ...any) {
	fmt.Fprint(a.stdout, report.Clean(fmt.Sprintf(format, args...)))
}

// readConfig reads the configuration of the machine below --root.
func (a *app) readConfig(s *system.System) (agent.Config, error) {
	return agent.ReadConfig(s.FS, a.configFile)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{"version": version})
			}
			a.printf("soe-agent %s\n", version)
			return nil
		},
	}
}
