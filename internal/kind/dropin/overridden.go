package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// systemdLists are settings of which each assignment adds to those before.
var systemdLists = regexp.MustCompile(`^(DNS|FallbackDNS|Domains|NTP|FallbackNTP|DNSStubListenerExtra|Kill(Only|Exclude)Users|(Default|Manager)Environment|CPUAffinity|JoinControllers|.*(Mode|State))$`)

// overruledSystemd says which setting of a file for one of systemd's programs another file,
// which is read later and is not the policy's, gives another value; or "".
func (k *Kind) overruledSystemd(name, content string) (string, error) {
	dir, base := path.Base(path.Dir(name)), path.Base(name)
	later := map[string]string{}
	for _, place := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"} {
		bases, err := k.system.FS.ReadDir(path.Join(place, "systemd", dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, other := range bases {
			if other > base && strings.HasSuffix(other, ".conf") && !strings.HasPrefix(other, ".") && later[other] == "" {
				later[other] = path.Join(place, "systemd", dir, other)
			}
		}
	}
	ours := assignments(content)
	for _, file := range later {
		if k.namesHere(file) {
			continue
		}
		theirs, err := k.system.FS.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, a := range assignments(string(theirs)) {
			if i := slices.IndexFunc(ours, func(o assignment) bool { return o.section == a.section && o.key == a.key }); i >= 0 &&
				!slices.Contains(ours, a) && !systemdLists.MatchString(a.key) {
				return fmt.Sprintf("%s is read later, and says %s=%s", file, a.key, a.value), nil
			}
		}
	}
	return "", nil
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
