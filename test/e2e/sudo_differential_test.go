package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/kind/sudo"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/box"
)

var (
	sudoersFiles = flag.Int("sudoers-files", 400, "how many generated trees of sudoers files the real sudo is asked about")
	sudoersSeed  = flag.Uint64("sudoers-seed", 1, "what they are generated from")
)

// scribe writes sudoers files as nobody should.
type scribe struct{ *rand.Rand }

func (s scribe) of(all ...string) string { return all[s.IntN(len(all))] }

// in says yes in n of a hundred cases.
func (s scribe) in(n int) bool { return s.IntN(100) < n }

func (s scribe) user() string {
	one := s.of("user", "user", "user", "user", "ALL", "ALL", "ec2-user", "dadmin", `EXAMPLE\\jo\ doe`, `"EXAMPLE\jo doe"`, `EXAMPLE\\jo\x20doe`, "User", "us\\x65r", `u\ser`, `"user"`, "USER",
		"#1000", "#1001", "#1500", "#01000", "%sudo", "%wheel", "%domain-admins", `%EXAMPLE\\domain\ users`, `"%EXAMPLE\domain users"`, "%#27", "%#1500", `"%#27"`, "%:sudo", "%:#27",
		"+ops", "+nobody", "ALL", "ADMINS", "STAFF", "NOBODY_KNOWS", "nobody-knows", `"#1000"`, `\#1000`, "root")
	for s.in(20) {
		one = "!" + s.of("", " ") + one
	}
	return one
}

func (s scribe) users() string {
	all := []string{s.user()}
	for s.in(35) {
		all = append(all, s.user())
	}
	return strings.Join(all, s.of(",", ", ", " ,\t", ", \\\n  "))
}

func (s scribe) host() string {
	return s.of("ALL", "ALL", "ALL", "ALL", "ALL", "ALL", "ALL", "ALL", "HOSTS", "!nowhere", "ALL, !nowhere", "nowhere", "0.0.0.0/0", "+ops", "!ALL")
}

func (s scribe) command() string {
	one := s.of("ALL", "ALL", "ALL", "ALL", "/usr/bin/bash", "/usr/bin/bash", "/usr/bin/id", "/usr/bin/id", "/usr/bin/", "/usr/bin/b*", "/usr/bin/env A\\=B", `/usr/bin/id ""`, "/usr/bin/[a-z]*", "sudoedit /etc/motd", "SHELLS",
		"/usr/bin/id -u, ALL", "sha224:0000 /usr/bin/id", "list", `/usr/bin/a\,b`, `/usr/bin/x \"a b\"`, "/usr/bin/id #1", `"/usr/bin/id"`, "^/usr/bin/.*$", "/usr/bin/id ^-[a-z]$")
	for s.in(25) {
		one = "!" + s.of("", " ") + one
	}
	return one
}

func (s scribe) as() string {
	return s.of("", "", "(ALL)", "(ALL:ALL)", "(root)", "(ALL, !root)", "(RUN)", "(#0)", "(:sudo)", "(bin:ALL)", "( ALL : ALL )", "(!root)", "()", "(%sudo)")
}

func (s scribe) tags() (tags string) {
	for s.in(20) {
		tags += s.of("NOPASSWD:", "NOPASSWD: ", "PASSWD : ", "SETENV: ", "NOEXEC:", "MAIL: ", "CWD=/tmp ", "TIMEOUT=5 ", "NOTBEFORE=20200101000000Z ", "NOTAFTER=20200101000000Z ", "NOTAFTER=20990101000000Z ", "BOGUS: ")
	}
	return tags
}

func (s scribe) grant() string {
	privilege := func() string {
		commands := []string{s.as() + s.of("", " ") + s.tags() + s.command()}
		for s.in(25) {
			as := ""
			if s.in(20) {
				as = s.as() + " "
			}
			commands = append(commands, as+s.tags()+s.command())
		}
		return s.host() + s.of("=", " = ", " \\\n=") + strings.Join(commands, s.of(",", ", "))
	}
	line := s.users() + s.of(" ", "\t", "  ", " \\\n ") + privilege()
	for s.in(10) {
		line += " : " + privilege()
	}
	return line
}

func (s scribe) alias() string {
	name, users := s.of("ADMINS", "STAFF"), s.users()
	return s.of(
		"User_Alias "+name+" = "+users, "User_Alias "+name+"="+users, "User_Alias ADMINS = dadmin : STAFF = "+users, "User_Alias STAFF = ADMINS, !user",
		"Cmnd_Alias SHELLS = /usr/bin/bash, /usr/bin/sh", "Cmnd_Alias SHELLS = !/usr/bin/id, ALL", "Host_Alias HOSTS = ALL", "Runas_Alias RUN = root, bin", "Runas_Alias RUN = ALL : OTHER = bin",
	)
}

