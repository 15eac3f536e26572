package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// othersWrite are patterns of what changes whatever an apply does.
func othersWrite() []string {
	return []string{
		"/var/lib/soe-agent", "/var/lib/soe-agent/report.json", // the report, with the time of the look
		"/var/log/journal/*/*.journal", "/var/log/journal/*",
		"/var/lib/rpm/rpmdb.sqlite-*", "/var/lib/rpm/__db.*", // what those who read the database share
		"/var/cache/dnf", "/var/cache/dnf/*", "/var/cache/dnf/*/*", "/var/cache/dnf/*/*/*", // dnf, when it is asked what there is
		"/var/log/dnf*.log", "/var/log/hawkey.log",
		"/var/cache/yum-stand-in", "/var/cache/yum-stand-in/*", "/var/cache/yum-stand-in/*/*", "/var/cache/yum-stand-in/*/*/*", // and the stand-in for yum
	}
}

func named(pattern, name string) bool {
	matched, _ := filepath.Match(pattern, name)
	return matched
}

// again applies the policy that has just been brought about once more: that is to write
// nothing, to exit with 0 and to report the same, but for times and for what the first one
// had to correct.
func (d *desktop) again(t *testing.T, first outcome) {
	t.Helper()
	before := d.written(t)
	second := d.command(t, "apply", "--policy", policyDir)
	after := d.written(t)
	if second.Code != 0 {
		t.Errorf("a second apply exits with %d: %s", second.Code, second.Stderr)
	}
	if changed := differences(before, after); len(changed) > 0 {
		t.Errorf("a second apply writes\n%s", strings.Join(changed, "\n"))
	}
	if changed := differences(first.said(t, second), second.said(t, first)); len(changed) > 0 {
		t.Errorf("a second apply reports something else:\n%s", strings.Join(changed, "\n"))
	}
}

// said is a report without times, each resource by its name and the rest. What an apply has
// changed, and why, is left out: the other one is to find that as this one has left it.
func (o outcome) said(t *testing.T, other outcome) map[string]string {
	t.Helper()
	said := map[string]string{}
	add := func(name string, part any) {
		text, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		said[name] = string(text)
	}
	for _, one := range o.Resources {
		one.Since, one.Diff, one.Cause = time.Time{}, nil, ""
		if one.State == converge.Corrected {
			if one.Origin.Fragment == "" {
				continue // it has left the policy, and is gone now
			}
			one.State = converge.Compliant
			if now := other.resource(one.ID).Reason; strings.HasSuffix(one.Reason, now) {
				one.Reason = now // what was is said before it
			}
		}
		add(string(one.ID), one)
	}
	r := o.Report
	r.Time, r.Timing, r.Resources = time.Time{}, nil, nil
	r.Summary = nil // the states are compared where they stand
	add("the report", r)
	return said
}

// written is what the machine's disk has that its image did not: each file and directory, and
// when it was last touched in any way. What others write at any time is left out.
func (d *desktop) written(t *testing.T) map[string]string {
	t.Helper()
	upper := filepath.Join(filepath.Dir(d.Root), "upper")
	seen := map[string]string{}
	err := filepath.WalkDir(upper, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(name)
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		name = "/" + strings.TrimPrefix(strings.TrimPrefix(name, upper), "/")
		if slices.ContainsFunc(othersWrite(), func(pattern string) bool { return named(pattern, name) }) {
			return nil
		}
		seen[name] = fmt.Sprintf("inode %d, %s, %d bytes, changed at %d.%09d", stat.Ino, info.Mode(), stat.Size, stat.Ctim.Sec, stat.Ctim.Nsec)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func differences(before, after map[string]string) []string {
	var changed []string
	for name, now := range after {
		if was := before[name]; was != now {
			changed = append(changed, fmt.Sprintf("%s: %s; before: %s", name, now, was))
		}
	}
	for name := range before {
		if after[name] == "" {
			changed = append(changed, name+" is gone")
		}
	}
	slices.Sort(changed)
	return changed
}

func TestEachPolicyThatIsShippedIsAppliedTwiceAndTheSecondTimeNothingIsWritten(t *testing.T) {
	t.Parallel()
	const shipped = "../../policies"
	dirs, err := os.ReadDir(shipped)
	if err != nil {
		t.Fatal(err)
	}
	d := newDesktop(t, box.WithNetwork()) // of its own, for its firewall is changed
	held := strings.NewReplacer(          // what AWS holds
		"{{resolve:ssm:/soe/prod/repository/baseurl}}", rpmrepo.BaseURL, "{{resolve:ssm:/soe/prod/repository/gpgkey}}", rpmrepo.KeyURL,
		"{{resolve:ssm:/soe/prod/repository/fingerprint}}", d.repo.Fingerprint, "{{resolve:secretsmanager:soe/scanner:SecretString:token}}", "of-nobody",
	)
	tried := 0
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(shipped, dir.Name(), "*.toml"))
		if err != nil || len(files) == 0 || strings.HasPrefix(dir.Name(), "cis-") {
			continue // TestEachDriftOfABenchmarkIsMendedAndToldOfUnderItsControl has that for Amazon Linux, and the others are for other systems
		}
		var personas []string
		d.MustExec(t, "rm", "-rf", policyDir)
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fragment, err := policy.Parse(policy.Source{Name: file, Text: string(content)})
			if err != nil {
				t.Fatal(err)
			}
			personas = append(personas, fragment.Personas...)
			d.MustWriteFile(t, filepath.Join(policyDir, filepath.Base(file)), box.File{Content: held.Replace(string(content))})
		}
		slices.Sort(personas)
		d.MustWriteFile(t, agent.ConfigFile, box.File{Content: fmt.Sprintf("personas = [%s]\n", quoted(slices.Compact(append([]string{"base"}, personas...))))})
		first := d.command(t, "apply", "--policy", policyDir)
		if first.Code != 0 {
			t.Errorf("%s: an apply exits with %d: %s", dir.Name(), first.Code, first.Stderr)
			for _, r := range first.Resources {
				if !r.Tolerable() {
					t.Errorf("%s is %s: %s", r.ID, r.State, r.Reason)
				}
			}
		}
		d.again(t, first)
		tried++
	}
	if tried < 2 {
		t.Errorf("there are %d policies in %s", tried, shipped)
	}
}

func quoted(words []string) string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = fmt.Sprintf("%q", word)
	}
	return strings.Join(all, ", ")
}
