package credentials_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/credentials"
)

func TestAProfileIsReadAsAWSsToolsReadIt(t *testing.T) {
	without := func(text string) string { return strings.Split(text, "aws_session")[0] }
	for name, test := range map[string]struct{ credentials, config, want string }{
		"in credentials":              {credentials: keys("soe", "1"), want: "1"},
		"in config":                   {config: keys("profile soe", "1"), want: "1"},
		"in both":                     {credentials: keys("soe", "1"), config: keys("profile soe", "2"), want: "1"},
		"half of it in credentials":   {credentials: "[soe]\naws_access_key_id = ASIA1\n", config: keys("profile soe", "2"), want: "2"},
		"a token in config":           {credentials: without(keys("soe", "1")), config: keys("profile soe", "2"), want: "1"},
		"among others":                {credentials: keys("default", "1") + keys("so", "2") + keys("soe", "3") + keys("soee", "4"), want: "3"},
		"twice":                       {credentials: keys("soe", "1") + keys("default", "2") + keys("soe", "3"), want: "3"},
		"without a line's end":        {credentials: strings.TrimSpace(keys("soe", "1")), want: "1"},
		"with DOS lines":              {credentials: strings.ReplaceAll(keys("soe", "1"), "\n", "\r\n"), want: "1"},
		"with a byte order mark":      {credentials: "\ufeff" + keys("soe", "1"), want: "1"},
		"with blanks and comments":    {credentials: "# c\n; c\n\n" + strings.ReplaceAll(strings.ReplaceAll(keys(" soe ", "1"), "\naws", "\n  aws"), "1\n", "1 # c\n"), want: "1"},
		"with colons and capitals":    {credentials: strings.ReplaceAll(strings.ReplaceAll(keys("soe", "1"), " = ", ": "), "aws_access", "AWS_Access"), want: "1"},
		"with quotes":                 {config: strings.Replace(strings.Replace(keys(`profile "soe"`, "1"), "ASIA1", `"ASIA1"`, 1), "[profile", "[profile  ", 1), want: "1"},
		"with settings in a setting":  {config: keys("profile soe", "1") + "s3 =\n  aws_access_key_id = X\n", want: "1"},
		"with a program":              {config: "[profile soe]\ncredential_process = " + helper + "\n", want: "9"},
		"with a program in a comment": {credentials: keys("soe", "1"), config: "[profile soe]\n# credential_process = /no\n", want: "1"},
		"with keys and a program":     {credentials: "[soe]\ncredential_process = " + helper + "\n", config: keys("profile soe", "1"), want: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := withProgram(t, prints(answer("9", time.Time{})))
			if test.credentials != "" {
				m.put(t, shared, test.credentials)
			}
			if test.config != "" {
				m.put(t, configured, test.config)
			}
			gives(t, m.provider(t, credentials.Config{Source: "profile", Profile: "soe"}), test.want)
		})
	}
}

func TestAProfileThatCannotBeUsedSaysWhatToDo(t *testing.T) {
	for name, test := range map[string]struct{ credentials, says string }{
		"no file":     {"", "there is no /root/.aws/credentials and no /root/.aws/config"},
		"no profile":  {keys("other", "1"), `there is no profile "soe" in /root/.aws/credentials or /root/.aws/config`},
		"no keys":     {"[soe]\nregion = eu-west-1\n", "neither aws_access_key_id with aws_secret_access_key nor credential_process"},
		"half a pair": {"[soe]\naws_secret_access_key = " + canary, "neither aws_access_key_id with"},
		"a role":      {"[soe]\nrole_arn = arn:x\nsource_profile = y\n", "has role_arn, which is for AWS's own tools"},
		"a sign-in":   {"[soe]\nsso_session = x\n", "credential_process = /usr/local/bin/aws configure export-credentials --profile soe"},
		"a quote":     {"[soe]\ncredential_process = /x \"" + canary + "\n", "is not a command line"},
		"no words":    {"[soe]\ncredential_process = # later\n", "is not a command line"},
		"by its name": {"[soe]\ncredential_process = aws " + canary + "\n", "full path of a program"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if test.credentials != "" {
				m.put(t, shared, test.credentials)
			}
			_, err := m.provider(t, credentials.Config{Source: "profile", Profile: "soe"}).Retrieve(t.Context())
			if discreet(t, err); !errors.Is(err, credentials.ErrNoCredentials) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v; want %q in it", err, test.says)
			}
		})
	}
}

