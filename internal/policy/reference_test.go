package policy

import (
	"strings"
	"testing"
)

const secretARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"

func TestReferencesAreThoseOfCloudFormation(t *testing.T) {
	for text, want := range map[string]Reference{
		"{{resolve:ssm:/soe/host}}":    {Service: "ssm", Name: "/soe/host"},
		"{{resolve:ssm:/soe/host:12}}": {Service: "ssm", Name: "/soe/host", Version: "12"},
		"{{resolve:ssm:arn:aws:ssm:eu-west-1:123456789012:parameter/soe/host:12}}": {Service: "ssm", Name: "arn:aws:ssm:eu-west-1:123456789012:parameter/soe/host", Version: "12"},
		"{{resolve:ssm-secure:key:1}}":                                             {Service: "ssm-secure", Name: "key", Version: "1"},
		"{{resolve:secretsmanager:app}}":                                           {Service: "secretsmanager", Name: "app"},
		"{{resolve:secretsmanager:app:SecretString:user}}":                         {Service: "secretsmanager", Name: "app", JSONKey: "user"},
		"{{resolve:secretsmanager:app:SecretString::AWSPREVIOUS}}":                 {Service: "secretsmanager", Name: "app", Stage: "AWSPREVIOUS"},
		"{{resolve:secretsmanager:app:SecretString:user::0a1b}}":                   {Service: "secretsmanager", Name: "app", JSONKey: "user", Version: "0a1b"},
		"{{resolve:secretsmanager:" + secretARN + ":SecretString:user:S}}":         {Service: "secretsmanager", Name: secretARN, JSONKey: "user", Stage: "S"},
		"{{resolve:secretsmanager:" + secretARN + "}}":                             {Service: "secretsmanager", Name: secretARN},
		"{{fact:os.id}}": {Service: "fact", Name: "os.id"},
	} {
		got, err := ParseReference(text)
		if err != nil || got != want {
			t.Errorf("ParseReference(%q) = %+v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("%q is written as %q", text, got)
		}
	}
}

func TestWhatIsNoReferenceIsRefusedWithTheReason(t *testing.T) {
	for text, why := range map[string]string{
		"resolve:ssm:x":                       "double braces",
		"{{resolve:ssm:x}":                    "double braces",
		"{{resolve:ssm:{x}}}":                 "double braces",
		"{{ssm:x}}":                           "neither resolve: nor fact:",
		"{{fact:}}":                           "names no fact",
		"{{resolve:ssm:}}":                    "names nothing",
		"{{resolve:ssm}}":                     "names nothing",
		"{{resolve:vault:x}}":                 "none of ssm",
		"{{resolve:ssm:x:latest}}":            `"latest" is not a version`,
		"{{resolve:ssm:x:+1}}":                "not a version",
		"{{resolve:ssm:x:0}}":                 "not a version",
		"{{resolve:ssm:x:}}":                  "not a version",
		"{{resolve:ssm:x:1:2}}":               "its version at most",
		"{{resolve:secretsmanager:x:Binary}}": "comes SecretString",
		"{{resolve:secretsmanager:x:SecretString:a:b:c}}":   "both a stage and a version",
		"{{resolve:secretsmanager:x:SecretString:a:b:c:d}}": "more parts",
		"{{resolve:secretsmanager:arn:aws:secretsmanager}}": "ARN",
		"{{resolve:ssm:arn:aws:ssm:eu-west-1:1:}}":          "ARN",
	} {
		if _, err := ParseReference(text); err == nil || !strings.Contains(err.Error(), why) || !strings.HasPrefix(err.Error(), "cannot read the reference") {
			t.Errorf("ParseReference(%q) says %v, want something with %q", text, err, why)
		}
	}
}

func TestOnlyParametersAndFactsMayBeSeen(t *testing.T) {
	for service, secret := range map[string]bool{"ssm": false, "fact": false, "ssm-secure": true, "secretsmanager": true} {
		if (Reference{Service: service}).Secret() != secret {
			t.Errorf("%s", service)
		}
	}
}

func TestEachReferenceOfAPolicyIsListedOnce(t *testing.T) {
	p := mustMerge(t, nil, mustParse(t, "f", `schema = 1
[dconf."a/b"]
list = ["{{fact:a}}", "{{fact:b}} {{fact:a}}"]
[checks.c]
run = ["/bin/c", "{{fact:b}}"]
stdout = "{{fact:c}}"
[packages]
d = "{{resolve:ssm:d}}"
[repositories.e]
baseurl = "https://{{resolve:ssm:host}}/"
gpgkey = "{{resolve:ssm:key}}"
fingerprint = "{{resolve:ssm:fp}}"
`))
	var names []string
	for _, r := range p.References() {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "b c a d host key fp" {
		t.Errorf("got %s", got)
	}
}

func FuzzParseReference(f *testing.F) {
	for _, text := range []string{"{{resolve:ssm:/soe/host:12}}", "{{resolve:secretsmanager:" + secretARN + ":SecretString:user:S}}", "{{fact:a}}", "{{resolve:secretsmanager:x::k}}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseReference(text)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, written as %q, read again as %+v, %v", text, r, r, again, err)
		}
		if !hasReference(r.String()) {
			t.Errorf("%q is not found in a text", r)
		}
	})
}
