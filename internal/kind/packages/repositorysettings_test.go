package packages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestARepositoryOfSeveralKeysHasThemAllAndNoOther(t *testing.T) {
	keys, err := parseKeys(testdata(t, "two-keys.asc"))
	if err != nil {
		t.Fatal(err)
	}
	two := []string{keys[0].fingerprint, keys[1].fingerprint}
	server := keyServer(t).URL
	foreign := strings.Repeat("A", 40)
	for name, c := range map[string]struct {
		urls, prints []string
		why          string
	}{
		"at one place":        {[]string{server + "/two-keys.asc"}, two, ""},
		"in two blocks":       {[]string{server + "/two-blocks.asc"}, two, ""},
		"at two, one twice":   {[]string{server + "/one.asc", server + "/two-keys.asc"}, two, ""},
		"one more than named": {[]string{server + "/two-keys.asc"}, two[:1], "its fingerprint is " + two[1]},
		"one fewer":           {[]string{server + "/one.asc"}, two, "none of its keys has the fingerprint " + two[1]},
		"a foreign one":       {[]string{server + "/two-keys.asc"}, append(two, foreign), "none of its keys has the fingerprint " + foreign},
	} {
		d := newDesk(t, world{})
		k := d.repositories(policy.Repository{Ensure: policy.Present, BaseURL: "https://rpm.example.com/", GPGKeys: c.urls, Fingerprints: c.prints})
		if why := repair(t, k)["corp"]; c.why == "" && why != "" || !strings.Contains(why, c.why) {
			t.Errorf("%s: %q, and not %q", name, why, c.why)
		}
		if c.why != "" {
			if len(d.imported) > 0 {
				t.Errorf("%s: %q were imported", name, d.imported)
			}
			continue
		}
		if _, states := check(t, k); states["corp"] != "compliant" || len(d.imported) != 2 {
			t.Errorf("%s: it is %s, with the keys %q", name, states["corp"], d.imported)
		}
		// The policy no longer names one of them, or rpm has lost it.
		k = d.repositories(policy.Repository{Ensure: policy.Present, BaseURL: "https://rpm.example.com/", GPGKeys: []string{server + "/one.asc"}, Fingerprints: two[:1]})
		if _, states := check(t, k); !strings.Contains(states["corp"], "key file") {
			t.Errorf("%s: with one key fewer it is %s", name, states["corp"])
		}
		d.imported = d.imported[:1]
		d.write("/var/lib/rpm/Packages", "lost")
		k = d.repositories(policy.Repository{Ensure: policy.Present, BaseURL: "https://rpm.example.com/", GPGKeys: c.urls, Fingerprints: c.prints})
		if _, states := check(t, k); !strings.Contains(states["corp"], "key: not imported, not "+two[1]) {
			t.Errorf("%s: with one key lost it is %s", name, states["corp"])
		}
	}
}

func TestWhatThePolicySetsOfARepositoryIsInItsFile(t *testing.T) {
	d := newDesk(t, world{})
	yes, no := true, false
	k := d.repositories(policy.Repository{
		Ensure: policy.Present, Metalink: "https://m.example.com/link", MirrorList: "https://m.example.com/list",
		GPGKeys: []string{keyServer(t).URL + "/one.gpg"}, Fingerprints: []string{keyOne},
		RepositorySettings: policy.RepositorySettings{
			Enabled: &no, Exclude: []string{"kernel*", "tool.i686"}, IncludePkgs: []string{"*"}, Proxy: "_none_", SSLCACert: "/etc/ca.pem",
			SSLClientCert: "/etc/me.pem", SSLClientKey: "/etc/me.key", MetadataExpire: "6h", SkipIfUnavailable: &no, ModuleHotfixes: &yes, Priority: 5,
		},
	})
	for file, text := range map[string]string{"/etc/ca.pem": caPEM, "/etc/me.pem": caPEM, "/etc/me.key": "no key"} {
		d.write(file, text)
	}
	if why := repair(t, k)["corp"]; !strings.Contains(why, "/etc/me.pem and /etc/me.key do not belong together") {
		t.Errorf("the key is had with another certificate: %q", why)
	}
	same(t, "the file", d.read(t, "/etc/yum.repos.d/corp.repo"), `[corp]
name=corp
metalink=https://m.example.com/link
mirrorlist=https://m.example.com/list
enabled=0
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-soe-corp
skip_if_unavailable=0
timeout=10
retries=2
metadata_expire=6h
priority=5
exclude=kernel* tool.i686
includepkgs=*
proxy=_none_
sslcacert=/etc/ca.pem
sslclientcert=/etc/me.pem
sslclientkey=/etc/me.key
module_hotfixes=1
`)
}

