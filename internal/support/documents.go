package support

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

type keys = aws.Credentials

// A document is one file of the bundle.
type document struct {
	name, about string
	most        int  // bytes of it that are kept
	end         bool // it is the end that is kept
	read        func(context.Context) ([]byte, error)
}

// How much is kept.
const (
	short  = 1 << 20
	long   = 4 << 20
	whole  = 16 << 20 // of what is one JSON document
	listed = 2000     // names in a listing

	commandTimeout = 20 * time.Second
)

// shorten cuts a text at the end of a line.
func (d document) shorten(text []byte) []byte {
	if len(text) <= d.most {
		return text
	}
	if d.end {
		text = text[len(text)-d.most:]
		return fmt.Appendf(nil, "… what was before is left out\n%s", text[bytes.IndexByte(text, '\n')+1:])
	}
	text = text[:d.most]
	return fmt.Appendf(nil, "%s… the rest is left out\n", text[:bytes.LastIndexByte(text, '\n')+1])
}

// A collector reads the documents.
type collector struct {
	Options
	policy    *policy.Policy
	refused   []string
	policyErr error
	keys      keys
	keysErr   error
}

// documents are all there are, in the order in which one looks at them.
func (c collector) documents() []document {
	return []document{
		{"status.json", "what the daemon was doing last, and what it waits for", short, false, c.file(c.RunDir + "/status.json")},
		{"report.json", "every resource and where it stands: begin with those that are not compliant", whole, false, c.report},
		{"machine.txt", "which machine it is, how long it has been up, who is logged in", short, false, c.machine},
		{"journal.txt", "what the agent has said in the last week", long, true, c.journal},
		{"history.jsonl", "what was changed, from what to what, and why; oldest first", long, true, c.history},
		{"unit.txt", "the agent's unit: how it runs, what drop-ins change of it", short, false, c.unit},
		{"policy.toml", "the policy in force, who set what, and what of it was refused", long, false, c.policyText},
		{"agent.toml", "the agent's configuration", short, false, c.file(c.ConfigFile)},
		{"credentials.txt", "whether there are AWS credentials, and until when; not what they are", short, false, c.credentials},
		{"packages.txt", "versions of the agent and of what it depends on; whether files of the agent were changed", short, false, c.packages},
		{"transaction.txt", "what the package manager said when it changed something last", short, true, c.transaction},
		{"disk.txt", "free space", short, false, c.running(c.commands([]string{"df", "-PTl"}, []string{"df", "-Pil"}))},
		{"clock.txt", "whether the clock is right; AWS refuses one that is five minutes off", short, false, c.running(c.commands(
			[]string{"timedatectl", "--no-pager"}, []string{"chronyc", "-n", "tracking"},
		))},
		{"os-release.txt", "the operating system", short, false, c.file("/etc/os-release")},
		{"files.txt", "names, owners, modes and sizes of the agent's files and of sudo's; not what is in them", short, false, c.listing},
	}
}

func (c collector) file(name string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return c.System.FS.ReadFile(name) }
}

// report is root's, or the one for everybody if there is no other.
func (c collector) report(context.Context) ([]byte, error) {
	whole, err := c.System.FS.ReadFile(c.StateDir + "/report.json")
	if err == nil {
		return whole, nil
	}
	return c.System.FS.ReadFile(c.RunDir + "/report.json")
}

// running leaves out what an image cannot tell.
func (c collector) running(read func(context.Context) ([]byte, error)) func(context.Context) ([]byte, error) {
	if c.System.Running() {
		return read
	}
	return func(context.Context) ([]byte, error) { return nil, system.ErrNotRunning }
}

// commands are commands with what they print. That one cannot be run keeps the others
// from nothing.
func (c collector) commands(all ...[]string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		var text bytes.Buffer
		var errs []error
		for _, argv := range all {
			out, err := c.System.Runner.Run(ctx, system.Command{Argv: argv, Env: []string{"TZ=UTC"}, Timeout: commandTimeout, ReadOnly: true})
			if err != nil {
				errs = append(errs, err)
				fmt.Fprintf(&text, "$ %s\n%s\n\n", strings.Join(argv, " "), err)
				continue
			}
			fmt.Fprintf(&text, "$ %s\n%s%s", strings.Join(argv, " "), out.Stdout, out.Stderr)
			if out.ExitCode != 0 {
				fmt.Fprintf(&text, "exit code %d\n", out.ExitCode)
			}
			text.WriteByte('\n')
		}
		if len(errs) < len(all) { // the text says of the rest what there is to say
			return text.Bytes(), nil
		}
		return nil, errors.Join(errs...)
	}
}

