package dropin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A sysctlLine is one line of sysctl.d(5).
type sysctlLine struct {
	key     string // its path below /proc/sys, or a pattern (glob(7))
	value   string
	exclude bool // excludes the key from patterns
	lenient bool // the kernel may not have the key
}

func (l sysctlLine) glob() bool { return strings.ContainsAny(l.key, "*?[") }

// sysctlLines parses the lines of a file.
func sysctlLines(content string) []sysctlLine {
	var lines []sysctlLine
	for line := range strings.SplitSeq(content, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		key, lenient := strings.CutPrefix(strings.TrimSpace(key), "-")
		key = strings.TrimSpace(key)
		if wrongSysctl(key) != "" || !found && !lenient {
			continue
		}
		lines = append(lines, sysctlLine{sysctlPath(key), strings.Join(strings.Fields(value), " "), !found, lenient})
	}
	return lines
}

// sysctlSettings returns the settings of a file by path below /proc/sys, without patterns.
func sysctlSettings(content string) map[string]string {
	settings := map[string]string{}
	for _, line := range sysctlLines(content) {
		if !line.exclude && !line.glob() {
			settings[line.key] = line.value
		}
	}
	return settings
}

// A sysctlFile is a file with settings, and whether the policy names it.
type sysctlFile struct {
	name, content string
	ours          bool
}

// sysctlsOf returns, by file, the keys that it decides, following sysctl.d(5): the last file that
// names a key decides it, and a pattern applies to keys that no line names. A key that the policy
// names is the policy's, wherever else it is named. files are in reading order.
func sysctlsOf(s *system.System, files []sysctlFile) map[string]map[string]string {
	type setting struct {
		file, value string
		ours        bool
	}
	final, named := map[string]setting{}, map[string]bool{}
	put := func(key string, f sysctlFile, value string) {
		if !final[key].ours || f.ours {
			final[key] = setting{f.name, value, f.ours}
		}
	}
	for _, f := range files {
		for _, line := range sysctlLines(f.content) {
			if line.glob() {
				continue
			}
			if named[line.key] = true; !line.exclude {
				put(line.key, f, line.value)
			}
		}
	}
	for _, f := range files {
		for _, line := range sysctlLines(f.content) {
			if !line.glob() || line.exclude {
				continue
			}
			for _, key := range sysctlKeys(s, line.key) {
				if !named[key] {
					put(key, f, line.value)
				}
			}
		}
	}
	owned := map[string]map[string]string{}
	for key, setting := range final {
		if owned[setting.file] == nil {
			owned[setting.file] = map[string]string{}
		}
		owned[setting.file][key] = setting.value
	}
	return owned
}

// sysctlKeys returns the keys of the kernel that match a pattern.
func sysctlKeys(s *system.System, pattern string) []string {
	keys := []string{""}
	for segment := range strings.SplitSeq(pattern, "/") {
		var below []string
		for _, key := range keys {
			if !strings.ContainsAny(segment, "*?[") {
				below = append(below, path.Join(key, segment))
				continue
			}
			bases, _ := s.FS.ReadDir(path.Join("/proc/sys", key))
			for _, base := range bases {
				if matched, _ := path.Match(segment, base); matched {
					below = append(below, path.Join(key, base))
				}
			}
		}
		keys = below
	}
	return slices.DeleteFunc(keys, func(key string) bool {
		info, err := s.FS.Stat("/proc/sys/" + key)
		return err != nil || !info.IsRegular()
	})
}

// sysctlsIn returns all keys that a file by itself sets, including those that match its patterns.
func sysctlsIn(s *system.System, content string) map[string]string {
	return sysctlsOf(s, []sysctlFile{{content: content}})[""]
}

// sysctlPath turns a key into a path. The first of "." and "/" is the separator. The other one is part
// of a name and is swapped with it. Several separators are as good as one.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		key = strings.NewReplacer(".", "/", "/", ".").Replace(key)
	}
	return strings.Join(strings.FieldsFunc(key, func(r rune) bool { return r == '/' }), "/")
}

// wrongSysctl returns why a text is no key, or "". With ".." in its path it would name another
// file than the one of a key, and not only one of the kernel.
func wrongSysctl(key string) string {
	segments := strings.Split(sysctlPath(key), "/")
	switch {
	case key == "" || segments[0] == "" || strings.ContainsAny(key, " \t"):
		return "what stands before the = is not a key"
	case slices.Contains(segments, ".."), slices.Contains(segments, "."):
		return "the key has . or .. in its path, and there is no such key"
	}
	return ""
}