const theirs = `# of the vendor
[main-part]
name = Vendor
baseurl = https://vendor.example/
enabled = 1
priority : 50
exclude = a*
  b*

[debug-part]
name=Debug
enabled=1
`

func TestOfARepositoryThatAPackageBringsOnlyTheSettingsAreKept(t *testing.T) {
	d := newDesk(t, world{})
	keeping := kindtest.Open(t, system.Options{Root: d.root, Backups: d.ledger})
	d.system.FS = keeping.FS
	yes, no := true, false
	kind := func(wants map[string]policy.RepositorySettings) *Repositories {
		p := &policy.Policy{}
		for _, name := range []string{"debug-part", "main-part"} {
			if want, is := wants[name]; is {
				p.Resources = append(p.Resources, policy.Resource{ID: policy.NewID("repository", name), Spec: policy.Repository{Ensure: policy.Present, RepositorySettings: want}})
			}
		}
		return NewRepositories(p, d.system, d.ledger, patience)
	}
	both := map[string]policy.RepositorySettings{
		"main-part": {Priority: 5, Enabled: &yes, Exclude: []string{"c*"}}, "debug-part": {Enabled: &no},
	}
	const none = "no file in /etc/yum.repos.d defines it: name the package that brings it in [packages], or say its baseurl, gpgkey and fingerprint"
	same(t, "before it is there", repair(t, kind(both)), map[string]string{
		"main-part": "cannot set up the repository main-part: " + none, "debug-part": "cannot set up the repository debug-part: " + none,
	})
	const file = "/etc/yum.repos.d/vendor.repo"
	d.write(file, theirs)
	_, states := check(t, kind(both))
	same(t, "before", states, map[string]string{"main-part": "drifted priority: 50, not 5 exclude: a* b*, not c*", "debug-part": "drifted enabled: 1, not 0"})
	same(t, "the reasons", repair(t, kind(both)), map[string]string{})
	same(t, "the file", d.read(t, file), `# of the vendor
[main-part]
name = Vendor
baseurl = https://vendor.example/
enabled = 1
priority=5
exclude=c*

[debug-part]
name=Debug
enabled=0
`)
	_, states = check(t, kind(both))
	same(t, "after", states, map[string]string{"main-part": "compliant", "debug-part": "compliant"})

	// Other changes made in the meantime stay, when first one repository leaves the policy and then
	// the other.
	d.write(file, strings.Replace(d.read(t, file), "vendor.example", "new.example", 1))
	delete(both, "main-part")
	same(t, "the reasons", repair(t, kind(both)), map[string]string{})
	delete(both, "debug-part")
	same(t, "the reasons", repair(t, kind(both)), map[string]string{})
	want := strings.Replace(theirs, "vendor.example", "new.example", 1)
	want = strings.Replace(want, "priority : 50\nexclude = a*\n  b*\n", "priority=50\nexclude=a* b*\n", 1)
	same(t, "in the end the file", d.read(t, file), want)
	_, states = check(t, kind(both))
	same(t, "in the end", states, map[string]string{})

	// The package is removed: there is nothing to restore.
	repair(t, kind(map[string]policy.RepositorySettings{"debug-part": {Enabled: &no}}))
	if err := os.Remove(filepath.Join(d.root, file)); err != nil {
		t.Fatal(err)
	}
	same(t, "the reasons", repair(t, kind(nil)), map[string]string{})
	_, states = check(t, kind(nil))
	same(t, "when it has gone", states, map[string]string{})
}

// caPEM is a self-signed certificate that nothing uses.
const caPEM = `-----BEGIN CERTIFICATE-----
MIIBhDCCASugAwIBAgIUakQRIygK4ILeAmXPQxRhDYO5LVkwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMdGVzdC5leGFtcGxlMCAXDTI2MTEyOTE1NTgwOFoYDzIxMjYx
MTA1MTU1ODA4WjAXMRUwEwYDVQQDDAx0ZXN0LmV4YW1wbGUwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAASwGbPVAOXadoar+rmBg1yQbZQWmcyFJi0Z4eIfFhQX8LYb
N+Wd8Lh1vJQffBU7K8+mvwlq/gigKwnuOirxJLNuo1MwUTAdBgNVHQ4EFgQUMCjO
k1jJtCyXeRoSMp84jn6GcSMwHwYDVR0jBBgwFoAUMCjOk1jJtCyXeRoSMp84jn6G
cSMwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiAfXODddYuLGqUQ
qHaXsRhve15pUO0f2ns6vdEPUTWsuAIgcu825OFILpT7+FmUllvDzpJFuO/NisSr
pWBBdQLmrVc=
-----END CERTIFICATE-----
`
