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

// kernel is the name of the kernel's package. Several versions are installed side by side, and both
// yum and dnf keep the running one.
const kernel = "kernel"

// isKernel reports whether a name of the policy means the kernel.
func isKernel(text string) bool {
	name, _ := policy.PackageArch(text)
	return name == kernel
}

// awaitReboot makes an installed kernel pending until the reboot if an older one is running.
func (k *Kind) awaitReboot(r *converge.Resource, kernels []instance) error {
	running, err := runningKernel(k.system)
	if why := olderKernelRuns(running, kernels); why != "" {
		r.SetPending(converge.Reboot, why).ReasonIsPublic()
	}
	return err
}

// runningKernel returns the release of the running kernel (uname(2)). In an image, where no kernel
// runs, it is "".
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

// olderKernelRuns returns a message if a newer kernel is installed than the running one, and ""
// otherwise. It is "" too for a running kernel that is not installed as a package.
func olderKernelRuns(running string, kernels []instance) string {
	release := func(i instance) string { return fmt.Sprintf("%s-%s.%s", i.version, i.release, i.arch) }
	at := slices.IndexFunc(kernels, func(i instance) bool { return release(i) == running })
	if at <= 0 || compareEVR(kernels[0].evr, kernels[at].evr) == 0 {
		return "" // the kernels are sorted, newest first
	}
	return fmt.Sprintf("%s runs, and %s takes effect with the reboot", running, release(kernels[0]))
}
