package packages

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// kernel is the package of the kernel. Several of it are installed side by side, and
// both yum and dnf keep the one that runs.
const kernel = "kernel"

// isKernel says whether a name of the policy means it.
func isKernel(text string) bool {
	name, _ := policy.PackageArch(text)
	return name == kernel
}

// awaitReboot has a kernel that is installed wait for the reboot when an older one
// runs.
func (k *Kind) awaitReboot(r *converge.Resource, kernels []instance) error {
	running, err := runningKernel(k.system)
	if why := olderKernelRuns(running, kernels); why != "" {
		r.SetPending(converge.Reboot, why).ReasonIsPublic()
	}
	return err
}

// runningKernel is the release of the kernel that runs (uname(2)), or "" in an image.
func runningKernel(s *system.System) (string, error) {
	if !s.Running() {
		return "", nil
	}
	release, err := s.FS.ReadFile("/proc/sys/kernel/osrelease")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(release)), err
}

// olderKernelRuns says that a newer kernel is installed than the one that runs, or
// "". Of one that is not installed as a package nothing can be said.
func olderKernelRuns(running string, kernels []instance) string {
	release := func(i instance) string { return fmt.Sprintf("%s-%s.%s", i.version, i.release, i.arch) }
	at := slices.IndexFunc(kernels, func(i instance) bool { return release(i) == running })
	if at <= 0 || compareEVR(kernels[0].evr, kernels[at].evr) == 0 {
		return "" // they are sorted, the newest first
	}
	return fmt.Sprintf("%s runs, and %s takes effect with the reboot", running, release(kernels[0]))
}