func (c collector) machine(ctx context.Context) ([]byte, error) {
	f, err := facts.Gather(ctx, c.System)
	var text bytes.Buffer
	for _, name := range facts.Names() {
		value, _ := f.Lookup(name)
		fmt.Fprintf(&text, "%-13s %s\n", name, value)
	}
	fmt.Fprintf(&text, "%-13s %s\n", "disk", f.Disk)
	if !c.System.Running() {
		return text.Bytes(), err
	}
	text.WriteByte('\n')
	more, commandsErr := c.commands(
		[]string{"uptime"}, []string{"uname", "-srm"}, []string{"loginctl", "--no-pager", "list-sessions"}, []string{"systemctl", "--no-pager", "--failed"},
		[]string{"systemctl", "--no-pager", "list-jobs"},
	)(ctx)
	return append(text.Bytes(), more...), errors.Join(err, commandsErr)
}

// enoughLines and fewestLines of the journal are asked for: what comes first is kept of
// what is too long, and the end is what matters.
const (
	enoughLines = 16000
	fewestLines = 250
	tooLong     = 4<<20 - 1
)

func (c collector) journal(ctx context.Context) ([]byte, error) {
	for lines := enoughLines; ; lines /= 4 {
		out, err := c.System.Runner.Run(ctx, system.Command{
			Argv:    []string{"journalctl", "--no-pager", "--quiet", "--utc", "--output=short-iso", "--since=-7d", fmt.Sprintf("--lines=%d", lines), "--unit=soe-agent.service"},
			Timeout: commandTimeout, ReadOnly: true,
		})
		switch {
		case err != nil:
			return nil, err
		case out.ExitCode != 0:
			return out.Stdout, fmt.Errorf("cannot read the journal: %s", out.LastLine())
		case len(out.Stdout) == 0:
			return nil, errors.New("the journal has nothing of the agent")
		case len(out.Stdout) < tooLong || lines < fewestLines:
			return out.Stdout, nil
		}
	}
}

// history is that of the agent, all of its files one after the other.
func (c collector) history(context.Context) ([]byte, error) {
	names, err := c.System.FS.ReadDir(c.HistoryDir)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	var errs []error
	for _, name := range names { // which are numbers
		if path.Ext(name) != ".jsonl" || strings.HasPrefix(name, ".") {
			continue
		}
		content, err := c.System.FS.ReadFile(path.Join(c.HistoryDir, name))
		errs = append(errs, err)
		text.Write(content)
	}
	return text.Bytes(), errors.Join(errs...)
}

func (c collector) unit(ctx context.Context) ([]byte, error) {
	const unit = "soe-agent.service"
	cat := []string{"systemctl", "--no-pager", "cat", unit}
	if !c.System.Running() {
		return c.commands([]string{"systemctl", "is-enabled", unit})(ctx)
	}
	return c.commands(
		[]string{"systemctl", "--no-pager", "--full", "--lines=20", "status", unit}, cat,
		[]string{
			"systemctl", "show", "-p", "ActiveState,SubState,Result,NRestarts,ExecMainStatus,ExecMainStartTimestamp,MemoryCurrent,CPUUsageNSec,TasksCurrent,UnitFileState,DropInPaths,NeedDaemonReload", unit,
		},
		[]string{"systemd-analyze", "--no-pager", "verify", unit},
		[]string{"systemctl", "--no-pager", "--all", "list-units", "soe-*"},
	)(ctx)
}

func (c collector) policyText(context.Context) ([]byte, error) {
	var text strings.Builder
	for _, problem := range c.refused {
		fmt.Fprintf(&text, "# refused: %s\n", strings.ReplaceAll(problem, "\n", "\n#   "))
	}
	if len(c.policy.Resources) == 0 {
		return []byte(text.String()), cmp.Or(c.policyErr, errors.New("it wants nothing"))
	}
	fmt.Fprintf(&text, "# serial %d, digest %s\n", c.policy.Serial, c.policy.Digest())
	for _, r := range c.policy.Resources {
		if r.Unusable != "" {
			fmt.Fprintf(&text, "# %s\n", r.Unusable)
			continue
		}
		for _, missing := range r.Missing {
			fmt.Fprintf(&text, "# not known when this was made: %s of %s %s\n", missing, r.ID, c.policy.Why[missing.String()])
		}
	}
	text.WriteString(c.policy.Text())
	return []byte(text.String()), c.policyErr
}

// Where amazon-ssm-agent notes that it is activated, and where credentials are as a
// rule (internal/credentials).
const (
	registration = "/var/lib/amazon/ssm/registration"
	identity     = "/var/lib/amazon/ssm/runtimeconfig/identity_config.json"
)

