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

// shortestSecret is the length below which a secret is not looked for in what others
// say: it would be found in words.
const shortestSecret = 6

// Secrets hides the policy's secrets in what is reported. Kinds show none themselves;
// but checks, activations and package managers are programs of others, which may say
// what they have read.
type Secrets struct {
	replacer *strings.Replacer // nil: there are none
	encoded  []string          // forms of them that a program may break into lines
}

// mostEncoded is of how many texts the encoded forms are looked for, too.
const mostEncoded = 256

// SecretsOf are the secrets of a policy, and more.
func SecretsOf(p *policy.Policy, more ...string) Secrets {
	texts := slices.Clone(more)
	for _, r := range p.Resources {
		for _, secret := range r.Secrets {
			texts = append(texts, secret)
			texts = append(texts, strings.Split(secret, "\n")...) // such as a key, of which a line is quoted
		}
	}
	texts = slices.DeleteFunc(texts, func(text string) bool { return len(text) < shortestSecret })
	var forms []string
	for _, text := range texts[max(0, len(texts)-mostEncoded):] { // those of the policy are the last
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

// Hide returns the text without secrets, in whatever common encoding. What is to be cut short has to be hidden
// before: a part of a secret is not found.
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

// hideInOutcome leaves an error that tells nothing as it is.
func (s Secrets) hideInOutcome(o *Outcome) {
	o.Reason = s.Hide(o.Reason)
	if o.Err == nil {
		return
	}
	if text := s.Hide(o.Err.Error()); text != o.Err.Error() {
		o.Err = errors.New(text)
	}
}
