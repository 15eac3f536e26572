package image_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/image"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/system"
)

// newKey is a private key, made for the test.
func newKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// keystore returns a Java keystore with one entry.
func keystore(tag uint32) string {
	b := binary.BigEndian.AppendUint32(nil, 0xFEEDFEED)
	for _, n := range []uint32{2, 1, tag} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	b = append(b, 0, 1, 'a')
	b = append(b, make([]byte, 8)...)
	b = append(b, 0, 5)
	b = append(b, "X.509"...)
	b = binary.BigEndian.AppendUint32(b, 3)
	return string(append(b, "abc"...))
}

// pkcs12 returns the beginning of a PKCS#12 file with a bag of this type.
func pkcs12(bag byte) string {
	return "\x30\x82\x09\x00\x02\x01\x03\x30\x82\x08\xf0\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x82\x08\xe0\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01" + string(bag) + strings.Repeat("\x00", 64)
}

const hush = "Hunter2-and-more"

func TestKeysAndPasswordsAreFoundWhereTheyAreAndNeverShown(t *testing.T) {
	der := newKey(t)
	pemKey := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	openssh := "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
	for name, content := range map[string]string{
		"/etc/pki/tls/private/a.key": pemKey, "/opt/app/conf/server.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + pemKey,
		"/srv/x": openssh, "/home/user/.ssh/id_ed25519": openssh, "/usr/local/etc/key.der": string(der), "/root/key.ppk": "PuTTY-User-Key-File-3: ssh-ed25519\n",
		"/opt/sa.json":           `{"private_key": "` + strings.ReplaceAll(pemKey, "\n", `\n`) + `"}`,
		"/root/enc.pem":          "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
		"/root/k.asc":            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBGPtest1234567890abcdefgh\n",
		"/root/far.txt":          strings.Repeat("x", 3<<20) + "\n" + pemKey,
		"/opt/bin":               "\x7fELF\x00\x00" + strings.Repeat("\x00", 2<<20) + pemKey,
		"/opt/store.jks":         keystore(1),
		"/srv/store.p12":         pkcs12(2),
		"/opt/http.keytab":       "\x05\x02\x00\x00\x00\x40" + strings.Repeat("a", 80),
		"/root/.aws/credentials": "[default]\naws_secret_access_key = " + hush + "\n", "/etc/environment": "AWS_SECRET_ACCESS_KEY=" + hush + "\n",
		"/opt/app/.env": "DB_PASSWORD=" + hush + "\n", "/etc/app.conf": "# the key\nid = AKIAABCDEFGHIJKLMNOP\n",
		"/root/.bash_history": "mysql -p" + hush + "\n", "/home/user/.zsh_history": "x\n", "/home/user/.netrc": "machine a login b password " + hush + "\n",
		"/root/.pgpass": "h:5432:db:u:" + hush + "\n", "/root/.my.cnf": "[client]\npassword=" + hush + "\n",
		"/etc/NetworkManager/system-connections/w.nmconnection": "[wifi-security]\npsk=" + hush + "\n",
		"/etc/wpa_supplicant/wpa_supplicant.conf":               "network={\n\tssid=\"a\"\n\tpsk=\"" + hush + "\"\n}\n",
		"/root/.docker/config.json":                             `{"auths": {"r": {"auth": "` + hush + `"}}}`,
		"/root/.git-credentials":                                "https://me:" + hush + "@example.com\n",
		"/home/user/.kube/config":                               "users:\n- name: a\n  user:\n    token: " + hush + "\n",
		"/root/.npmrc":                                          "//registry.npmjs.org/:_authToken=" + hush + "\n", "/root/.pypirc": "[pypi]\npassword = " + hush + "\n",
		"/etc/yum.repos.d/a.repo": "[a]\nbaseurl=https://me:" + hush + "@example.com/\n", "/etc/yum.repos.d/b.repo": "[b]\npassword=" + hush + "\n",
		"/etc/apt/auth.conf.d/a":                "machine a login b password " + hush + "\n",
		"/root/anaconda-ks.cfg":                 "rootpw --iscrypted $6$abcdefgh$" + strings.Repeat("A", 86) + "\n",
		"/etc/shadow":                           "root:!:1::::::\nuser:$6$abc$" + strings.Repeat("A", 86) + ":1::::::\n",
		"/etc/shadow-":                          "user:$6$abc$" + strings.Repeat("A", 86) + ":1::::::\n",
		"/etc/gshadow":                          "wheel:$6$abc$" + strings.Repeat("A", 86) + "::\n",
		"/var/lib/cloud/seed/nocloud/user-data": "#cloud-config\npassword: " + hush + "\n",
		"/etc/soe-scan.d/token.conf":            "token = " + hush + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := good()
			files[name] = content
			write(t, root, files)
			a := audit(t, root)
			if len(a.Findings) != 1 || len(a.Unknown) > 0 || len(a.Named) > 0 || slices.Contains(a.Fine, "credentials") {
				t.Fatalf("found %+v, named %+v, unknown %+v", a.Findings, a.Named, a.Unknown)
			}
			if f := a.Findings[0]; f.Check != "credentials" || !strings.HasPrefix(f.What, name) || strings.Contains(f.What, hush) || strings.Contains(f.What, "$6$") {
				t.Errorf("%+v", f)
			}
		})
	}
}

