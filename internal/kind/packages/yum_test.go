package packages

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A world is what is installed and what the repositories have, by name. Versions are
// VERSION-RELEASE; in the repositories, oldest first.
type world struct {
	installed  map[string]string
	repository map[string][]string
	requires   map[string]string // maps a package to the one that it requires
	from       string            // the id of the repository that has them all, or "": no option disables it
	broken     map[string]string // packages that cannot be installed: "nodep", "unsigned", "badpre"
}

// A yum is a fake of yum 3.4.3 and its rpm, which are not available where these tests run. It
// behaves as the real one was recorded to. The shell always exits with 0. An unknown name stops
// nothing. One package that cannot be resolved or is not signed stops everything. A failing %pre
// stops only its own package. Installing an older version does nothing. Dependents of a removed
// package are removed without a question. With exit_on_lock it does not wait for a lock, and exits
// with 1.
type yum struct {
	t    *testing.T
	root string
	world

	brings       map[string]string // maps a package to the dependency installed with it
	groups       map[string][]string
	security     []string          // packages whose newest version is a security update
	came         map[string]int    // id of the transaction that installed a package
	twice        map[string]string // the older version that a killed update left recorded beside the newer
	downCode     int               // exit code of the shell if a repository cannot be reached: 0 with 2 retries, 1 with 7
	dead         []string          // repositories that cannot be reached
	locked       int               // so many more commands find the lock held
	lost         bool              // the database was truncated, and rpm has started an empty one
	stale        bool              // check-update warns of a repository that cannot be reached
	offline      bool              // no repository can be reached
	extras       bool              // amazon-linux-extras is installed
	imported     []string
	transactions [][]string
	ran          []string
}

func (y *yum) Run(_ context.Context, c system.Command) (system.Output, error) {
	y.ran = append(y.ran, c.String())
	args := c.Argv[1:]
	switch {
	case c.Argv[0] == "rpm" && args[0] == "-q" && slices.Contains(args, "--whatprovides"):
		return y.whatProvides(args[len(args)-1]), nil
	case c.Argv[0] == "rpm" && args[0] == "-q" && args[3] == "gpg-pubkey":
		return y.keys(), nil
	case c.Argv[0] == "rpm" && args[0] == "-q":
		return y.query(args[3:]), nil
	case c.Argv[0] == "rpm" && args[0] == "-qa" && strings.Contains(c.String(), "INSTALLTID"):
		return y.transactionIDs(), nil
	case c.Argv[0] == "rpm" && args[0] == "-qa" && y.lost:
		return system.Output{}, nil
	case c.Argv[0] == "rpm" && args[0] == "-qa":
		out := y.query(slices.Sorted(maps.Keys(y.installed)))
		out.Stdout = append(out.Stdout, "=basesystem\t0\t10.0\t7\tnoarch\tbasesystem \n"...) // every machine has some package
		return out, nil
	case c.Argv[0] == "package-cleanup" && c.Scope != "":
		y.twice = nil
		y.touch()
		return system.Output{}, nil
	case c.Argv[0] == "yum-complete-transaction" && c.Scope != "":
		return y.completeTransaction(slices.Contains(args, "--cleanup-only")), nil
	case c.Argv[0] == "rpm" && args[0] == "--import":
		y.imports(args[1])
		return system.Output{}, nil
	case c.Argv[0] == "rpm" && args[0] == "-e":
		return y.testErase(args[3:]), nil
	case c.Argv[0] == "amazon-linux-extras" && y.extras:
		section := "[amzn2extra-" + args[1] + "]\n"
		content, _ := os.ReadFile(filepath.Join(y.root, extrasFile))
		y.write(extrasFile, strings.Replace(string(content), section+"enabled = 0", section+"enabled = 1", 1))
		return system.Output{}, nil
	case c.Argv[0] == "amazon-linux-extras":
		return system.Output{}, system.ErrNotInstalled
	case c.Argv[0] != "yum":
		y.t.Errorf("nobody expected %s", c)
		return system.Output{ExitCode: 127}, nil
	}
	if y.locked > 0 && slices.Contains(args, "--setopt=exit_on_lock=True") {
		y.locked--
		return said(1, "", "Existing lock /var/run/yum.pid: another copy is running as pid 4077.\n\n\nAnother app is currently holding the yum lock; exiting as configured by exit_on_lock\n"), nil
	}
	for _, repository := range y.dead {
		if !slices.Contains(args, "--disablerepo="+repository) && !slices.Contains(args, "clean") {
			return y.stops(repository, slices.Contains(args, "shell")), nil
		}
	}
	if y.from != "" && slices.Contains(args, "--disablerepo="+y.from) {
		defer func(all map[string][]string) { y.repository = all }(y.repository)
		y.repository = nil
	}
	switch {
	case slices.Contains(args, "check-update"):
		names := args[slices.Index(args, "check-update")+1:]
		if len(names) == 0 {
			names = y.updatable(args)
		}
		return y.checkUpdate(names), nil
	case slices.Contains(args, "update"):
		if !slices.Contains(args, "-y") || c.Scope == "" || c.ReadOnly {
			y.t.Errorf("a transaction runs as %+v", c)
		}
		return y.update(args), nil
	case slices.Contains(args, "shell"):
		if !slices.Contains(args, "-y") || c.Scope == "" || c.ReadOnly {
			y.t.Errorf("a transaction runs as %+v", c)
		}
		return y.shell(), nil
	case slices.Contains(args, "clean"):
		return system.Output{}, nil
	}
	y.t.Errorf("nobody expected %s", c)
	return system.Output{}, nil
}

