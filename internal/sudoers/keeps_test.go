package sudoers_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

// someSudo answers as sudo with the agent's grants, and with what the candidate's text says: "deny NAME" and
// "set SETTING".
type someSudo struct{ silent bool }

func (s someSudo) Run(_ context.Context, c system.Command) (system.Output, error) {
	if s.silent {
		return system.Output{}, context.DeadlineExceeded
	}
	user := c.Argv[len(c.Argv)-1]
	candidate := string(c.Staged["/etc/sudoers.d/x"])
	var out bytes.Buffer
	if _, setting, set := strings.Cut(candidate, "set "); set {
		fmt.Fprintf(&out, "Matching Defaults entries for %s on here:\n    %s\n\n", user, strings.TrimSpace(setting))
	}
	if user == "bob" || strings.Contains(candidate, "deny "+user) {
		fmt.Fprintf(&out, "User %s is not allowed to run sudo on here.\n", user)
	} else {
		fmt.Fprintf(&out, "User %s may run the following commands on here:\n\nSudoers entry:\n    RunAsUsers: ALL\n    Commands:\n\tALL\n", user)
	}
	return system.Output{Stdout: out.Bytes()}, nil
}

func TestAFileThatTakesTheAdministrationFromTheAllowedOrWeakensSudoIsNamedBeforeItIsWritten(t *testing.T) {
	for content, want := range map[string]string{
		"fine\n":          "",
		"deny alice":      "which lets alice administer without it, would not do so any more",
		"deny carol":      "which lets carol administer without it", // of the group
		"deny root":       "which lets root administer without it",
		"deny bob":        "", // whom sudo refuses without it too
		"set noexec":      "whom [sudo] allow names, could not become root any more, by its Defaults noexec",
		"set targetpw":    "its Defaults targetpw would weaken sudo",
		"set insults":     "",
		"set logfile=/x1": "its Defaults logfile would weaken sudo",
	} {
		root := kindtest.Root(t, map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "", "etc/sudoers": "", "run/systemd/system/x": ""})
		s := kindtest.Open(t, system.Options{Root: root})
		s.Root, s.Runner = "/", someSudo{}
		got := ""
		if err := sudoers.Keeps(t.Context(), s, []string{"root", "alice", "bob", "%ops"}, []string{"root", "alice", "bob", "carol"}, "/etc/sudoers.d/x", []byte(content)); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%q: want %q, got %q", content, want, got)
		}
	}
}

func TestWhileSudoIsSilentAFileThatMayDenySomethingIsNotWritten(t *testing.T) {
	for content, denies := range map[string]bool{
		"alice ALL=(ALL) NOPASSWD: ALL\n": false,
		"Defaults insults\n":              false,
		"bob ALL=!/usr/bin/su\n":          true,
		"alice ALL=(ALL) ALL, !ALL\n":     true,
		"Defaults noexec\n":               true,
	} {
		s := kindtest.Open(t, system.Options{Root: kindtest.Root(t, map[string]string{"etc/passwd": "", "etc/group": "", "etc/sudoers": ""})})
		s.Root, s.Runner = "/", someSudo{silent: true}
		if err := sudoers.Keeps(t.Context(), s, []string{"root", "alice"}, []string{"root", "alice"}, "/etc/sudoers.d/x", []byte(content)); (err != nil) != denies {
			t.Errorf("%q: %v", content, err)
		}
	}
}
