package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

const lookTimeout = time.Minute

// transaction looks for unfinished work of a package manager.
func transaction(ctx context.Context, o Options) ([]Finding, error) {
	var found []Finding
	add := func(what, do string) {
		found = append(found, Finding{What: what, Why: "every desktop would begin with it, and install nothing", Do: do})
	}
	files := o.System.FS
	names, _ := files.ReadDir("/var/lib/yum") // only yum has it
	for _, name := range names {
		if strings.HasPrefix(name, "transaction-all.") {
			add("yum has not finished a transaction: /var/lib/yum/"+name, "yum-complete-transaction --cleanup-only; package-cleanup --cleandupes")
			break
		}
	}
	if half, _ := files.ReadDir("/var/lib/dpkg/updates"); len(half) > 0 {
		add("dpkg has not finished a transaction", "dpkg --configure -a")
	}
	manager, err := atWork(files)
	if manager != "" {
		add(manager+" is at work", "wait until it has ended")
	}
	databaseErr := database(ctx, o.System, add)
	return found, errors.Join(err, databaseErr)
}

// atWork returns the name of a running package manager, or "".
func atWork(files system.FileReader) (string, error) {
	names, err := files.ReadDir("/proc")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // an image
	}
	for _, pid := range names {
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		content, err := files.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			continue // it has ended
		}
		switch name := strings.TrimSpace(string(content)); name {
		case "rpm", "yum", "dnf", "dnf-3", "dpkg", "apt-get", "packagekitd":
			return fmt.Sprintf("%s (process %s)", name, pid), nil
		}
	}
	return "", err
}

// database checks the package database.
func database(ctx context.Context, s *system.System, add func(what, do string)) error {
	if hasRPM(s.FS) {
		out, err := s.Runner.Run(ctx, system.Command{Argv: []string{"rpm", "-qa", "--qf", `%{name}\t%{arch}\n`}, Timeout: lookTimeout, ReadOnly: true})
		switch {
		case err != nil:
			return fmt.Errorf("cannot ask the rpm database: %w", err)
		case out.ExitCode != 0:
			add("the rpm database cannot be read: "+out.LastLine(), "rpm --rebuilddb")
		default:
			if twice := twice(out.Stdout); twice != "" {
				add(twice+" is recorded in two versions", "package-cleanup --cleandupes, or dnf remove --duplicates")
			}
		}
	}
	if _, err := s.FS.Stat("/var/lib/dpkg/status"); err == nil {
		out, err := s.Runner.Run(ctx, system.Command{Argv: []string{"dpkg", "--audit"}, Timeout: lookTimeout, ReadOnly: true})
		switch {
		case err != nil:
			return fmt.Errorf("cannot ask dpkg: %w", err)
		case len(out.Stdout) > 0:
			first, _, _ := strings.Cut(string(out.Stdout), "\n")
			add("dpkg --audit says: "+first, "dpkg --configure -a")
		}
	}
	return nil
}

func hasRPM(files system.FileReader) bool {
	for _, name := range []string{"/var/lib/rpm/Packages", "/var/lib/rpm/Packages.db", "/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite"} {
		if _, err := files.Stat(name); err == nil {
			return true
		}
	}
	return false
}

// twice returns a package that is recorded in two versions, or "". Kernels and keys may be.
func twice(listing []byte) string {
	seen := map[string]bool{}
	for line := range bytes.Lines(listing) {
		name := strings.TrimSpace(string(line))
		if strings.HasPrefix(name, "kernel") || strings.HasPrefix(name, "gpg-pubkey") {
			continue
		}
		if seen[name] {
			return strings.ReplaceAll(name, "\t", ".")
		}
		seen[name] = true
	}
	return ""
}

// A component is a unit without which no desktop of the image starts.
type component struct {
	what  string
	units []string // alternatives, one of which must be enabled
	runs  bool     // and must be running
}

