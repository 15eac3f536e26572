package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/resolve"
	"github.com/soe-agent/soe-agent/internal/source"
)

func TestASecretGoesToTheSpecThatNeedsItAndIntoNoFile(t *testing.T) {
	a := newActivated(t)
	a.fake.PutSecureParameter("/s", canary)
	a.fake.PutSecret("json", `{"key":"`+canary+`"}`)
	a.fake.PutParameter("/p", "plain")
	a.publish(t, 1, map[string]string{"10": `schema = 1
[dropins."/etc/x.d/y"]
content = "{{resolve:ssm-secure:/s}} {{resolve:secretsmanager:json:SecretString:key}} {{resolve:ssm:/p}}"
mode = "0600"
`})
	aws := a.connect(t)
	sources, serial, err := aws.Published(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	fragments, err := policy.ParseAll(sources)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge(fragments, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, values, err := resolve.Resolve(t.Context(), p, facts.Facts{}, aws)
	if err != nil {
		t.Fatal(err)
	}
	if got := policy.Of[policy.Dropin](p)[0].Spec.Content; got != canary+" "+canary+" plain" {
		t.Errorf("the content is %q", got)
	}
	good := source.LastGood{Machine: "m", Serial: serial, Sources: sources, Values: values}
	if err := source.WriteLastGood(a.FS, "/var/lib/soe-agent", good); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(a.root, "var/lib/soe-agent/lastgood.json"))
	if err != nil || !strings.Contains(string(content), "plain") || strings.Contains(string(content), canary) {
		t.Errorf("%s, %v", content, err)
	}
	if info, err := a.FS.Stat("/var/lib/soe-agent/lastgood.json"); err != nil || info.Mode != 0o600 {
		t.Errorf("%+v, %v", info, err)
	}
}
