package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
)

// An author publishes policies from a directory of their own, as people are told to.
type author struct {
	dir string
	aws *awsfake.Server
}

func newAuthor(t *testing.T, aws *awsfake.Server) author {
	t.Helper()
	a := author{t.TempDir(), aws}
	config := fmt.Sprintf("[aws]\nregion = %q\npath = %q\nendpoint = %q\n", region, policyPath, aws.URL)
	if err := os.WriteFile(filepath.Join(a.dir, "agent.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// publish runs soe-agent policy publish with a policy of one drop-in for all, and one
// for each persona; without content it is run with the arguments alone.
func (a author) publish(t *testing.T, content string, args ...string) string {
	t.Helper()
	if content != "" {
		dir := filepath.Join(a.dir, content)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"10-base":      "schema = 1\n" + rolledOut("everybody", content),
			"20-developer": "schema = 1\npersonas = [\"developer\"]\n" + rolledOut("developer", content),
			"30-finance":   "schema = 1\npersonas = [\"finance\"]\n" + rolledOut("finance", content),
		} {
			if err := os.WriteFile(filepath.Join(dir, name+".toml"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		args = append([]string{"--policy", dir}, args...)
	}
	c := awsfake.PublisherCredentials()
	command := exec.Command(binary, append([]string{"--config", filepath.Join(a.dir, "agent.toml"), "policy", "publish"}, args...)...)
	command.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+c.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+c.SecretAccessKey, "AWS_SESSION_TOKEN="+c.SessionToken)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("policy publish %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func rolledOut(name, content string) string {
	return fmt.Sprintf("[dropins.\"/etc/soe.d/%s.conf\"]\ncontent = \"%s\\n\"\n", name, content)
}

// holds waits until the machine has the serial, and the files that go with it.
func (w *workspace) holds(t *testing.T, serial int64, content string, personas ...string) {
	t.Helper()
	w.converged(t, serial)
	for _, name := range append(personas, "everybody") {
		if got := w.MustReadFile(t, "/etc/soe.d/"+name+".conf"); got != content+"\n" {
			t.Errorf("%s at serial %d: %q", name, serial, got)
		}
	}
}

// looks waits until the endpoint has been asked by every machine again, three times.
func looks(t *testing.T, aws *awsfake.Server, machines int) {
	t.Helper()
	aws.ForgetRequests()
	for range 3 * machines {
		if _, err := aws.WaitForRequest(t.Context(), "GetParameters"); err != nil {
			t.Fatal(err)
		}
	}
}

// place is where the machine stands in the rollout of a serial.
func (w *workspace) place(t *testing.T, serial int64) float64 {
	t.Helper()
	var place float64
	w.until(t, "status says what is rolled out", func() bool {
		s, _ := w.status(t)
		_, after, ok := strings.Cut(s.Rollout, "this one's place is ")
		if !ok || !strings.Contains(s.Rollout, fmt.Sprintf("serial %d is for", serial)) {
			return false
		}
		_, err := fmt.Sscanf(after, "%f", &place)
		return err == nil
	})
	return place
}

func TestAPolicyIsRolledOutToAShareThenToAllPausedAndRolledBackAndFollowsThePersona(t *testing.T) {
	t.Parallel()
	first := newWorkspace(t)
	second := newWorkspace(t)
	second.MustWriteFile(t, agent.ConfigFile, box.File{Content: first.MustReadFile(t, agent.ConfigFile)})
	second.MustWriteFile(t, "/etc/machine-id", box.File{Content: "00000000000000000000000000000002\n", Mode: 0o444})
	aws, both := first.aws, []*workspace{first, second}
	author := newAuthor(t, aws)
	author.publish(t, "one")
	for _, w := range both {
		w.activate(t)
		w.boot(t)
	}
	for _, w := range both {
		w.holds(t, 1, "one", "developer")
	}

	// To nobody yet, so that each machine says where it stands.
	author.publish(t, "two", "--percent", "0")
	earlier, later := first, second
	if first.place(t, 2) > second.place(t, 2) {
		earlier, later = second, first
	}
	between := (earlier.place(t, 2) + later.place(t, 2)) / 2
	author.publish(t, "two", "--percent", fmt.Sprint(between))
	earlier.holds(t, 2, "two", "developer")
	looks(t, aws, 2)
	later.holds(t, 1, "one", "developer")
	author.publish(t, "two", "--percent", "100")
	later.holds(t, 2, "two", "developer")

	author.publish(t, "", "--pause")
	author.publish(t, "three")
	looks(t, aws, 2)
	for _, w := range both {
		w.holds(t, 2, "two", "developer")
		if s, _ := w.status(t); !strings.Contains(s.Rollout, "paused") {
			t.Errorf("status says of the rollout: %q", s.Rollout)
		}
	}
	drifted := time.Now()
	earlier.MustExec(t, "sh", "-c", "echo drift > /etc/soe.d/everybody.conf")
	earlier.mended(t, "dropin/etc/soe.d/everybody.conf", drifted)
	author.publish(t, "", "--resume")
	for _, w := range both {
		w.holds(t, 3, "three", "developer")
	}

	author.publish(t, "two")
	for _, w := range both {
		w.holds(t, 4, "two", "developer")
	}

	config := first.MustReadFile(t, agent.ConfigFile)
	first.MustWriteFile(t, agent.ConfigFile, box.File{Content: strings.Replace(config, `"developer"`, `"finance"`, 1)})
	first.MustExec(t, "systemctl", "reload", "soe-agent")
	first.until(t, "the machine is finance's", func() bool { return first.fails(t, "test", "-e", "/etc/soe.d/developer.conf") })
	first.holds(t, 4, "two", "finance")
	second.holds(t, 4, "two", "developer")
}

// A rebuild takes the root volume back to the image and keeps /home; the machine
// gets its name again, and another activation.
func TestAMachineThatIsRebuiltIsTheSameDesktopAgainAtTheSamePlaceInARollout(t *testing.T) {
	t.Parallel()
	before := newWorkspace(t)
	author := newAuthor(t, before.aws)
	author.publish(t, "one")
	author.publish(t, "two", "--percent", "0")
	before.activate(t)
	before.boot(t)
	before.holds(t, 1, "one", "developer")
	place := before.place(t, 2)
	name, id := before.MustReadFile(t, "/etc/hostname"), before.MustReadFile(t, "/etc/machine-id")

	after := newWorkspace(t)
	after.MustWriteFile(t, agent.ConfigFile, box.File{Content: before.MustReadFile(t, agent.ConfigFile)})
	after.MustWriteFile(t, "/etc/hostname", box.File{Content: name})
	after.MustWriteFile(t, "/etc/machine-id", box.File{Content: id, Mode: 0o444})
	after.activate(t)
	after.boot(t)
	after.holds(t, 1, "one", "developer")
	if got := after.place(t, 2); got != place {
		t.Errorf("its place was %v, and is %v; want %v", place, got, manifest.Place("2", strings.TrimSpace(name)+"\x00"+strings.TrimSpace(id)))
	}
}
