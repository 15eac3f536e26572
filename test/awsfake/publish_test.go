package awsfake_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

const (
	base      = "schema = 1\npersonas = [\"base\"]\n[packages]\nfirefox = \"present\"\n"
	reference = "schema = 1\n[dropins.\"/etc/a\"]\ncontent = \"{{resolve:ssm:/a}}\"\n"
	notTOML   = "schema = \n"
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
  personas = ["base"]

[[fragment]]
  name = "20-broken"
  parameter = "/soe/prod/policy/20-broken/` + hash(notTOML)[:12] + `"
  sha256 = "` + hash(notTOML) + `"
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

func TestAFragmentWithReferencesIsEncoded(t *testing.T) {
	s := awsfake.New(t)
	if err := s.PublishPolicy("/soe", 1, map[string]string{"a": reference}); err != nil {
		t.Fatal(err)
	}
	client := ssmClient(s)
	if manifest, err := get(t, client, "/soe/manifest"); !strings.Contains(manifest, `encoding = "gzip+base64"`) {
		t.Error(manifest, err)
	}
	value, err := get(t, client, "/soe/policy/a/"+hash(reference)[:12])
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(value)))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); string(text) != reference {
		t.Errorf("%q, %v", text, err)
	}
}

func TestAFragmentIsWrittenOnceAndOneTooLargeStopsThePublication(t *testing.T) {
	s := awsfake.New(t)
	advanced := base + "# " + strings.Repeat("x", 5000)
	for serial := 1; serial <= 2; serial++ {
		if err := s.PublishPolicy("/soe", serial, map[string]string{"a": base, "b": advanced}); err != nil {
			t.Fatal(err)
		}
	}
	client := ssmClient(s)
	for _, text := range []string{base, advanced} {
		name := map[string]string{base: "a", advanced: "b"}[text]
		if got, err := get(t, client, "/soe/policy/"+name+"/"+hash(text)[:12]+":1"); got != text {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if _, err := get(t, client, "/soe/policy/"+name+"/"+hash(text)[:12]+":2"); code(t, err) != "ParameterVersionNotFound" {
			t.Errorf("%s was written again: %v", name, err)
		}
	}
	large := base + "# " + strings.Repeat("x", 8192)
	if err := s.PublishPolicy("/soe", 3, map[string]string{"a": base, "c": large}); err == nil || !strings.Contains(err.Error(), "/soe/policy/c/") {
		t.Errorf("published: %v", err)
	}
	if manifest, err := get(t, client, "/soe/manifest"); !strings.Contains(manifest, "serial = 2\n") {
		t.Error(manifest, err)
	}
}
