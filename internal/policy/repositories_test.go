package policy

import (
	"strings"
	"testing"
)

func TestARepositoryIsDescribedInFullOrIsSomebodyElses(t *testing.T) {
	const print, other = "123456789ABCDEF0123456789ABCDEF012345678", "AA3456789ABCDEF0123456789ABCDEF012345678"
	const keys = "gpgkey = [\"https://k/a\", \"file:///b\"]\nfingerprint = [\"" + print + "\", \"" + other + "\"]\n"
	for text, why := range map[string]string{
		"baseurl = \"https://r/\"\n" + keys:                                     "",
		"metalink = \"https://r/\"\n" + keys:                                    "",
		"mirrorlist = \"https://r/\"\n" + keys:                                  "",
		keys:                                                                    "it needs a baseurl, a metalink or a mirrorlist",
		"baseurl = \"https://r/\"\n":                                            "it needs a gpgkey",
		"baseurl = \"https://r/\"\ngpgkey = \"https://k\"\n":                    "it needs a fingerprint",
		"baseurl = \"https://r/\"\nfingerprint = \"1234\"\n":                    `"1234" is not a fingerprint`,
		"metalink = \"rsync://r/\"\n" + keys:                                    "is none of https://",
		"baseurl = \"https://r/\"\n" + strings.Replace(keys, "https", "ftp", 1): `"ftp://k/a" is none of`,
		"enabled = true\n":                                                      "",
		"priority = 5\n":                                                        "",
		"exclude = [\"kernel*\"]\nincludepkgs = [\"tool.i686\"]\n":              "",
		"exclude = [\"a b\"]\n":                                                 `"a b" is not the name of a package`,
		"proxy = \"http://proxy.example:3128\"\n":                               "",
		"proxy = \"_none_\"\n":                                                  "",
		"proxy = \"proxy.example\"\n":                                           "is not the URL of a proxy",
		"sslcacert = \"/etc/ca.pem\"\n":                                         "",
		"sslcacert = \"ca.pem\"\n":                                              "is not a clean absolute path",
		"sslclientcert = \"/etc/me.pem\"\n":                                     "belong together",
		"metadata_expire = \"6h\"\nskip_if_unavailable = false\n":               "",
		"metadata_expire = \"soon\"\n":                                          `is not a time such as "6h"`,
		"module_hotfixes = true\n":                                              "",
		"name = \"Corporate\"\n":                                                "it needs a baseurl",
		"\n":                                                                    "something that is to be set of a repository which a package brings",
	} {
		f, err := Parse(Source{Name: "a", Text: "schema = 1\n[repositories.corp]\n" + text})
		if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%s%v, and not %q", text, err, why)
		}
		if err != nil {
			continue
		}
		p, err := Merge([]Fragment{f}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(Source{Name: "a", Text: p.Text()})
		if err != nil {
			t.Fatalf("%s becomes %s: %v", text, p.Text(), err)
		}
		if p2, err := Merge([]Fragment{again}, nil, nil); err != nil || p2.Digest() != p.Digest() {
			t.Errorf("%s becomes %s", text, p.Text())
		}
		if brought := p.Resources[0].Spec.(Repository).Brought(); brought != !strings.Contains(text, "gpgkey") {
			t.Errorf("%s is somebody else's: %v", text, brought)
		}
	}
}