// Settings have more forms than one per line: the options of a mount or of a command, several
// variables in a line, JSON, XML.
func TestASecretIsFoundInWhateverFormASettingHas(t *testing.T) {
	for name, content := range map[string]string{
		"/etc/fstab": "//srv/a /mnt cifs username=x,password=" + hush + ",vers=3.0 0 0\n", "/etc/auto.srv": "a -fstype=cifs,user=x,pass=" + hush + " ://srv/a\n",
		"/etc/cron.d/backup":                         "0 1 * * * root mysqldump --password=" + hush + " db >/dev/null\n",
		"/etc/systemd/system/app.service":            "[Service]\nExecStart=/opt/app --user a --token=" + hush + " --port 80\n",
		"/etc/systemd/system/app.service.d/env.conf": "[Service]\nEnvironment=A=1 \"DB_PASSWORD=" + hush + "\" B=2\n",
		"/etc/profile.d/app.sh":                      "export A=1 API_KEY='" + hush + "' B=2\n",
		"/etc/app/config.json":                       "{\"db\": {\"user\": \"a\", \"password\": \"" + hush + "\"}}\n",
		"/opt/app/settings.json":                     "{\n  \"client_secret\": \"" + hush + "\",\n  \"a\": 1\n}\n",
		"/opt/app/appsettings.json":                  "{\"apiToken\":\"" + hush + "\"}",
		"/opt/tomcat/conf/tomcat-users.xml":          "<user username=\"a\" password=\"" + hush + "\" roles=\"manager\"/>\n",
		"/root/.m2/settings.xml":                     "<server><id>a</id><password>" + hush + "</password></server>\n",
		"/etc/httpd/conf/.htpasswd":                  "a:$apr1$abcdefgh$abcdefghijklmnopqrstu.\n",
		"/etc/rsyncd.secrets":                        "backup:" + hush + "\n",
		"/etc/ppp/chap-secrets":                      "# client server secret addresses\na * " + hush + " *\n",
		"/etc/ipsec.secrets":                         ": PSK \"" + hush + "\"\n",
		"/etc/grub.d/40_custom":                      "password_pbkdf2 root grub.pbkdf2.sha512.10000." + strings.Repeat("A", 128) + "." + strings.Repeat("B", 128) + "\n",
		"/etc/app/two.xml":                           "<!-- <password>x</password>\n-->\n<password>" + hush + "</password>\n",
		"/data/app/server.conf":                      "password = " + hush + "\n", "/var/www/html/.env": "DB_PASSWORD=" + hush + "\n",
		"/var/spool/cron/root":  "0 1 * * * mysqldump --password=" + hush + " db\n",
		"/opt/app/deploy.py":    "import boto3\nclient('s3', 'AKIAABCDEFGHIJKLMNOP')\n",
		"/usr/local/bin/upload": "#!/bin/sh\ncurl -u AKIAABCDEFGHIJKLMNOP: https://example.com\n",
		"/home/user/notes.txt":  strings.Repeat("x\n", 1<<20) + "AKIAABCDEFGHIJKLMNOP\n",
		"/opt/app/k8s.yaml":     "data:\n  tls.key: " + base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: newKey(t)})) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := good()
			files[name] = content
			write(t, root, files)
			a := audit(t, root)
			if len(a.Findings) != 1 || slices.Contains(a.Fine, "credentials") {
				t.Fatalf("found %+v, named %+v, unknown %+v", a.Findings, a.Named, a.Unknown)
			}
			if f := a.Findings[0]; f.Check != "credentials" || !strings.HasPrefix(f.What, name) || strings.Contains(f.What, hush) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestAnEmptyPasswordIsOne(t *testing.T) {
	root := t.TempDir()
	files := good()
	files["/etc/shadow"] = "root:*:1::::::\nguest::1::::::\n"
	write(t, root, files)
	if a := audit(t, root); len(a.Findings) != 1 || !strings.Contains(a.Findings[0].What, "line 2: the account guest has an empty password") {
		t.Errorf("%+v", a.Findings)
	}
}

