package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// namesHere says whether the policy has a file of that name be there.
func (k *Kind) namesHere(name string) bool {
	resource, named := k.policy.Lookup(policy.NewID(k.Name(), name))
	spec, _ := resource.Spec.(policy.Dropin)
	return named && spec.Ensure != policy.Absent
}

// An assignment is one of systemd's configuration.
type assignment struct{ section, key, value string }

// assignments are those of a file, in their order. Lines that go on are one.
func assignments(content string) (all []assignment) {
	section := ""
	for line := range strings.SplitSeq(strings.ReplaceAll(content, "\\\n", " "), "\n") {
		line = strings.TrimSpace(line)
		key, value, found := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			section = line
		case found:
			all = append(all, assignment{section, strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	return all
}

// systemdLists are settings of systemd's programs of which each assignment adds to those before,
// and unitLists those of units.
var (
	systemdLists = regexp.MustCompile(`^(DNS|FallbackDNS|Domains|NTP|FallbackNTP|DNSStubListenerExtra|Kill(Only|Exclude)Users|(Default|Manager)Environment|CPUAffinity|JoinControllers|.*(Mode|State))$`)
	unitLists    = regexp.MustCompile(`^(Documentation|Wants|Requires|Requisite|BindsTo|PartOf|Upholds|Conflicts|Before|After|OnFailure|OnSuccess|` +
		`Propagates.*|.*PropagatedFrom|JoinsNamespaceOf|.*MountsFor|Condition.*|Assert.*|Exec.*|.*ExitStatus|Sockets|OpenFile|Listen.*|Symlinks|` +
		`On(Active|Boot|Startup|UnitActive|UnitInactive)Sec|OnCalendar|Path(Exists|ExistsGlob|Changed|Modified)|DirectoryNotEmpty|` +
		`(Pass|Unset)?Environment|EnvironmentFile|SupplementaryGroups|.*Images|.*Directories|.*Paths|RootImageOptions|TemporaryFileSystem|` +
		`(Runtime|State|Cache|Logs|Configuration)Directory|CapabilityBoundingSet|AmbientCapabilities|SecureBits|SystemCall(Filter|Architectures|Log)|` +
		`Restrict(AddressFamilies|FileSystems|Namespaces|NetworkInterfaces)|.*Credential.*|CPUAffinity|NUMAMask|Log(ExtraFields|FilterPatterns)|` +
		`StandardInput(Text|Data)|Allowed(CPUs|MemoryNodes)|(Block)?IO.+|IP.*|SocketBind(Allow|Deny)|NFTSet|BPFProgram|DeviceAllow|Delegate|DisableControllers)$`)
)

// A setting is what systemd knows an assignment by.
type setting struct{ section, key string }

// overruledSystemd says which setting of a file for one of systemd's programs another file,
// which is read later and is not the policy's, gives another value; or "".
func (k *Kind) overruledSystemd(name, content string) (string, error) {
	var dirs []string
	for _, place := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"} {
		dirs = append(dirs, path.Join(place, "systemd", path.Base(path.Dir(name))))
	}
	later, err := k.laterFiles(dirs, path.Base(name))
	if err != nil {
		return "", err
	}
	return k.overruled(content, later, systemdLists)
}

// overruledUnit is the same of a unit, or of a file that says more of one: the files of all its
// directories are read in the order of their names, such as the one that "systemctl edit" makes.
func (k *Kind) overruledUnit(name, content string) (string, error) {
	unit, base := path.Base(path.Dir(name)), path.Base(name)
	if path.Dir(name) == unitDir {
		unit, base = base+".d", ""
	}
	control := []string{"/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient"}
	var dirs []string
	for _, place := range append(control, unitDir, "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system") {
		dirs = append(dirs, path.Join(place, unit))
		if instead := path.Join(place, unit, base); base != "" && slices.Contains(control, place) {
			if there, err := k.firstOf([]string{instead}); err != nil || there != "" {
				return there + " is read in its place", err
			}
		}
	}
	later, err := k.laterFiles(dirs, base)
	if err != nil {
		return "", err
	}
	return k.overruled(content, later, unitLists)
}

// laterFiles are the files that are read after the one of that name, in their order: of those of
// one name the first directory's.
func (k *Kind) laterFiles(dirs []string, base string) ([]string, error) {
	later := map[string]string{}
	for _, dir := range dirs {
		bases, err := k.system.FS.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, other := range bases {
			if other > base && strings.HasSuffix(other, ".conf") && !strings.HasPrefix(other, ".") && later[other] == "" {
				later[other] = path.Join(dir, other)
			}
		}
	}
	var files []string
	for _, other := range slices.Sorted(maps.Keys(later)) {
		files = append(files, later[other])
	}
	return files, nil
}

// overruled says which setting later files, those of the policy left out, make another; or "". Of
// a list an assignment of nothing takes away what was said before.
func (k *Kind) overruled(content string, later []string, lists *regexp.Regexp) (string, error) {
	ours, theirs := map[setting][]string{}, map[setting]string{}
	order := assignments(content)
	for _, a := range order {
		at := setting{a.section, a.key}
		switch isList := lists.MatchString(a.key); {
		case isList && a.value != "":
			ours[at] = append(ours[at], a.value)
		case isList:
			ours[at] = nil
		default:
			ours[at] = []string{a.value}
		}
	}
	for _, file := range later {
		if k.namesHere(file) {
			continue
		}
		other, err := k.system.FS.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, a := range assignments(string(other)) {
			at := setting{a.section, a.key}
			switch {
			case len(ours[at]) == 0 || a.section == "[Install]":
			case slices.ContainsFunc(ours[at], func(value string) bool { return sameSetting(value, a.value) }):
				delete(theirs, at)
			case a.value == "" || !lists.MatchString(a.key):
				theirs[at] = fmt.Sprintf("%s is read later, and says %s=%s", file, a.key, a.value)
			}
		}
	}
	for _, a := range order {
		if why := theirs[setting{a.section, a.key}]; why != "" {
			return why, nil
		}
	}
	return "", nil
}

// sameSetting says whether systemd reads two values alike, as far as that is known.
func sameSetting(a, b string) bool {
	word := func(value string) string {
		switch strings.ToLower(value) {
		case "1", "yes", "y", "true", "t", "on":
			return "yes"
		case "0", "no", "n", "false", "f", "off":
			return "no"
		}
		return value
	}
	return word(a) == word(b)
}

// overruledLimits says which limit of a file another one, which is read later and is not the
// policy's, gives the same people another value of; or "". pam_limits(8) takes the last.
func (k *Kind) overruledLimits(name, content string) (string, error) {
	later, err := k.laterFiles([]string{path.Dir(name)}, path.Base(name))
	if err != nil {
		return "", err
	}
	ours, theirs := limits(content), map[string]string{}
	for _, file := range later {
		if k.namesHere(file) {
			continue
		}
		other, err := k.system.FS.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for limit, value := range limits(string(other)) {
			if want, is := ours[limit]; is && want != value {
				theirs[limit] = fmt.Sprintf("%s is read later, and says %s %s", file, limit, value)
			} else {
				delete(theirs, limit)
			}
		}
	}
	for _, limit := range slices.Sorted(maps.Keys(theirs)) {
		return theirs[limit], nil
	}
	return "", nil
}

// limits are those of a file: whom it is for, soft or hard, of what.
func limits(content string) map[string]string {
	all := map[string]string{}
	_ = eachLine([]byte(content), "#", func(line string) string {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) != 4 {
			return ""
		}
		kinds, value := []string{words[1]}, words[3]
		if words[1] == "-" {
			kinds = []string{"soft", "hard"}
		}
		if value == "infinity" || value == "-1" {
			value = "unlimited"
		}
		for _, kind := range kinds {
			all[strings.Join([]string{words[0], kind, words[2]}, " ")] = value
		}
		return ""
	})
	return all
}

// tooOld says of a file for several units at once that the systemd of this machine knows no
// such directories, or "".
func (k *Kind) tooOld(ctx context.Context, name string) (string, error) {
	unit, dir := strings.CutSuffix(path.Base(path.Dir(name)), ".d")
	if !dir || path.Dir(path.Dir(name)) != unitDir {
		return "", nil
	}
	since := 0
	switch kind := path.Ext(unit); {
	case kind == "":
		since = 244 // a type: service.d
	case strings.HasSuffix(strings.TrimSuffix(unit, kind), "-"):
		since = 239 // what names begin with: a-.service.d
	default:
		return "", nil
	}
	version, err := k.system.Units.Version(ctx)
	if err != nil || version >= since {
		return "", unlessNotRunning(err)
	}
	return fmt.Sprintf("systemd reads such a directory since %d, and here is %d; name each unit", since, version), nil
}

// missingUnit says of a file for a unit that there is no such unit, or "". Of templates,
// types and families of units it says nothing.
func (k *Kind) missingUnit(ctx context.Context, name string) (string, error) {
	if why, err := k.tooOld(ctx, name); why != "" || err != nil {
		return why, err
	}
	unit, found := strings.CutSuffix(path.Base(path.Dir(name)), ".d")
	stem := strings.TrimSuffix(unit, path.Ext(unit))
	if !found || path.Dir(path.Dir(name)) != unitDir || path.Ext(unit) == "" || stem == "" || strings.HasSuffix(stem, "-") || strings.Contains(stem, "@") {
		return "", nil
	}
	for _, dir := range []string{unitDir, "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		if there, err := k.firstOf([]string{path.Join(dir, unit)}); err != nil || there != "" {
			return "", err
		}
	}
	told, err := k.system.Units.Unit(ctx, unit) // it may be generated, or an alias
	if err != nil || told.LoadState != "not-found" {
		return "", unlessNotRunning(err)
	}
	return "there is no unit " + unit, nil
}

var auditKey = regexp.MustCompile(`(?:-k\s*|-F\s*key=|--key[= ])(\S+)`)

// auditLacks is a key of a file's rules that no rule of the kernel has, or "".
func (k *Kind) auditLacks(ctx context.Context, content string) (string, error) {
	var keys []string
	_ = eachLine([]byte(content), "#", func(line string) string {
		for _, match := range auditKey.FindAllStringSubmatch(line, -1) {
			keys = append(keys, match[1])
		}
		return ""
	})
	if len(keys) == 0 {
		return "", nil
	}
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: []string{"auditctl", "-l"}, ReadOnly: true})
	if errors.Is(err, system.ErrNotInstalled) {
		return "", nil
	}
	if err == nil && out.ExitCode != 0 {
		err = fmt.Errorf("auditctl -l: %s", out.LastLine())
	}
	if err != nil {
		return "", err
	}
	loaded := map[string]bool{}
	for _, match := range auditKey.FindAllStringSubmatch(string(out.Stdout), -1) {
		loaded[match[1]] = true
	}
	for _, key := range keys {
		if !loaded[key] {
			return key, nil
		}
	}
	return "", nil
}