// checkSysctl follows sysctl.d(5).
func checkSysctl(_ context.Context, c candidate) error {
	return eachLine(c.content, "#;", func(line string) string {
		key, _, found := strings.Cut(strings.TrimPrefix(line, "-"), "=")
		if !found && !strings.HasPrefix(line, "-") {
			return "it is not of the form key = value"
		}
		return wrongSysctl(strings.TrimSpace(key)) // without a value it excludes the key
	})
}

// sysctl returns the kernel's value of a key, if it exists and can be read. Some are write-only, and
// one cannot be read before it is set.
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

// ownSysctls returns the settings of the policy's files, by file and key. Of other files only the
// names of keys matter, and only if there are patterns.
func (k *Kind) ownSysctls(wants []policy.Want[policy.Dropin]) map[string]map[string]string {
	var ours []sysctlFile
	patterns := false
	for _, want := range wants {
		name := fileOf(want.ID)
		if path.Dir(name) != sysctlDir || want.Spec.Ensure == policy.Absent {
			continue
		}
		ours = append(ours, sysctlFile{name, want.Spec.Content, true})
		patterns = patterns || slices.ContainsFunc(sysctlLines(want.Spec.Content), sysctlLine.glob)
	}
	if !k.system.Running() || len(ours) == 0 {
		return nil
	}
	if patterns {
		named := map[string]bool{}
		for _, f := range ours {
			named[f.name] = true
		}
		others := slices.DeleteFunc(allSysctls(k.system), func(f sysctlFile) bool { return named[f.name] })
		ours = append(others, ours...)
	}
	return sysctlsOf(k.system, ours)
}

// compareSysctls compares the settings of the file with the kernel. A key that a later file of the
// policy sets is left to that file.
func (k *Kind) compareSysctls(scene *scene, name string, r *converge.Resource) {
	mark := k.Mark()
	defer func() { r.SetUnknownIf(cmp.Or(k.Since(mark), scene.unsure)) }()
	settings := scene.sysctls[name]
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if got, known := sysctl(k.system, key); known && !sameSysctl(settings[key], got) {
			if len(r.Diff) > 0 && r.Diff[0].Aspect == "content" {
				return // already reported by the content
			}
			differs := r.AddDrift
			if info, err := k.system.FS.Stat("/proc/sys/" + key); err == nil && public.May(info.Mode) {
				differs = r.AddPublicDrift
			}
			differs("effect", fmt.Sprintf("%s = %s", key, settings[key]), got)
		}
	}
}

// unknownSysctls returns the keys of a file that the kernel does not have, without those that the file
// marks as optional.
func unknownSysctls(s *system.System, content string) string {
	var unknown []string
	for _, line := range sysctlLines(content) {
		_, err := s.FS.Stat("/proc/sys/" + line.key)
		switch {
		case line.lenient:
		case !line.glob() && errors.Is(err, fs.ErrNotExist), line.glob() && len(sysctlKeys(s, line.key)) == 0:
			unknown = append(unknown, line.key)
		}
	}
	if len(unknown) == 0 {
		return ""
	}
	return fmt.Sprintf("the kernel has no %s: mend the name, or load the module that brings it, or begin the line with - where that is all right",
		strings.Join(unknown, " and no "))
}

// noteLaterSysctls notes that another file, which is read later and is not the policy's, changes a key
// at each boot, although the kernel has the wanted value now.
func (k *Kind) noteLaterSysctls(scene *scene, name string, r *converge.Resource) {
	later := false
	for _, f := range scene.allSysctls() {
		if f.name == "/etc/sysctl.conf" {
			continue // read only by "sysctl --system", unless linked from sysctl.d
		}
		if later && !k.namesHere(f.name) {
			theirs := sysctlSettings(f.content)
			for _, key := range slices.Sorted(maps.Keys(theirs)) {
				if want, ours := scene.sysctls[name][key]; ours && !sameSysctl(want, theirs[key]) {
					r.Note(fmt.Sprintf("at each boot %s sets %s = %s after it, until the agent has set it again; give the file a later name, or take that line out", f.name, key, theirs[key]))
					return
				}
			}
		}
		later = later || f.name == name
	}
}

