package redact

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestWhatLooksLikeASecretIsRemoved(t *testing.T) {
	const s = "c4n4ry"
	for _, text := range []string{
		`password=c4n4ry`, `Password: c4n4ry`, `password = "c4n4ry"`, `password = 'c4n4ry'`, `PASSWORD=c4n4ry,and-c4n4ry`,
		`"password": "c4n4ry"`, `"password":"with \" quote c4n4ry"`, `{"want": "password = \"two c4n4ry\"\nnext"}`,
		`{"want":"password=c4n4ry\nnext"}`, `password = correct horse c4n4ry`, "\n  export TOKEN=a c4n4ry\n",
		`token = """` + "\nmore\nc4n4ry\n" + `"""`, `tokens = ["a", "c4n4ry"]`, "tokens = [\n \"a\",\n \"c4n4ry\",\n]",
		`aws_secret_access_key = c4n4ry/+x`, `AWS_SESSION_TOKEN=c4n4ry==`, `corp.api-key: c4n4ry`, `client_secret=>c4n4ry`,
		`passphrase: c4n4ry`, `passwd=c4n4ry`, `MYSQL_PASSWD: c4n4ry`, `X-Amz-Security-Token=c4n4ry&x=1`, `x-amz-signature=c4n4ry`,
		`Authorization: Basic c4n4ry=`, `{"Authorization": "Token c4n4ry"}`, `authorization: bearer c4n4ry`, `sent Bearer c4n4ry.x.y`,
		`https://user:c4n4ry@host/path`, `https://c4n4ry@host/path`, `baseurl=http://u:p%40c4n4ry@h:80/`, `proxy socks5h://a:c4n4ry@h`,
		`curl --password c4n4ry https://x`, `process = ["/usr/bin/helper", "--client-secret", "c4n4ry"]`, `x --token=c4n4ry y`, `mysql --password 'a c4n4ry'`,
		`password = "prefix{{resolve:ssm:/x}}c4n4ry"`, `amazon-ssm-agent -register -activation-code c4n4ry`,
		"-----BEGIN RSA PRIVATE KEY-----\nc4n4ry\n-----END RSA PRIVATE KEY-----\n",
		"Nov 21 x: -----BEGIN OPENSSH PRIVATE KEY-----\nNov 21 x: c4n4ry\nNov 21 x: -----END OPENSSH PRIVATE KEY-----\n",
		`{"want": "-----BEGIN PRIVATE KEY-----\nc4n4ry\n-----END PRIVATE KEY-----\n"}`,
		"-----BEGIN PGP PRIVATE KEY BLOCK-----\nc4n4ry", "c4n4ry\n-----END EC PRIVATE KEY-----\nmore", `key AKIAC4N4RYC4N4RYC4N4`,
		"a secret is here: no\nsecret_key: c4n4ry\n",
	} {
		got := string(Redactor{}.Text([]byte(text)))
		if strings.Contains(strings.ToLower(got), s) || !strings.Contains(got, Removed) {
			t.Errorf("%s\nbecame %s", text, got)
		}
		if json.Valid([]byte(text)) && !json.Valid([]byte(got)) {
			t.Errorf("%s\nis no JSON any more: %s", text, got)
		}
		if again := string(Redactor{}.Text([]byte(got))); again != got {
			t.Errorf("%s\nand redacted again %s", got, again)
		}
	}
}

func TestWhatAnEngineerNeedsStays(t *testing.T) {
	for _, text := range []string{
		`"%wheel ALL=(ALL) NOPASSWD: ALL"`, `%x ALL = PASSWD: /bin/id`,
		`content = "token = {{resolve:secretsmanager:soe/scanner:SecretString:token}}\n"`,
		`password = "{{resolve:ssm-secure:/soe/prod/key:3}}"`, `password={{resolve:ssm-secure:/soe/prod/key}}`,
		`cannot read the secret soe/scanner: AccessDeniedException: no`, `waiting for credentials: there are none`,
		`arn:aws:secretsmanager:eu-west-1:123456789012:secret:soe/scanner-AbCdEf is denied`,
		`the value of {{resolve:secretsmanager:soe/x:SecretString:password}} is not known yet`,
		`https://rpm.example.com/al2/$basearch`, `mail to a@example.com`, `source = "profile"`, `‹secret›`, `bearers of news`,
		"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----", `getent passwd did not end`, `"idle-delay": 10`,
	} {
		if got := string(Redactor{}.Text([]byte(text))); got != text {
			t.Errorf("%s\nbecame %s", text, got)
		}
	}
}

func TestAKnownSecretIsHiddenHoweverItIsWritten(t *testing.T) {
	const secret = "a&<b>/c+d \"e\""
	p := &policy.Policy{Resources: []policy.Resource{{Secrets: []string{"line one of it\nline two of it"}}}}
	s := Knowing(p, secret)
	inJSON, _ := json.Marshal("x " + secret)
	for _, text := range []string{
		"said " + secret, string(inJSON), "https://x/?q=a%26%3Cb%3E%2Fc%2Bd+%22e%22", "cannot parse \"line two of it\"",
	} {
		got := string(s.Text([]byte(text)))
		if !strings.Contains(got, "‹secret›") || strings.Contains(got, "two") || strings.Contains(got, "c+d") || strings.Contains(got, "c%2Bd") {
			t.Errorf("%s\nbecame %s", text, got)
		}
	}
}

func TestAQuoteThatNothingClosesHidesNothing(t *testing.T) {
	for _, text := range []string{
		`said token: "c4n4ry`, `said token: 'c4n4ry and more`, `{"reason":"token: 'c4n4ry"}`, `{"reason":"token: 'c4n4ry\"x"}`,
		`{"reason":"token=[c4n4ry"}`, `said tokens: [c4n4ry, c4n4ry`, "said secret: \"c4n4ry\\\nmore",
	} {
		got := string(Redactor{}.Text([]byte(text)))
		if strings.Contains(got, "c4n4ry") || json.Valid([]byte(text)) != json.Valid([]byte(got)) {
			t.Errorf("%s\nbecame %s", text, got)
		}
	}
}

// With time quadratic in the length, these texts would take minutes.
func TestALongTextIsRedactedInTimeThatGrowsAsItDoes(t *testing.T) {
	for _, text := range []string{"password=[ ", "password=[\n", "token", "token = '", "token = \"\"\"\n", "{{resolve:", "a://b@", "-----BEGIN PRIVATE KEY-----\n"} {
		text = strings.Repeat(text, (1<<18)/len(text))
		if got := string(Redactor{}.Text([]byte(text))); strings.Contains(strings.ReplaceAll(got, Removed, ""), "=[") {
			t.Errorf("%.20q… became %.60q…", text, got)
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, seed := range []string{`{"password": "x"}`, "token = [\n'''", "-----BEGIN PRIVATE KEY-----", "a://b:c@d", `x="{{resolve:ssm:/a}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const secret = "c4n4ry71b2"
		for _, around := range []string{"\npassword = " + secret + "\n", "\n{\"token\": \"" + secret + "\"}\n", " https://u:" + secret + "@h/ "} {
			if strings.Contains(text, secret) {
				return
			}
			if got := string(Redactor{}.Text([]byte(text + "\n" + around))); strings.Contains(got, secret) {
				t.Errorf("%q shows it: %q", text+"\n"+around, got)
			}
		}
	})
}
