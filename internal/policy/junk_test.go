package policy

import (
	"fmt"
	"strings"
	"testing"
)

// refusedFor says why a document is refused, alone or put together, or "".
func refusedFor(document string) string {
	f, err := Parse(Source{Name: "x.toml", Layer: Local, Text: document})
	if err == nil {
		_, err = Merge([]Fragment{f}, []string{"base"}, nil)
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestANULIsRefusedInEveryStringAndEveryKeyOfAFragment(t *testing.T) {
	for _, document := range []string{
		"description = \"a\\u0000\"\n",
		"personas = [\"a\\u0000\"]\n",
		"[checks.x]\nrun = [\"/usr/bin/true\", \"a\\u0000b\"]\n",
		"[checks.x]\nrun = [\"/usr/bin/true\"]\nstdout = \"\\u0000\"\n",
		"[dropins.\"/etc/sysctl.d/60-x.conf\"]\ncontent = \"vm.swappiness = 1\\u0000\\n\"\n",
		"[dropins.\"/etc/foo.d/x\"]\ncontent = \"a\\u0000\"\n",
		"[dropins.\"/etc/foo.d/x\"]\ncontent = \"a\"\nactivate = [\"/usr/bin/true\", \"\\u0000\"]\n",
		"[dropins.\"/etc/foo.d/\\u0000\"]\ncontent = \"a\"\n",
		"[packages]\n\"a\\u0000\" = \"latest\"\n",
		"[dconf.\"a/b\"]\nc = \"x\\u0000\"\n",
		"[dconf.\"a/b\"]\nc = [\"x\", \"y\\u0000\"]\n",
		"[users.jd]\ncomment = \"\\u0000\"\n",
		"[repositories.corp]\nname = \"a\\u0000\"\nensure = \"absent\"\n",
		"[[rules]]\nmatch = [\"sudo/*\"]\nmode = \"audit\"\nreason = \"a\\u0000\"\n",
		"[files.\"/etc/security/pwquality.conf\"]\nkeys = { minlen = \"1\\u0000\" }\n",
		"[sudo]\nallow = [\"alice\", \"bob\\u0000\"]\n",
		"[sudo]\nallow = [\"alice\"]\ncommands.bob = [\"/usr/bin/true \\u0000\"]\n",
	} {
		if why := refusedFor("schema = 1\n" + document); !strings.Contains(why, "NUL") || !strings.HasPrefix(why, "x.toml:") {
			t.Errorf("%q: %s", document, why)
		}
	}
}

func TestANameLongerThanTheMachineTakesIsRefused(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	path := func(n int) string { return "/etc/foo.d" + strings.Repeat("/"+long(200), n/201) + "/" + long(n%201) }
	for _, test := range []struct {
		document string // with one place for a name
		longest  func() string
		longer   func() string
	}{
		{"[users.%s]\nuid = 4000\n", func() string { return long(32) }, func() string { return long(33) }},
		{"[groups.%s]\ngid = 4000\n", func() string { return long(32) }, func() string { return long(900000) }},
		{"[ids]\nuid.%s = 400\n", func() string { return long(32) }, func() string { return long(33) }},
		{"[ids]\ngid.%s = 400\n", func() string { return long(32) }, func() string { return long(33) }},
		{"[users.jd]\ngroup = %q\n", func() string { return long(32) }, func() string { return long(33) }},
		{"[users.jd]\ngroups = [%q]\n", func() string { return long(32) }, func() string { return long(33) }},
		{"[users.jd]\nhome = %q\n", func() string { return "/home" + path(1000) }, func() string { return "/home" + path(5000) }},
		{"[users.jd]\nshell = %q\n", func() string { return "/usr/bin/" + long(255) }, func() string { return "/usr/bin/" + long(256) }},
		{"[repositories.%s]\nenabled = false\n", func() string { return long(128) }, func() string { return long(400) }},
		{"[services.%q]\nenabled = true\n", func() string { return long(247) + ".service" }, func() string { return long(248) + ".service" }},
		{"[packages]\n%s = \"latest\"\n", func() string { return long(255) }, func() string { return long(256) }},
		{"[packages]\nx = \"1%s\"\n", func() string { return long(254) }, func() string { return long(255) }},
		{"[checks.%s]\nfind = \"homes\"\n", func() string { return long(128) }, func() string { return long(129) }},
		{"[checks.x]\nrun = [\"/usr/bin/true\"]\nuser = %q\n", func() string { return long(255) }, func() string { return long(256) }},
		{"[sudo]\nallow = [%q]\n", func() string { return `EXAMPLE\` + long(200) }, func() string { return long(300) }},
		{"[sudo]\nallow = [\"alice\"]\nroot_groups = [%q]\n", func() string { return long(200) }, func() string { return long(300) }},
		{"[dropins.%q]\ncontent = \"x\"\n", func() string { return "/etc/foo.d/" + long(240) }, func() string { return "/etc/" + long(256) + ".d/x" }},
		{"[dropins.%q]\nensure = \"absent\"\nactivate = []\n", func() string { return path(4000) }, func() string { return path(4200) }},
		{"[dropins.\"/etc/foo.d/x\"]\ncontent = \"x\"\nowner = %q\n", func() string { return long(255) }, func() string { return long(256) }},
		{"[directories.%q]\npurge = true\n", func() string { return "/etc/" + long(253) + ".d" }, func() string { return "/etc/" + long(254) + ".d" }},
		{"[files.%q]\nmode = \"0600\"\n", func() string { return "/etc/" + long(255) }, func() string { return "/etc/" + long(256) }},
		{"[mounts.%q]\noptions = [\"nodev\"]\n", func() string { return "/srv/" + long(255) }, func() string { return "/srv/" + long(256) }},
		{"[dconf.%q]\nx = 1\n", func() string { return "org/" + long(200) }, func() string { return "org/" + long(2000) }},
		{"personas = [%q]\n", func() string { return long(64) }, func() string { return long(65) }},
	} {
		if why := refusedFor("schema = 1\n" + fmt.Sprintf(test.document, test.longest())); why != "" {
			t.Errorf("%s refuses one of %d letters: %.300s", test.document, len(test.longest()), why)
		}
		why := refusedFor("schema = 1\n" + fmt.Sprintf(test.document, test.longer()))
		if !strings.Contains(why, "longer than") || len(why) > 20000 {
			t.Errorf("%s takes one of %d letters, or says so in %d: %.300s", test.document, len(test.longer()), len(why), why)
		}
	}
}

func TestAURLThatLeadsNowhereIsRefusedAndOneWithVariablesOfYumIsNot(t *testing.T) {
	const rest = "fingerprint = \"0123456789012345678901234567890123456789\"\n"
	places := map[string]string{
		"baseurl":    "[repositories.corp]\nbaseurl = %q\ngpgkey = \"https://k/a\"\n" + rest,
		"metalink":   "[repositories.corp]\nmetalink = %q\ngpgkey = \"https://k/a\"\n" + rest,
		"mirrorlist": "[repositories.corp]\nmirrorlist = %q\ngpgkey = \"https://k/a\"\n" + rest,
		"gpgkey":     "[repositories.corp]\nbaseurl = \"https://x/\"\ngpgkey = %q\n" + rest,
		"url":        "[packages.x]\nurl = %q\nsha256 = \"" + strings.Repeat("a", 64) + "\"\n",
	}
	for place, document := range places {
		for url, right := range map[string]bool{
			"https://": false, "https:///a": false, "http://": false, "https://x y/": false, "https://x/ y": false, "https://x\\ty/": false, " https://x/": false, "https://x/ ": false,
			"https://:443/": false, "https://x:99999/": false, "https://x:a/": false, "https://x/%zz": false, "https://[::1/": false, "https://?a": false, "file:///": false,
			"file://x/y": false, "ftp://x/": false, "x": false, "https://x/" + strings.Repeat("a", 4096): false, "https://x<y>/": false,
			"https://x": true, "https://x:8443/a?b=c": true, "http://[2001:db8::1]:80/a": true, "file:///srv/a": true, "https://x/%20a": true,
			"https://{{fact:region}}.example.com/": true,
		} {
			why := refusedFor("schema = 1\n" + fmt.Sprintf(document, url))
			if (why == "") != right || strings.Contains(why, "panic") {
				t.Errorf("%s %.60q: %.300s", place, url, why)
			}
		}
		for _, url := range []string{"https://repo-$awsregion.$awsdomain/$releasever/$basearch/", "https://${host}/a"} {
			if why := refusedFor("schema = 1\n" + fmt.Sprintf(document, url)); place != "url" && why != "" {
				t.Errorf("%s %q: %s", place, url, why)
			}
		}
	}
	for proxy, right := range map[string]bool{"http://": false, "http://:3128": false, "http://x:3128": true, "_none_": true, "socks5h://x:1": true, "http://x:0": false} {
		if why := refusedFor("schema = 1\n[repositories.epel]\nproxy = \"" + proxy + "\"\n"); (why == "") != right {
			t.Errorf("proxy %q: %s", proxy, why)
		}
	}
}

func TestEachKeyOfARepositoryHasAFingerprintOfItsOwn(t *testing.T) {
	const one, two = "0123456789012345678901234567890123456789", "9876543210987654321098765432109876543210"
	for keys, right := range map[string]bool{
		`gpgkey = ["https://k/a", "https://k/b"]` + "\nfingerprint = \"" + one + `"`:                                false,
		`gpgkey = ["https://k/a", "https://k/b"]` + "\nfingerprint = [\"" + one + `", "` + one + `"]`:               false,
		`gpgkey = ["https://k/a", "https://k/a"]` + "\nfingerprint = [\"" + one + `", "` + two + `"]`:               false,
		`gpgkey = ["https://k/a", "https://k/b"]` + "\nfingerprint = [\"" + one + `", "` + two + `"]`:               true,
		`gpgkey = "https://k/a"` + "\nfingerprint = [\"" + one + `", "` + two + `"]`:                                true, // several at one place
		`gpgkey = ["https://k/a"]` + "\nfingerprint = [\"" + one + `", "` + strings.ToLower(one[:4]+one[4:]) + `"]`: false,
		`gpgkey = "https://k/a"` + "\nfingerprint = []":                                                             false,
	} {
		why := refusedFor("schema = 1\n[repositories.corp]\nbaseurl = \"https://x/\"\n" + keys + "\n")
		if (why == "") != right {
			t.Errorf("%s: %s", keys, why)
		}
	}
}

func TestARepositoryOrAnAccountIsNotCalledAsWhatSomethingElseMeansByIt(t *testing.T) {
	for _, name := range []string{"main", "MAIN", "installed"} {
		for _, rest := range []string{"enabled = false\n", "ensure = \"absent\"\n"} {
			if why := refusedFor("schema = 1\n[repositories." + name + "]\n" + rest); !strings.Contains(why, name) {
				t.Errorf("repository %s: %s", name, why)
			}
		}
	}
	for _, name := range []string{"root", "ALL", "unregistered", "nobody", "nogroup"} {
		for _, document := range []string{"[users.%s]\ncomment = \"x\"\n", "[groups.%s]\ngid = 4000\n"} {
			if why := refusedFor("schema = 1\n" + fmt.Sprintf(document, name)); !strings.Contains(why, name) {
				t.Errorf(document+"%s", name, why)
			}
		}
	}
}

func TestAHomeOfSomebodyIsNoPlaceOfTheSystems(t *testing.T) {
	for home, right := range map[string]bool{
		"/": false, "/root": false, "/root/jd": false, "/etc/jd": false, "/usr/x": false, "/usr/local/x": false, "/bin/x": false, "/lib/x": false, "/boot/x": false,
		"/dev/shm/x": false, "/proc/x": false, "/sys/x": false, "/run/x": false, "/tmp/x": false, "/var/tmp/x": false, "/home": false, "/var": false, "/srv": false, "/opt": false,
		"/var/lib": false, "/var/log/x": false, "/var/lib/pcoip-agent/x": false,
		"/home/jd": true, "/home/EXAMPLE/jd": true, "/var/lib/backup": true, "/srv/jd": true, "/opt/jd": true, "/local/home/jd": true, "/data": true,
	} {
		if why := refusedFor("schema = 1\n[users.jd]\nhome = \"" + home + "\"\n"); (why == "") != right {
			t.Errorf("%s: %s", home, why)
		}
	}
	for _, home := range []string{"/", "/etc/ntp", "/run/x", "/usr/share/x"} { // as packages of distributions have them
		if why := refusedFor("schema = 1\n[users.ntp]\nsystem = true\nhome = \"" + home + "\"\n"); why != "" {
			t.Errorf("a service account: %s: %s", home, why)
		}
	}
}

func TestAPriorityIsWhatYumTakes(t *testing.T) {
	for priority, right := range map[int]bool{-1: false, 0: false, 1: true, 99: true, 100: false} {
		if why := refusedFor(fmt.Sprintf("schema = 1\n[repositories.epel]\npriority = %d\nenabled = true\n", priority)); (why == "") != right {
			t.Errorf("%d: %s", priority, why)
		}
	}
}