// loadSysctls sets the values that the kernel does not have yet. Where the kernel has locked a key,
// writing even the same value again fails.
func (b *batch) loadSysctls(ctx context.Context, names []string) map[string]error {
	if !b.system.Running() {
		return nil
	}
	all := allSysctls(b.system)
	for i, f := range all {
		_, all[i].ours = b.wants[policy.NewID(b.Name(), f.name)]
	}
	owned := sysctlsOf(b.system, all)
	assignments := func(names ...string) (set []string) {
		for _, name := range names {
			for _, key := range slices.Sorted(maps.Keys(owned[name])) {
				want := owned[name][key]
				if _, err := b.system.FS.Stat("/proc/sys/" + key); err != nil {
					continue
				}
				if got, known := sysctl(b.system, key); !known || !sameSysctl(want, got) {
					set = append(set, key+"="+want)
				}
			}
		}
		return set
	}
	failures := map[string]error{}
	err := runFor(ctx, b.system, assignments(names...), "sysctl", "-e", "-q", "-w")
	for _, name := range names {
		if err != nil && len(names) > 1 { // retry one by one, so that one refused key does not fail the others
			failures[name] = runFor(ctx, b.system, assignments(name), "sysctl", "-e", "-q", "-w")
		} else {
			failures[name] = err
		}
	}
	return b.restoreSysctls(ctx, names, owned, failures)
}

// restoreSysctls restores keys that were removed from changed files: to the value in the remaining
// files, or else to the original one. A file with a key for which neither is known waits for the
// reboot.
func (b *batch) restoreSysctls(ctx context.Context, names []string, owned map[string]map[string]string, failures map[string]error) map[string]error {
	remaining := map[string]string{}
	for _, settings := range owned {
		maps.Copy(remaining, settings)
	}
	mark := b.Mark()
	waiting := b.readNames(untilReboot)
	before := len(waiting)
	for _, name := range names {
		keys := b.leftSysctls(name)
		if len(keys) == 0 {
			continue
		}
		var assignments []string
		for _, key := range keys {
			value, known := remaining[key]
			if !known {
				value, known = b.undo.original(key)
			}
			got, exists := sysctl(b.system, key)
			switch {
			case !exists || known && sameSysctl(value, got):
			case known:
				assignments = append(assignments, key+"="+value)
			default:
				waiting[name] = true
			}
		}
		err := b.Since(mark) // a file that could not be read may have another value
		if err == nil {
			err = runFor(ctx, b.system, assignments, "sysctl", "-e", "-q", "-w")
		}
		if _, named := b.wants[policy.NewID(b.Name(), name)]; !named && errors.Is(err, system.ErrNotInstalled) {
			waiting[name], err = true, nil // there is no value to write
		}
		if err != nil {
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

// leftSysctls returns the keys that a file set before the change and no longer sets.
func (b *batch) leftSysctls(name string) []string {
	content, _ := b.system.FS.ReadFile(name)
	now, left := sysctlsIn(b.system, string(content)), map[string]string{}
	maps.Copy(left, sysctlsIn(b.system, string(b.before[name])))
	maps.Copy(left, b.undo.Sysctls[name])
	maps.DeleteFunc(left, func(key, _ string) bool { _, set := now[key]; return set })
	return slices.Sorted(maps.Keys(left))
}

func (b *batch) forgetSysctls(name string, keys []string) {
	for _, key := range keys {
		if _, known := b.undo.Sysctls[name][key]; known {
			delete(b.undo.Sysctls[name], key)
			b.undo.changed = true
		}
	}
	if len(b.undo.Sysctls[name]) == 0 {
		delete(b.undo.Sysctls, name)
	}
}

// allSysctls are the files of sysctl.d(5) and sysctl.conf(5), in reading order.
func allSysctls(s *system.System) []sysctlFile {
	names := map[string]string{}
	for _, dir := range []string{sysctlDir, "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"} {
		bases, _ := s.FS.ReadDir(dir)
		for _, base := range bases {
			if strings.HasSuffix(base, ".conf") && !strings.HasPrefix(base, ".") && names[base] == "" {
				names[base] = path.Join(dir, base)
			}
		}
	}
	var files []sysctlFile
	for _, base := range slices.Sorted(maps.Keys(names)) {
		content, _ := s.FS.ReadFile(names[base])
		files = append(files, sysctlFile{name: names[base], content: string(content)})
	}
	content, _ := s.FS.ReadFile("/etc/sysctl.conf")
	return append(files, sysctlFile{name: "/etc/sysctl.conf", content: string(content)})
}
