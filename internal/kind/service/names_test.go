package service_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/kind/service"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// later is a clock that is an hour ahead of the files.
type later struct{ system.Clock }

func (l later) Now() time.Time { return l.Clock.Now().Add(time.Hour) }

func TestForAUnitThatThereIsNotTheFilesOfAllOthersAreReadOnceAndThoseThatChangeAnew(t *testing.T) {
	const dir = "/usr/lib/systemd/system/"
	root := kindtest.Root(t, map[string]string{dir + "a.service": "[Install]\nAlias=x.service\n", dir + "b.service": "[Service]\n", dir + "c.service": "[Service]\n"})
	var read []string
	s := kindtest.Open(t, system.Options{Root: root, Look: func(l system.Look) error {
		if l.Op == "read" && strings.HasPrefix(l.Target, dir) && strings.HasSuffix(l.Target, ".service") {
			read = append(read, filepath.Base(l.Target))
		}
		return nil
	}})
	s.Root, s.Clock, s.Units = "/", later{s.Clock}, (&manager{}).all()
	k := service.New(kindtest.Policy(t, "[services.\"x.service\"]\nenabled = true\n[services.\"none.service\"]\nmasked = false\n"), s, schedule.Window{})
	look := func() (note string) {
		t.Helper()
		read = nil
		resources := kindtest.Check(t, k)
		for _, r := range resources {
			if r.ID == "service/x.service" {
				note = r.Reason
			}
		}
		return note
	}
	if note := look(); len(read) != 3 || !strings.Contains(note, "a.service") {
		t.Errorf("read are %v: %s", read, note)
	}
	if note := look(); len(read) != 0 || !strings.Contains(note, "a.service") {
		t.Errorf("read again are %v: %s", read, note)
	}
	for name, content := range map[string]string{"a.service": "[Install]\n", "b.service": "[Install]\nAlias=y.service x.service\n"} {
		kindtest.Put(t, root, dir+name, content)
	}
	if note := look(); len(read) != 2 || !strings.Contains(note, "b.service") {
		t.Errorf("once two have changed, read are %v: %s", read, note)
	}
	if err := os.Remove(filepath.Join(root, dir, "b.service")); err != nil {
		t.Fatal(err)
	}
	if note := look(); len(read) != 0 || strings.Contains(note, "b.service") {
		t.Errorf("once it has gone, read are %v: %s", read, note)
	}
}

func TestATemplateThatIsToGoWithAnInstanceThatIsToStayIsAContradictionOfBoth(t *testing.T) {
	for text, fails := range map[string]bool{
		"\"a@.service\" = { enabled = false }\n\"a@x.service\" = { enabled = true }":                  true,
		"\"a@.service\" = { masked = true }\n\"a@x.service\" = { running = true }":                    true,
		"\"a@.service\" = { masked = true }\n\"a@x.service\" = { enabled = false, running = false }":  false,
		"\"a@.service\" = { enabled = false }\n\"a@x.service\" = { running = true }":                  false,
		"\"a@.service\" = { enabled = false }\n\"b@x.service\" = { enabled = true, running = false }": false,
	} {
		s := kindtest.Open(t, system.Options{Root: kindtest.Root(t, map[string]string{})})
		m := &manager{units: map[string]system.Unit{}}
		for _, name := range []string{"a@.service", "a@x.service", "b@x.service"} {
			m.units[name] = system.Unit{Name: name, LoadState: "loaded", ActiveState: "inactive", UnitFileState: "disabled"}
		}
		s.Root, s.Units = "/", m.all()
		resources := kindtest.Check(t, service.New(kindtest.Policy(t, "[services]\n"+text+"\n"), s, schedule.Window{}))
		for _, r := range resources {
			if (r.State == converge.Failed) != fails || fails && r.Public().Reason != r.Reason {
				t.Errorf("%s: %s is %s: %s", text, r.ID, r.State, r.Reason)
			}
		}
	}
}
