package policysync_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	localFile = "etc/soe-agent/policy.d/50-local.toml"
	broken    = "schema = 1\n[dropins\n"
)

// published is a desktop that has fetched a policy of serial 7 for two personas.
func published(t *testing.T) *desktop {
	t.Helper()
	d := newDesktop(t)
	d.everywhere(t, 7, map[string]string{"10-all": dropin("all", "x"), "20-dev": dropin("dev", "x", "developer"), "30-fin": dropin("fin", "x", "finance")})
	d.follows(t)
	return d
}

// Whatever is wrong, the best available policy is used; one that may be incomplete takes nothing away.
func TestWithoutTheNetworkTheBestPolicyThatGoesTogetherIsTakenAndOneThatMayNotBeWholeTakesNothingAway(t *testing.T) {
	online := map[string]string{"all": "x", "dev": "x"}
	nothing := map[string]string{}
	finance := func(d *desktop) { d.subject.Personas = []string{"base", "finance"} }
	elsewhere := func(d *desktop) { d.subject.Path = "/soe/other" }
	nowhere := func(d *desktop) { d.subject.Path = "" }
	local := func(text string) func(d *desktop) { return func(d *desktop) { d.write(t, localFile, text) } }
	for name, scene := range map[string]struct {
		change  []func(d *desktop)
		want    map[string]string
		serial  int64
		partial bool
		refused int
		doubt   string
	}{
		"as it was":                       {nil, online, 7, false, 0, ""},
		"with a local fragment":           {[]func(*desktop){local(dropin("here", "y"))}, map[string]string{"all": "x", "dev": "x", "here": "y"}, 7, false, 0, ""},
		"with one that is wrong":          {[]func(*desktop){local(broken)}, online, 7, false, 1, ""},
		"and with another persona":        {[]func(*desktop){local(broken), finance}, online, 7, false, 1, ""},
		"with another persona":            {[]func(*desktop){finance}, map[string]string{"all": "x"}, 7, true, 0, "not everything that is published for base, finance has been fetched yet"},
		"not knowing all personas":        {[]func(*desktop){func(d *desktop) { d.subject.Unsure = true }}, online, 7, true, 0, ""},
		"published elsewhere":             {[]func(*desktop){elsewhere}, nothing, 0, true, 0, ""},
		"elsewhere, with what is wrong":   {[]func(*desktop){elsewhere, local(broken)}, nothing, 0, true, 1, ""},
		"published nowhere":               {[]func(*desktop){nowhere}, nothing, 0, false, 0, "no fragment is for persona developer"},
		"nowhere, with what is wrong":     {[]func(*desktop){nowhere, local(broken)}, nothing, 0, true, 1, ""},
		"with a layer for all to write":   {[]func(*desktop){func(d *desktop) { spoil(t, d) }}, online, 7, true, 1, ""},
		"with what cannot be told of it":  {[]func(*desktop){func(d *desktop) { d.subject.Doubts = []public.Line{public.All("tags cannot be read")} }}, online, 7, false, 0, "tags cannot be read"},
		"with what was kept half written": {[]func(*desktop){func(d *desktop) { d.write(t, stateFile, "{") }}, nothing, 0, true, 1, ""},
		"with what a user may have kept":  {[]func(*desktop){func(d *desktop) { own(t, d) }}, nothing, 0, true, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := published(t)
			for _, change := range scene.change {
				change(d)
			}
			known, err := d.Known(d.subject)
			if err != nil {
				t.Fatal(err)
			}
			wants(t, name, contents(known.Policy), scene.want)
			if known.Policy.Serial != scene.serial || known.Policy.Partial != scene.partial || len(known.Refused) != scene.refused {
				t.Errorf("serial %d, not whole %t, refused %q", known.Policy.Serial, known.Policy.Partial, known.Refused)
			}
			if doubts := strings.Join(public.Whole(known.Policy.Doubts), "; "); (scene.doubt == "") != (doubts == "") || !strings.Contains(doubts, scene.doubt) {
				t.Errorf("it doubts %q", doubts)
			}
			if kept := scene.serial == 7; kept == known.Saved.IsZero() || kept == known.Since.IsZero() {
				t.Errorf("it was confirmed %s, and is there since %s", known.Saved, known.Since)
			}
		})
	}
}

func spoil(t *testing.T, d *desktop) {
	t.Helper()
	d.write(t, localFile, dropin("evil", "x"))
	if err := os.Chmod(filepath.Join(d.root, localFile), 0o666); err != nil {
		t.Fatal(err)
	}
}

func own(t *testing.T, d *desktop) {
	t.Helper()
	if err := os.Lchown(filepath.Join(d.root, stateFile), 1000, 1000); err != nil {
		t.Fatal(err)
	}
}

