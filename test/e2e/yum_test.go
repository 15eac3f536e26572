package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
	"github.com/soe-agent/soe-agent/test/yum3"
)

// newYumDesktop is a machine with an rpm that keeps its database in a Berkeley DB, as on Amazon Linux 2, and
// with what stands in for yum 3.
func newYumDesktop(t *testing.T) *desktop {
	t.Helper()
	return newDesktop(t, box.OlderRPM(), box.WithSetup(yum3.Install))
}

func TestWhatDrivesRpmDoesWhatYumWasRecordedToDo(t *testing.T) {
	t.Parallel()
	records, err := yum3.Records()
	if err != nil {
		t.Fatal(err)
	}
	d := newDesktop(t, box.OlderRPM(), box.WithSetup(yum3.Install), box.WithSetup(func(root string) error {
		return os.WriteFile(filepath.Join(root, "etc/yum.repos.d/test.repo"), []byte(rpmrepo.RepoFile()), 0o644)
	}))
	d.MustExec(t, "rpm", "--import", strings.TrimPrefix(rpmrepo.KeyURL, "file://"))
	all := d.MustExec(t, "rpm", "-qa")
	for _, r := range records {
		var files []string
		setup := "set -e; : >/etc/yum/pluginconf.d/versionlock.list; rm -f /run/yum.pid /etc/yum.repos.d/dead.repo\n"
		for _, word := range r.Before {
			switch word {
			case "locked":
				setup += "echo '0:" + r.Before[0] + "-1.*' >/etc/yum/pluginconf.d/versionlock.list\n"
			case "busy":
				setup += "echo 1 >/run/yum.pid\n"
			case "down":
				setup += "printf '[dead]\\nname=dead\\nbaseurl=http://127.0.0.1:1/\\n' >/etc/yum.repos.d/dead.repo\n"
			default:
				files = append(files, "/repo/"+word+"-1.noarch.rpm")
			}
		}
		if len(files) > 0 {
			setup += "rpm -i --nosignature " + strings.Join(files, " ") + "\n"
		}
		d.MustWriteFile(t, "/tmp/script", box.File{Content: r.Script})
		d.MustExec(t, "sh", "-c", setup)
		result, err := d.Exec(t.Context(), strings.Fields(r.Command)...)
		if err != nil {
			t.Fatal(err)
		}
		var after []string
		for line := range strings.Lines(d.MustExec(t, "rpm", "-qa", "--qf", `%{NAME}-%{VERSION}\n`)) {
			if name := strings.TrimSpace(line); !strings.Contains(all, name) {
				after = append(after, name)
			}
		}
		slices.Sort(after)
		if got := strconv.Itoa(result.Code); got != r.Code {
			t.Errorf("records.txt:%d: %s exits with %s, yum with %s: %s%s", r.Line, r.Command, got, r.Code, result.Stdout, result.Stderr)
		}
		if text := result.Stdout + result.Stderr; !strings.Contains(text, r.Said) {
			t.Errorf("records.txt:%d: %s does not say %q: %s", r.Line, r.Command, r.Said, text)
		}
		if got := strings.Join(after, " "); got != r.Afterward {
			t.Errorf("records.txt:%d: after %s there is %q, with yum %q", r.Line, r.Command, got, r.Afterward)
		}
		if len(after) > 0 {
			d.MustExec(t, append([]string{"rpm", "-e"}, after...)...)
		}
	}
}

func TestWithYumPackagesAreKeptAsWithDnf(t *testing.T) {
	t.Parallel()
	d := newYumDesktop(t)
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-02 = \"1.0\"\nsoe-pkg-03 = \"2.0-1\"\nsoe-pkg-04 = \"present\"\nsoe-pkg-05 = \"1.0-1\"\n").wants(t, map[policy.ID]converge.State{
		"repository/soe-test": converge.Corrected,
		"package/soe-pkg-02":  converge.Corrected, "package/soe-pkg-03": converge.Corrected,
		"package/soe-pkg-04": converge.Corrected, "package/soe-pkg-05": converge.Corrected,
	})
	d.converged(t)
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"present\"\nsoe-pkg-02 = \"latest\"\nsoe-pkg-03 = \"1.0\"\nsoe-pkg-04 = \"absent\"\n\"@soe-group\" = \"present\"\nsoe-dep = \"present\"\n").wants(t, map[policy.ID]converge.State{
		"package/soe-pkg-01": converge.Corrected, "package/soe-pkg-02": converge.Corrected, "package/soe-pkg-03": converge.Corrected,
		"package/soe-pkg-04": converge.Corrected, "package/@soe-group": converge.Corrected, "package/soe-dep": converge.Corrected,
		"package/soe-pkg-05": converge.Corrected, // reclaimed
	})
	if got := d.rpms(t, "soe-pkg-01", "soe-pkg-02", "soe-pkg-03", "soe-pkg-04", "soe-pkg-05", "soe-pkg-31", "soe-pkg-32"); got !=
		"soe-pkg-01-2.0 soe-pkg-02-2.0 soe-pkg-03-1.0 soe-pkg-31-2.0 soe-pkg-32-2.0" {
		t.Errorf("there is %s", got)
	}
	d.converged(t)
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-02 = { ensure = \"1.0\", hold = true }\n")
	d.converged(t)
	d.MustExec(t, "yum", "-y", "update")
	if got := d.rpms(t, "soe-pkg-01", "soe-pkg-02", "soe-pkg-31", "soe-dep"); got != "soe-pkg-02-1.0" {
		t.Errorf("what is held and not reclaimed is %s", got)
	}
}