func TestTheProfilesFilesAreTheConfiguredOneElseTheEnvironmentsElseTheUsersOwn(t *testing.T) {
	m := newMachine(t)
	m.put(t, shared, keys("default", "1")+keys("soe", "2"))
	m.put(t, "/home/ann/.aws/credentials", keys("default", "3"))
	m.put(t, "/etc/keys", keys("default", "4"))
	m.put(t, "/etc/conf", keys("profile x", "5"))
	m.env["HOME"] = "/home/ann"
	gives(t, m.provider(t, credentials.Config{Source: "profile"}), "1") // root's, whose HOME this is not
	m.uid = 1000
	gives(t, m.provider(t, credentials.Config{Source: "profile"}), "3")
	m.uid = 0
	m.env["AWS_PROFILE"] = "soe"
	gives(t, m.provider(t, credentials.Config{}), "2")
	gives(t, m.provider(t, credentials.Config{Source: "profile", Profile: "default"}), "1")
	m.env["AWS_SHARED_CREDENTIALS_FILE"] = "/etc//keys"
	gives(t, m.provider(t, credentials.Config{Source: "profile", Profile: "default"}), "4")
	m.env["AWS_CONFIG_FILE"] = "/etc/conf"
	gives(t, m.provider(t, credentials.Config{Source: "profile", Profile: "x"}), "5")
	gives(t, m.provider(t, credentials.Config{Source: "profile", Profile: "default", File: shared}), "1")
	m.env["AWS_SHARED_CREDENTIALS_FILE"] = "etc/keys"
	_, err := m.provider(t, credentials.Config{Source: "profile", Profile: "default"}).Retrieve(t.Context())
	if discreet(t, err); !strings.Contains(err.Error(), "not a full path") {
		t.Error(err)
	}
}

func TestAProfileThatChangesOrAppearsIsSeenByTheNextRequest(t *testing.T) {
	m, ran := withProgram(t, nil)
	ran.each = prints(answer("2", m.clock.Now().Add(time.Hour)))
	p := m.provider(t, credentials.Config{Source: "profile"})
	m.put(t, configured, keys("default", "1"))
	if c := gives(t, p, "1"); c.CanExpire {
		t.Error("keys in a file expire")
	}
	m.put(t, configured, "[default]\ncredential_process = "+helper+" a\n")
	gives(t, p, "2")
	gives(t, p, "2")
	if len(ran.ran) != 1 {
		t.Errorf("the program ran %d times", len(ran.ran))
	}
	m.put(t, shared, keys("default", "3"))
	gives(t, p, "3")
	os.Remove(filepath.Join(m.root, shared))
	gives(t, p, "2")
}

func TestKeysThatWereTakenAwayAreUsedNoMore(t *testing.T) {
	m := newMachine(t)
	m.put(t, shared, keys("default", "1"))
	p := m.provider(t, credentials.Config{Source: "profile"})
	gives(t, p, "1")
	m.put(t, shared, "[default]\n")
	m.age(t, shared, 30*time.Second)
	gives(t, p, "1") // somebody may be writing
	m.clock.pass(time.Minute)
	_, err := p.Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrNoCredentials) {
		t.Error(err)
	}
}

