package facts

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/target"
)

// A Fact is one thing that is known about a machine.
type Fact struct {
	Value string `json:"value"` // "": it is not known
	From  string `json:"from"`  // where the value comes from, or why there is none, for people
}

// bootFile keeps what kind of machine this is for as long as the boot lasts.
const bootFile = own.RunDir + "/facts.json"

// remembered is the content of bootFile.
type remembered struct {
	BootID string          `json:"boot_id"`
	Facts  map[string]Fact `json:"facts"`
}

// addKind determines what kind of machine this is. A fact that was found earlier in this boot stays as it
// was until the next one: what somebody installs or removes meanwhile does not make another machine of it
// under a live session. What was not there may still come.
func (f *Facts) addKind(ctx context.Context, s *system.System) {
	f.Kind = map[string]Fact{
		target.Family:         f.family(),
		"arch":                architecture(),
		target.PackageManager: packageManager(s),
		target.Desktop:        desktop(s),
		target.Streaming:      streaming(ctx, s),
		target.Directory:      directory(s),
	}
	for name, fact := range earlierInBoot(s, f.BootID) {
		if _, is := f.Kind[name]; is && fact.Value != "" && fact.Value != target.None {
			f.Kind[name] = fact
		}
	}
}

// earlierInBoot returns what was remembered in this boot.
func earlierInBoot(s *system.System, bootID string) map[string]Fact {
	if !s.Running() || bootID == "" {
		return nil
	}
	content, err := s.FS.ReadFile(bootFile)
	var before remembered
	if err != nil || json.Unmarshal(content, &before) != nil || before.BootID != bootID {
		return nil
	}
	return before.Facts
}

// Remember keeps what kind of machine this is until the next boot. It is for the daemon of a running
// machine; nothing is written if nothing is new.
func (f Facts) Remember(s *system.System) error {
	if !s.Running() || f.BootID == "" {
		return nil
	}
	before := earlierInBoot(s, f.BootID)
	if !slices.ContainsFunc(target.Names(), func(name string) bool { return f.Kind[name].Value != before[name].Value }) {
		return nil
	}
	content, err := json.Marshal(remembered{f.BootID, f.Kind})
	if err != nil {
		return err
	}
	return s.FS.WriteFile(bootFile, content, system.Attr{Mode: 0o644})
}

// family derives the family of the operating system from os-release(5).
func (f *Facts) family() Fact {
	const from = "ID and ID_LIKE of os-release"
	if f.OSID == "" {
		return Fact{From: "os-release has no ID, or cannot be read"}
	}
	for _, id := range append([]string{f.OSID}, f.OSLike...) {
		switch id {
		case "amzn":
			return Fact{target.Amazon, from}
		case "rhel", "rocky", "centos", "almalinux", "ol", "fedora":
			return Fact{target.RHEL, from}
		case "debian", "ubuntu":
			return Fact{target.Debian, from}
		}
	}
	return Fact{target.Other, from}
}

// architecture returns what uname(1) calls the machine.
func architecture() Fact {
	name, is := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if !is {
		name = runtime.GOARCH
	}
	return Fact{name, "the architecture that the agent is built for"}
}

// there says which of some files exist; files that cannot be looked at are an error.
func there(s *system.System, names ...string) (found string, err error) {
	for _, name := range names {
		switch _, err := s.FS.Stat(name); {
		case err == nil:
			return name, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	return "", nil
}

// packageManager goes by the programs. Where there is more than one, yum and dnf come first: nobody has
// them on a machine that is not theirs, whereas apt and dpkg are there as tools on machines with rpm.
func packageManager(s *system.System) Fact {
	for _, m := range []struct{ manager, program string }{
		{target.DNF, "/usr/bin/dnf"}, {target.Yum, "/usr/bin/yum"}, {target.APT, "/usr/bin/apt-get"},
	} {
		switch program, err := there(s, m.program); {
		case err != nil:
			return Fact{From: err.Error()}
		case program != "":
			return Fact{m.manager, program}
		}
	}
	return Fact{target.None, "there is no dnf, yum or apt-get"}
}

// desktop goes by the programs that start a session.
func desktop(s *system.System) Fact {
	mate, err := there(s, "/usr/bin/mate-session")
	gnome, gnomeErr := there(s, "/usr/bin/gnome-session", "/usr/bin/gnome-shell")
	if err = errors.Join(err, gnomeErr); err != nil {
		return Fact{From: err.Error()}
	}
	return either(target.MATE, mate, target.GNOME, gnome, "there is no mate-session, gnome-session or gnome-shell")
}

// streaming goes by the agents of the two protocols: their directory of configuration, program, unit or
// process.
func streaming(ctx context.Context, s *system.System) Fact {
	pcoip, err := there(s, "/etc/pcoip-agent")
	if err == nil && pcoip == "" {
		pcoip, err = Installed(ctx, s, "pcoip-agent", "pcoip-agent.service", "pcoip.service")
	}
	dcv, dcvErr := there(s, "/usr/bin/dcv", "/usr/bin/dcvserver", "/etc/wsp")
	if dcvErr == nil && dcv == "" {
		dcv, dcvErr = Installed(ctx, s, "dcvserver", "dcvserver.service", "wspdcvhostadapter.service")
	}
	if err = errors.Join(err, dcvErr); err != nil {
		return Fact{From: err.Error()}
	}
	return either(target.PCoIP, pcoip, target.DCV, dcv, "neither the PCoIP agent nor the DCV server is installed")
}

// either returns which of two is there, from the files that were found of them.
func either(one, file, other, otherFile, none string) Fact {
	switch {
	case file != "" && otherFile != "":
		return Fact{target.Both, file + ", " + otherFile}
	case file != "":
		return Fact{one, file}
	case otherFile != "":
		return Fact{other, otherFile}
	}
	return Fact{target.None, none}
}

// directory goes by the sources of people in nsswitch.conf(5). sssd is named there before the machine is
// joined; it counts once it is configured.
func directory(s *system.System) Fact {
	const file = "/etc/nsswitch.conf"
	content, err := s.FS.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Fact{From: err.Error()}
	}
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		database, sources, _ := strings.Cut(strings.TrimSpace(line), ":")
		if database != "passwd" {
			continue
		}
		switch named := strings.Fields(sources); {
		case slices.Contains(named, "winbind"):
			return Fact{target.Winbind, "passwd in " + file}
		case slices.Contains(named, "sss"):
			return sssd(s, file)
		}
	}
	return Fact{target.None, "passwd in " + file + " names neither sss nor winbind"}
}

func sssd(s *system.System, file string) Fact {
	switch config, err := there(s, "/etc/sssd/sssd.conf"); {
	case err != nil:
		return Fact{From: err.Error()}
	case config != "":
		return Fact{target.SSSD, "passwd in " + file + ", and " + config}
	}
	return Fact{target.None, "passwd in " + file + " names sss, and there is no /etc/sssd/sssd.conf yet"}
}
