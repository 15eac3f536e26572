package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// A subscriber is a daemon whose policy is published in a fake AWS.
type subscriber struct {
	*testing.T
	*daemon
	aws  *awsfake.Server
	full bool // the disk has no room for the last good policy
}

func subscribed(t *testing.T) *subscriber {
	t.Helper()
	root := t.TempDir()
	s := &subscriber{T: t, daemon: newTestDaemon(t, root, "1.0"), aws: awsfake.New(t)}
	gated, err := system.Open(system.Options{Root: root, Gate: func(c system.Change) error {
		if s.full && strings.Contains(c.String(), "lastgood") {
			return errors.New("no space left on device")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.System = gated
	if err := awsfake.Activate(root, awsfake.DefaultCredentials(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.configure("/soe/prod")
	return s
}

// configure sets the path below which the policy is published.
func (s *subscriber) configure(path string) {
	s.Helper()
	s.put(ConfigFile, "[aws]\nregion = \""+awsfake.Region+"\"\npath = \""+path+"\"\nendpoint = \""+s.aws.URL+"\"\n")
}

func (s *subscriber) put(name, content string) {
	s.Helper()
	dir := name[:strings.LastIndex(name, "/")]
	if err := errors.Join(s.System.FS.MkdirAll(dir, 0o755), s.System.FS.WriteFile(name, []byte(content), system.Attr{Mode: 0o600})); err != nil {
		s.Fatal(err)
	}
}

// publish publishes a policy with one file, whose content is the parameter /word.
func (s *subscriber) publish(serial int64, word string) {
	s.Helper()
	text := "schema = 1\n[dropins.\"/etc/modprobe.d/soe.conf\"]\ncontent = \"# {{resolve:ssm:/word}}\"\n"
	entry, parameters, err := manifest.Pack("/soe/prod", "10", text, nil)
	if err != nil {
		s.Fatal(err)
	}
	for _, p := range parameters {
		s.aws.PutParameter(p.Name, p.Value)
	}
	m := manifest.Manifest{Schema: 1, Generation: manifest.Generation{Serial: serial, Fragments: []manifest.Entry{entry}}}
	listed, err := m.Text()
	if err != nil {
		s.Fatal(err)
	}
	s.aws.PutParameter("/word", word)
	s.aws.PutParameter(manifest.Name("/soe/prod"), listed)
}

// looks fetches the policy once.
func (s *subscriber) looks() {
	s.Helper()
	if err := s.look(s.Context()); err != nil {
		s.Fatal(err)
	}
}

// looksInVain tries to fetch the policy for a moment while AWS is away.
func (s *subscriber) looksInVain() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
	defer cancel()
	err := s.look(ctx)
	if err == nil {
		s.Fatal("AWS answers")
	}
	s.waits(err, time.Now()) // as the poller does
}

// wants fails unless the files of the policy in force have these contents.
func (s *subscriber) wants(when string, contents ...string) {
	s.Helper()
	var got []string
	for _, want := range policy.Of[policy.Dropin](s.findings.inForce()) {
		got = append(got, want.Spec.Content)
	}
	if strings.Join(got, " ") != strings.Join(contents, " ") {
		s.Errorf("%s the policy in force, serial %d, wants %q and not %q", when, s.findings.inForce().Serial, got, contents)
	}
}

const hereFragment = "schema = 1\n[dropins.\"/etc/modprobe.d/here.conf\"]\ncontent = \"# here\"\n"

func TestWithoutAWSTheMachineStaysWithAPolicyThatTheDiskHasNoRoomFor(t *testing.T) {
	for name, change := range map[string]func(*subscriber){
		"a newer policy": func(s *subscriber) { s.publish(2, "new") },
		"a newer value":  func(s *subscriber) { s.aws.PutParameter("/word", "new") },
	} {
		t.Run(name, func(t *testing.T) {
			s := subscribed(t)
			s.publish(1, "old")
			s.looks()
			s.wants("at first", "# old")
			s.full = true
			change(s)
			s.looks()
			s.wants("after the change", "# new")
			s.aws.Down()
			s.put(LocalDir+"/50-here.toml", hereFragment)
			for range 2 {
				s.looksInVain()
				s.wants("while AWS is away", "# new")
			}
			if err := s.aws.Up(); err != nil {
				t.Fatal(err)
			}
			s.full = false
			s.looks()
			s.wants("when there is room again", "# here", "# new")
			s.aws.Down()
			if err := s.System.FS.Remove(LocalDir + "/50-here.toml"); err != nil {
				t.Fatal(err)
			}
			s.looksInVain()
			s.wants("without the fragment", "# new")
		})
	}
}

func TestAPathWhereNothingIsPublishedLeavesTheLastGoodPolicyInForce(t *testing.T) {
	s := subscribed(t)
	s.publish(1, "old")
	s.looks()
	s.configure("/soe/typo")
	for range 2 {
		err := s.look(t.Context())
		if !errors.Is(err, source.ErrNothingPublished) {
			t.Errorf("it finds %v", err)
		}
		s.waits(err, time.Now())
		s.wants("with a wrong path", "# old")
	}
}

func TestALocalFragmentIsEnforcedByTheVeryLookThatFindsAWSGone(t *testing.T) {
	s := subscribed(t)
	s.publish(1, "old")
	s.looks()
	s.aws.Down() // nobody has noticed yet
	s.put(LocalDir+"/50-here.toml", hereFragment)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.look(ctx)
	}()
	digest := func() string { return s.findings.inForce().Digest() }
	before := digest()
	for deadline := time.Now().Add(10 * time.Second); digest() == before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	s.wants("while the look waits for AWS", "# here", "# old")
	cancel()
	<-ended
}

func TestALocalFragmentThatIsWrongIsSaidToBeSoWhileAWSIsAwayUntilItIsMended(t *testing.T) {
	for name, first := range map[string]func(*subscriber){
		"noticed while AWS is away": func(s *subscriber) { s.looksInVain() },
		"noticed before": func(s *subscriber) {
			if err := s.aws.Up(); err != nil {
				s.Fatal(err)
			}
			err := s.look(s.Context())
			if err == nil {
				s.Fatal("the fragment is taken")
			}
			s.waits(err, time.Now())
			s.aws.Down()
			s.looksInVain()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := subscribed(t)
			s.publish(1, "old")
			s.looks()
			s.aws.Down()
			s.put(LocalDir+"/50-here.toml", "schema = 1\n[dropin]\n")
			refused := func(want string) {
				t.Helper()
				status, err := s.System.FS.ReadFile(StatusFile)
				if n := strings.Count(string(status), LocalDir+"/50-here.toml:2"); err != nil || n != strings.Count(want, "refused") {
					t.Errorf("the status says it %d times, want %q: %v", n, want, err)
				}
			}
			first(s)
			refused("refused")
			s.wants("with it", "# old")
			s.looksInVain()
			refused("refused")
			s.put(LocalDir+"/50-here.toml", hereFragment)
			s.looksInVain()
			refused("")
			s.wants("when it is mended", "# here", "# old")
		})
	}
}

func TestWhatIsDamagedOfTheLastPolicyIsMadeAnewWhereNothingIsPublished(t *testing.T) {
	s := subscribed(t)
	s.put(ConfigFile, "")
	s.put(LocalDir+"/50-here.toml", hereFragment)
	s.looks()
	kept := StateDir + "/lastgood.json"
	whole, err := s.System.FS.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	s.put(kept, string(whole[:len(whole)/2]))
	s.looks()
	s.wants("With a damaged state", "# here")
	if len(s.refusals.all()) > 0 {
		t.Errorf("refused: %q", s.refusals.all())
	}
	if again, err := s.System.FS.ReadFile(kept); err != nil || len(again) < len(whole)/2+1 {
		t.Errorf("%v: it is not made anew: %q", err, again)
	}
}
