package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/box"
)

// What the policy of an outage writes, and what it refers to.
const (
	serialFile = "/etc/modprobe.d/soe-serial.conf"
	alsoFile   = "/etc/modprobe.d/soe-also.conf"
	hostFile   = "/etc/modprobe.d/soe-host.conf"
	otherFile  = "/etc/modprobe.d/soe-other.conf"
	keyFile    = "/etc/soe-scan.d/key.conf"

	hostParameter  = "/soe/prod/host"
	otherParameter = "/soe/prod/other"
	keyParameter   = "/soe/prod/key"
	tokenSecret    = "soe/scanner"

	identityFile    = "/var/lib/amazon/ssm/runtimeconfig/identity_config.json"
	credentialsFile = "/root/.aws/credentials"
)

// An outage is a workspace whose AWS fails in one way after the other.
type outage struct {
	*workspace
	serial int64 // in force
}

func newOutage(t *testing.T) *outage {
	t.Helper()
	o := &outage{workspace: newWorkspace(t)}
	o.aws.PutParameter(hostParameter, "logs.example.com")
	o.aws.PutParameter(otherParameter, "other.example.com")
	o.aws.PutSecureParameter(keyParameter, "first key")
	o.aws.PutSecret(tokenSecret, `{"token":"first token"}`)
	return o
}

// A publication is what publishing a policy writes: parameters, and the manifest last.
type publication struct {
	manifest  manifest.Manifest
	fragments map[string]string // by parameter
	absent    bool              // there is to be no manifest
}

func (o *outage) publication(t *testing.T, serial int64) publication {
	t.Helper()
	dropin := func(name, content string) string {
		return fmt.Sprintf("schema = 1\n[dropins.%q]\ncontent = %q\n", name, content+"\n")
	}
	p := publication{manifest.Manifest{Generation: manifest.Generation{Serial: serial}}, map[string]string{}, false}
	for _, fragment := range [][2]string{
		{"10-serial", dropin(serialFile, fmt.Sprint("# serial ", serial))},
		{"15-also", dropin(alsoFile, fmt.Sprint("# also ", serial))},
		{"20-host", dropin(hostFile, "# {{resolve:ssm:"+hostParameter+"}}")},
		{"25-other", dropin(otherFile, "# {{resolve:ssm:"+otherParameter+"}}")},
		{"30-key", dropin(keyFile, "{{resolve:ssm-secure:"+keyParameter+"}}")},
		{"35-token", dropin(tokenFile, "{{resolve:secretsmanager:"+tokenSecret+":SecretString:token}}")},
	} {
		p.add(t, fragment[0], fragment[1])
	}
	p.add(t, "99-developer", "schema = 1\npersonas = [\"developer\"]\n", "developer") // or the desktop's persona is in doubt
	return p
}

func (p *publication) add(t *testing.T, name, text string, personas ...string) {
	t.Helper()
	entry, parameters, err := manifest.Pack(policyPath, name, text, personas)
	if err != nil {
		t.Fatal(err)
	}
	p.manifest.Fragments = append(p.manifest.Fragments, entry)
	for _, parameter := range parameters {
		p.fragments[parameter.Name] = parameter.Value
	}
}

// bomb adds a fragment that no publisher of ours would.
func (p *publication) bomb(t *testing.T, parameter, text string) {
	t.Helper()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	p.fragments[parameter] = base64.StdEncoding.EncodeToString(packed.Bytes())
	p.manifest.Fragments = append(p.manifest.Fragments, manifest.Entry{
		Name: "99-bomb", Parameter: parameter, SHA256: manifest.Digest(text), Size: len(text), Encoding: manifest.Compressed,
	})
}

// parameter is the name of that which holds a fragment.
func (p *publication) parameter(fragment int) string { return p.manifest.Fragments[fragment].Parameter }

func (o *outage) put(t *testing.T, p publication) {
	t.Helper()
	for name, value := range p.fragments {
		o.aws.PutParameter(name, value)
	}
	text, err := p.manifest.Text()
	if err != nil {
		t.Fatal(err)
	}
	if p.absent {
		o.aws.DeleteParameter(manifest.Name(policyPath))
		return
	}
	o.aws.PutParameter(manifest.Name(policyPath), text)
}

// lookAgain ends whatever the daemon waits for.
func (o *outage) lookAgain(t *testing.T) {
	t.Helper()
	o.MustExec(t, "systemctl", "reload", "soe-agent")
}

// troubled waits until the status has this trouble, and returns it.
func (o *outage) troubled(t *testing.T, name string) agent.Status {
	t.Helper()
	var s agent.Status
	o.until(t, fmt.Sprintf("the trouble is %q", name), func() bool { s, _ = o.status(t); return s.Trouble == name })
	return s
}

// says waits until soe-agent status shows a text.
func (o *outage) says(t *testing.T, text string) {
	t.Helper()
	o.until(t, fmt.Sprintf("soe-agent status says %q", text), func() bool {
		result, err := o.Exec(t.Context(), "soe-agent", "status")
		return err == nil && strings.Contains(result.Stdout, text)
	})
}

