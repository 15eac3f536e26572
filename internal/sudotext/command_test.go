package sudotext

import (
	"strings"
	"testing"
)

const someDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestACommandIsWrittenAsEverySudoReadsIt(t *testing.T) {
	for text, want := range map[string]string{
		"/usr/bin/dmesg":                        "(root) /usr/bin/dmesg",
		` /usr/bin/dmesg "" `:                   `(root) /usr/bin/dmesg ""`,
		"(root)NOPASSWD:/usr/bin/x   a    b":    "(root) NOPASSWD: /usr/bin/x a b",
		"(ALL:ALL) PASSWD : NOEXEC: /usr/bin/x": "(ALL:ALL) PASSWD: NOEXEC: /usr/bin/x",
		`("EXAMPLE\svc x", #12, %adm : lp) /x`:  `(EXAMPLE\\svc\ x, #12, %adm:lp) /x`,
		"(:adm) /x":                             "(:adm) /x",
		`/usr/bin/a\ b\,c x\=y \*z [a-z]* \\`:   `(root) /usr/bin/a\ b\,c x\=y \*z [a-z]* \\`,
		"sudoedit /etc/motd /etc/issue":         "(root) sudoedit /etc/motd /etc/issue",
		"sha256 : " + someDigest + " /usr/bin/": "(root) sha256:" + someDigest + " /usr/bin/",
	} {
		c, err := ParseCommand(text)
		if err != nil || c.String() != want {
			t.Errorf("%q: got %q, %v", text, c, err)
			continue
		}
		if again, err := ParseCommand(want); err != nil || again.String() != want {
			t.Errorf("%q is read back as %q, %v", want, again, err)
		}
	}
}

func TestWhatWouldSayMoreThanOneCommandIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "no command",
		"(root) ":                            "no command",
		"ALL":                                "allow",
		"(ALL) NOPASSWD: ALL":                "allow",
		"!/usr/bin/su":                       "denied",
		"NOPASSWD: !ALL":                     "denied",
		"SHELLS":                             "alias",
		"SHELLS -c":                          "alias",
		"list":                               "path of a program",
		"su":                                 "path of a program",
		"../bin/su":                          "path of a program",
		"sudoedit":                           "needs the paths",
		"/usr/bin/sudoedit /x":               "without a path",
		"sudoedit etc/motd":                  "whole, clean paths",
		"sudoedit /etc/../etc/shadow":        "whole, clean paths",
		"/usr/bin/../sbin/x":                 "clean path",
		"/usr//bin/x":                        "clean path",
		"/x\nbob ALL=(ALL) ALL":              "line break",
		"/x\u2028bob":                        "line break",
		"/x a\\":                             "backslash",
		"/x\\":                               "comma",
		`/x \n`:                              "backslash",
		"/x, ALL":                            "comma",
		"/x a, ALL":                          "comma",
		"/x : ALL = ALL":                     "colon",
		"/x a=b":                             "equals sign",
		"/x # y":                             "hash",
		`/x "a b"`:                           "quote",
		"/x 'a b'":                           "quote",
		"/x ^a$":                             "pattern",
		"/bin/ x":                            "directory",
		`/bin/ ""`:                           "directory",
		"(!root) /x":                         "not whom it is not",
		"(ALL, !root) /x":                    "not whom it is not",
		"(OPS) /x":                           "alias",
		"(+ops) /x":                          "alias",
		"(%:ops) /x":                         "alias",
		"() /x":                              "parentheses",
		"(root /x":                           "parentheses",
		"(root:%adm) /x":                     "no %",
		"INTERCEPT: /x":                      "every sudo",
		"FOO: /x":                            "every sudo",
		"NOTAFTER=20300101000000Z /x":        "only tags",
		"ROLE=unconfined_r /x":               "only tags",
		"sha256:abcd /x":                     "not a digest",
		"sha512:" + someDigest + " /x":       "not a digest",
		"sha256:" + someDigest + ", /x":      "path of a program",
		"(root) NOPASSWD: /x, (bob) ALL":     "comma",
		"/x a \\, b, ALL":                    "comma",
		"ALL=ALL":                            "only tags",
		"sha256:" + someDigest + " sudoedit": "needs the paths",
	} {
		if c, err := ParseCommand(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, got %v: %q", text, want, err, c)
		}
	}
}

// Whatever is accepted is one grant of one line, whoever it is written for.
func FuzzParseCommand(f *testing.F) {
	for _, seed := range []string{"(root) NOPASSWD: /usr/bin/x a", `/x \*`, "(a:b) sudoedit /x", "sha256:" + someDigest + " /x", `/x \\`, "/x a%#1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCommand(text)
		if err != nil {
			return
		}
		again, err := ParseCommand(c.String())
		if err != nil || again.String() != c.String() {
			t.Fatalf("%q becomes %q and then %q, %v", text, c, again, err)
		}
		lines := Parse([]byte("bob ALL = " + c.String() + "\nX ALL = Y\n"))
		if len(lines) != 2 || lines[0].Sort != Grant || lines[0].Last != 1 || len(lines[0].Users) != 1 || lines[0].Text != "bob ALL = "+c.String() {
			t.Fatalf("%q is %+v", c, lines)
		}
	})
}
