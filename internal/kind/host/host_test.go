package host_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/host"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A kernel stands in for setenforce and restorecon: no box has SELinux.
type kernel struct {
	ran       []string
	relabels  system.Output // what restorecon says
	noLabeler error
}

func (k *kernel) Run(_ context.Context, c system.Command) (system.Output, error) {
	if c.Argv[0] == "restorecon" {
		return k.relabels, k.noLabeler
	}
	k.ran = append(k.ran, c.String())
	return system.Output{}, nil
}

// newMachine makes a machine of some files, and says that it runs.
func newMachine(t *testing.T, files map[string]string) (*system.System, *kernel) {
	t.Helper()
	s := kindtest.Open(t, system.Options{Root: kindtest.Root(t, files)})
	k := &kernel{}
	s.Root, s.Runner = "/", k
	return s, k
}

func newKind(t *testing.T, s *system.System, toml string) *host.Kind {
	t.Helper()
	p := kindtest.Policy(t, toml)
	return host.New(p, s)
}

func TestTheTimeZoneIsThatOfTheLink(t *testing.T) {
	const berlin, utc = "usr/share/zoneinfo/Europe/Berlin", "usr/share/zoneinfo/UTC"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
		got   string // "" when it is in line
	}{
		"relative":            {map[string]string{"etc/localtime": "-> ../usr/share/zoneinfo/Europe/Berlin"}, "Europe/Berlin", ""},
		"absolute":            {map[string]string{"etc/localtime": "-> /usr/share/zoneinfo/Europe/Berlin"}, "Europe/Berlin", ""},
		"another":             {map[string]string{"etc/localtime": "-> ../usr/share/zoneinfo/UTC"}, "Europe/Berlin", "UTC"},
		"none is UTC":         {nil, "UTC", ""},
		"none is not Berlin":  {nil, "Europe/Berlin", "UTC"},
		"a copy has no name":  {map[string]string{"etc/localtime": "TZif"}, "Europe/Berlin", "a file without a name"},
		"noted and right":     {map[string]string{"etc/timezone": "UTC\n"}, "UTC", ""},
		"noted and not right": {map[string]string{"etc/timezone": "Europe/Berlin\n"}, "UTC", "Europe/Berlin"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{berlin: "TZif2", utc: "TZif2"}
			for file, content := range test.files {
				files[file] = content
			}
			s, _ := newMachine(t, files)
			k := newKind(t, s, fmt.Sprintf("system.timezone = %q", test.want))
			r := kindtest.CheckOne(t, k)
			if test.got == "" {
				if r.State != converge.Compliant {
					t.Fatal(r.State, r.Diff)
				}
				return
			}
			if r.State != converge.Drifted || r.Diff[0].Got != test.got {
				t.Fatal(r.State, r.Diff)
			}
			if outcomes := k.Repair(t.Context(), []converge.Resource{r}); len(outcomes) > 0 {
				t.Error(outcomes)
			}
			if r := kindtest.CheckOne(t, k); r.State != converge.Compliant {
				t.Error(r.State, r.Diff)
			}
			if _, noted := test.files["etc/timezone"]; noted {
				return
			}
			if target, err := s.FS.Readlink("/etc/localtime"); err != nil || target != "../usr/share/zoneinfo/"+test.want {
				t.Error(target, err)
			}
		})
	}
}

func TestAnUnknownTimeZoneIsRefused(t *testing.T) {
	s, _ := newMachine(t, map[string]string{
		"usr/share/zoneinfo/Europe/Berlin": "TZif2",
		"usr/share/zoneinfo/README":        "about",
		"etc/localtime":                    "-> ../usr/share/zoneinfo/Europe/Berlin",
	})
	for _, name := range []string{"Europe", "Europe/Atlantis", "README"} {
		if r := kindtest.CheckOne(t, newKind(t, s, fmt.Sprintf("system.timezone = %q", name))); r.State != converge.Failed {
			t.Errorf("%s: %s %v", name, r.State, r.Diff)
		}
	}
}

func TestSELinuxIsKeptInBothItsModes(t *testing.T) {
	const config = "# SELINUX= can be\nSELINUX=%s\nSELINUXTYPE=targeted\n"
	for _, test := range []struct {
		want, running, configured string
		state                     converge.State
		setenforce                string
	}{
		{"enforcing", "enforcing", "enforcing", converge.Compliant, ""},
		{"enforcing", "permissive", "enforcing", converge.Drifted, "setenforce 1"},
		{"enforcing", "enforcing", "disabled", converge.Drifted, ""},
		{"enforcing", "permissive", "permissive", converge.Drifted, "setenforce 1"},
		{"permissive", "enforcing", "enforcing", converge.Drifted, "setenforce 0"},
		{"disabled", "disabled", "disabled", converge.Compliant, ""},
		{"disabled", "disabled", "enforcing", converge.Drifted, ""},
		{"disabled", "enforcing", "enforcing", converge.Drifted, ""},
		{"disabled", "enforcing", "disabled", converge.Pending, ""},
		{"enforcing", "disabled", "disabled", converge.Failed, ""},
		{"enforcing", "disabled", "enforcing", converge.Failed, ""},
		{"permissive", "disabled", "permissive", converge.Failed, ""},
	} {
		name := fmt.Sprintf("%s wanted, %s, %s", test.want, test.running, test.configured)
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"etc/selinux/config": fmt.Sprintf(config, test.configured)}
			if test.running != "disabled" {
				files["sys/fs/selinux/enforce"] = map[string]string{"enforcing": "1", "permissive": "0"}[test.running]
			}
			s, kernel := newMachine(t, files)
			if err := s.FS.SetAttr("/etc/selinux/config", system.Attr{Mode: 0o640, UID: -1, GID: -1}); err != nil {
				t.Fatal(err)
			}
			k := newKind(t, s, fmt.Sprintf("system.selinux = %q", test.want))
			r := kindtest.CheckOne(t, k)
			if r.State != test.state {
				t.Fatalf("it is %s and not %s: %s %v", r.State, test.state, r.Reason, r.Diff)
			}
			if r.State != converge.Drifted {
				return
			}
			if outcomes := k.Repair(t.Context(), []converge.Resource{r}); len(outcomes) > 0 {
				t.Error(outcomes)
			}
			if ran := strings.Join(kernel.ran, "; "); ran != test.setenforce {
				t.Errorf("ran %q and not %q", ran, test.setenforce)
			}
			content, err := s.FS.ReadFile("/etc/selinux/config")
			if diff := cmp.Diff(fmt.Sprintf(config, test.want), string(content)); diff != "" || err != nil {
				t.Error(diff, err)
			}
			if info, _ := s.FS.Stat("/etc/selinux/config"); info.Mode != 0o640 {
				t.Errorf("its mode is now %o", info.Mode)
			}
		})
	}
}

