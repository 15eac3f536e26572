package dropin

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// leftOutOfImage reports whether a file is not written into an image. Images are copied to many
// machines, so they never get a secret.
func (k *Kind) leftOutOfImage(r policy.Resource) bool {
	return !k.system.Running() && r.ID.Kind() == k.Name() &&
		(len(r.Secrets) > 0 || slices.ContainsFunc(r.Missing, policy.Reference.Secret))
}

// wants are the files that the kind may write.
func (k *Kind) wants() []policy.Want[policy.Dropin] {
	return slices.DeleteFunc(policy.Of[policy.Dropin](k.policy), func(want policy.Want[policy.Dropin]) bool { return k.leftOutOfImage(want.Resource) })
}

// leftOut records the files that are not written.
func (k *Kind) leftOut() []converge.Resource {
	var all []converge.Resource
	for _, want := range k.policy.Resources {
		if !k.leftOutOfImage(want) {
			continue
		}
		r := converge.Wanted(want)
		name := fileOf(want.ID)
		_, err := k.system.FS.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.SetPending(converge.Reboot, "it holds a secret, and none is written into an image: each machine fetches it when it runs").ReasonIsPublic()
		case err != nil:
			r.SetUnknownErr(err)
		default:
			r.SetFailed(fmt.Sprintf("%s is in the image, and may hold a secret; soe-agent --root %s image seal takes it away", name, k.system.Root)).ReasonIsPublic()
		}
		all = append(all, r)
	}
	return all
}
