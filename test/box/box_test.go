package box_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

func TestABoxIsAMachineOfItsOwn(t *testing.T) {
	t.Parallel()
	a, b := box.New(t), box.New(t)
	for _, x := range []*box.Box{a, b} {
		if got := x.MustExec(t, "systemctl", "is-system-running"); got != "running\n" {
			t.Errorf("is-system-running = %q\n%s", got, x.MustExec(t, "systemctl", "--failed"))
		}
		if got := x.MustExec(t, "hostname"); got != x.Name+"\n" {
			t.Errorf("hostname = %q, want %q", got, x.Name)
		}
	}
	if id := a.MustReadFile(t, "/etc/machine-id"); id == b.MustReadFile(t, "/etc/machine-id") || len(id) != 33 {
		t.Errorf("both boxes have the machine-id %q", id)
	}
	a.MustWriteFile(t, "/etc/only-here", box.File{})
	if _, err := b.ReadFile("/etc/only-here"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file of one box is in another: %v", err)
	}
}

func TestACommandsOutputAndExitCodeComeBack(t *testing.T) {
	t.Parallel()
	b := box.New(t)
	got, err := b.Exec(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 7")
	if want := (box.Result{Stdout: "out\n", Stderr: "err\n", Code: 7}); err != nil || got != want {
		t.Errorf("Exec = %+v, %v; want %+v", got, err, want)
	}
	if got, err := b.Exec(t.Context(), "sh", "-c", "kill -TERM $$"); err != nil || got.Code != 128+15 {
		t.Errorf("a command that SIGTERM ended: code %d, %v", got.Code, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := b.Exec(ctx, "sleep", "4711"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that takes too long: %v", err)
	}
	if got, _ := b.Exec(t.Context(), "pgrep", "-fx", "sleep 4711"); got.Code != 1 {
		t.Errorf("it lives on: %q", got.Stdout)
	}
	if got := b.MustExec(t, "env"); strings.Contains(got, "GOTOOLDIR") || !strings.Contains(got, "HOME=/root\n") {
		t.Errorf("the environment is not the box's: %s", got)
	}
}

func TestFilesAreThoseThatTheBoxSees(t *testing.T) {
	t.Parallel()
	early := box.File{Content: "early", Mode: 0o4750, UID: 7, GID: 8}
	b := box.New(t, box.WithFiles(map[string]box.File{"/opt/new/early": early}))
	if got := b.MustExec(t, "stat", "--format=%a %u %g", "/opt/new/early"); got != "4750 7 8\n" {
		t.Errorf("mode and owner = %q", got)
	}
	// /run is mounted only inside the box; /var/run is an absolute link, which would lead to the
	// host's.
	b.MustWriteFile(t, "/var/run/deep/down", box.File{Content: "hello"})
	if got := b.MustExec(t, "cat", "/run/deep/down"); got != "hello" {
		t.Errorf("the box reads %q", got)
	}
	b.MustExec(t, "sh", "-c", "echo inside >/run/deep/up")
	if got := b.MustReadFile(t, "/var/run/deep/up"); got != "inside\n" {
		t.Errorf("ReadFile = %q", got)
	}
}

func TestABoxThatIsNotBootedCanBePreparedFirst(t *testing.T) {
	t.Parallel()
	b := box.New(t, box.NotBooted(), box.WithSetup(func(root string) error {
		return os.WriteFile(filepath.Join(root, "etc/setup"), []byte("done"), 0o644)
	}))
	if b.Leader() != 0 {
		t.Fatal("it is running")
	}
	b.MustExec(t, "useradd", "prepared")
	if err := b.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.MustExec(t, "id", "prepared")
	if got := b.MustReadFile(t, "/etc/setup"); got != "done" {
		t.Errorf("what WithSetup wrote reads %q", got)
	}
}

func TestABoxKeepsItsDiskWhenItIsKilledAndWhenItReboots(t *testing.T) {
	t.Parallel()
	b := box.New(t)
	id := b.MustReadFile(t, "/etc/machine-id")
	for name, down := range map[string]func() error{
		"kill":   func() error { b.Kill(); return b.Boot(t.Context()) },
		"off":    func() error { return errors.Join(b.Off(t.Context()), b.Boot(t.Context())) },
		"reboot": func() error { return b.Reboot(t.Context()) },
		"reboot from inside": func() error {
			b.MustExec(t, "systemctl", "--no-block", "reboot")
			return errors.Join(b.Wait(t.Context()), b.Boot(t.Context()))
		},
	} {
		b.MustWriteFile(t, "/run/this-boot", box.File{})
		b.MustWriteFile(t, "/etc/stays", box.File{Content: name})
		if err := down(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := b.ReadFile("/run/this-boot"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it was not booted again: %v", name, err)
		}
		if got := b.MustReadFile(t, "/etc/stays"); got != name {
			t.Errorf("%s: the disk says %q", name, got)
		}
		if got := b.MustReadFile(t, "/etc/machine-id"); got != id {
			t.Errorf("%s: machine-id changed from %q to %q", name, id, got)
		}
	}
}

func TestABoxThatCannotBootSaysWhy(t *testing.T) {
	t.Parallel()
	b := box.New(t, box.NotBooted())
	b.MustExec(t, "rm", "/usr/lib/systemd/systemd", "/sbin/init")
	err := b.Boot(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot boot "+b.Name) || !strings.Contains(err.Error(), "xec") {
		t.Errorf("Boot = %v", err)
	}
}

func TestALoginIsASessionOfLogind(t *testing.T) {
	t.Parallel()
	b := box.New(t, box.ThinImage())
	session, err := b.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11")
	if err != nil {
		t.Fatal(err)
	}
	got := b.MustExec(t, "loginctl", "show-session", session.ID, "-p", "Name", "-p", "Type", "-p", "Class", "-p", "State")
	if diff := cmp.Diff("Name=user\nType=x11\nClass=user\nState=active\n", got); diff != "" {
		t.Error(diff)
	}
	if got := b.MustExecAs(t, box.DesktopUser, "systemctl", "--user", "is-active", "dbus.socket"); got != "active\n" {
		t.Errorf("the session's bus is %q", got)
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.MustExec(t, "loginctl", "--no-legend", "list-sessions"); got != "" {
		t.Errorf("after logout: %q", got)
	}
}

func TestAThinImageHasWhatAWSLeaves(t *testing.T) {
	t.Parallel()
	node := box.Activation{NodeID: "mi-0123456789abcdef0", Region: "eu-central-1", AccessKeyID: "AKIDEXAMPLE"}
	b := box.New(t, box.ThinImage(), box.WithFiles(node.Files()))
	for _, who := range []string{box.DesktopUser, box.DomainAdmin} {
		const become = "echo " + box.UserPassword + " | sudo --stdin --prompt= id --user"
		r, err := b.ExecAs(t.Context(), who, "sh", "-c", become)
		if want := (box.Result{Stdout: "0\n"}); err != nil || r != want {
			t.Errorf("%s becomes root: %+v, %v", who, r, err)
		}
	}
	if got := b.MustExec(t, "systemctl", "is-active", box.PCoIPService); got != "active\n" {
		t.Errorf("the PCoIP agent is %q", got)
	}
	if got := b.MustExec(t, "id", "user"); got != "uid=1000(user) gid=1000(user) groups=1000(user),27(sudo)\n" {
		t.Errorf("id = %s", got)
	}
	// polkitd logs an error if it cannot parse the rule.
	b.MustExec(t, "systemctl", "start", "polkit.service")
	b.MustExec(t, "journalctl", "--sync")
	if got := b.MustExec(t, "journalctl", "-u", "polkit", "--grep", "rror|Loading rules", "--no-pager", "-o", "cat"); strings.Contains(got, "rror") {
		t.Errorf("polkit says %s", got)
	}
	if got := b.MustExec(t, "gsettings", "get", "org.mate.session", "idle-delay"); got != "5\n" {
		t.Errorf("idle-delay of the schema = %q", got)
	}
}

func TestSignedPackagesInstallAndOthersDoNot(t *testing.T) {
	t.Parallel()
	repo, err := rpmrepo.Open()
	if err != nil {
		t.Fatal(err)
	}
	b := box.New(t, box.WithBind(repo.Dir, rpmrepo.MountPoint))
	b.MustWriteFile(t, "/etc/yum.repos.d/soe-test.repo", box.File{Content: rpmrepo.RepoFile()})
	if got := b.MustExec(t, "gpg", "--with-colons", "--show-keys", "/repo/RPM-GPG-KEY-soe-test"); !strings.Contains(got, ":"+repo.Fingerprint+":") {
		t.Errorf("fingerprint %s is not in\n%s", repo.Fingerprint, got)
	}
	for _, test := range []struct {
		packages string
		code     int
	}{
		{"soe-pkg-01-1.0-1 soe-pkg-40 soe-dep", 1}, // soe-dep requires the other version
		{"soe-pkg-02-1.0-1 soe-pkg-40 soe-dep", 0},
		{"soe-nodep", 1},
		{"soe-conflict", 1},
		{"soe-unsigned", 1},
		{"soe-wrongkey", 1},
		{"soe-badpre", 1},
		{"soe-badpost", 0}, // it is installed anyway
		{"soe-service soe-sudoers soe-account", 0},
	} {
		args := append([]string{"dnf", "-y", "install"}, strings.Fields(test.packages)...)
		if r, err := b.Exec(t.Context(), args...); err != nil || r.Code != test.code {
			t.Errorf("dnf install %s: code %d, %v\n%s%s", test.packages, r.Code, err, r.Stdout, r.Stderr)
		}
	}
	b.MustExec(t, "systemctl", "start", "soe-service.service")
	b.MustExec(t, "id", "soe-account")
	b.Kill()
	if err := b.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "soe-pkg-01-2.0-1.noarch\nsoe-pkg-02-1.0-1.noarch\nsoe-pkg-40-2.0-1.noarch\n"
	if diff := cmp.Diff(want, b.MustExec(t, "rpm", "-q", "soe-pkg-01", "soe-pkg-02", "soe-pkg-40")); diff != "" {
		t.Error(diff)
	}
}

func TestABoxReachesTheHostsLoopback(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(hello))
	defer server.Close()
	b := box.New(t)
	if got := fetch(t, b, server.Listener.Addr().String()); got != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestANetworkOfItsOwnReachesTheHostAloneAndCanBeCut(t *testing.T) {
	t.Parallel()
	a, b := box.New(t, box.WithNetwork()), box.New(t, box.WithNetwork())
	listener, err := net.Listen("tcp", netip.AddrPortFrom(a.HostAddr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(hello)}
	go server.Serve(listener)
	defer server.Close()
	addr := listener.Addr().String()
	if got := fetch(t, a, addr); got != "hello" {
		t.Errorf("over the network: %q", got)
	}
	if got := fetch(t, b, addr); !strings.Contains(got, "unreachable") {
		t.Errorf("from another box: %q", got)
	}
	if err := a.LinkDown(); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, a, addr); got == "hello" {
		t.Error("the host is reached over a link that is down")
	}
	if err := a.LinkUp(); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, a, addr); got != "hello" {
		t.Errorf("when the link is up again: %q", got)
	}
	a.Kill()
	if err := a.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, a, addr); got != "hello" {
		t.Errorf("after another boot: %q", got)
	}
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// fetch gets a page from inside the box, or returns the error as text. Python is there because dnf
// needs it.
func fetch(t *testing.T, b *box.Box, addr string) string {
	t.Helper()
	const script = "import sys,urllib.request as u\ntry: print(u.urlopen('http://'+sys.argv[1],timeout=1).read().decode(),end='')\nexcept Exception as e: print(e)"
	return b.MustExec(t, "python3", "-c", script, addr)
}

func TestABoxWithOldCgroupsBoots(t *testing.T) {
	t.Parallel()
	b := box.New(t, box.ThinImage(), box.CgroupV1())
	if got := b.MustExec(t, "stat", "--file-system", "--format=%T", "/sys/fs/cgroup"); got != "tmpfs\n" {
		t.Errorf("/sys/fs/cgroup is a %q", got)
	}
	if got := b.MustExec(t, "systemctl", "is-system-running"); got != "running\n" {
		t.Errorf("is-system-running = %q", got)
	}
	session, err := b.Login(t.Context(), box.DesktopUser)
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	if err := b.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsLeftOfABox(t *testing.T) {
	t.Parallel()
	for _, conf := range []box.Config{{Network: true}, {CgroupV1: true}, {NotBooted: true}} {
		b, err := box.Start(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		if left := leftOf(t, b.Name); len(left) == 0 {
			t.Fatal("the traces of a box are not seen")
		}
		if err := errors.Join(b.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
		if left := leftOf(t, b.Name); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
	}
}

// TestMain lets this binary also be the process that TestABoxDoesNotOutliveTheProcessThatMadeIt
// kills.
func TestMain(m *testing.M) {
	if os.Getenv("SOE_TEST_BOX_VICTIM") != "" {
		b, err := box.Start(context.Background(), box.Config{Network: true})
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(b.Name)
		os.Stdout.Close()
		select {}
	}
	os.Exit(m.Run())
}

func TestABoxDoesNotOutliveTheProcessThatMadeIt(t *testing.T) {
	t.Parallel()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), "SOE_TEST_BOX_VICTIM=1")
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	name, err := io.ReadAll(stdout)
	if err != nil || len(name) == 0 {
		t.Fatalf("no box: %v", err)
	}
	if left := leftOf(t, string(name)); len(left) == 0 {
		t.Fatal("the traces of a running box are not seen")
	}
	victim.Process.Kill()
	victim.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for left := leftOf(t, string(name)); len(left) != 0; left = leftOf(t, string(name)) {
		if time.Now().After(deadline) {
			t.Fatalf("left: %q", left)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// leftOf lists the mounts, cgroups, network namespaces, links and processes with a box's name.
func leftOf(t *testing.T, name string) []string {
	t.Helper()
	const script = `grep -h -- "$1" /proc/self/mountinfo
find /sys/fs/cgroup -maxdepth 2 -name "$1"
ls -d "${SOE_TEST_CACHE:-/var/cache/soe-agent-test}/boxes/$1" 2>/dev/null
ls -d /run/netns/"$1" /run/systemd/nspawn/*/"$1" /run/systemd/nspawn/*/*"$1"* 2>/dev/null
ip -o link show | grep "soe${1#box-}@"
for f in /proc/[0-9]*/cmdline; do tr '\0' ' ' <$f 2>/dev/null | grep -e "$1" | grep -v LEFTOF; done
: LEFTOF`
	out, _ := exec.Command("bash", "-c", script, "LEFTOF", name).Output()
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

func BenchmarkBootAndRemove(b *testing.B) {
	for b.Loop() {
		x, err := box.Start(b.Context(), box.Config{})
		if err != nil {
			b.Fatal(err)
		}
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBootAfterAKill(b *testing.B) {
	x := box.New(b)
	for b.Loop() {
		x.Kill()
		if err := x.Boot(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExec(b *testing.B) {
	x := box.New(b)
	for b.Loop() {
		x.MustExec(b, "true")
	}
}