func TestSELinuxThatNeverWasEnforcingWaitsUntilNobodyIsLoggedIn(t *testing.T) {
	for cause, ran := range map[converge.Cause]int{converge.Intentional: 0, converge.Corrective: 1} {
		s, kernel := newMachine(t, map[string]string{"etc/selinux/config": "SELINUX=enforcing\n", "sys/fs/selinux/enforce": "0"})
		s.Sessions = kindtest.Sessions{{User: "alice", State: "online"}}
		k := newKind(t, s, `system.selinux = "enforcing"`)
		r := kindtest.CheckOne(t, k)
		r.Cause = cause
		outcomes := k.Repair(t.Context(), []converge.Resource{r})
		if len(kernel.ran) != ran || len(outcomes) != 1-ran {
			t.Errorf("%s drift: ran %q, %v", cause, kernel.ran, outcomes)
		}
		if ran == 0 && (outcomes[0].Postponed != converge.NextSession || !strings.Contains(outcomes[0].Reason, "alice")) {
			t.Error(outcomes)
		}
	}
}

func TestSELinuxIsNotEnforcedWhereALoginWouldFailForItsLabels(t *testing.T) {
	const wrong = "Would relabel /etc/passwd from system_u:object_r:unlabeled_t:s0 to system_u:object_r:passwd_file_t:s0\n"
	for name, test := range map[string]struct {
		cause   converge.Cause
		says    system.Output
		err     error
		refused string
	}{
		"labels are right":          {converge.Intentional, system.Output{}, nil, ""},
		"a label is wrong":          {converge.Intentional, system.Output{Stdout: []byte(wrong)}, nil, "nobody could log in; relabel (fixfiles onboot) and reboot (Would relabel /etc/passwd"},
		"it cannot look":            {converge.Intentional, system.Output{ExitCode: 255, Stderr: []byte("x")}, nil, "nobody could log in"},
		"there is none":             {converge.Intentional, system.Output{}, system.ErrNotInstalled, "it cannot be told whether files have labels"},
		"it was in force until now": {converge.Corrective, system.Output{Stdout: []byte(wrong)}, nil, ""},
	} {
		s, kernel := newMachine(t, map[string]string{"etc/selinux/config": "SELINUX=permissive\n", "sys/fs/selinux/enforce": "0"})
		s.Sessions = kindtest.Sessions{}
		kernel.relabels, kernel.noLabeler = test.says, test.err
		k := newKind(t, s, `system.selinux = "enforcing"`)
		r := kindtest.CheckOne(t, k)
		r.Cause = test.cause
		outcomes := k.Repair(t.Context(), []converge.Resource{r})
		config, _ := s.FS.ReadFile("/etc/selinux/config")
		if test.refused == "" {
			if len(outcomes) > 0 || len(kernel.ran) != 1 || string(config) != "SELINUX=enforcing\n" {
				t.Errorf("%s: %v, ran %q, %s", name, outcomes, kernel.ran, config)
			}
			continue
		}
		if len(outcomes) != 1 || !strings.Contains(fmt.Sprint(outcomes[0].Err), test.refused) || len(kernel.ran) > 0 || string(config) != "SELINUX=permissive\n" {
			t.Errorf("%s: %v, ran %q, %s", name, outcomes, kernel.ran, config)
		}
	}
}

func TestInAnImageOnlyTheModeOfTheNextBootCounts(t *testing.T) {
	for configured, want := range map[string]converge.State{
		"enforcing": converge.Compliant, "permissive": converge.Drifted, "disabled": converge.Failed,
	} {
		s, kernel := newMachine(t, map[string]string{"etc/selinux/config": "SELINUX=" + configured})
		s.Root = "/image"
		k := newKind(t, s, `system.selinux = "enforcing"`)
		r := kindtest.CheckOne(t, k)
		if r.State != want {
			t.Errorf("%s: %s %s", configured, r.State, r.Reason)
		}
		if r.State == converge.Drifted {
			if outcomes := k.Repair(t.Context(), []converge.Resource{r}); len(outcomes)+len(kernel.ran) > 0 {
				t.Error(outcomes, kernel.ran)
			}
			if r := kindtest.CheckOne(t, k); r.State != converge.Compliant {
				t.Error(r.State, r.Diff)
			}
		}
	}
}