// componentsOf returns the machine's components: with PCoIP on Amazon Linux 2, with DCV on its
// successors.
func componentsOf(o Options, f facts.Facts) []component {
	streaming := component{"the DCV agent", []string{"dcvserver.service"}, true}
	also := []component{{"the host adapter of DCV", []string{"wspdcvhostadapter.service"}, false}}
	dcv := unitFile(o.System.FS, "dcvserver.service") != ""
	if pcoip := exists(o.System.FS, "/etc/pcoip-agent") || f.OSID == "amzn"; pcoip && !dcv {
		streaming, also = component{"the PCoIP agent", []string{"pcoip.service", "pcoip-agent.service"}, true}, nil
	}
	return append([]component{
		{"cloud-init", []string{"cloud-init.service", "cloud-init-main.service", "cloud-init-network.service"}, false},
		streaming,
		{"the WorkSpaces agent", []string{"skylight-agent.service"}, true},
	}, also...)
}

func components(ctx context.Context, o Options) ([]Finding, error) {
	f, _ := facts.Gather(ctx, o.System) // an image should not have a machine-id
	files := o.System.FS
	var found []Finding
	var errs []error
	for _, c := range componentsOf(o, f) {
		add := func(format string, args ...any) {
			found = append(found, Finding{
				What: c.what + " " + fmt.Sprintf(format, args...), Why: "without it no desktop of the image comes up, and the capture is refused",
				Do: "install it, or begin with an image that AWS provides: systemctl enable --now " + c.units[0],
			})
		}
		var there, enabled, active bool
		for _, unit := range c.units {
			file := unitFile(files, unit)
			there = there || file != ""
			enabled = enabled || file != "" && isEnabled(files, unit)
			if file == "" || !c.runs || !o.System.Running() {
				continue
			}
			u, err := o.System.Units.Unit(ctx, unit)
			if errors.Is(err, system.ErrNotRunning) {
				err, active = nil, true // there is no systemd to ask
			}
			errs = append(errs, err)
			active = active || err == nil && u.ActiveState == "active"
		}
		switch {
		case !there:
			add("is not there (%s)", strings.Join(c.units, ", "))
		case !enabled:
			add("is not enabled (%s)", strings.Join(c.units, ", "))
		case c.runs && o.System.Running() && !active:
			add("does not run (%s)", strings.Join(c.units, ", "))
		}
	}
	if exists(files, "/etc/cloud/cloud-init.disabled") {
		found = append(found, Finding{
			What: "cloud-init is disabled by /etc/cloud/cloud-init.disabled", Why: "without it no desktop of the image comes up", Do: "rm /etc/cloud/cloud-init.disabled",
		})
	}
	return found, errors.Join(errs...)
}

func enabledAgent(_ context.Context, o Options) ([]Finding, error) {
	const unit = "soe-agent.service"
	files := o.System.FS
	what, do := "", ""
	switch {
	case unitFile(files, unit) == "":
		what, do = "soe-agent is not installed as a service", "install its package"
	case !isEnabled(files, unit):
		what, do = "soe-agent.service is not enabled", "systemctl enable soe-agent"
	default:
		return nil, nil
	}
	return []Finding{{What: what, Why: "no desktop of the image would be configured", Do: do}}, nil
}

func exists(files system.FileReader, name string) bool {
	_, err := files.Stat(name)
	return err == nil
}

func unitDirs() []string {
	return []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// unitFile returns the file of a unit, or of its alias. It returns "" if there is none, or it is
// masked.
func unitFile(files system.FileReader, unit string) string {
	for _, dir := range unitDirs() {
		name := path.Join(dir, unit)
		info, err := files.Stat(name)
		if err != nil {
			continue
		}
		if info.Type == fs.ModeSymlink {
			if target, err := files.Readlink(name); err != nil || target == "/dev/null" {
				return ""
			}
		}
		return name
	}
	return ""
}

// isEnabled reports whether anything that is started wants the unit. The links decide that
// (systemctl(1), enable), and an image has those too.
func isEnabled(files system.FileReader, unit string) bool {
	for _, dir := range unitDirs() {
		names, err := files.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, name := range names {
			if (strings.HasSuffix(name, ".wants") || strings.HasSuffix(name, ".requires")) && exists(files, path.Join(dir, name, unit)) {
				return true
			}
		}
	}
	// Ubuntu has a generator that wants cloud-init.target, which wants the rest.
	return strings.HasPrefix(unit, "cloud-init") && exists(files, "/usr/lib/systemd/system-generators/cloud-init-generator")
}
