package check

import (
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// secrets returns the secrets of the policy, and the current contents of their files: a check may read
// a secret that has not been fetched since the boot, or the previous one during a rotation.
func (k *Kind) secrets() converge.Secrets {
	var there []string
	for _, r := range k.policy.Resources {
		if len(r.Secrets) == 0 && !slices.ContainsFunc(r.Missing, policy.Reference.Secret) {
			continue
		}
		public, known := r.Shown.(policy.Dropin)
		if !known {
			public, _ = r.Spec.(policy.Dropin) // with its references
		}
		content, _ := k.system.FS.ReadFile("/" + r.ID.Name()) // if it is there
		for line := range strings.SplitSeq(string(content), "\n") {
			if strings.Contains(public.Content, line) {
				continue
			}
			there = append(there, line)
			there = append(there, strings.FieldsFunc(line, separates)...)
			for i, c := range line[:min(len(line), 1<<10)] { // a secret may contain these characters
				if separates(c) {
					there = append(there, strings.TrimFunc(line[i:], separates))
				}
			}
		}
	}
	return converge.SecretsOf(k.policy, there...)
}

// separates reports whether a character may be between a secret and its name.
func separates(c rune) bool { return strings.ContainsRune("=: \t\"',;", c) }
