package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/sudotext"
)

func ways(t *testing.T, text string) []string {
	t.Helper()
	c, err := sudotext.ParseCommand(text)
	if err != nil {
		t.Fatal(err)
	}
	return waysToRoot(c)
}

func TestCommandsByWhichOneBecomesRootAreWarnedOfWithTheReason(t *testing.T) {
	for text, want := range map[string]string{
		"/bin/bash":                    "shell",
		`/bin/bash ""`:                 "shell",
		"/bin/sh /tmp/x.sh":            "shell",
		"/bin/sh /opt/x.sh *":          "pattern",
		"/usr/bin/su -":                "shell", // the fixed argument makes no difference
		"/usr/bin/vim.basic /etc/motd": "editor",
		"(ALL) NOPASSWD: /usr/bin/less /var/log/messages":    "asks for no password",
		"/usr/bin/python3.9":                                 "interpreter",
		"/usr/bin/perl5.26.3":                                "interpreter",
		"/usr/bin/yum":                                       "packages",
		"/usr/bin/apt-get upgrade":                           "packages",
		"/usr/bin/find /var/log":                             "",
		"/usr/bin/find":                                      "whatever program",
		"/usr/bin/env LANG\\=C /usr/bin/less /var/log/x":     "whatever program",
		"/usr/bin/nice vi":                                   "whatever program",
		"/usr/bin/tar":                                       "options",
		"/usr/bin/tee /etc/*":                                "writes any file",
		"/usr/bin/cp /home/user/x /etc/x":                    "writes any file",
		"/usr/bin/cat /var/log/*":                            "pattern",
		"/usr/bin/chmod":                                     "gives away",
		"/usr/bin/mount":                                     "file system",
		"/usr/bin/docker ps *":                               "container",
		"/usr/bin/systemctl":                                 "without a verb",
		"/usr/bin/systemctl restart":                         "without a unit",
		"/usr/bin/systemctl restart *":                       "pattern",
		"/usr/bin/systemctl edit docker.service":             "run anything",
		"/usr/bin/systemctl status docker.service":           "--no-pager",
		"/usr/bin/journalctl -u docker":                      "pager",
		"/usr/bin/dmesg":                                     "pager",
		"/usr/bin/":                                          "all programs in it",
		"/usr/bin/y*":                                        "all programs that it matches",
		"/home/user/bin/tool":                                "people may write",
		"/tmp/tool":                                          "people may write",
		"SETENV: /usr/local/bin/tool":                        "LD_PRELOAD",
		"sudoedit /etc/motd*":                                "pattern",
		"sudoedit /home/user/x":                              "link",
		"sudoedit /etc/sudoers.d/x":                          "heeded, by root",
		"FOLLOW: sudoedit /etc/motd":                         "link",
		"(:docker) /usr/bin/bash":                            "shell",
		"(#0) /usr/bin/bash":                                 "shell",
		"(bin, ALL) /usr/bin/bash":                           "shell",
		"/usr/bin/passwd":                                    "passwords",
		"(bin) /usr/bin/bash":                                "",
		"/usr/local/bin/tool":                                "",
		`/usr/bin/dmesg ""`:                                  "",
		"/usr/bin/systemctl restart docker.service":          "",
		"/usr/bin/systemctl --no-pager status x.service":     "",
		"NOEXEC: /usr/bin/systemctl status x.service":        "",
		"NOEXEC: /usr/bin/less /var/log/messages":            "",
		"SETENV: NOSETENV: /usr/local/bin/tool":              "",
		"sudoedit /etc/motd":                                 "",
		"/bin/bash /opt/site/restart.sh":                     "",
		"/usr/bin/yum -y update":                             "",
		"/usr/bin/cat /var/log/messages":                     "",
		"sha256:" + strings.Repeat("0", 64) + " /home/u/bin": "",
	} {
		got := strings.Join(ways(t, text), "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: want %q, got %q", text, want, got)
		}
	}
}

func TestEveryWayToRootHasAReasonAndItsProgramsStandInOneRowEach(t *testing.T) {
	seen := map[string]string{}
	for _, way := range rootWays() {
		if way.why == "" || strings.HasSuffix(way.why, ".") {
			t.Errorf("%q is no reason", way.why)
		}
		for _, program := range strings.Fields(way.programs) {
			if other := seen[program]; other != "" {
				t.Errorf("%s stands in two rows: %s; %s", program, other, way.why)
			}
			seen[program] = way.why
			if !slices.Contains(ways(t, "/usr/bin/"+program), way.why) {
				t.Errorf("%s is not warned of", program)
			}
		}
	}
}

func TestAProgramMakesRootWhateverItsVersionAndWhereverPeopleMayPutIt(t *testing.T) {
	for program, makes := range map[string]bool{
		"/usr/bin/bash": true, "/usr/bin/python3.11": true, "/usr/bin/vim.tiny": true, "/bin/systemctl": true, "/usr/bin/ld.so": true,
		"/home/user/helper": true, "/tmp/x": true,
		"/usr/local/bin/helper": false, "/usr/bin/id": false, "/usr/sbin/lpadmin": false,
	} {
		if MakesRoot(program) != makes {
			t.Errorf("%s: %t", program, !makes)
		}
	}
}