func said(code int, stdout, stderr string) system.Output {
	return system.Output{ExitCode: code, Stdout: []byte(stdout), Stderr: []byte(stderr)}
}

func (y *yum) write(name, content string) {
	y.t.Helper()
	file := filepath.Join(y.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		y.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		y.t.Fatal(err)
	}
}

// touch changes the rpm database as a transaction does.
func (y *yum) touch() {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(y.installed)) {
		b.WriteString(name + "-" + y.installed[name] + "\n")
	}
	y.write("/var/lib/rpm/Packages", b.String()+strings.Repeat(".", len(y.transactions)+1))
}

func (y *yum) query(names []string) system.Output {
	var out system.Output
	for _, asked := range names {
		found := false
		for _, key := range slices.Sorted(maps.Keys(y.installed)) {
			version := y.installed[key]
			name, arch := policy.PackageArch(key)
			arch = cmp.Or(arch, "noarch")
			v, r, _ := strings.Cut(version, "-")
			labels := []string{name, name + "." + arch, name + "-" + v, name + "-" + version, name + "-" + version + "." + arch}
			if !slices.Contains(labels, asked) {
				continue
			}
			found = true
			out.Stdout = fmt.Appendf(out.Stdout, "=%s\t0\t%s\t%s\t%s\t%s \n", name, v, r, arch, name)
			if v, r, too := strings.Cut(y.twice[name], "-"); too {
				out.Stdout = fmt.Appendf(out.Stdout, "=%s\t0\t%s\t%s\t%s\t%s \n", name, v, r, arch, name)
			}
		}
		if !found {
			name := asked
			out.Stdout = fmt.Appendf(out.Stdout, "package %s is not installed\n", name)
			out.ExitCode++
		}
	}
	return out
}

// transactionIDs lists the transaction that installed each package.
func (y *yum) transactionIDs() system.Output {
	var out system.Output
	for _, name := range slices.Sorted(maps.Keys(y.installed)) {
		out.Stdout = fmt.Appendf(out.Stdout, "%s\t%d\n", name, y.came[name])
	}
	return out
}

// stops is yum's output for an unreachable repository without cached metadata. yum does nothing
// else then.
func (y *yum) stops(repository string, shell bool) system.Output {
	const url = "http://repo.example:82/repodata/repomd.xml: [Errno 14] curl#7 - \"Failed to connect to repo.example port 82: Connection refused\"\n"
	code := 1
	if shell {
		code = y.downCode
	}
	return said(code, "Loaded plugins: versionlock\n", url+"Trying other mirror.\n\n\n One of the configured repositories failed (The name of it),\n"+
		" and yum doesn't have enough cached data to continue. At this point the only\n safe thing yum can do is fail.\n\n"+
		"     3. Run the command with the repository temporarily disabled\n            yum --disablerepo="+repository+" ...\n\n"+
		"failure: repodata/repomd.xml from "+repository+": [Errno 256] No more mirrors to try.\n"+url)
}

