package packages

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// repositories is the kind for one repository, corp.
func (d *desk) repositories(want policy.Repository, secrets ...string) *Repositories {
	return NewRepositories(&policy.Policy{Resources: []policy.Resource{
		{ID: "repository/corp", Spec: want, Secrets: secrets},
	}}, d.system, d.ledger, patience)
}

func (d *desk) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(d.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// keyServer serves testdata.
func keyServer(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.FileServer(http.Dir("testdata")))
	t.Cleanup(server.Close)
	return server
}

func TestARepositoryIsWrittenWithAVerifiedCopyOfItsKey(t *testing.T) {
	d := newDesk(t, world{})
	k := d.repositories(policy.Repository{
		Ensure: policy.Present, Title: "Corporate", BaseURL: "https://rpm.example.com/$basearch",
		GPGKeys: []string{keyServer(t).URL + "/one.gpg"}, Fingerprints: []string{keyOne}, RepositorySettings: policy.RepositorySettings{Priority: 10},
	})
	_, states := check(t, k)
	same(t, "before", states, map[string]string{
		"corp": "drifted file: absent, not present key file: another, or none, not " + keyOne + " key: not imported, not " + keyOne,
	})
	same(t, "the reasons", repair(t, k), map[string]string{})
	same(t, "the file", d.read(t, "/etc/yum.repos.d/corp.repo"), `[corp]
name=Corporate
baseurl=https://rpm.example.com/$basearch
enabled=1
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-soe-corp
skip_if_unavailable=1
timeout=10
retries=2
metadata_expire=1800
priority=10
`)
	same(t, "the key", d.read(t, "/etc/pki/rpm-gpg/RPM-GPG-KEY-soe-corp"), string(testdata(t, "one.asc")))
	same(t, "the imported keys", d.imported, []string{"0ce7dfd2"})
	ran := len(d.ran)
	_, states = check(t, k)
	same(t, "after", states, map[string]string{"corp": "compliant"})
	check(t, k)
	if len(d.ran) != ran {
		t.Errorf("checking what has not changed ran %q", d.ran[ran:])
	}
}