func (s scribe) defaults() string {
	return "Defaults" + s.of("", "", ":user", ":%sudo", ":ADMINS", "@ALL", ">root", "!/usr/bin/id", ": user") + s.of(" ", "\t", "  ") +
		s.of("env_reset", "!authenticate", "insults, !lecture", `secure_path="/usr/bin:/bin"`, "targetpw", "bogus", `badpass_message = "a, b"`, `passprompt="x # y"`, "timestamp_timeout=-1", "!!authenticate", "env_keep += \"A B\"", "match_group_by_gid", "!case_insensitive_user")
}

func (s scribe) odd() string {
	return s.of("# user ALL=(ALL) ALL", "#user ALL=(ALL) ALL", "", "# x \\", "  # y", "user", "user ALL", "user ALL=", "= ALL", "user ALL=(ALL ALL", `"user ALL=(ALL) ALL`, "#include /etc/sudoers.local", "@include /etc/sudoers.local",
		"@include \"/etc/sudoers.local\"", "  @include /etc/sudoers.local", "  #include /etc/sudoers.local", "#includedir /opt/more", "@includedir /opt/more", "@includedir \"/opt/more\"", "#include nowhere", "@include sudoers.local", "#include /etc/sudoers.%h", "user ALL=(ALL) ALL #", "user ALL=(ALL) ALL \\", "\\", "\\\n", "\\\nuser ALL=(ALL) ALL",
		"#includedir\t/opt/more", "#includeuser ALL=ALL", "Defaultsuser ALL=ALL", "User_Aliasuser ALL=ALL", "user ALL=(ALL) ALL user ALL=ALL", "\tuser ALL=(ALL) ALL\t", "user\tALL\t=\t(\tALL\t)\tALL", "\r\nuser ALL=(ALL) ALL\r", "user ALL=(ALL) ALL\f")
}

func (s scribe) line() string {
	switch n := s.IntN(100); {
	case n < 60:
		return s.grant()
	case n < 72:
		return s.alias()
	case n < 82:
		return s.defaults()
	}
	return s.odd()
}

func (s scribe) file(lines int) string {
	var all strings.Builder
	for range 1 + s.IntN(lines) {
		all.WriteString(s.line() + s.of("\n", "\n", "\n", "\n", "\n", "\r\n", "\n\n"))
	}
	text := all.String()
	if s.in(10) {
		text = strings.TrimSuffix(text, "\n")
	}
	return text
}

// tree is a machine's sudoers files by name.
func (s scribe) tree() map[string]string {
	main := "Defaults env_reset\nroot ALL=(ALL) ALL\n"
	for s.in(25) {
		main += s.line() + "\n"
	}
	main += s.of("#includedir /etc/sudoers.d\n", "@includedir /etc/sudoers.d\n")
	for s.in(25) {
		main += s.line() + "\n"
	}
	files := map[string]string{"/etc/sudoers": main, "/etc/sudoers.local": s.file(2), "/opt/more/x": s.file(2)}
	for range 1 + s.IntN(2) {
		files["/etc/sudoers.d/"+s.of("00-a", "50-x", "50-x", "zzz", "zzz", "zz-soe-sudo0", "~0", "zz-soe-sudo.x", "x~")] = s.file(3)
	}
	return files
}

// agreeable finds no fault with any file: what the real sudo makes of it is asked afterwards.
type agreeable struct{ accounts, groups string }

func (a agreeable) Run(_ context.Context, c system.Command) (system.Output, error) {
	last := c.Argv[len(c.Argv)-1]
	lookup := func(database string) (system.Output, error) {
		for line := range strings.Lines(database) {
			if f := strings.Split(strings.TrimSpace(line), ":"); f[0] == last || f[2] == last {
				return system.Output{Stdout: []byte(line)}, nil
			}
		}
		return system.Output{ExitCode: 2}, nil
	}
	switch c.Argv[0] {
	case "visudo":
		return system.Output{}, nil
	case "sudo":
		return system.Output{Stdout: []byte("User root may run the following commands on here:\n")}, nil
	case "getent":
		if c.Argv[1] == "passwd" {
			return lookup(a.accounts)
		}
		return lookup(a.groups)
	case "id":
		return system.Output{Stdout: []byte(map[string]string{"dadmin": "dadmin\x00domain-admins\x00", "root": "root\x00"}[last] + "some\x00")}, nil
	}
	return system.Output{}, system.ErrNotInstalled
}

// judged has the agent bring a tree into line by its texts, below a root of its own, and
// returns what it then says.
func judged(t *testing.T, root string, files map[string]string, names agreeable) converge.Resource {
	t.Helper()
	all := map[string]string{"/usr/bin/sudo": "", "/etc/passwd": names.accounts, "/etc/group": names.groups, "/home/x": ""}
	maps.Copy(all, files)
	for name, content := range all {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o440)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	s.Runner = names
	p := &policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: []string{"root", "%domain-admins"}}}}}
	ledger, err := converge.OpenLedger(s.FS, "/var/lib/soe-agent", facts.Identity{MachineID: "machine"})
	if err != nil {
		t.Fatal(err)
	}
	return converge.New(p, []converge.Kind{sudo.New(p, s)}, ledger, s.Clock, slog.New(slog.DiscardHandler)).Pass(t.Context()).Resources[0]
}