// completeTransaction acts as yum-complete-transaction does: it installs what the lists say, and
// fails with exit code 0 if a package is recorded twice.
func (y *yum) completeTransaction(cleanupOnly bool) system.Output {
	dir := filepath.Join(y.root, yumState)
	lists, _ := filepath.Glob(filepath.Join(dir, "transaction-all.*"))
	if !cleanupOnly && len(y.twice) > 0 {
		return said(0, "Transaction check error:\nNot removing old transaction files\n", "")
	}
	for _, list := range lists {
		content, _ := os.ReadFile(list)
		for line := range strings.Lines(string(content)) {
			verb, nevra, _ := strings.Cut(strings.TrimSpace(line), " 0:")
			if name := nameOf(nevra); verb == "install" && !cleanupOnly {
				y.installed[name] = strings.TrimSuffix(strings.TrimPrefix(nevra, name+"-"), ".noarch")
			} else if !cleanupOnly {
				delete(y.installed, name)
			}
		}
		os.Remove(list)
	}
	y.touch()
	return system.Output{}
}

func (y *yum) keys() system.Output {
	if len(y.imported) == 0 {
		return said(1, "package gpg-pubkey is not installed\n", "")
	}
	return said(0, strings.Join(y.imported, "\n")+"\n", "")
}

func (y *yum) imports(name string) {
	content, err := os.ReadFile(filepath.Join(y.root, name))
	if err != nil {
		y.t.Error(err)
	}
	keys, err := parseKeys(content)
	if err != nil {
		y.t.Error(err)
	}
	for _, key := range keys {
		y.imported = append(y.imported, strings.ToLower(key.fingerprint[32:]))
	}
	y.write("/var/lib/rpm/Packages", strings.Repeat("key", len(y.imported)))
}

func (y *yum) whatProvides(name string) system.Output {
	if name == "vim" && y.installed["vim-enhanced"] != "" {
		return said(0, "vim-enhanced\n", "")
	}
	return said(1, "no package provides "+name+"\n", "")
}

func (y *yum) testErase(names []string) system.Output {
	for i := range names {
		names[i] = strings.TrimSuffix(names[i], ".noarch")
	}
	var b strings.Builder
	for _, dependent := range slices.Sorted(maps.Keys(y.requires)) {
		version, there := y.installed[dependent]
		if there && slices.Contains(names, y.requires[dependent]) && !slices.Contains(names, dependent) {
			fmt.Fprintf(&b, "\t%s is needed by (installed) %s-%s.noarch\n", y.requires[dependent], dependent, version)
		}
	}
	if b.Len() == 0 {
		return system.Output{}
	}
	return said(1, "", "error: Failed dependencies:\n"+b.String())
}

func (y *yum) checkUpdate(names []string) system.Output {
	out := system.Output{}
	if y.offline {
		return said(1, "", "Cannot find a valid baseurl for repo: corp\n")
	}
	if y.stale {
		out.Stderr = []byte("http://repo.example/repodata/repomd.xml: [Errno 14] curl#7 - \"Failed to connect\"\nTrying other mirror.\n")
	}
	for _, name := range names {
		if all := y.repository[name]; y.installed[name] != "" && len(all) > 0 && all[len(all)-1] != y.installed[name] {
			out.ExitCode = 100
		}
	}
	return out
}

// updatable returns the installed packages that the options do not exclude.
func (y *yum) updatable(options []string) []string {
	var spared []string
	for _, option := range options {
		if names, is := strings.CutPrefix(option, "--exclude="); is {
			spared = strings.Split(names, ",")
		}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(y.installed)), func(name string) bool {
		return slices.Contains(spared, name) || slices.Contains(options, "--security") && !slices.Contains(y.security, name)
	})
}

// update updates all packages, or none if one cannot be resolved, unless it is told to skip such
// packages.
func (y *yum) update(options []string) system.Output {
	y.transactions = append(y.transactions, options)
	next := maps.Clone(y.installed)
	for _, name := range y.updatable(options) {
		_, newest := y.find(name)
		switch {
		case newest == "":
		case y.broken[name] == "nodep" && slices.Contains(options, "--skip-broken"):
		case y.broken[name] == "nodep":
			return said(1, "", "Error: Package: "+name+"-"+newest+".noarch (corp)\n    Requires: does-not-exist\n")
		default:
			next[name] = newest
		}
	}
	y.installed = next
	y.touch()
	return said(0, "Complete!\n", "")
}