func TestWhatEveryMachineHasIsNoFinding(t *testing.T) {
	for name, content := range map[string]string{
		"/etc/pki/java/cacerts": keystore(2), "/opt/jdk/lib/security/cacerts": pkcs12(3), "/etc/shadow": "root:!!:1::::::\nbin:*:1::::::\nec2-user:!locked:1::::::\n",
		"/etc/nsswitch.conf": "passwd: files\nshadow: files\n", "/etc/login.defs": "PASS_MAX_DAYS 99999\n", "/etc/ssh/sshd_config": "PasswordAuthentication no\n",
		"/etc/app.conf":          "password = ${DB_PASSWORD}\ntoken_file = /run/token\npassword_min_length = 12345\n# password = example\nsecret = {{resolve:ssm-secure:/x}}\n",
		"/opt/app/lib/crypto.js": "const a = '-----BEGIN RSA PRIVATE KEY-----';\npassword = getPassword();\n", "/opt/tool": "\x7fELF\x00-----BEGIN RSA PRIVATE KEY-----\x00more",
		"/etc/ssl/certs/a.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n", "/root/.ssh/id.pub": "ssh-ed25519 AAAA\n", "/root/.bash_history": "", "/etc/ssl/openssl.cnf": "challengePassword\t\t= A challenge password\n",
		"/opt/doc/key.txt": "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n", "/etc/app/url.conf": "see https://example.com/a:b@c\n",
		"/opt/app/locales/de.json": `{"password": "Passwort"}`, "/opt/app/form.json": `{"password": "Enter your password", "token": "Token", "password_file": "here"}`, "/etc/maven/settings.xml": "<servers>\n<!-- for example:\n<password>" + hush + "</password>\n-->\n</servers>\n", "/opt/app/strings.xml": "<password>Your password</password>",
		"/etc/pam.d/common": "password requisite pam_pwquality.so retry=3 authtok_type= try_first_pass\n", "/etc/fstab": "//srv/a /mnt cifs credentials=/etc/samba/a 0 0\n",
		"/opt/app/keys.py": "# AKIAIOSFODNN7EXAMPLE\n", "/opt/app/ca.yaml": "ca: " + base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")) + "\n",
		"/etc/rsyncd.secrets": "# user:password\n",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := good()
			files[name] = content
			write(t, root, files)
			if a := audit(t, root); len(a.Findings) > 0 || len(a.Named) > 0 || len(a.Unknown) > 0 || !slices.Contains(a.Fine, "credentials") {
				t.Errorf("found %+v, named %+v, unknown %+v", a.Findings, a.Named, a.Unknown)
			}
		})
	}
}

func TestWhatTheMakerHasToDecideIsNamedAndIsNoFinding(t *testing.T) {
	key := "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n"
	for name, content := range map[string]string{
		"/etc/ssh/ssh_host_ed25519_key": key, "/etc/ssl/private/ssl-cert-snakeoil.key": key, "/etc/krb5.keytab": "\x05\x02\x00\x00\x00\x40" + strings.Repeat("a", 80),
		"/var/lib/samba/private/secrets.tdb": "TDB file\n", "/home/user/.ssh/authorized_keys": "ssh-ed25519 AAAA\n", "/opt/python/lib/test/keycert.pem": key,
		"/var/log/journal/1/system.journal": "x",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := good()
			files[name] = content
			write(t, root, files)
			a := audit(t, root)
			if len(a.Findings) > 0 || len(a.Unknown) > 0 || len(a.Named) != 1 || !strings.HasPrefix(name, strings.SplitN(a.Named[0].What, " ", 2)[0][:8]) || slices.Contains(a.Fine, "credentials") {
				t.Errorf("found %+v, named %+v, fine %v, unknown %+v", a.Findings, a.Named, a.Fine, a.Unknown)
			}
		})
	}
}