func TestOfASeedThatIsWrongThereIsAnEmptyPolicyThatTakesNothingAway(t *testing.T) {
	d := newDesktop(t)
	d.write(t, "usr/share/soe-agent/policy.d/10-seed.toml", broken)
	known, err := d.Known(d.subject)
	if err != nil || len(known.Policy.Resources) > 0 || !known.Policy.Partial || len(known.Refused) != 2 {
		t.Errorf("%+v, refused %q, %v", known.Policy, known.Refused, err)
	}
}

// replace puts something else in place of the last good policy.
func replace(t *testing.T, d *desktop, by func(file string) error) {
	t.Helper()
	file := filepath.Join(d.root, stateFile)
	if err := errors.Join(os.Remove(file), by(file)); err != nil {
		t.Fatal(err)
	}
}

// failingReader cannot read the last good policy.
type failingReader struct{ system.FileReader }

func (r failingReader) ReadFile(name string) ([]byte, error) {
	if strings.HasSuffix(name, "lastgood.json") {
		return nil, fmt.Errorf("cannot read %s: %w", name, unix.EIO)
	}
	return r.FileReader.ReadFile(name)
}

func TestALastGoodPolicyThatMakesNoSenseIsSaidAndReplacedAndOneThatCannotBeReadIsKept(t *testing.T) {
	for name, spoil := range map[string]func(d *desktop){
		"half written": func(d *desktop) { d.write(t, stateFile, `{"serial": 7, "M4RK`) },
		"a user's":     func(d *desktop) { own(t, d) },
		"a pipe":       func(d *desktop) { replace(t, d, func(file string) error { return unix.Mkfifo(file, 0o600) }) },
		"a socket": func(d *desktop) {
			replace(t, d, func(file string) error { return unix.Mknod(file, unix.S_IFSOCK|0o600, 0) })
		},
		"a link to a device": func(d *desktop) {
			replace(t, d, func(file string) error {
				return errors.Join(unix.Mkfifo(filepath.Join(d.root, "dev"), 0o600), os.Symlink("/dev", file))
			})
		},
		"a directory": func(d *desktop) {
			replace(t, d, func(file string) error { return os.MkdirAll(filepath.Join(file, "full"), 0o700) })
		},
		"larger than any": func(d *desktop) {
			replace(t, d, func(file string) error {
				return errors.Join(os.WriteFile(file, []byte("{}"), 0o600), os.Truncate(file, 64<<20+1))
			})
		},
	} {
		d := published(t)
		spoil(d)
		if _, err := d.Fetch(t.Context(), d.subject, d.aws); err != nil {
			t.Errorf("%s: what is published is not had any more: %v", name, err)
		}
		known, err := d.Known(d.subject)
		if err != nil || !known.Damaged || !strings.Contains(known.Refused[0].Whole, "/"+stateFile) || known.Refused[0].Open != "cannot use the last good policy kept on disk: "+public.Withheld {
			t.Errorf("%s: damaged %t, refused %q, %v", name, known.Damaged, known.Refused, err)
		}
		if last, kept := d.Last(d.subject.Facts); kept || len(last.Sources) > 0 {
			t.Errorf("%s: there is %+v", name, last)
		}
		if err := d.KeepOwn(d.subject); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if last, kept := d.Last(d.subject.Facts); !kept || len(last.Sources) != 1 {
			t.Errorf("%s: then there is %+v", name, last)
		}
	}
	d := published(t)
	d.System.FS.FileReader = failingReader{d.System.FS.FileReader}
	if known, err := d.Known(d.subject); err != nil || known.Damaged || len(known.Refused) != 1 {
		t.Errorf("what could not be read counts as damaged: %+v, %v", known, err)
	}
	if _, err := d.Fetch(t.Context(), d.subject, d.aws); err == nil || !strings.Contains(err.Error(), "could not refuse an older one") {
		t.Errorf("Fetch: %v", err)
	}
	if _, kept := d.Last(d.subject.Facts); kept {
		t.Error("what could not be read is a policy")
	}
	if err := d.KeepOwn(d.subject); err == nil {
		t.Error("it is replaced by less")
	}
}