// shell runs the script. It always exits with 0.
func (y *yum) shell() system.Output {
	script, err := os.ReadFile(filepath.Join(y.root, scriptFile))
	if err != nil {
		y.t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(string(script)), "\n")
	if lines[len(lines)-1] != "run" {
		y.t.Errorf("the script does not end with run: %q", lines)
	}
	lines = lines[:len(lines)-1]
	y.transactions = append(y.transactions, lines)
	var stdout, stderr strings.Builder
	next := maps.Clone(y.installed)
	for _, line := range y.expandGroups(lines, &stdout) {
		verb, spec, _ := strings.Cut(line, " ")
		name, version := y.find(spec)
		switch {
		case verb == "remove":
			delete(next, spec)
			for key := range next {
				if name, _ := policy.PackageArch(key); name == spec {
					delete(next, key)
				}
			}
			for dependent, on := range y.requires {
				if on == spec {
					delete(next, dependent)
				}
			}
		case name == "":
			fmt.Fprintf(&stdout, "No package %s available.\n", spec)
		case y.broken[name] == "nodep":
			fmt.Fprintf(&stderr, "Error: Package: %s-%s.noarch (corp)\n    Requires: does-not-exist\n", name, version)
			return said(0, "Leaving Shell\n", stderr.String())
		case y.broken[name] == "unsigned":
			fmt.Fprintf(&stderr, "Error: Package %s-%s.noarch.rpm is not signed\n", name, version)
			return said(0, stdout.String(), stderr.String())
		case y.broken[name] == "badpre":
			fmt.Fprintf(&stdout, "error: %%prein(%s-%s.noarch) scriptlet failed, exit status 3\nFinished Transaction\n", name, version)
			fmt.Fprintf(&stderr, "Error in PREIN scriptlet in rpm package %s-%s.noarch\n", name, version)
		case verb == "install" && y.installed[name] != "" && rpmvercmp(version, y.installed[name]) < 0:
			fmt.Fprintf(&stdout, "Package matching %s-%s.noarch already installed. Checking for update.\n", name, version)
		case name == "vim":
			next["vim-enhanced"] = version
		default:
			next[name] = version
			if along := y.brings[name]; along != "" && next[along] == "" {
				next[along] = "1.0-1"
			}
		}
	}
	for name := range next {
		if y.installed[name] == "" {
			y.came[name] = len(y.transactions)
		}
	}
	y.installed = next
	y.touch()
	return said(0, stdout.String()+"Finished Transaction\nLeaving Shell\n", stderr.String())
}

// expandGroups replaces groups with their packages, and fetches the list of groups.
func (y *yum) expandGroups(lines []string, stdout *strings.Builder) []string {
	var all []string
	for _, line := range lines {
		group, is := strings.CutPrefix(line, `install "@`)
		if !is {
			all = append(all, line)
			continue
		}
		group = strings.TrimSuffix(group, `"`)
		var list strings.Builder
		list.WriteString("<comps>")
		for id, members := range y.groups {
			fmt.Fprintf(&list, "<group><id>%s</id><name>The %s</name><name xml:lang=\"de\">Die</name><packagelist>", id, id)
			for _, name := range members {
				fmt.Fprintf(&list, `<packagereq type="mandatory">%s</packagereq>`, name)
			}
			list.WriteString(`<packagereq type="default">usual</packagereq></packagelist></group>`)
		}
		y.write("/var/cache/yum/x86_64/2/corp/gen/groups.xml", list.String()+"</comps>")
		if y.groups[group] == nil {
			fmt.Fprintf(stdout, "Group %s does not exist.\n", group)
		}
		for _, name := range y.groups[group] {
			all = append(all, "install "+name)
		}
	}
	return all
}

// find finds NAME, NAME-VERSION or NAME-VERSION-RELEASE in the repositories.
func (y *yum) find(spec string) (name, version string) {
	list, _ := os.ReadFile(filepath.Join(y.root, "/etc/yum/pluginconf.d/versionlock.list"))
	for name, all := range y.repository {
		all = slices.DeleteFunc(slices.Clone(all), func(v string) bool {
			return strings.Contains(string(list), ":"+name+"-") && !strings.Contains(string(list), "0:"+name+"-"+v+".*\n")
		})
		if len(all) == 0 {
			continue
		}
		if name == spec {
			return name, all[len(all)-1]
		}
		base, arch := policy.PackageArch(name)
		for _, v := range all {
			number := strings.Split(v, "-")[0]
			names := []string{name + "-" + v, name + "-" + number, base + "-" + v + "." + cmp.Or(arch, "noarch"), base + "-" + number + "-[0-9]*." + cmp.Or(arch, "noarch")}
			if slices.Contains(names, spec) {
				return name, v
			}
		}
	}
	return "", ""
}

// A clock on which sleeping takes no time.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.now = c.now.Add(d)
	return ctx.Err()
}
