package sudoers

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/system"
)

// The output of visudo of sudo 1.8.23, 1.9.5p2 and 1.9.13p3.
func TestWhatVisudoFindsIsUnderstoodOfEveryVersion(t *testing.T) {
	for said, want := range map[string][]Fault{
		">>> /etc/sudoers.d/a: syntax error near line 4 <<<\nparse error in /etc/sudoers.d/a near line 4\n":                {{"/etc/sudoers.d/a", 4, "syntax error"}},
		">>> /etc/sudoers.d/a: Alias \"A\" already defined near line 2 <<<\nparse error in /etc/sudoers.d/a near line 2\n": {{"/etc/sudoers.d/a", 2, `Alias "A" already defined`}},
		"visudo: /etc/sudoers:2 unknown defaults entry \"bogus\"\nparse error in /etc/sudoers near line 2\n":               {{"/etc/sudoers", 2, `unknown defaults entry "bogus"`}},
		"visudo: /etc/sudoers.d/nowhere: No such file or directory\nparse error in /etc/sudoers.d/a near line 0\n": {
			{"/etc/sudoers.d/nowhere", 0, "No such file or directory"}, {"/etc/sudoers.d/a", 0, "it includes /etc/sudoers.d/nowhere: No such file or directory"},
		},
		"/etc/sudoers.d/a:1:30: syntax error\ndaemon ALL = /bin/sh garbage = (\n                             ^\n": {{"/etc/sudoers.d/a", 1, "syntax error"}},
		"visudo: /etc/sudoers.d/a:1:16: unknown defaults entry \"bogus\"\n":                                       {{"/etc/sudoers.d/a", 1, `unknown defaults entry "bogus"`}},
		"/etc/sudoers.d/a:1:15: unknown defaults entry \"bogus\"\n":                                               {{"/etc/sudoers.d/a", 1, `unknown defaults entry "bogus"`}},
		"visudo: /nowhere/x: No such file or directory\n":                                                         {{"/nowhere/x", 0, "No such file or directory"}},
		"Warning: /etc/sudoers.d/a:1 User_Alias \"FOO\" referenced but not defined\n/etc/sudoers: parsed OK\n":    nil,
	} {
		if diff := cmp.Diff(want, faults(said)); diff != "" {
			t.Errorf("%q: %s", said, diff)
		}
	}
}

func TestOnlyWhatSudoRefusesEverybodyForIsFatal(t *testing.T) {
	for text, fatal := range map[string]bool{
		"syntax error": true, `Alias "A" already defined`: true, "No such file or directory": true,
		`unknown defaults entry "bogus"`: false, `value "abc" is invalid for option "timestamp_timeout"`: false,
		`option "env_reset" does not take a value`: false, `no value specified for "umask"`: false, `values for "logfile" must start with a '/'`: false,
	} {
		if (Fault{Text: text}).Fatal() != fatal {
			t.Errorf("%s: it is %t", text, !fatal)
		}
	}
}

// answers fakes visudo and sudo.
type answers map[string]func() (system.Output, error)

func (a answers) Run(_ context.Context, c system.Command) (system.Output, error) {
	return a[c.Argv[0]]()
}

func says(exit int, stdout, stderr string) func() (system.Output, error) {
	return func() (system.Output, error) {
		return system.Output{ExitCode: exit, Stdout: []byte(stdout), Stderr: []byte(stderr)}, nil
	}
}

func TestAChangeIsRefusedForItsOwnFaultsAndForThoseThatStopSudo(t *testing.T) {
	const (
		works   = "User root may run the following commands on here:\n    (ALL) ALL\n"
		refuses = "sudo: parse error in /etc/sudoers.d/x near line 1\nsudo: no valid sudoers sources found, quitting\n"
		bogus   = "visudo: /etc/sudoers.d/x:1 unknown defaults entry \"bogus\"\n"
		wrong   = ">>> /etc/sudoers.d/x: syntax error near line 1 <<<\n"
	)
	silent := func() (system.Output, error) { return system.Output{}, context.DeadlineExceeded }
	for name, test := range map[string]struct {
		visudo, sudo func() (system.Output, error)
		changed      string
		refused      string
	}{
		"nothing is wrong":                          {says(0, "", ""), says(0, works, ""), "/etc/sudoers.d/x", ""},
		"another's Defaults":                        {says(1, "", bogus), says(0, works, ""), "/etc/sudoers.d/y", ""},
		"its own Defaults":                          {says(1, "", bogus), says(0, works, ""), "/etc/sudoers.d/x", `visudo refuses it: /etc/sudoers.d/x:1: unknown defaults entry "bogus"`},
		"another's error that sudo recovers from":   {says(1, "", wrong), says(0, works, wrong), "/etc/sudoers.d/y", ""},
		"an error that sudo does not recover from":  {says(1, "", wrong), says(1, "", refuses), "/etc/sudoers.d/y", "visudo refuses it: /etc/sudoers.d/x:1: syntax error"},
		"sudo does not work and visudo is content":  {says(0, "", ""), says(1, "", refuses), "/etc/sudoers.d/x", "visudo refuses it: sudo: parse error in /etc/sudoers.d/x near line 1"},
		"sudo waits for a directory":                {says(0, "", ""), silent, "/etc/sudoers.d/x", ""},
		"sudo waits, and another's file is wrong":   {says(1, "", wrong), silent, "/etc/sudoers.d/y", "visudo refuses it: /etc/sudoers.d/x:1: syntax error"},
		"sudo waits, and another's Defaults are so": {says(1, "", bogus), silent, "/etc/sudoers.d/y", ""},
	} {
		s := &system.System{Runner: answers{"visudo": test.visudo, "sudo": test.sudo}}
		err := Validate(t.Context(), s, map[string][]byte{test.changed: []byte("x")})
		switch {
		case test.refused == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.refused != "" && (!errors.Is(err, ErrInvalid) || err.Error() != test.refused):
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// As cvtsudoers of 1.9.13 writes it, with missing braces around a directory to run in, and as that
// of 1.8.23 does, with a comma for Defaults that it does not know.
func TestTheSecondOpinionIsUnderstoodWhereCvtsudoersWritesNoJSON(t *testing.T) {
	const said = `{ "Defaults": [
        { "Options": [ { "insults": true } ] },
    ],
    "User_Specs": [ { "User_List": [ { "username": "alice" } ], "Host_List": [ { "hostname": "ALL" } ],
    "Cmnd_Specs": [ { "Options": [
                        "runchroot": "/a \"b",
                        "runcwd": "/srv",
                        { "authenticate": false }
                    ],
                    "SELinux_Spec": [
                        "role": "a_r",
                        "type": "a_t"
                    ],
                    "Commands": [ { "command": "ALL" } ] } ] } ] }`
	specs, err := Specs(t.Context(), answers{"cvtsudoers": says(0, said, "")})
	if err != nil || len(specs) != 1 || specs[0].Denies || specs[0].Users[0].Name != "alice" {
		t.Errorf("got %+v, %v", specs, err)
	}
}
