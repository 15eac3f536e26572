package awsfake_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

const (
	base    = "schema = 1\npersonas = [\"base\"]\n[packages]\nfirefox = \"present\"\n"
	notTOML = "schema = \n"
)

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestAPolicyIsPublishedAsTheAgentReadsIt(t *testing.T) {
	s := awsfake.New(t)
	if err := s.PublishPolicy("/soe/prod", 42, map[string]string{"20-broken": notTOML, "10-base": base}); err != nil {
		t.Fatal(err)
	}
	client := ssmClient(s)
	got, err := get(t, client, "/soe/prod/manifest")
	if err != nil {
		t.Fatal(err)
	}
	want := `schema = 1
serial = 42

[[fragment]]
name = "10-base"
parameter = "/soe/prod/policy/10-base/` + hash(base)[:12] + `"
sha256 = "` + hash(base) + `"
size = 62
personas = ["base"]

[[fragment]]
name = "20-broken"
parameter = "/soe/prod/policy/20-broken/` + hash(notTOML)[:12] + `"
sha256 = "` + hash(notTOML) + `"
size = 10
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, text := range map[string]string{"10-base": base, "20-broken": notTOML} {
		if got, err := get(t, client, "/soe/prod/policy/"+name+"/"+hash(text)[:12]); got != text {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestAFragmentIsWrittenOnceAndOneThatIsRefusedStopsThePublication(t *testing.T) {
	s := awsfake.New(t)
	for serial := 1; serial <= 2; serial++ {
		if err := s.PublishPolicy("/soe", serial, map[string]string{"a": base}); err != nil {
			t.Fatal(err)
		}
	}
	client, name := ssmClient(s), "/soe/policy/a/"+hash(base)[:12]
	if got, err := get(t, client, name+":1"); got != base {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := get(t, client, name+":2"); code(t, err) != "ParameterVersionNotFound" {
		t.Errorf("it was written again: %v", err)
	}
	if err := s.PublishPolicy("/soe", 3, map[string]string{"a": base, "not a name": base}); err == nil || !strings.Contains(err.Error(), "not a name") {
		t.Errorf("published: %v", err)
	}
	if manifest, err := get(t, client, "/soe/manifest"); !strings.Contains(manifest, "serial = 2\n") {
		t.Error(manifest, err)
	}
}
