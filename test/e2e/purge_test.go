package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestADirectoryThatThePolicyOwnsHoldsOnlyWhatPackagesAndThePolicyPutThere(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	strays := []string{"/etc/modprobe.d/stray.conf", "/etc/modprobe.d/it's \"quoted\" [a]*?\\ b.conf", "/etc/logrotate.d/stray"}
	for _, name := range strays {
		d.MustWriteFile(t, name, box.File{Content: "# stray\n"})
	}
	d.MustWriteFile(t, "/etc/modprobe.d/.hidden.conf", box.File{})
	d.MustWriteFile(t, "/etc/modprobe.d/of-rpm.conf", box.File{})
	d.MustExec(t, "sh", "-c", `cd /root && mkdir -p b && printf '%s\n' 'Name: of-rpm' 'Version: 1' 'Release: 1' 'Summary: x' 'License: x' 'BuildArch: noarch' '%description' x '%install' \
'mkdir -p %{buildroot}/etc/modprobe.d; touch %{buildroot}/etc/modprobe.d/of-rpm.conf' '%files' /etc/modprobe.d/of-rpm.conf > of-rpm.spec &&
rpmbuild -bb --define '_rpmdir /root/b' --define '_topdir /root/t' of-rpm.spec >/dev/null 2>&1 && rpm -i --force b/noarch/of-rpm-1-1.noarch.rpm`)
	ofDpkg := strings.Fields(d.MustExec(t, "sh", "-c", `dpkg-query -S '/etc/logrotate.d/*' | sed 's/.*: //'`))
	if len(ofDpkg) == 0 {
		t.Fatal("no package of dpkg has a file in /etc/logrotate.d")
	}
	const toml = `
[directories."/etc/modprobe.d"]
purge = true
[directories."/etc/logrotate.d"]
purge = true
[dropins."/etc/modprobe.d/named.conf"]
content = "# named\n"
`
	d.setPolicy(t, toml)
	planned := d.plan(t)
	applied := d.apply(t, toml)
	for _, name := range strays {
		id := policy.NewID("dropin", name)
		planned.wants(t, map[policy.ID]converge.State{id: converge.Drifted})
		applied.wants(t, map[policy.ID]converge.State{id: converge.Corrected})
		if !d.fails(t.Context(), "test", "-e", name) {
			t.Errorf("%s is still there", name)
		}
	}
	d.MustExec(t, append([]string{"ls", "/etc/modprobe.d/.hidden.conf", "/etc/modprobe.d/named.conf", "/etc/modprobe.d/of-rpm.conf"}, ofDpkg...)...)
	if got := d.MustExec(t, "sh", "-c", "ls /var/lib/soe-agent/backups | wc -l"); strings.TrimSpace(got) != "3" {
		t.Errorf("%s files were kept", strings.TrimSpace(got))
	}
	d.converged(t)
}