// healed waits until a serial is in force and nothing is the matter.
func (o *outage) healed(t *testing.T, serial int64) {
	t.Helper()
	o.until(t, fmt.Sprintf("serial %d is in force and nothing is the matter", serial), func() bool {
		s, code := o.status(t)
		return code == 0 && s.Serial == serial && s.Trouble == "" && s.Waiting == "" && len(s.Refused) == 0 && s.Phase == agent.Keeping
	})
	if got, want := o.MustReadFile(t, serialFile), fmt.Sprintf("# serial %d\n", serial); got != want {
		t.Errorf("the file of serial %d holds %q", serial, got)
	}
	o.serial = serial
}

// mends fails the test unless drift is mended.
func (o *outage) mends(t *testing.T) {
	t.Helper()
	want := o.MustReadFile(t, hostFile)
	o.MustWriteFile(t, hostFile, box.File{Content: "drift\n"})
	o.until(t, "drift is mended", func() bool { return o.MustReadFile(t, hostFile) == want })
}

// endpoint has the daemon go elsewhere.
func (o *outage) endpoint(t *testing.T, url string) {
	t.Helper()
	config := o.MustReadFile(t, agent.ConfigFile)
	before, rest, _ := strings.Cut(config, "endpoint = \"")
	_, after, _ := strings.Cut(rest, "\"")
	o.MustWriteFile(t, agent.ConfigFile, box.File{Content: before + "endpoint = \"" + url + "\"" + after})
}

func TestAMendedConfigurationIsTakenUpWithoutBeingAskedTo(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.put(t, o.publication(t, 1))
	o.activate(t)
	config := o.MustReadFile(t, agent.ConfigFile)
	o.MustWriteFile(t, agent.ConfigFile, box.File{Content: strings.Replace(config, `poll = "1s"`, `poll = "6h"`, 1)})
	o.endpoint(t, "http://no-such-host.invalid")
	o.boot(t)
	o.troubled(t, source.NoNetwork)

	wrong := o.MustReadFile(t, agent.ConfigFile)
	o.MustWriteFile(t, agent.ConfigFile, box.File{Content: wrong + "verify = \"often\"\n"})
	o.says(t, agent.ConfigFile+":8: cannot read the configuration: \"often\" is not a duration")
	if s, _ := o.status(t); s.Trouble != source.NoNetwork {
		t.Errorf("the configuration that was in force is not: the trouble is %q", s.Trouble)
	}

	// As editors do it.
	mended := strings.Replace(wrong, "http://no-such-host.invalid", o.aws.URL, 1)
	o.MustWriteFile(t, agent.ConfigFile+".new", box.File{Content: mended})
	o.MustExec(t, "mv", agent.ConfigFile+".new", agent.ConfigFile)
	o.healed(t, 1)

	// And as a shell does.
	o.put(t, o.publication(t, 2))
	o.MustExec(t, "sh", "-c", "sed 's/6h/1h/' "+agent.ConfigFile+" > /tmp/agent.toml; cat /tmp/agent.toml > "+agent.ConfigFile)
	o.healed(t, 2)
}

// Break-glass is a fragment on the machine, and the day on which somebody needs it may
// be the one on which nobody reaches AWS.
func TestALocalFragmentIsEnforcedWhileAWSIsAway(t *testing.T) {
	t.Parallel()
	const local, hereFile = "/etc/soe-agent/policy.d/90-here.toml", "/etc/modprobe.d/soe-here.conf"
	o := newOutage(t)
	o.put(t, o.publication(t, 1))
	o.activate(t)
	o.boot(t)
	o.healed(t, 1)
	here := func(content string) func() bool {
		return func() bool {
			got, _ := o.ReadFile(hereFile)
			return got == content
		}
	}

	o.aws.Down()
	o.troubled(t, source.NoNetwork)
	o.MustWriteFile(t, local, box.File{Content: fmt.Sprintf("schema = 1\n[dropins.%q]\ncontent = \"# here\\n\"\n", hereFile)})
	o.until(t, "the fragment is enforced", here("# here\n"))
	for name, want := range map[string]string{serialFile: "# serial 1\n", hostFile: "# logs.example.com\n", tokenFile: "first token\n"} {
		if got := o.MustReadFile(t, name); got != want {
			t.Errorf("%s has %q", name, got)
		}
	}
	if s, _ := o.status(t); s.Trouble != source.NoNetwork || s.Serial != 1 {
		t.Errorf("the trouble is %q, the serial %d", s.Trouble, s.Serial)
	}

	// What it replaces comes back with the last good policy.
	o.MustWriteFile(t, local, box.File{Content: fmt.Sprintf("schema = 1\n[dropins.%q]\ncontent = \"# mine\\n\"\n", serialFile)})
	o.until(t, "the other fragment is enforced", func() bool { return o.MustReadFile(t, serialFile) == "# mine\n" })
	o.MustExec(t, "rm", local)
	o.until(t, "the published fragment is in force", func() bool { return o.MustReadFile(t, serialFile) == "# serial 1\n" })

	if err := o.aws.Up(); err != nil {
		t.Fatal(err)
	}
	o.healed(t, 1)
	o.until(t, "what is no longer wanted is gone", here(""))
	o.until(t, "the secret is known again", func() bool { return o.report(t).resource("dropin" + tokenFile).State.InLine() })
}