func TestWithYumOneBadPackageStopsNoOtherOnARealRpm(t *testing.T) {
	t.Parallel()
	d := newYumDesktop(t)
	d.MustWriteFile(t, "/etc/yum.repos.d/vendor.repo", box.File{Content: "[vendor]\nname=vendor\nbaseurl=http://127.0.0.1:1/\n"})
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-02 = \"present\"\n")
	o := d.apply(t, d.repository()+goodAndBadPackages+"\"@lost\" = \"present\"\n")
	for id, want := range map[policy.ID]string{
		"package/no-such":      "cannot install no-such: No package no-such available.",
		"package/soe-pkg-01":   "No package soe-pkg-01-9.9 available.",
		"package/soe-nodep":    "cannot install soe-nodep: nothing provides does-not-exist needed by soe-nodep-1.0-1.noarch",
		"package/soe-conflict": "soe-conflict conflicts with soe-pkg-02-2.0-1.noarch",
		"package/soe-unsigned": "cannot install soe-unsigned: Package soe-unsigned-1.0-1.noarch.rpm is not signed",
		"package/soe-wrongkey": "not correct for this package",
		"package/soe-badpre":   "cannot install soe-badpre: %prein(soe-badpre-1.0-1.noarch) scriptlet failed, exit status 3",
		"package/@lost":        "cannot install @lost: Group lost does not exist.",
	} {
		if r := o.resource(id); r.State != converge.Failed || !strings.Contains(r.Reason, want) || !strings.Contains(r.Reason, "without the repository vendor") {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
	o.wants(t, map[policy.ID]converge.State{
		"package/soe-pkg-03": converge.Corrected, "package/soe-dep": converge.Corrected, "package/soe-badpost": converge.Corrected,
	})
}

func TestWithYumAPackageIsKeptInEachArchitectureAsThePolicySays(t *testing.T) {
	t.Parallel()
	newYumDesktop(t).keptInEveryArchitecture(t)
}

func TestWithYumUpdatesAreInstalledAndLeaveOutWhatIsPinned(t *testing.T) {
	t.Parallel()
	d := newYumDesktop(t)
	d.MustExec(t, "sh", "-c", "rpm -i --nosignature /repo/soe-pkg-34-1.0-1.noarch.rpm /repo/soe-pkg-35-1.0-1.noarch.rpm")
	d.apply(t, d.repository()+"[patch]\nupdates = \"security\"\n").wants(t, map[policy.ID]converge.State{"patch/updates": converge.Corrected})
	if got := d.rpms(t, "soe-pkg-34", "soe-pkg-35"); got != "soe-pkg-34-2.0 soe-pkg-35-1.0" {
		t.Errorf("there is %s", got)
	}
	d.converged(t)

	d.MustExec(t, "sh", "-c", "rpm -i --nosignature /repo/soe-pkg-36-1.0-1.noarch.rpm")
	d.window(t, -time.Hour, time.Hour)
	pinned := d.repository() + "[packages]\nsoe-pkg-02 = \"1.0-1\"\nsoe-pkg-35 = \"1.0\"\n[patch]\nupdates = \"all\"\n"
	d.apply(t, pinned).wants(t, map[policy.ID]converge.State{"patch/updates": converge.Corrected, "package/soe-pkg-35": converge.Compliant})
	if got := d.rpms(t, "soe-pkg-02", "soe-pkg-35", "soe-pkg-36"); got != "soe-pkg-02-1.0 soe-pkg-35-1.0 soe-pkg-36-2.0" {
		t.Errorf("with two of them pinned there is %s", got)
	}
	d.converged(t)
}
