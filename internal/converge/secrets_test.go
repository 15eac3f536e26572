package converge_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// Kinds show no secrets of their own accord; programs of others do.
func TestWhateverAProgramSaysTheReportAndTheLogShowNoSecret(t *testing.T) {
	const token, key = `hunter2-"quoted"`, "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n"
	p := wants("1", "a/x", "a/y", "a/z")
	for i, secret := range []string{token, key, "a"} { // one letter is in every text
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
		k.values[r.ID] = token // and so it stays drifted
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