// credentials says whether there are any. Of those files that hold some it reads none.
func (c collector) credentials(context.Context) ([]byte, error) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "source: %s\n", cmp.Or(c.Credentials.Source, "not set: the environment, the profile of AWS_PROFILE, or ssm-agent"))
	switch {
	case c.keysErr != nil:
		fmt.Fprintf(&text, "state: %s\n", c.keysErr)
	case c.keys.CanExpire:
		fmt.Fprintf(&text, "state: there are some, which are used until %s at least\n", c.keys.Expires.UTC().Format(time.RFC3339))
	default:
		fmt.Fprintf(&text, "state: there are some, which do not expire\n")
	}
	var says struct {
		InstanceID             string `json:"InstanceId"`
		IdentityType           string
		ShareFile              string
		ShareProfile           string
		CredentialsExpiresAt   time.Time
		CredentialsRetrievedAt time.Time
		CredentialSource       string
	}
	content, err := c.System.FS.ReadFile(identity)
	if err == nil {
		err = json.Unmarshal(content, &says)
	}
	if err == nil {
		fmt.Fprintf(&text, "amazon-ssm-agent: %s (%s), credentials of %s from %s until %s, in %s [%s]\n", says.InstanceID, says.IdentityType, says.CredentialSource,
			says.CredentialsRetrievedAt.UTC().Format(time.RFC3339), says.CredentialsExpiresAt.UTC().Format(time.RFC3339), says.ShareFile, cmp.Or(says.ShareProfile, "default"))
	} else {
		fmt.Fprintf(&text, "amazon-ssm-agent: %s\n", err)
	}
	text.WriteByte('\n')
	for _, name := range []string{registration, identity, cmp.Or(says.ShareFile, "/root/.aws/credentials"), "/root/.aws/config", c.Credentials.File} {
		if name != "" {
			c.list(&text, name)
		}
	}
	return text.Bytes(), nil
}

func (c collector) packages(ctx context.Context) ([]byte, error) {
	names := []string{
		"soe-agent", "systemd", "dbus", "sudo", "polkit", "dconf", "glib2", "rpm", "yum", "dnf", "shadow-utils", "cloud-init", "amazon-ssm-agent",
		"pcoip-agent-standard", "pcoip-agent-graphics", "nice-dcv-server", "mate-desktop", "sssd", "samba-winbind",
	}
	return c.commands(append([]string{"rpm", "-q"}, names...), []string{"rpm", "-V", "soe-agent"}, []string{"/usr/bin/soe-agent", "version"})(ctx)
}

// transaction is what the last package transactions have printed (system.ScopeOutput).
func (c collector) transaction(context.Context) ([]byte, error) {
	names, err := c.System.FS.ReadDir(c.RunDir)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, name := range names {
		file := path.Join(c.RunDir, name)
		if path.Ext(name) != ".out" && path.Ext(name) != ".err" {
			continue
		}
		content, err := c.System.FS.ReadFile(file)
		fmt.Fprintf(&text, "$ cat %s\n%s\n", file, content)
		if err != nil {
			fmt.Fprintf(&text, "%s\n", err)
		}
	}
	if text.Len() == 0 {
		return nil, errors.New("since the boot no package was changed")
	}
	return text.Bytes(), nil
}

func (c collector) listing(context.Context) ([]byte, error) {
	var text bytes.Buffer
	room := listed
	for _, dir := range []string{path.Dir(c.ConfigFile), c.SeedDir, c.StateDir, c.RunDir, "/etc/sudoers", "/etc/sudoers.d"} {
		room = c.walk(&text, dir, room)
	}
	if room == 0 {
		fmt.Fprintf(&text, "… the rest is left out\n")
	}
	return text.Bytes(), nil
}

// walk lists what is at a name and below it, and returns how many more may be.
func (c collector) walk(text *bytes.Buffer, name string, room int) int {
	if room == 0 {
		return 0
	}
	if room--; !c.list(text, name) {
		return room
	}
	names, err := c.System.FS.ReadDir(name)
	if err != nil {
		fmt.Fprintf(text, "%s\n", err)
	}
	for _, entry := range names {
		room = c.walk(text, path.Join(name, entry), room)
	}
	return room
}

// list says what is at a name. dir is true when it is a directory.
func (c collector) list(text *bytes.Buffer, name string) (dir bool) {
	info, err := c.System.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(text, "%-10s %q\n", "not there", name)
		return false
	}
	if err != nil {
		fmt.Fprintf(text, "%s\n", err)
		return false
	}
	link := ""
	if info.Type == fs.ModeSymlink {
		target, _ := c.System.FS.Readlink(name)
		link = fmt.Sprintf(" → %q", target)
	}
	fmt.Fprintf(text, "%s %04o %d:%d %10d %s %q%s\n", info.Type.String()[:1], uint32(info.Mode), info.UID, info.GID, info.Size,
		info.ModTime.UTC().Format(time.RFC3339), name, link)
	return info.IsDir()
}
