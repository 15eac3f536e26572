package dropin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// sysctlSettings are the settings of a file of sysctl.d(5), by the path of each
// below /proc/sys. Keys with patterns in them are left out.
func sysctlSettings(content string) map[string]string {
	settings := map[string]string{}
	for line := range strings.SplitSeq(content, "\n") {
		line = strings.TrimSpace(line)
		key, value, found := strings.Cut(line, "=")
		if !found || line[0] == '#' || line[0] == ';' {
			continue
		}
		key = strings.TrimPrefix(strings.TrimSpace(key), "-")
		if key != "" && !strings.ContainsAny(key, "*?[ \t") && !strings.Contains(key, "..") {
			settings[sysctlPath(key)] = strings.Join(strings.Fields(value), " ")
		}
	}
	return settings
}

// sysctlPath turns a key into a path. Whichever of "." and "/" comes first separates;
// the other one is then part of a name, and changes places with it.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i < 0 || key[i] == '/' {
		return key
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

// checkSysctl follows sysctl.d(5).
func checkSysctl(_ context.Context, c candidate) error {
	return eachLine(c.content, "#;", func(line string) string {
		key, _, found := strings.Cut(strings.TrimPrefix(line, "-"), "=")
		key = strings.TrimSpace(key)
		switch {
		case !found && strings.HasPrefix(line, "-"):
			return "" // a key that is not to be set
		case !found:
			return "it is not of the form key = value"
		case key == "" || strings.ContainsAny(key, " \t"):
			return "what stands before the = is not a key"
		}
		return ""
	})
}

// sysctlsHold says whether the kernel has every value that a file sets, as far as
// it has the keys.
func sysctlsHold(s *system.System, name string) bool {
	content, err := s.FS.ReadFile(name)
	if err != nil {
		return false
	}
	for key, want := range sysctlSettings(string(content)) {
		if got, known := sysctl(s, key); known && got != want {
			return false
		}
	}
	return true
}

// sysctl is the value that the kernel has for a key, if it has the key, and one that
// can be read: some are for writing alone, and one cannot be read before it is set.
func sysctl(s *system.System, key string) (value string, known bool) {
	const readable = 0o444
	if path.Base(key) == "stable_secret" {
		return "", false
	}
	if info, err := s.FS.Stat("/proc/sys/" + key); err != nil || info.Mode&readable == 0 {
		return "", false
	}
	content, err := s.FS.ReadFile("/proc/sys/" + key)
	return strings.Join(strings.Fields(string(content)), " "), err == nil
}

// compareSysctls compares what the file sets with what the kernel has. A key
// that a later file of the policy sets is that one's, and one that this kernel
// does not have is nobody's.
func (k *Kind) compareSysctls(scene *scene, name, content string, r *converge.Resource) {
	mark := k.Mark()
	defer func() { r.DoubtIf(k.Since(mark)) }()
	settings := sysctlSettings(content)
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if scene.sysctls[key] != name {
			continue
		}
		if got, known := sysctl(k.system, key); known && got != settings[key] {
			if len(r.Diff) > 0 && r.Diff[0].Aspect == "content" {
				return // it follows from the content
			}
			differs := r.Differs
			if info, err := k.system.FS.Stat("/proc/sys/" + key); err == nil && public.May(info.Mode) {
				differs = r.DiffersOpenly
			}
			differs("effect", fmt.Sprintf("%s = %s", key, settings[key]), got)
		}
	}
}

// restoreSysctls gives keys that no longer stand in changed files the value that
// the remaining files say, or else the one from before the agent. A file with a
// key of which neither is known waits for the reboot.
func (b *batch) restoreSysctls(ctx context.Context, names []string, failures map[string]error) map[string]error {
	var remaining map[string]string
	mark := b.Mark()
	waiting := b.readNames(untilReboot)
	before := len(waiting)
	for _, name := range names {
		keys := b.leftSysctls(name)
		if len(keys) == 0 {
			continue
		}
		if remaining == nil {
			remaining = allSysctls(b.system)
		}
		var assignments []string
		for _, key := range keys {
			value, known := remaining[key]
			if !known {
				value, known = b.memory.original(key)
			}
			got, exists := sysctl(b.system, key)
			switch {
			case !exists || known && got == value:
			case known:
				assignments = append(assignments, key+"="+value)
			default:
				waiting[name] = true
			}
		}
		err := b.Since(mark) // another value may stand in what could not be read
		if err == nil {
			err = runFor(ctx, b.system, assignments, "sysctl", "-e", "-q", "-w")
		}
		if _, named := b.wants[policy.NewID(b.Name(), name)]; !named && errors.Is(err, system.ErrNotInstalled) {
			waiting[name], err = true, nil // there is nothing to try it with
		}
		if err != nil {
			if failures == nil {
				failures = map[string]error{}
			}
			failures[name] = fmt.Errorf("cannot set what the kernel had before: %w", err)
			continue
		}
		b.forgetSysctls(name, keys)
	}
	if len(waiting) > before {
		if err := b.writeNames(untilReboot, waiting); err != nil {
			b.fail(names[0], err)
		}
	}
	return failures
}

// leftSysctls are the keys that a file set before it was changed, and sets no more.
func (b *batch) leftSysctls(name string) []string {
	content, _ := b.system.FS.ReadFile(name)
	now, left := sysctlSettings(string(content)), sysctlSettings(string(b.before[name]))
	maps.Copy(left, b.memory.Sysctls[name])
	maps.DeleteFunc(left, func(key, _ string) bool { _, set := now[key]; return set })
	return slices.Sorted(maps.Keys(left))
}

func (b *batch) forgetSysctls(name string, keys []string) {
	for _, key := range keys {
		if _, known := b.memory.Sysctls[name][key]; known {
			delete(b.memory.Sysctls[name], key)
			b.memory.changed = true
		}
	}
	if len(b.memory.Sysctls[name]) == 0 {
		delete(b.memory.Sysctls, name)
	}
}

// allSysctls are the settings of all files of sysctl.d(5), and of sysctl.conf(5).
func allSysctls(s *system.System) map[string]string {
	files := map[string]string{}
	for _, dir := range []string{sysctlDir, "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"} {
		names, _ := s.FS.ReadDir(dir)
		for _, base := range names {
			if strings.HasSuffix(base, ".conf") && !strings.HasPrefix(base, ".") && files[base] == "" {
				files[base] = path.Join(dir, base)
			}
		}
	}
	settings := map[string]string{}
	for _, base := range slices.Sorted(maps.Keys(files)) {
		content, _ := s.FS.ReadFile(files[base])
		maps.Copy(settings, sysctlSettings(string(content)))
	}
	content, _ := s.FS.ReadFile("/etc/sysctl.conf")
	maps.Copy(settings, sysctlSettings(string(content)))
	return settings
}