func TestWhatChangesOnTheMachineIsKeptBesideWhatWasPublishedLast(t *testing.T) {
	d := published(t)
	d.write(t, localFile, dropin("here", "y"))
	for path, kept := range map[string]bool{"/soe/other": false, "": false} {
		d.subject.Path = path
		if err := d.KeepLocal(d.subject); err != nil || strings.Contains(d.read(t, stateFile), localFile) != kept {
			t.Errorf("of a machine of path %q it is kept, or %v", path, err)
		}
	}
	d.subject.Path = path
	if err := d.KeepLocal(d.subject); err != nil {
		t.Fatal(err)
	}
	last, kept := d.Last(d.subject.Facts)
	var names []string
	for _, s := range last.Sources {
		names = append(names, filepath.Base(s.Name))
	}
	if !kept || last.Serial != 7 || !slices.Equal(names, []string{"10-seed.toml", "50-local.toml", "10-all", "20-dev"}) {
		t.Errorf("serial %d of %q", last.Serial, names)
	}
	d.write(t, localFile, broken) // now the kept fragment is used
	known, err := d.Known(d.subject)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "with the kept one", contents(known.Policy), map[string]string{"all": "x", "dev": "x", "here": "y"})

	fresh := newDesktop(t)
	if err := fresh.KeepLocal(fresh.subject); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(fresh.root, stateFile)); err == nil {
		t.Error("what was never published is kept")
	}
}

func TestThePersonasOfTheLastGoodPolicyAreKnownOfThisMachineAlone(t *testing.T) {
	d := published(t)
	subject := d.subject
	subject.Personas = []string{"base"}
	if got := d.Previous(subject); !slices.Equal(got, []string{"base", "developer"}) {
		t.Errorf("they were %q", got)
	}
	subject.Facts.MachineID = "another"
	if got := d.Previous(subject); len(got) > 0 {
		t.Errorf("those of the machine of which it is a clone are %q", got)
	}
	if _, kept := d.Last(subject.Facts); kept {
		t.Error("a clone has the last good policy of another machine")
	}
}

// Whoever puts a secret, or a word that is not a reference, into the file: the agent does not keep it.
func TestASecretIsNotKeptWithThePolicy(t *testing.T) {
	for _, reference := range []string{"{{resolve:ssm-secure:/s}}", "{{resolve:secretsmanager:s}}", "s"} {
		d := published(t)
		d.write(t, stateFile, strings.Replace(d.read(t, stateFile), `"values":{`, `"values":{"`+reference+`":"`+canary+`"`, 1))
		before := d.read(t, stateFile)
		d.write(t, localFile, dropin("here", "y"))
		if err := d.KeepLocal(d.subject); err == nil || !strings.Contains(err.Error(), "must not be kept") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", reference, err)
		}
		if d.read(t, stateFile) != before {
			t.Errorf("%s: the file was written anew", reference)
		}
	}
}

func TestTheFragmentsInAStateDirectoryAreToldWhicheverMachineWroteThem(t *testing.T) {
	d := published(t)
	fragments := func() ([]policy.Source, error) { return policysync.Fragments(d.System.FS, d.StateDir) }
	if got, err := fragments(); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
	d.write(t, stateFile, `{"sources":[{"name":"x"}],`)
	if got, err := fragments(); err == nil || !strings.Contains(err.Error(), "lastgood.json") || len(got) > 0 { // they may name a file with a secret
		t.Errorf("of half a file: %v, %v", got, err)
	}
	file := filepath.Join(d.root, stateFile)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got, err := fragments(); err != nil || len(got) > 0 {
		t.Errorf("of none: %v, %v", got, err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := fragments(); err == nil {
		t.Error("a directory is read as a file")
	}
}

func TestAnErrorThatIsOfNoFragmentIsOneLineAndOpenAsFarAsItSays(t *testing.T) {
	d := newDesktop(t)
	for _, test := range []struct {
		err        error
		open       string
		whole, has string
	}{
		{errors.New("M4RK"), "cannot use the policy: " + public.Withheld, "M4RK", ""},
		{public.Error(errors.New("cannot reach AWS")), "cannot reach AWS", "cannot reach AWS", ""},
		{policy.Problems{{File: d.LocalDir + "/a.toml", Message: "M4RK"}}, "", d.LocalDir + "/a.toml: M4RK", d.LocalDir + "/a.toml: cannot use it"},
		{policy.Problems{{File: "10-base", Message: "M4RK"}}, "cannot use what is published: " + public.Withheld, "10-base: M4RK", ""},
	} {
		lines := d.Problems(test.err)
		if len(lines) != 1 || lines[0].Whole != test.whole || test.open != "" && lines[0].Open != test.open || !strings.Contains(lines[0].Open, test.has) || strings.Contains(lines[0].Open, "M4RK") {
			t.Errorf("%v is said as %+v", test.err, lines)
		}
	}
}

func TestAStateDirectoryThatCannotBeMadeIsSaid(t *testing.T) {
	d := newDesktop(t)
	d.write(t, "var/lib/soe-agent", "")
	if err := d.KeepOwn(d.subject); err == nil {
		t.Error("it is kept nowhere")
	}
}
