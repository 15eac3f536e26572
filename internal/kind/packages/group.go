package packages

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// groupsFile keeps the members of the policy's groups, because the package managers' caches may
	// be cleaned.
	groupsFile = own.StateDir + "/groups.json"
	// maxGroupList limits the unpacked size of one repository's list of groups.
	maxGroupList = 64 << 20
)

// groups knows which packages belong to a group. It reads the lists of groups (comps.xml) that yum
// or dnf fetched from the repositories. A group is installed when its mandatory packages are, or
// its default packages if it has no mandatory ones.
type groups struct {
	system *system.System
	wanted []string // the names of the groups, without the "@"

	identity string // state of the lists when they were read
	members  map[string][]string
}

func newGroups(s *system.System, wants []policy.Want[policy.Package]) *groups {
	g := &groups{system: s, members: map[string][]string{}}
	for _, want := range wants {
		if name, is := policy.PackageGroup(want.ID.Name()); is {
			g.wanted = append(g.wanted, name)
		}
	}
	return g
}

// look reads the lists again if they have changed. For groups that the lists do not define, it uses
// the members remembered earlier.
func (g *groups) look() {
	if len(g.wanted) == 0 {
		return
	}
	lists := g.lists()
	var b strings.Builder
	for _, name := range lists {
		if info, err := g.system.FS.Stat(name); err == nil {
			fmt.Fprintf(&b, "%s %d %d %s\n", name, info.Inode, info.Size, info.ModTime.Format(time.RFC3339Nano))
		}
	}
	if g.identity == b.String() && len(g.members) > 0 {
		return
	}
	g.identity = b.String()
	members := map[string][]string{}
	if remembered, err := g.system.FS.ReadFile(groupsFile); err == nil {
		if err := json.Unmarshal(remembered, &members); err != nil {
			g.system.Log.Warn("cannot understand groups.json; what belongs to a group of packages is learnt anew from the repositories' lists",
				"kind", "package", "path", groupsFile, "err", err)
			members = map[string][]string{}
		}
	}
	g.members = map[string][]string{}
	for name, all := range members {
		if slices.Contains(g.wanted, name) {
			g.members[name] = all
		}
	}
	known := map[string][]string{}
	for _, list := range lists {
		content, err := g.system.FS.ReadFile(list)
		if err == nil {
			err = readGroups(list, content, g.wanted, known)
		}
		if err != nil {
			g.system.Log.Warn("cannot read a repository's list of groups", "kind", "package", "list", list, "err", err)
		}
	}
	maps.Copy(g.members, known)
}

// lists returns the paths of the lists of groups in the caches of dnf, DIR/repodata/…-comps….xml,
// and of yum 3, ARCH/RELEASE/REPOSITORY/gen/groups.xml.
func (g *groups) lists() []string {
	dirs := []string{"/var/cache/dnf/*/repodata", "/var/cache/yum/*/*/*/gen", "/var/cache/yum/*/*/*"}
	var lists []string
	for _, dir := range dirs {
		for _, dir := range g.expand(dir) {
			names, _ := g.system.FS.ReadDir(dir)
			for _, name := range names {
				plain := strings.TrimSuffix(name, ".gz")
				if plain == "groups.xml" || strings.Contains(plain, "comps") && strings.HasSuffix(plain, ".xml") {
					lists = append(lists, path.Join(dir, name))
				}
			}
		}
	}
	return lists
}

// expand replaces each "*" in a path with every name in that directory.
func (g *groups) expand(pattern string) []string {
	before, after, found := strings.Cut(pattern, "*")
	if !found {
		return []string{pattern}
	}
	var all []string
	names, _ := g.system.FS.ReadDir(before)
	for _, name := range names {
		all = append(all, g.expand(path.Join(before, name)+after)...)
	}
	return all
}

// readGroups adds the members of the wanted groups that a list defines to known.
func readGroups(name string, content []byte, wanted []string, known map[string][]string) error {
	var text io.Reader = bytes.NewReader(content)
	if strings.HasSuffix(name, ".gz") {
		unpacked, err := gzip.NewReader(text)
		if err != nil {
			return err
		}
		text = unpacked
	}
	var list struct {
		Groups []struct {
			ID   string `xml:"id"`
			Name []struct {
				Language string `xml:"lang,attr"`
				Text     string `xml:",chardata"`
			} `xml:"name"`
			Packages []struct {
				Type string `xml:"type,attr"`
				Name string `xml:",chardata"`
			} `xml:"packagelist>packagereq"`
		} `xml:"group"`
	}
	if err := xml.NewDecoder(io.LimitReader(text, maxGroupList)).Decode(&list); err != nil {
		return err
	}
	for _, group := range list.Groups {
		names := []string{strings.TrimSpace(group.ID)}
		for _, name := range group.Name {
			if name.Language == "" {
				names = append(names, strings.TrimSpace(name.Text))
			}
		}
		byType := map[string][]string{}
		for _, p := range group.Packages {
			byType[p.Type] = append(byType[p.Type], strings.TrimSpace(p.Name))
		}
		members := byType["mandatory"]
		if len(members) == 0 {
			members = byType["default"]
		}
		for _, name := range names {
			if slices.Contains(wanted, name) {
				all := slices.Concat(known[name], members) // several repositories may define the group
				slices.Sort(all)
				known[name] = slices.Compact(all)
			}
		}
	}
	return nil
}

// names returns all packages of the wanted groups.
func (g *groups) names() []string {
	var all []string
	for _, group := range slices.Sorted(maps.Keys(g.members)) {
		all = append(all, g.members[group]...)
	}
	return all
}

// unknown reports whether the members of a wanted group are not known.
func (g *groups) unknown() bool { return len(g.members) < len(g.wanted) }

// remember writes the members to disk, for when the caches have been cleaned.
func (g *groups) remember() error {
	if len(g.members) == 0 {
		return nil
	}
	content, err := json.Marshal(g.members)
	if err != nil {
		return err
	}
	return g.system.FS.WriteFile(groupsFile, content, system.Attr{Mode: 0o600})
}
