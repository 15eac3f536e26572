package converge

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// shortestSecret is the length in bytes below which a secret is not looked for in other programs'
// output: it would match ordinary words.
const shortestSecret = 6

// Secrets hides the policy's secrets in what is reported. Kinds never show them, but
// checks, activations and package managers are other people's programs, which may
// print what they have read.
type Secrets struct {
	replacer *strings.Replacer // nil if there are no secrets
	encoded  []string          // encoded forms of them, which a program may break into lines
}

// mostEncoded is how many texts are looked for in their encoded forms, too.
const mostEncoded = 256

// SecretsOf returns the secrets of a policy, and more.
func SecretsOf(p *policy.Policy, more ...string) Secrets {
	texts := slices.Clone(more)
	for _, r := range p.Resources {
		for _, secret := range r.Secrets {
			texts = append(texts, secret)
			texts = append(texts, strings.Split(secret, "\n")...) // of a key, say, one line may be quoted
		}
	}
	texts = slices.DeleteFunc(texts, func(text string) bool { return len(text) < shortestSecret })
	var forms []string
	for _, text := range texts[max(0, len(texts)-mostEncoded):] { // the policy's own come last
		forms = append(forms, encoded(text)...)
	}
	for _, text := range slices.Clone(texts) {
		quoted := strconv.Quote(text)
		texts = append(texts, quoted[1:len(quoted)-1])
	}
	texts = append(texts, forms...)
	if len(texts) == 0 {
		return Secrets{}
	}
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	var pairs []string
	for _, text := range slices.Compact(texts) {
		pairs = append(pairs, text, public.Secret)
	}
	return Secrets{strings.NewReplacer(pairs...), forms}
}

// Hide returns text with its secrets replaced, also in the common encodings. Call it before
// cutting a text short: a part of a secret is not found.
func (s Secrets) Hide(text string) string {
	if s.replacer == nil {
		return text
	}
	return hideWrapped(s.replacer.Replace(text), s.encoded)
}

func (s Secrets) hideIn(r *Resource) {
	if s.replacer == nil {
		return
	}
	r.Reason, r.open.reason = s.Hide(r.Reason), s.Hide(r.open.reason)
	for _, diff := range [][]Difference{r.Diff, r.open.diff} {
		for i, d := range diff {
			diff[i].Want, diff[i].Got = s.Hide(d.Want), s.Hide(d.Got)
		}
	}
}

// hideInOutcome hides secrets in an outcome. An error that holds none stays the same error value.
func (s Secrets) hideInOutcome(o *Outcome) {
	o.Reason = s.Hide(o.Reason)
	if o.Err == nil {
		return
	}
	if text := s.Hide(o.Err.Error()); text != o.Err.Error() {
		o.Err = errors.New(text)
	}
}
