package policy_test

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// GSettings accepts any path that begins and ends with a slash and has no empty part: those of
// GNOME's terminal contain colons.
func TestADconfPathIsWhateverAKeyfileCanHold(t *testing.T) {
	for dir, want := range map[string]string{
		"org/gnome/terminal/legacy/profiles:/:b1dcc9dd-5262-4d8d-a863-c897e6d979b9": "",
		"org/mate/panel/objects/object-0":                                           "",
		"com/example/Übung":                                                         "",
		"com/example/with blank+and~more@#1":                                        "",
		"a":                                                                         "",
		"org/mate/":                                                                 "no slash at either end",
		"org//mate":                                                                 "no slash at either end",
		"org/[mate":                                                                 "no brackets",
		"org/mate]":                                                                 "no brackets",
		"org/mate ":                                                                 "no blank at the end",
		"org/a\\nb":                                                                 "no control characters",
	} {
		_, err := policy.Parse(policy.Source{Name: "f.toml", Text: "schema = 1\n[dconf.\"" + dir + "\"]\nkey = 1\n"})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, and not %q", dir, err, want)
		}
	}
	for _, key := range []string{"a:b", "a b", "a=b", "a[b]"} {
		if _, err := policy.Parse(policy.Source{Name: "f.toml", Text: "schema = 1\n[dconf.\"org/mate\"]\n\"" + key + "\" = 1\n"}); err == nil {
			t.Errorf("the key %s is accepted", key)
		}
	}
}