func TestAKeyIsHadByTheProxyOfThePackageManager(t *testing.T) {
	files := http.FileServer(http.Dir("testdata"))
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "rpm.invalid" || r.Header.Get("Proxy-Authorization") != "Basic c29lOnBhc3M=" { // soe:pass
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	address := strings.TrimPrefix(proxy.URL, "http://")
	for _, c := range []struct{ main, own, why string }{
		{"proxy=http://soe:pass@" + address, "", ""},
		{"proxy = " + address + "\nproxy_username = soe\nproxy_password = pass", "", ""},
		{"proxy=http://127.0.0.1:1\nproxy_username=soe\nproxy_password=pass", proxy.URL, ""},
		{"proxy=http://127.0.0.1:1", "http://soe:pass@" + address, ""},
		{"proxy=http://soe:pass@" + address, "_none_", "cannot get it from rpm.invalid"},
	} {
		d := newDesk(t, world{})
		d.write("/etc/yum.conf", "[main]\n"+c.main+"\n")
		why := repair(t, d.repositories(policy.Repository{
			Ensure: policy.Present, BaseURL: "http://rpm.invalid", GPGKeys: []string{"http://rpm.invalid/one.gpg"}, Fingerprints: []string{keyOne},
			RepositorySettings: policy.RepositorySettings{Proxy: c.own},
		}))["corp"]
		if c.why == "" && why != "" || !strings.Contains(why, c.why) || strings.Contains(why, "pass") {
			t.Errorf("with %q and %q of its own: %s", c.main, c.own, why)
		}
	}
}

func TestAKeyThatIsNotTheOneNamedIsNeitherKeptNorImported(t *testing.T) {
	server := keyServer(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	password := "pass" + "word"
	for url, why := range map[string]string{
		server.URL + "/two-keys.asc": "and the policy says " + keyOne,
		server.URL + "/none":         "cannot get it from 127.0.0.1: 404 Not Found",
		gone.URL:                     "connection refused",
		strings.Replace(gone.URL, "//", "//user:"+password+"@", 1) + "/?token=" + password: "connection refused",
		"file:///root/none": "no such file",
	} {
		d := newDesk(t, world{})
		// Somebody has disabled signatures and put another key in place.
		d.write("/etc/yum.repos.d/corp.repo", "[corp]\nbaseurl=https://rpm.example.com/\ngpgcheck=0\n")
		d.write("/etc/pki/rpm-gpg/RPM-GPG-KEY-soe-corp", string(testdata(t, "two-blocks.asc")))
		k := d.repositories(policy.Repository{Ensure: policy.Present, BaseURL: "https://rpm.example.com/", GPGKeys: []string{url}, Fingerprints: []string{keyOne}})
		reason := repair(t, k)["corp"]
		if !strings.Contains(reason, why) || strings.Contains(reason, password) {
			t.Errorf("%s: %s", url, reason)
		}
		if len(d.imported) > 0 {
			t.Errorf("%s: a key was imported", url)
		}
		if _, err := os.Stat(filepath.Join(d.root, "/etc/pki/rpm-gpg/RPM-GPG-KEY-soe-corp")); err == nil {
			t.Errorf("%s: the foreign key is still there", url)
		}
		if file := d.read(t, "/etc/yum.repos.d/corp.repo"); !strings.Contains(file, "gpgcheck=1\n") {
			t.Errorf("%s: signatures stay switched off", url)
		}
	}
}

func TestAWrongFingerprintNamesBoth(t *testing.T) {
	d := newDesk(t, world{})
	wanted := strings.Repeat("A", 40)
	k := d.repositories(policy.Repository{Ensure: policy.Present, BaseURL: "https://rpm.example.com/", GPGKeys: []string{keyServer(t).URL + "/one.asc"}, Fingerprints: []string{wanted}})
	same(t, "the reasons", repair(t, k), map[string]string{
		"corp": "cannot set up the repository corp: cannot use its key: its fingerprint is " + keyOne + ", and the policy says " + wanted,
	})
}

func TestAPasswordInAURLIsForRootAloneAndNeverShown(t *testing.T) {
	d := newDesk(t, world{})
	d.imported = []string{"0ce7dfd2"}
	const url = "https://agent:hunter2@rpm.example.com/"
	k := d.repositories(policy.Repository{Ensure: policy.Present, BaseURL: url, GPGKeys: []string{keyServer(t).URL + "/one.asc"}, Fingerprints: []string{keyOne}}, "hunter2")
	d.write("/etc/yum.repos.d/corp.repo", "[corp]\nbaseurl=https://agent:hunter1@rpm.example.com/\n")
	resources := kindtest.Check(t, k)
	for _, diff := range resources[0].Diff {
		if strings.Contains(diff.Want+diff.Got, "hunter") {
			t.Errorf("the password is shown in %s", diff.Aspect)
		}
	}
	same(t, "the reasons", repair(t, k), map[string]string{})
	info, err := os.Stat(filepath.Join(d.root, "/etc/yum.repos.d/corp.repo"))
	if err != nil || info.Mode() != 0o600 || !strings.Contains(d.read(t, "/etc/yum.repos.d/corp.repo"), "baseurl="+url+"\n") {
		t.Errorf("%v %v", info, err)
	}
}

func TestWhatSomebodyChangedInARepositoryIsSaid(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"disabled":    {"[corp]\nname=corp\nenabled=0\ngpgcheck : 0\n", "enabled: 0, not 1|gpgcheck: 0, not 1"},
		"added to":    {"[corp]\nname=corp\nenabled=1\ngpgcheck=1\nsslverify=0\n", "sslverify: 0, not not set"},
		"said twice":  {"[corp]\nname=corp\nenabled=1\ngpgcheck=1\ngpgcheck=0\n", "gpgcheck: 0, not 1"},
		"renamed":     {"[other]\nname=corp\nenabled=1\ngpgcheck=1\n", "name: not set, not corp|enabled: not set, not 1|gpgcheck: not set, not 1"},
		"commented":   {"# by hand\n[corp]\nname=corp\nenabled=1\ngpgcheck=1\n", "content: otherwise, with the same settings, not as the agent writes it"},
		"on two line": {"[corp]\nname=corp\nenabled=1\ngpgcheck=1\n 0\n", "gpgcheck: 1 0, not 1"},
	} {
		var r converge.Resource
		compare(&r, []setting{{"name", "corp"}, {"enabled", "1"}, {"gpgcheck", "1"}}, parseINI([]byte(c.content))["corp"], false)
		var got []string
		for _, diff := range r.Diff {
			got = append(got, diff.Aspect+": "+diff.Got+", not "+diff.Want)
		}
		same(t, name, strings.Join(got, "|"), c.want)
	}
}

func TestARepositoryDefinedTwiceIsNotInLine(t *testing.T) {
	d := newDesk(t, world{})
	d.imported = []string{"0ce7dfd2"}
	k := d.repositories(policy.Repository{Ensure: policy.Present, BaseURL: "https://rpm.example.com/", GPGKeys: []string{keyServer(t).URL + "/one.asc"}, Fingerprints: []string{keyOne}})
	repair(t, k)
	d.write("/etc/yum.repos.d/by-hand.repo", "[corp]\nbaseurl=http://elsewhere/\n")
	same(t, "the reasons", repair(t, k), map[string]string{
		"corp": "cannot set up the repository corp: /etc/yum.repos.d/by-hand.repo defines it too; remove it there",
	})
}

func TestARepositoryThatIsNotWantedIsRemoved(t *testing.T) {
	d := newDesk(t, world{})
	d.write("/etc/yum.repos.d/corp.repo", "[corp]\n")
	k := d.repositories(policy.Repository{Ensure: policy.Absent})
	same(t, "the reasons", repair(t, k), map[string]string{})
	_, states := check(t, k)
	same(t, "after", states, map[string]string{"corp": "compliant"})
}

func FuzzParsingAnINIFile(f *testing.F) {
	f.Add([]byte("[corp]\nname = Corp\n# comment\n; too\nbaseurl=https://a\n  https://b\nbroken\n[x\n=\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		for section, settings := range parseINI(content) {
			for _, s := range settings {
				if strings.ContainsAny(section+s.key+s.value, "\n") {
					t.Errorf("%q %q has a line break", section, s)
				}
			}
		}
	})
}
