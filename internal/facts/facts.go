package facts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/target"
)

// Facts are what is known about a machine. A fact that cannot be determined is empty.
type Facts struct {
	Hostname    string
	MachineID   string   // machine-id(5)
	Disk        string   // serial number of the disk with the root file system
	BootID      string   // differs in each boot
	OSID        string   // os-release(5): ID, such as "amzn"
	OSVersion   string   // VERSION_ID
	OSName      string   // PRETTY_NAME
	OSLike      []string // ID_LIKE
	OSCodename  string   // VERSION_CODENAME; target.None if there is none
	ManagedNode string   // Systems Manager's id of the machine: "mi-…"
	Region      string   // the region in which it is a managed node
	Locale      string   // LANG of locale.conf(5), the default for everybody

	// Kind says what kind of machine this is: its family, package manager, desktop and so on, by the names
	// of package target. They hold for one boot.
	Kind map[string]Fact

	// Unidentified is set on a running machine whose id cannot be determined.
	Unidentified bool
}

// Lookup returns the fact that a policy calls name in {{fact:NAME}}, and whether there is such a
// fact.
func (f Facts) Lookup(name string) (string, bool) {
	fact, known := f.named()[name]
	return fact.Value, known
}

// Names returns the names that Lookup knows, sorted.
func Names() []string { return target.Names() }

// Of returns a fact with where it comes from.
func (f Facts) Of(name string) Fact { return f.named()[name] }

// Target returns the facts that are known, for conditions.
func (f Facts) Target() target.Facts {
	known := target.Facts{}
	for name, fact := range f.named() {
		if fact.Value != "" {
			known[name] = fact.Value
		}
	}
	return known
}

// As returns the facts with some replaced, as if the machine were another one.
func (f Facts) As(other target.Facts) Facts {
	kind := maps.Clone(f.Kind)
	for name, value := range other {
		switch name {
		case "os.id":
			f.OSID = value
		case target.Version:
			f.OSVersion = value
		case "os.codename":
			f.OSCodename = value
		default:
			kind[name] = Fact{value, "pretended"}
		}
	}
	f.Kind = kind
	return f
}

func (f Facts) named() map[string]Fact {
	const release = "os-release"
	named := map[string]Fact{
		"hostname":     {f.Hostname, "the kernel, or /etc/hostname"},
		"machine-id":   {f.MachineID, "/etc/machine-id"},
		"os.id":        {f.OSID, "ID of " + release},
		"os.version":   {f.OSVersion, "VERSION_ID of " + release},
		"os.codename":  {f.OSCodename, "VERSION_CODENAME of " + release},
		"managed-node": {f.ManagedNode, registration},
		"region":       {f.Region, registration},
		"locale":       {f.Locale, "LANG of /etc/locale.conf, or of /etc/default/locale"},
	}
	for _, name := range target.Names() {
		if _, is := named[name]; !is {
			named[name] = f.Kind[name]
		}
	}
	return named
}

// registration is where amazon-ssm-agent stores the result of a hybrid activation.
const registration = "/var/lib/amazon/ssm/registration"

// Gather determines what the machine is. It returns an error only if the machine's id cannot be
// read, because state cannot be tied to the machine then. The other facts are returned even with an
// error. A fact whose source cannot be read is empty, as one that is not known yet, so nothing is
// concluded from it.
func Gather(ctx context.Context, s *system.System) (Facts, error) {
	f := Facts{
		Hostname: firstLine(s.FS, "/proc/sys/kernel/hostname", "/etc/hostname"),
		BootID:   firstLine(s.FS, "/proc/sys/kernel/random/boot_id"),
	}
	// /etc/os-release is a link, and in some images an absolute one.
	f.addRelease(s.FS, "/usr/lib/os-release")
	f.addRelease(s.FS, "/etc/os-release")
	f.addRegistration(s.FS)
	f.addLocale(s.FS)
	f.Disk = rootDisk(s.FS)
	f.addKind(ctx, s)
	content, err := s.FS.ReadFile("/etc/machine-id")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Unidentified = s.Running()
		return f, fmt.Errorf("cannot tell which machine this is: %w", err) // not the same as being another machine
	}
	first, _, _ := strings.Cut(string(content), "\n")
	f.MachineID = strings.TrimSpace(first)
	if f.MachineID == "" && s.Running() {
		f.Unidentified = true
		return f, errors.New("cannot tell which machine this is: /etc/machine-id is empty or not there; see systemd-machine-id-setup(1)")
	}
	return f, nil
}

// firstLine returns the first line of the first file that exists, or "" if that file cannot be
// read: the next file may say something else.
func firstLine(files system.FileReader, names ...string) string {
	for _, name := range names {
		content, err := files.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		line, _, _ := strings.Cut(string(content), "\n")
		return strings.TrimSpace(line)
	}
	return ""
}

func (f *Facts) addRelease(files system.FileReader, name string) {
	content, err := files.ReadFile(name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.OSID, f.OSVersion, f.OSName, f.OSCodename, f.OSLike = "", "", "", "", nil // this file takes precedence over the one already read
		}
		return
	}
	f.OSCodename, f.OSLike = target.None, nil
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			f.OSID = value
		case "VERSION_ID":
			f.OSVersion = value
		case "PRETTY_NAME":
			f.OSName = value
		case "VERSION_CODENAME":
			f.OSCodename = value
		case "ID_LIKE":
			f.OSLike = strings.Fields(value)
		}
	}
}

// addLocale reads the locale from systemd's file, or from Debian's.
func (f *Facts) addLocale(files system.FileReader) {
	for _, name := range []string{"/etc/locale.conf", "/etc/default/locale"} {
		content, err := files.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return
		}
		for line := range strings.Lines(string(content)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "LANG="); ok {
				f.Locale = strings.Trim(value, `"'`)
				return
			}
		}
	}
}

func (f *Facts) addRegistration(files system.FileReader) {
	content, err := files.ReadFile(registration)
	if err != nil {
		return // not activated, or not activated yet
	}
	var r struct {
		ManagedInstanceID string
		Region            string
	}
	if json.Unmarshal(content, &r) == nil {
		f.ManagedNode, f.Region = r.ManagedInstanceID, r.Region
	}
}
