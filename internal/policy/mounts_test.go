package policy

import (
	"strings"
	"testing"
	"time"
)

func TestAMountThatTheMachineOrAWSNeedsAsItIsIsRefusedWithTheReason(t *testing.T) {
	for _, c := range []struct{ point, says, want string }{
		{"/dev/shm", `["nodev", "noexec"]`, ""},
		{"/tmp", `["noexec"]`, ""},
		{"/var", `["nodev", "nosuid"]`, ""},
		{"/var/log/audit", `["nodev", "nosuid", "noexec"]`, ""},
		{"/boot", `["nosuid"]`, ""},
		{"/opt/data", `["nosuid"]`, ""},
		{"/home", `["nodev"]`, "AWS mounts the volume of the user there"},
		{"/home/ann", `["nodev"]`, "AWS mounts the volume of the user there"},
		{"/", `["nosuid"]`, "the machine does not work without"},
		{"/usr", `["nosuid"]`, "the machine does not work without"},
		{"/lib", `["nosuid"]`, "the machine does not work without"},
		{"/dev", `["nodev"]`, "mounts it as it has to be"},
		{"/dev/pts", `["nodev"]`, "mounts it as it has to be"},
		{"/proc", `["nodev"]`, "mounts it as it has to be"},
		{"/run/user/1000", `["noexec"]`, "mounts it as it has to be"},
		{"/var/run/x", `["noexec"]`, "mounts it as it has to be"},
		{"/var/lib/skylight", `["nodev"]`, "belongs to WorkSpaces"},
		{"/snap/core/1", `["nosuid"]`, "snapd mounts its packages there"},
		{"/var", `["noexec"]`, "AWS runs programs from there"},
		{"/var/lib", `["noexec"]`, "AWS runs programs from there"},
		{"/var/lib/docker", `["noexec"]`, "programs may be installed there"},
		{"/opt", `["noexec"]`, "AWS runs programs from there"},
		{"/tmp", `["ro"]`, `"ro" is not among the options`},
		{"/tmp", `["size=1m"]`, "is not among the options"},
		{"/tmp", `[]`, "does not say which options"},
		{"/tmp/../home", `["nodev"]`, "not a clean absolute path"},
		{"tmp", `["nodev"]`, "not an absolute path"},
	} {
		got := fileProblemsOf("[mounts." + quoted(c.point) + "]\noptions = " + c.says + "\n")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s with %s: %q", c.point, c.says, got)
		}
	}
}

func quoted(text string) string { return `"` + text + `"` }

func TestAnOptionWithWhichSomeProgramsDoNotStartIsToldOf(t *testing.T) {
	f := mustParse(t, "a.toml", "schema = 1\n[mounts.\"/tmp\"]\noptions = [\"noexec\", \"nodev\"]\n[mounts.\"/dev/shm\"]\noptions = [\"noexec\"]\n[mounts.\"/opt\"]\noptions = [\"nosuid\"]\n")
	problems := Advise([]Fragment{f}, time.Now())
	if len(problems) != 2 || problems[0].Gravity != Notice || !strings.Contains(problems[0].Message, "noexec on /tmp") || !strings.Contains(problems[1].Message, "nosuid on /opt") {
		t.Errorf("%v", problems)
	}
}
