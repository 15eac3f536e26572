package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/soe-agent/soe-agent/test/bench"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// A tool is one way to bring a machine into line.
type tool struct {
	name        string
	files       func(bench.Workload) map[string]box.File
	apply, plan []string // plan: nil if it is not measured
	before      []string // makes the machine ready for the first apply; nil if nothing does
	after       []string // makes it settle after that
	debian      string   // the Debian package that it is from; "" for the agent
	done        []int    // exit codes of an apply that went well
	turns       int      // runs in each round
}

const (
	agentName = "soe-agent"
	self      = "/usr/local/bin/measure" // this program, in a machine
	yumRepo   = "[soe-test]\nname=Test packages\nbaseurl=" + rpmrepo.BaseURL + "\ngpgcheck=1\ngpgkey=" + rpmrepo.KeyURL + "\n"
	manifest  = "/root/site.pp"
	promises  = "/root/promises.cf"
)

// findTools are the agent and its peers, as their users would call them.
func findTools(agent string) ([]tool, error) {
	binary, err := os.ReadFile(agent)
	if err != nil {
		return nil, fmt.Errorf("cannot measure what is not built; run: make bench-peers: %w", err)
	}
	repo, err := rpmrepo.Open()
	if err != nil {
		return nil, err
	}
	units, err := readUnits("systemd/soe-agent.service", "systemd/soe-configured.target")
	if err != nil {
		return nil, err
	}
	ours := func(w bench.Workload) map[string]box.File {
		files := maps.Clone(units)
		files["/usr/bin/soe-agent"] = box.File{Content: string(binary), Mode: 0o755}
		files["/etc/soe-agent/policy.d/50-bench.toml"] = box.File{Content: w.Policy() + fmt.Sprintf(
			"[repositories.soe-test]\nbaseurl = %q\ngpgkey = %q\nfingerprint = %q\n", rpmrepo.BaseURL, rpmrepo.KeyURL, repo.Fingerprint)}
		return files
	}
	peer := func(name string, content func(bench.Workload) string) func(bench.Workload) map[string]box.File {
		return func(w bench.Workload) map[string]box.File {
			return map[string]box.File{
				name:                             {Content: content(w), Mode: 0o600},
				"/etc/yum.repos.d/soe-test.repo": {Content: yumRepo},
			}
		}
	}
	know := []string{"dnf", "-q", "-y", "makecache"}
	cfengine := []string{"cf-agent", "--no-lock", "--inform", "--file", promises}
	puppet := []string{"puppet", "apply", "--detailed-exitcodes", manifest}
	return []tool{
		{
			name: agentName, files: ours, apply: []string{"soe-agent", "apply"}, plan: []string{"soe-agent", "plan"},
			after: []string{"systemctl", "restart", box.PCoIPService}, done: []int{0}, turns: 5,
		},
		{
			name: "cfengine", files: peer(promises, bench.Workload.CFEngine), apply: cfengine,
			before: know, after: cfengine, debian: "cfengine3", done: []int{0}, turns: 1,
		},
		{
			name: "puppet", files: peer(manifest, bench.Workload.Puppet), apply: puppet,
			before: know, after: puppet, debian: "puppet-agent", done: []int{0, 2}, turns: 1,
		},
	}, nil
}

func readUnits(names ...string) (map[string]box.File, error) {
	files := map[string]box.File{}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files["/usr/lib/systemd/system/"+filepath.Base(name)] = box.File{Content: string(content)}
	}
	return files, nil
}

// A machine is one box with one tool in it.
type machine struct {
	*box.Box
	tool     tool
	workload bench.Workload
}

func boot(ctx context.Context, t tool, w bench.Workload) (*machine, error) {
	repo, err := rpmrepo.Open()
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var conf box.Config
	for _, option := range []box.Option{
		box.Peers(), box.ThinImage(), box.WithBind(repo.Dir, rpmrepo.MountPoint), box.WithBind(program, self), box.WithFiles(t.files(w)),
	} {
		option(&conf)
	}
	b, err := box.Start(ctx, conf)
	if err != nil {
		return nil, err
	}
	m := &machine{Box: b, tool: t, workload: w}
	// Puppet 7 cannot read a database of RPMs that holds one only.
	if _, err := m.must(ctx, "sh", "-c", "rpm --force-debian -i "+rpmrepo.MountPoint+"/workspaces-tool-*.rpm"); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return m, nil
}

// must runs a command of which only the success matters.
func (m *machine) must(ctx context.Context, argv ...string) (string, error) {
	r, err := m.Exec(ctx, argv...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("cannot run %q: it ends with code %d: %s%s", strings.Join(argv, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout, err
}

// run measures one command, which must succeed as an apply does.
func (m *machine) run(ctx context.Context, argv ...string) (sample, error) {
	out, err := m.must(ctx, append([]string{self, measureArg}, argv...)...)
	if err != nil {
		return sample{}, err
	}
	var s sample
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return sample{}, err
	}
	if !slices.Contains(m.tool.done, s.Code) {
		return s, fmt.Errorf("cannot measure %q: it ends with code %d: %s", strings.Join(argv, " "), s.Code, end(s.Said))
	}
	return s, nil
}

// version is what of the tool is measured.
func (m *machine) version(ctx context.Context) (string, error) {
	if m.tool.debian == "" {
		return "", nil
	}
	version, err := m.must(ctx, "dpkg-query", "-W", "-f", "${Version}", m.tool.debian)
	return m.tool.name + " " + version, err
}

// end is the end of what a command said, which may be long.
func end(said string) string { return said[max(0, len(said)-2000):] }

// first measures the apply on a machine of which nothing is in line yet, and makes
// sure that it reached what it should.
func (m *machine) first(ctx context.Context) (sample, error) {
	if m.tool.before != nil {
		if _, err := m.must(ctx, m.tool.before...); err != nil {
			return sample{}, err
		}
	}
	s, err := m.run(ctx, m.tool.apply...)
	if err != nil {
		return s, err
	}
	installed, err := m.must(ctx, "rpm", "-qa", "--qf", "%{NAME}\n")
	if err != nil {
		return s, err
	}
	if missing := m.workload.Missing(m.ReadFile, strings.Fields(installed)); len(missing) > 0 {
		return s, fmt.Errorf("cannot compare: %s did not bring %d things into line, such as %s: %s", m.tool.name, len(missing), missing[0], end(s.Said))
	}
	_, err = m.run(ctx, m.tool.after...)
	return s, err
}

// A state is what a run with nothing to change must leave as it is: the identity
// and time of every file in /etc, and the names of the packages.
type state map[string]string

func (m *machine) state(ctx context.Context) (state, error) {
	found := state{}
	packages, err := m.must(ctx, "rpm", "-qa")
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Fields(packages) {
		found["package "+name] = ""
	}
	return found, filepath.WalkDir(filepath.Join(m.Root, "etc"), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		s := info.Sys().(*syscall.Stat_t)
		found[strings.TrimPrefix(name, m.Root)] = fmt.Sprint(s.Ino, s.Mode, s.Uid, s.Gid, s.Size, s.Mtim)
		return nil
	})
}

// differs names what is not the same in both.
func (s state) differs(other state) []string {
	var names []string
	for name := range s {
		if was, there := other[name]; !there || was != s[name] {
			names = append(names, name)
		}
	}
	for name := range other {
		if _, there := s[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