func TestACommandLineIsSplitAsTheAWSCLIDoes(t *testing.T) {
	for line, want := range map[string][]string{
		``:                                nil,
		" \t ":                            nil,
		`/bin/x`:                          {"/bin/x"},
		`  /bin/x  --a   b `:              {"/bin/x", "--a", "b"},
		`"/opt/a b/x" --c 'd e'`:          {"/opt/a b/x", "--c", "d e"},
		`/x "" ''`:                        {"/x", "", ""},
		`/x a"b c"d'e f'g`:                {"/x", "ab cde fg"},
		`/x a\ b \" \' \\`:                {"/x", "a b", `"`, `'`, `\`},
		`/x "a \" \\ \b $HOME" '\ "'`:     {"/x", `a " \ \b $HOME`, `\ "`},
		`/x $HOME ~ * | y && z > f`:       {"/x", "$HOME", "~", "*", "|", "y", "&&", "z", ">", "f"},
		`/x a#b c;d # comment`:            {"/x", "a#b", "c;d"},
		`/x "#no" ; comment "`:            {"/x", "#no"},
		"/x\ta\r\n":                       {"/x", "a"},
		`/x ü "日本"`:                       {"/x", "ü", "日本"},
		`/x --certificate='pkcs11:a=b;c'`: {"/x", "--certificate=pkcs11:a=b;c"},
	} {
		got, err := credentials.Words(line)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", line, err, diff)
		}
	}
	for _, line := range []string{`"`, `/x 'a`, `/x "a\"`, `/x a\`, `/x "a'`} {
		if got, err := credentials.Words(line); err == nil {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func FuzzACommandLineIsSplitIntoTheWordsThatItWasMadeOf(f *testing.F) {
	f.Add("/x", "a b", `"'\#;`)
	f.Add("", "\x00", "\xff\n")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		want := []string{a, b, c}
		var single, double []string
		for _, word := range want {
			single = append(single, `'`+strings.ReplaceAll(word, `'`, `'\''`)+`'`)
			double = append(double, `"`+strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(word)+`"`)
		}
		for _, line := range []string{strings.Join(single, " "), strings.Join(double, "\t")} {
			got, err := credentials.Words(line)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%q: %v\n%s", line, err, diff)
			}
		}
		if words, err := credentials.Words(a); err == nil && len(strings.Join(words, "")) > len(a) {
			t.Errorf("%q becomes %q", a, words)
		}
	})
}

func FuzzASectionIsWhatWasWrittenInItWhateverIsAroundIt(f *testing.F) {
	f.Add("[default]\naws_access_key_id = x\n", "soe")
	f.Add("\ufeff# c\n[ profile \"x\" ]\n a : b\n  c = d\n\nx =\n y = z\n[", "x")
	f.Add("]\n[]\n[soe\n=\n:\n =a\r\n", "")
	f.Fuzz(func(t *testing.T, around, name string) {
		settings, _ := credentials.Section([]byte(around), name)
		for key, value := range settings {
			if key == "" || key != strings.ToLower(strings.TrimSpace(key)) || value != strings.TrimSpace(value) || strings.Contains(key+value, "\n") {
				t.Errorf("%q = %q", key, value)
			}
			if !strings.Contains(around, value) {
				t.Errorf("%q is not there", value)
			}
		}
		settings, there := credentials.Section([]byte(around+"\n"+keys("a-profile", "7")+"[end]\n"+around), "a-profile")
		if !there || !strings.Contains(around, "a-profile") && settings["aws_access_key_id"] != "ASIA7" {
			t.Errorf("between %q: %v", around, settings)
		}
	})
}

func FuzzWhatAProgramPrintsNeverGetsIntoAnError(f *testing.F) {
	f.Add([]byte(`{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b","Expiration":"2030-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"Version":1.5}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, wrong := credentials.ParseAnswer(text)
		if (wrong == "") != c.HasKeys() && !strings.Contains(wrong, "Expiration") {
			t.Errorf("%q: %q, %v", text, wrong, c.HasKeys())
		}
		if len(wrong) > 80 || c.CanExpire && wrong == "" && c.Expires.IsZero() && !strings.Contains(string(text), "0001-01-01") {
			t.Errorf("%q: %q, %s", text, wrong, c.Expires)
		}
	})
}
