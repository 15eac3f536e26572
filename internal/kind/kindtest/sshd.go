package kindtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sshdtext"
	"github.com/soe-agent/soe-agent/internal/system"
)

const sshdConfig = "/etc/ssh/sshd_config"

// SSHD is a fake of sshd and its unit, of chronyd, and of id and getent. As the real sshd, it uses
// the first value of a key, and the Match blocks of a user.
type SSHD struct {
	system.Units
	Root   string
	Groups map[string]string // groups of an account, separated by blanks
	// Included is what chronyd reads besides its own file.
	Included string
	// Mute is the message with which sshd fails instead of printing its configuration, and Gone is
	// why it cannot be run.
	Mute  string
	Gone  error
	Lacks bool     // it was never started: it has no host key and no directory in /run
	Runs  []string // active units
	Dead  []string // failed units
	Calls []string // the calls that it received
	Gate  system.Gate
}

// Run implements system.Runner.
func (s *SSHD) Run(_ context.Context, c system.Command) (system.Output, error) {
	switch c.Argv[0] {
	case "getent":
		return system.Output{ExitCode: 2}, nil
	case "id":
		groups := strings.Fields(s.Groups[c.Argv[len(c.Argv)-1]])
		return system.Output{Stdout: []byte(strings.Join(append(groups, "users"), "\x00") + "\x00")}, nil
	case "chronyd": // prints the lines that it reads
		content, staged := c.Staged[c.Argv[len(c.Argv)-1]]
		if !staged {
			content, _ = os.ReadFile(filepath.Join(s.Root, c.Argv[len(c.Argv)-1]))
		}
		if strings.Contains(string(content), "nonsense") {
			return system.Output{ExitCode: 1, Stderr: []byte("Fatal error : Invalid directive nonsense\n")}, nil
		}
		return system.Output{Stdout: append(content, s.Included...)}, nil
	case "sshd":
		if s.Mute != "" {
			return system.Output{ExitCode: 255, Stderr: []byte(s.Mute + "\n")}, nil
		}
		if s.Gone != nil {
			return system.Output{}, s.Gone
		}
		if why := s.lacks(c); why != "" {
			return system.Output{ExitCode: 1, Stderr: []byte(why + "\n")}, nil
		}
		return s.sshd(c), nil
	}
	return system.Output{}, system.ErrNotInstalled
}

// lacks returns what is missing of what the first start creates, one at a time, as sshd does.
func (s *SSHD) lacks(c system.Command) string {
	_, directory := c.Staged["/run/sshd/.soe"]
	switch {
	case !s.Lacks:
	case !slices.Contains(c.Argv, "HostKey=/dev/stdin") || !strings.Contains(string(c.Stdin), "PRIVATE KEY"):
		return "sshd: no hostkeys available -- exiting."
	case !directory:
		return "Missing privilege separation directory: /run/sshd"
	}
	return ""
}

func (s *SSHD) sshd(c system.Command) system.Output {
	user, options, main := "", "", sshdConfig
	for i, word := range c.Argv {
		switch word {
		case "-C":
			user, _, _ = strings.Cut(strings.TrimPrefix(c.Argv[i+1], "user="), ",")
		case "-o":
			options += c.Argv[i+1] + "\n"
		case "-f":
			main = c.Argv[i+1]
		}
	}
	content, staged := c.Staged[main]
	if !staged {
		content, _ = os.ReadFile(filepath.Join(s.Root, main))
	}
	said := map[string][]string{}
	if err := s.read(said, options+string(content), user, c.Staged); err != "" {
		return system.Output{ExitCode: 255, Stderr: []byte(sshdConfig + ": " + err + "\nterminating\n")}
	}
	for key, value := range map[string]string{
		"authenticationmethods": "any", "authorizedkeyscommand": "none", "authorizedkeysfile": ".ssh/authorized_keys", "ciphers": "aes128-ctr", "gssapiauthentication": "no",
		"hostbasedauthentication": "no", "kbdinteractiveauthentication": "no", "kexalgorithms": "curve25519-sha256", "macs": "hmac-sha2-256", "maxauthtries": "6",
		"passwordauthentication": "yes", "permitrootlogin": "without-password", "pubkeyauthentication": "yes", "strictmodes": "yes", "trustedusercakeys": "none",
		"usepam": "no", "x11forwarding": "no",
	} {
		if said[key] == nil {
			said[key] = []string{value}
		}
	}
	var out strings.Builder
	for key, values := range said {
		for _, value := range values {
			fmt.Fprintf(&out, "%s %s\n", key, value)
		}
	}
	return system.Output{Stdout: []byte(out.String())}
}

// read reads the settings of a file and returns what is wrong with it, or "".
func (s *SSHD) read(said map[string][]string, content, user string, staged system.Staged) string {
	holds, matched := true, map[string]bool{}
	for line := range strings.Lines(content) {
		key, rest := sshdtext.Line(line)
		words := sshdtext.Words(rest)
		value := strings.Join(words, " ")
		if key == "" {
			continue
		}
		switch {
		case key == "match":
			holds = value == "all" || value == "User "+user
			matched = map[string]bool{"": user != ""} // without somebody the first value stays
		case !holds:
		case key == "include":
			for _, part := range s.parts(value, staged) {
				if wrong := s.read(said, part, user, staged); wrong != "" {
					return wrong
				}
			}
		case key == "nonsense" || value == "":
			return "Bad configuration option: " + key
		case slices.Contains([]string{"allowusers", "denyusers", "allowgroups", "denygroups"}, key):
			said[key] = append(said[key], words...)
		case matched[""] && !matched[key]:
			said[key], matched[key] = []string{value}, true
		case said[key] == nil:
			if value == "prohibit-password" {
				value = "without-password"
			}
			said[key] = []string{value}
		}
	}
	return ""
}

// parts returns the contents of the files that match a pattern, in order.
func (s *SSHD) parts(pattern string, staged system.Staged) (contents []string) {
	names, _ := filepath.Glob(filepath.Join(s.Root, pattern))
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], s.Root)
	}
	for name := range staged {
		if matches, _ := filepath.Match(pattern, name); matches && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		content, is := staged[name]
		if !is {
			content, _ = os.ReadFile(filepath.Join(s.Root, name))
		}
		contents = append(contents, string(content))
	}
	return contents
}

// Unit implements system.UnitStates.
func (s *SSHD) Unit(_ context.Context, name string) (system.Unit, error) {
	if slices.Contains(s.Runs, name) {
		return system.Unit{ActiveState: "active"}, nil
	}
	if slices.Contains(s.Dead, name) {
		return system.Unit{ActiveState: "failed"}, nil
	}
	return system.Unit{ActiveState: "inactive"}, nil
}

// ReloadUnit implements system.UnitJobs.
func (s *SSHD) ReloadUnit(_ context.Context, name string) error {
	if s.Gate != nil {
		if err := s.Gate(system.Change{Op: "reload", Target: name}); err != nil {
			return err
		}
	}
	s.Calls = append(s.Calls, "reload "+name)
	return nil
}

// Restart implements system.UnitJobs.
func (s *SSHD) Restart(_ context.Context, name string) error {
	s.Calls = append(s.Calls, "restart "+name)
	return nil
}

// Active implements system.UnitStates.
func (s *SSHD) Active(context.Context) ([]string, error) { return s.Runs, nil }
