package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
)

// sick returns errors that looks have on a sick machine.
func sick() []error {
	return []error{syscall.EIO, syscall.EMFILE, syscall.ENOMEM, syscall.EACCES, syscall.ETIMEDOUT}
}

// looks returns all questions to a machine, by name.
func looks(s *System) map[string]func() (any, error) {
	all := map[string]func() (any, error){}
	for _, name := range []string{"/file", "/link", "/way/file", "/dir", "/none", "/dir/none/none"} {
		all["ReadFile "+name] = func() (any, error) { return s.FS.ReadFile(name) }
		all["Stat "+name] = func() (any, error) { return s.FS.Stat(name) }
		all["Readlink "+name] = func() (any, error) { return s.FS.Readlink(name) }
		all["ReadDir "+name] = func() (any, error) { return s.FS.ReadDir(name) }
		all["Entries "+name] = func() (any, error) { return s.FS.Entries(name) }
		all["Inspect "+name] = func() (any, error) {
			content, info, err := s.FS.Inspect(name)
			return fmt.Sprintf("%s %+v", content, info), err
		}
	}
	for _, program := range []string{"tool", "/bin/tool", "none"} {
		all["Run "+program] = func() (any, error) {
			return s.Runner.Run(context.Background(), Command{Argv: []string{program}, ReadOnly: true})
		}
	}
	return all
}

func sickMachine(t *testing.T, look Looker) *System {
	t.Helper()
	root := t.TempDir()
	err := errors.Join(
		os.MkdirAll(filepath.Join(root, "dir/below"), 0o755),
		os.MkdirAll(filepath.Join(root, "bin"), 0o755),
		os.WriteFile(filepath.Join(root, "file"), []byte("content"), 0o640),
		os.WriteFile(filepath.Join(root, "dir/file"), []byte("another"), 0o640),
		os.Symlink("file", filepath.Join(root, "link")),
		os.Symlink("/dir", filepath.Join(root, "way")),
	)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Root: root, Look: look})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestALookThatFailsIsNeverTakenForAbsence(t *testing.T) {
	well := sickMachine(t, nil)
	for name, look := range looks(well) {
		truth, absent := look()
		for _, fault := range sick() {
			for n, failed := 1, true; failed; n++ {
				if n > 100 {
					t.Fatalf("%s: there is no end of looks", name)
				}
				failed = false
				s := *well
				gate := FailNthLook(n, fault)
				hand := func(l Look) error {
					err := gate(l)
					failed = failed || err != nil
					return err
				}
				disk := *well.FS.FileReader.(*disk)
				disk.look = hand
				s.FS, s.Runner = fsOf(&disk), &runner{root: s.Root, gate: func(Change) error { return nil }, look: hand, log: s.Log}
				got, err := looks(&s)[name]()
				switch {
				case !failed:
				case err == nil && absent == nil && reflect.DeepEqual(got, truth): // there was another way to find out
				case err == nil:
					t.Errorf("%s: with %v at look %d it is %v and no error; really it is %v, %v", name, fault, n, got, truth, absent)
				case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrNotInstalled):
					if absent == nil {
						t.Errorf("%s: %v at look %d is taken for absence: %v", name, fault, n, err)
					}
				case !errors.Is(err, fault):
					if absent == nil || err.Error() != absent.Error() {
						t.Errorf("%s: %v at look %d is not in %q", name, fault, n, err)
					}
				}
			}
		}
	}
}

func TestAProgramThatCannotBeLookedForIsNotCalledUninstalled(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("round", filepath.Join(root, "usr/bin/round")); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	for program, installed := range map[string]bool{"round": true, "none": false} {
		_, err := s.Runner.Run(t.Context(), Command{Argv: []string{program}, ReadOnly: true})
		if err == nil || errors.Is(err, ErrNotInstalled) == installed {
			t.Errorf("%s: %v", program, err)
		}
	}
}

func TestWhoIsLoggedInIsNotNobodyWhenItCannotBeTold(t *testing.T) {
	for _, fault := range sick() {
		b := &bus{dialing: newTurn(), gate: func(Change) error { return nil }, look: FailNthLook(1, fault)}
		if sessions, err := b.List(t.Context()); !errors.Is(err, fault) {
			t.Errorf("with %v: %v, %v", fault, sessions, err)
		}
		b.look = FailNthLook(1, fault)
		if _, err := b.Unit(t.Context(), "x.service"); !errors.Is(err, fault) || errors.Is(err, ErrNotRunning) {
			t.Errorf("with %v: %v", fault, err)
		}
	}
}

// Whatever look fails inside a change, the file is the old or the new one afterwards, and an error
// reports the failure.
func TestALookThatFailsInsideAChangeLosesNothing(t *testing.T) {
	changes := map[string]func(*System) error{
		"WriteFile": func(s *System) error { return s.FS.WriteFile("/new/dir/file", []byte("new"), Attr{0o644, -1, -1}) },
		"replace":   func(s *System) error { return s.FS.WriteFile("/file", []byte("new"), Attr{0o644, -1, -1}) },
		"Symlink":   func(s *System) error { return s.FS.Symlink("/dir", "/link") },
		"Remove":    func(s *System) error { return s.FS.Remove("/file") },
		"SetAttr":   func(s *System) error { return s.FS.SetAttr("/file", Attr{0o600, -1, -1}) },
		"MkdirAll":  func(s *System) error { return s.FS.MkdirAll("/new/dir", 0o755) },
	}
	state := func(s *System) string {
		text := ""
		for _, name := range []string{"/file", "/new/dir", "/new/dir/file", "/link"} {
			content, info, err := s.FS.Inspect(name)
			target, _ := s.FS.Readlink(name)
			text += fmt.Sprintf("%s: %q %v %o %q %v\n", name, content, info.Type, info.Mode, target, errors.Is(err, fs.ErrNotExist))
		}
		return text
	}
	for name, change := range changes {
		well := sickMachine(t, nil)
		before := state(well)
		if err := change(well); err != nil {
			t.Fatal(err)
		}
		after := state(well)
		for n, failed := 1, true; failed; n++ {
			failed = false
			gate := FailNthLook(n, syscall.EIO)
			s := sickMachine(t, func(l Look) error {
				err := gate(l)
				failed = failed || err != nil
				return err
			})
			err := change(s)
			now := state(sameRoot(t, s))
			if err == nil && now != after || err != nil && now != before && now != after && name != "WriteFile" && name != "MkdirAll" {
				t.Errorf("%s with a fault at look %d: %v and\n%s", name, n, err, now)
			}
		}
	}
}

func sameRoot(t *testing.T, s *System) *System {
	t.Helper()
	well, err := Open(Options{Root: s.Root})
	if err != nil {
		t.Fatal(err)
	}
	return well
}
