package converge_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// Kinds never show secrets, but other people's programs may.
func TestWhateverAProgramSaysTheReportAndTheLogShowNoSecret(t *testing.T) {
	const token, key = `hunter2-"quoted"`, "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n"
	p := wants("1", "a/x", "a/y", "a/z")
	for i, secret := range []string{token, key, "a"} { // a single letter is in every text
		p.Resources[i].Secrets = []string{secret}
	}
	m := newMachine(t)
	k := newKind(p, "a")
	k.repair = func(r converge.Resource) *converge.Outcome {
		switch r.ID {
		case "a/x":
			return &converge.Outcome{ID: r.ID, Err: fmt.Errorf("cannot activate it: bad line %q: %w", "token "+token, errors.New(token))}
		case "a/y":
			return &converge.Outcome{ID: r.ID, Err: errors.New("openssl: MIIEvQIBADANBg is no key")}
		}
		k.values[r.ID] = token // so that it stays drifted
		return nil
	}
	result := m.engine(p, k).Pass(t.Context())
	said := fmt.Sprint(result) + m.log.String()
	for _, secret := range []string{"hunter2", "MIIEvQ"} {
		if strings.Contains(said, secret) {
			t.Errorf("%s is in %s", secret, said)
		}
	}
	if r := the(t, result, "a/x"); r.Reason != `cannot activate it: bad line "token ‹secret›": ‹secret›` {
		t.Errorf("the reason is %s", r.Reason)
	}
	if r := the(t, result, "a/z"); len(r.Diff) != 1 || r.Diff[0].Got != "‹secret›" {
		t.Errorf("the difference is %+v", r.Diff)
	}
	if unknown := converge.SecretsOf(&policy.Policy{}).Hide("as it is"); unknown != "as it is" {
		t.Errorf("got %q", unknown)
	}
}

func TestASecretIsHiddenInWhateverFormItIsPrinted(t *testing.T) {
	const secret = `c4n4ry+new/e85a&<0c46>"x`
	p := wants("1", "a/x")
	p.Resources[0].Secrets = []string{secret}
	for _, former := range []string{"", `0ld+c4n4ry/71b2&<e0d9>`} {
		hide := converge.SecretsOf(p, former).Hide
		for _, value := range []string{secret, former} {
			if value == "" {
				continue
			}
			inJSON, _ := json.Marshal(map[string]string{"token": value})
			forms := map[string]string{
				"JSON": string(inJSON), "a URL": "http://u:" + url.QueryEscape(value) + "@h/", "a path": url.PathEscape(value), "HTML": html.EscapeString(value),
				"hex": hex.EncodeToString([]byte("token=" + value)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(value))),
				"a lower URL": strings.ToLower(url.QueryEscape(value)),
			}
			for shift := range 3 {
				whole := strings.Repeat("t", 60+shift) + value + "\n"
				text := base64.StdEncoding.EncodeToString([]byte(whole))
				forms[fmt.Sprint("base64 at ", shift)] = text
				forms[fmt.Sprint("base64 for URLs at ", shift)] = base64.URLEncoding.EncodeToString([]byte(whole))
				forms[fmt.Sprint("base64 in lines at ", shift)] = text[:76] + "\n" + text[76:]
			}
			for what, text := range forms {
				got := hide("before " + text + " after")
				if !strings.Contains(got, "‹secret›") || !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
					t.Errorf("%s: %q shows as %q", what, text, got)
				}
				if decoded, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(got, "\n", "")); err == nil && strings.Contains(string(decoded), value) {
					t.Errorf("%s still tells it: %q", what, got)
				}
			}
		}
	}
}

// The longer of two secrets is replaced first: otherwise its rest would remain.
func TestTheReasonOfACheckAndOfARepairShowsNoSecretToRootNorToEverybody(t *testing.T) {
	const short, longer = "hunter2", `hunter2-and-"more"`
	for what, secret := range map[string]string{"a secret": short, "one that begins with another": longer, "one as it is quoted": fmt.Sprintf("%q", longer)} {
		p := wants("1", "a/x", "a/y")
		p.Resources[0].Secrets = []string{short, longer}
		m := newMachine(t)
		k := newKind(p, "a")
		k.check = func(_ context.Context, found []converge.Resource) ([]converge.Resource, error) {
			for i := range found {
				if found[i].ID == "a/x" {
					found[i].SetUnknown("its checker says " + secret).ReasonIsPublic()
				}
			}
			return found, nil
		}
		k.repair = func(r converge.Resource) *converge.Outcome {
			k.set(r.ID)
			return &converge.Outcome{ID: r.ID, Reason: "it was reloaded with " + secret}
		}
		result := m.engine(p, k).Pass(t.Context())
		for id, want := range map[policy.ID]string{"a/x": "its checker says", "a/y": "it was reloaded with"} {
			r := the(t, result, id)
			for who, reason := range map[string]string{"root": r.Reason, "everybody": r.Public().Reason} {
				if !strings.HasPrefix(reason, want) || !strings.Contains(reason, "‹secret›") || strings.Contains(reason, "hunter2") || strings.Contains(reason, "more") {
					t.Errorf("%s: of %s %s reads %q", what, id, who, reason)
				}
			}
		}
	}
}
