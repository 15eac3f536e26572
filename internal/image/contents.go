package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

// filesIn returns the regular files in a directory, and links to such files.
func filesIn(files system.FileReader, dir string) []string {
	names, _ := files.ReadDir(dir) // a missing directory has no files
	var all []string
	for _, name := range names {
		name = path.Join(dir, name)
		if info, err := files.Stat(name); err == nil && (info.IsRegular() || info.Type == fs.ModeSymlink && leadsToFile(files, name)) {
			all = append(all, name)
		}
	}
	return all
}

func leadsToFile(files system.FileReader, link string) bool {
	target, err := files.Readlink(link)
	if err != nil || target == "/dev/null" { // a masked unit
		return false
	}
	_, err = files.ReadDir(link)
	return err != nil
}

// Paths that the capture deletes and something in the image may need.
var inWiped = regexp.MustCompile(`(?:^|[\s="':,(])((?:file://)?/(?:home|tmp|var/tmp|var/cache|var/backups)/[^\s"';:,)]+)`)

// wiped looks for something that starts or reads files that the capture deletes. Files that do not
// exist anyway do not count.
func wiped(_ context.Context, o Options) ([]Finding, error) {
	files := o.System.FS
	readers := []string{o.ConfigFile}
	for _, dir := range []string{
		o.LocalDir, o.SeedDir, "/etc/systemd/system", "/etc/cron.d", "/etc/cron.daily", "/etc/cron.hourly", "/etc/cron.weekly", "/etc/yum.repos.d",
		"/etc/apt/sources.list.d", "/etc/profile.d", "/etc/ld.so.conf.d", "/etc/xdg/autostart", "/etc/udev/rules.d",
	} {
		readers = append(readers, filesIn(files, dir)...)
	}
	units, _ := files.ReadDir("/etc/systemd/system")
	for _, name := range units {
		if strings.HasSuffix(name, ".d") {
			readers = append(readers, filesIn(files, "/etc/systemd/system/"+name)...)
		}
	}
	var found []Finding
	var errs []error
	for _, reader := range readers {
		content, err := files.ReadFile(reader)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		errs = append(errs, err)
		for line := range strings.Lines(string(content)) {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			for _, match := range inWiped.FindAllStringSubmatch(line, -1) {
				if name := path.Clean(strings.TrimPrefix(match[1], "file://")); exists(files, name) {
					found = append(found, Finding{
						What: fmt.Sprintf("%s needs %s", reader, name), Why: "the capture deletes what is there",
						Do: "move it to where software lives, such as /opt or /usr/local",
					})
				}
			}
		}
	}
	return append(slices.Compact(found), lostGrants(files)...), errors.Join(errs...)
}

// providedGrants returns the files that are created anew on each desktop by AWS, cloud-init or
// amazon-ssm-agent.
func providedGrants() []string {
	return []string{"00-domain-admins", "01-ws-admin-user", "90-cloud-init-users", "ssm-agent-users", "README"}
}

// agentsMark is the beginning of files that the agent writes.
const agentsMark = "# Written by soe-agent"

// lostGrants returns a finding for each of the image's own files in /etc/sudoers.d.
func lostGrants(files system.FileReader) []Finding {
	var found []Finding
	for _, name := range filesIn(files, "/etc/sudoers.d") {
		if sudoers.Skipped(path.Base(name)) {
			continue // it grants nothing, such as the space that the agent reserves there
		}
		content, err := files.ReadFile(name)
		if err != nil || slices.Contains(providedGrants(), path.Base(name)) || bytes.HasPrefix(content, []byte(agentsMark)) || !saysSomething(content) {
			continue
		}
		found = append(found, Finding{
			What: name + " is the image's own", Why: "the capture deletes /etc/sudoers.d",
			Do: "put whom it grants something into [sudo] allow of the seed in /usr/share/soe-agent/policy.d",
		})
	}
	return found
}

// saysSomething reports whether a file contains more than comments.
func saysSomething(content []byte) bool {
	for line := range bytes.Lines(content) {
		if line = bytes.TrimSpace(line); len(line) > 0 && (line[0] != '#' || len(line) > 1 && line[1] >= '0' && line[1] <= '9') {
			return true
		}
	}
	return false
}

// administrator checks whether somebody administers a desktop before a policy is published to it.
// The seed decides that; grants in /etc/sudoers.d are lost.
func administrator(ctx context.Context, o Options) ([]Finding, error) {
	finding := func(what, do string) ([]Finding, error) {
		return []Finding{{What: what, Why: "until a policy is published to a desktop nobody could administer it", Do: do}}, nil
	}
	sources, err := policy.ReadDir(o.System.FS, o.SeedDir, policy.Seed)
	if err != nil {
		return nil, err
	}
	local, err := policy.ReadDir(o.System.FS, o.LocalDir, policy.Local)
	if err != nil {
		return nil, err
	}
	fragments, err := policy.ParseAll(append(sources, local...))
	var p *policy.Policy
	if err == nil {
		machine, _ := facts.Gather(ctx, o.System) // an image should not have a machine-id
		p, err = policy.Merge(fragments, []string{"base"}, machine.Target())
	}
	if err != nil {
		return finding("the policy in the image cannot be used: "+strings.ReplaceAll(err.Error(), "\n", "; "), "soe-agent policy lint --policy "+o.SeedDir)
	}
	sudo := policy.Of[policy.Sudo](p)
	if len(sudo) == 0 {
		return nil, nil // without sudo resources the agent revokes nothing
	}
	accounts, err1 := facts.LocalAccounts(o.System)
	groups, err2 := facts.LocalGroups(o.System)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	allow := sudo[0].Spec.Allow
	for _, subject := range allow {
		if mayBeSomebody(subject, p, accounts, groups) {
			return nil, nil
		}
	}
	return finding(fmt.Sprintf("[sudo] allow of the image's policy (%s) means nobody here", strings.Join(allow, ", ")),
		`allow a group of the directory in it, such as "%EXAMPLE\\Linux_WorkSpaces_Admins", or put somebody into one of these groups`)
}

// mayBeSomebody reports whether a subject may include somebody besides root. A name that the
// machine does not know may exist in the directory.
func mayBeSomebody(subject string, p *policy.Policy, accounts []facts.Account, groups []facts.Group) bool {
	name, isGroup := strings.CutPrefix(subject, "%")
	if !isGroup {
		return name != "root" && name != "#0"
	}
	at := slices.IndexFunc(groups, func(g facts.Group) bool { return g.Name == name || "#"+strconv.Itoa(g.GID) == name })
	if at < 0 {
		return !slices.ContainsFunc(p.Resources, func(r policy.Resource) bool { return r.ID == policy.ID("group/"+name) })
	}
	return slices.ContainsFunc(groups[at].Members, func(member string) bool { return member != "root" }) ||
		slices.ContainsFunc(accounts, func(a facts.Account) bool { return a.GID == groups[at].GID && a.UID >= system.FirstPersonalUID })
}