// Every read that fails is reported, and the check is not listed as fine.
func TestWhatCouldNotBeLookedAtForCredentialsIsSaid(t *testing.T) {
	root := t.TempDir()
	files := good()
	files["/opt/a/b"] = "x"
	write(t, root, files)
	for _, failing := range []system.Look{{Op: "list", Target: "/opt/a"}, {Op: "stat", Target: "/opt/a/b"}, {Op: "read", Target: "/opt/a/b"}, {Op: "list", Target: "/etc"}} {
		look := func(l system.Look) error {
			if l == failing {
				return errors.New("input/output error")
			}
			return nil
		}
		a := image.Run(t.Context(), options(t, root, system.Options{Gate: system.ReadOnly, Look: look}))
		if slices.Contains(a.Fine, "credentials") || !slices.ContainsFunc(a.Unknown, func(d image.NoResult) bool {
			return d.Check == "credentials" && strings.Contains(d.Why, failing.Target)
		}) {
			t.Errorf("%v: fine %v, unknown %+v", failing, a.Fine, a.Unknown)
		}
	}
}

func TestASurveyFollowsNoLinkAndSaysWhereItsTimeWasUp(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"/etc/a": "1", "/etc/dir/b": "2", "/etc/link": link + "/secret", "/etc/dirlink": link + "/elsewhere", "/secret": "3", "/elsewhere/c": "4"})
	s := options(t, root, system.Options{Gate: system.ReadOnly}).System
	var seen []string
	each := func(name string, _ system.Info, _ []byte, _ bool) { seen = append(seen, name) }
	if unseen := s.FS.Survey(t.Context(), system.Survey{Dir: "/etc", Each: each}); len(unseen) > 0 || !slices.Equal(seen, []string{"/etc/a", "/etc/dir/b"}) {
		t.Errorf("seen %q, unseen %v", seen, unseen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if unseen := s.FS.Survey(ctx, system.Survey{Dir: "/etc", Each: each}); len(unseen) != 1 || !strings.Contains(unseen[0].Why, "time was up") {
		t.Errorf("unseen %v", unseen)
	}
}

// What has become protected since an earlier agent wrote it is said, and left to whoever makes the image.
func TestASealTakesNothingAwayThatIsProtected(t *testing.T) {
	root := t.TempDir()
	files := stateful()
	var ledger strings.Builder
	all := []string{
		"/etc/wspdcvhostadapter/default.perm", "/etc/skylight.conf", "/etc/gdm3/custom.conf", "/etc/sssd/pki/x", "/etc/network/interfaces.d/x",
		"/etc/systemd/system/gdm.service", "/etc/systemd/system/graphical.target.wants/dcvserver.service",
	}
	for _, name := range all {
		files[name] = hush
		fmt.Fprintf(&ledger, "{\"secret\":%q}\n", name)
	}
	files["/var/lib/soe-agent/ledger.jsonl"] = ledger.String()
	write(t, root, files)
	done, err := image.Seal(t.Context(), options(t, root, system.Options{}), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if content, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(content) != hush {
			t.Errorf("%s is touched: %v", name, err)
		}
		if !slices.ContainsFunc(done, func(r image.Removal) bool { return r.Path == name && strings.Contains(r.Left, "cannot remove "+name) }) {
			t.Errorf("nothing is said of %s: %+v", name, done)
		}
	}
}

func TestASealTakesEveryFileAwayThatHoldsASecret(t *testing.T) {
	root := t.TempDir()
	files := stateful()
	lastGood, err := json.Marshal(policysync.LastGood{Sources: []policy.Source{{
		Name: "10", Layer: policy.Remote, Text: "schema = 1\npersonas = [\"other\"]\n[dropins.\"/etc/scan.d/published\"]\nactivate = []\ncontent = \"{{resolve:secretsmanager:x}}\"\n",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"/var/lib/soe-agent/ledger.jsonl":     `{"secret":"/etc/scan.d/former"}` + "\n" + `{"secret":"/etc/scan.d/free"}` + "\n" + `{"public":"/etc/scan.d/free"}` + "\n",
		"/var/lib/soe-agent/lastgood.json":    string(lastGood),
		"/etc/soe-agent/policy.d/50-own.toml": "schema = 1\n[dropins.\"/etc/scan.d/local\"]\nactivate = []\ncontent = \"{{resolve:ssm-secure:/x}}\"\n",
		"/etc/scan.d/former":                  hush, "/etc/scan.d/.former.soe.swp": hush, "/etc/scan.d/published": hush, "/etc/scan.d/local": hush, "/etc/scan.d/free": "nothing", "/etc/scan.d/other": "nothing",
	} {
		files[name] = content
	}
	write(t, root, files)
	// A file that cannot be removed stays known.
	stuck := func(c system.Change) error {
		if c.Op == "remove" && c.Target == "/etc/scan.d/former" {
			return errors.New("input/output error")
		}
		return nil
	}
	done, err := image.Seal(t.Context(), options(t, root, system.Options{Gate: stuck}), false)
	if err != nil {
		t.Fatal(err)
	}
	left := slices.DeleteFunc(done, func(r image.Removal) bool { return r.Left == "" })
	if _, err := os.Stat(filepath.Join(root, "var/lib/soe-agent/ledger.jsonl")); err != nil || len(left) < 2 || left[0].Path != "/etc/scan.d/former" {
		t.Errorf("%v, left %+v", err, left)
	}
	if _, err := image.Seal(t.Context(), options(t, root, system.Options{}), false); err != nil {
		t.Fatal(err)
	}
	for _, name := range names(t, root) {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err == nil && strings.Contains(string(content), hush) {
			t.Errorf("a secret is in %s", name)
		}
	}
	for _, name := range []string{"etc/scan.d/free", "etc/scan.d/other"} {
		if _, err := os.Stat(filepath.Join(root, name)); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s holds no secret and is gone", name)
		}
	}
	if a := audit(t, root); len(a.Findings) != 2 { // the registration and its credentials
		t.Errorf("afterwards: %+v", a.Findings)
	}
}

// What cannot be understood may have said where a secret is.
func TestASealThatCannotTellWhereSecretsAreSaysSoAndTakesNothingAway(t *testing.T) {
	lastGood, err := json.Marshal(policysync.LastGood{Sources: []policy.Source{{
		Name: "10", Layer: policy.Remote, Text: "schema = 1\n[dropins.\"/etc/scan.d/published\"]\nactivate = []\ncontent = \"{{resolve:secretsmanager:x}}\"\n",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	whole := map[string]string{
		"/var/lib/soe-agent/ledger.jsonl": "\n" + `{"identity":{"machine_id":"m"}}` + "\n" + `{"secret":"/etc/scan.d/former"}`, "/var/lib/soe-agent/lastgood.json": string(lastGood),
	}
	root := t.TempDir()
	files := good()
	maps.Copy(files, whole)
	files["/etc/scan.d/former"], files["/etc/scan.d/published"] = hush, hush
	write(t, root, files)
	for name, content := range whole {
		harmed := []string{"[]", strings.Repeat("\x00", len(content)), `{"schema":9,"secret":["/etc/scan.d/former"],"sources":"x"}`}
		for cut := range content {
			if !strings.HasSuffix(name, ".jsonl") || cut < 2 || content[cut-1] != '\n' && content[cut] != '\n' { // else the line may never have been written
				harmed = append(harmed, content[:cut])
			}
		}
		for _, harm := range harmed {
			write(t, root, map[string]string{name: harm})
			done, err := image.Seal(t.Context(), options(t, root, system.Options{}), false)
			if err == nil || !strings.Contains(err.Error(), name) || len(done) > 0 {
				t.Fatalf("%s with %q: %v, and taken away are %v", name, harm, err, done)
			}
		}
		write(t, root, map[string]string{name: content})
	}
	if _, err := image.Seal(t.Context(), options(t, root, system.Options{}), false); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"/etc/scan.d/former", "/etc/scan.d/published"} {
		if _, err := os.Stat(filepath.Join(root, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is in the image: %v", name, err)
		}
	}
}

func TestALongFileIsLookedThroughInTimeThatGrowsWithIt(t *testing.T) {
	took := func(times int) time.Duration {
		root := t.TempDir()
		files := good()
		files["/etc/long.conf"] = strings.Repeat("password = \"", 2*times)
		files["/etc/lines.conf"] = strings.Repeat("x = -----BEGIN PRIVATE KEY-----\n", times)
		write(t, root, files)
		started := time.Now()
		audit(t, root)
		return time.Since(started)
	}
	// In quadratic time, sixteen times the input takes 256 times as long.
	if part, whole := took(6_250), took(100_000); whole > 64*part+10*time.Second {
		t.Errorf("it took %s, and a sixteenth of it %s", whole, part)
	}
}