// askAll has the sudo of a machine list what some may do by each of the trees in /trees, with
// one process for the loop: NAME, a person and what is said, after a mark each.
const askAll = `cd /trees; for d in *; do
ln -sfn /trees/$d /cur
for u in user ec2-user 'EXAMPLE\jo doe' dadmin; do printf '\n\001%s\002%s\002' "$d" "$u"; COLUMNS=1000000 sudo -n -ll -U "$u" 2>/dev/null || :; done
done; :`

// Whatever stands in the files: once the agent has been over them and calls them in line, by
// their text alone, the sudo that is installed lists nothing for anybody who is not allowed.
func TestOfWhatTheAgentCallsInLineTheRealSudoListsNothingForAnybodyWhoIsNotAllowed(t *testing.T) {
	t.Parallel()
	trees, err := os.MkdirTemp("/dev/shm", "soe-sudoers-") // each tree is synced to disk many times
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(trees) })
	d := newDesktop(t, box.WithBind(trees, "/trees"))
	d.sh(t, knowsPerson+"echo 'ops (,user,)' > /etc/netgroup; sed -i 's/^netgroup:.*/netgroup: files/' /etc/nsswitch.conf")
	names := agreeable{d.MustReadFile(t, "/etc/passwd"), d.MustReadFile(t, "/etc/group")}
	// The machine's files are those of whatever tree /cur is.
	d.sh(t, `mkdir -p /opt; rm -rf /etc/sudoers.d /etc/sudoers /opt/more
for f in etc/sudoers etc/sudoers.d etc/sudoers.local opt/more; do ln -s /cur/$f /$f; done`)
	random := scribe{rand.New(rand.NewPCG(*sudoersSeed, 11))}
	inLine, asked, had := 0, 0, 0
	for asked < *sudoersFiles {
		states := map[string]converge.Resource{}
		before := map[string]map[string]string{}
		for range min(500, *sudoersFiles-asked) {
			name := fmt.Sprintf("%06d", asked)
			asked++
			before[name] = random.tree()
			states[name] = judged(t, filepath.Join(trees, name), before[name], names)
			if asked%10 == 0 { // as it was: or the files give nothing to begin with
				plant(t, filepath.Join(trees, name+"-before"), before[name])
			}
		}
		for block := range strings.SplitSeq(d.sh(t, askAll), "\n\x01") {
			parts := strings.SplitN(block, "\x02", 3)
			if len(parts) < 3 {
				continue
			}
			name, isBefore := strings.CutSuffix(parts[0], "-before")
			l, err := listing(t, parts[1], parts[2])
			granted := err == nil && len(l.Granted()) > 0
			switch {
			case isBefore:
				if granted && parts[1] != "dadmin" {
					had++
				}
			case !states[name].State.InLine():
			case parts[1] == "dadmin":
				inLine++
			case err != nil || granted:
				t.Errorf("seed %d, tree %s: %s, %v: it is called %s, and by\n%sthat became\n%ssudo says\n%s", *sudoersSeed, name, parts[1], err, states[name].State,
					shown(before[name]), shownBelow(t, filepath.Join(trees, name)), parts[2])
			}
		}
		if t.Failed() {
			return
		}
		emptied(t, trees)
	}
	t.Logf("%d trees, of which %d are called in line; of every tenth as it was, %d persons had a right", asked, inLine, had)
	if inLine < asked/2 || had < asked/20 {
		t.Error("these files try nothing")
	}
}

// emptied removes what is in a directory.
func emptied(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func plant(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o440)); err != nil {
			t.Fatal(err)
		}
	}
}

// listing is what the agent understands of what sudo said.
func listing(t *testing.T, user, said string) (sudoers.Listing, error) {
	t.Helper()
	s, err := system.Open(system.Options{Root: t.TempDir()}) // of sources it has files alone
	if err != nil {
		t.Fatal(err)
	}
	s.Runner = saidBySudo(said)
	return sudoers.List(t.Context(), s, user, nil)
}

type saidBySudo string

func (s saidBySudo) Run(context.Context, system.Command) (system.Output, error) {
	return system.Output{Stdout: []byte(s)}, nil
}

func shown(files map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&text, "%s: %q\n", name, files[name])
	}
	return text.String()
}

func shownBelow(t *testing.T, root string) string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && strings.Contains(name, "sudoers") {
			content, failed := os.ReadFile(name)
			files[strings.TrimPrefix(name, root)], err = string(content), failed
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return shown(files)
}
