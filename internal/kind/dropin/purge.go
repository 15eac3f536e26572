package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

const notNamed = "the policy owns the directory and does not name it"

// purged are the directories that may hold only files of the policy and of packages.
func (k *Kind) purged() map[string]policy.Resource {
	dirs := map[string]policy.Resource{}
	for _, want := range policy.Of[policy.Directory](k.policy) {
		if want.Spec.Purge {
			dirs[fileOf(want.ID)] = want.Resource
		}
	}
	return dirs
}

// purgeable reports whether a file is in a purged directory and neither named by the policy nor
// installed by an earlier one.
func (k *Kind) purgeable(id policy.ID) bool {
	name := fileOf(id)
	_, inside := k.purged()[path.Dir(name)]
	_, named := k.policy.Lookup(id) // including resources that are unavailable for now
	return inside && !named && !k.ledger.Owns(id) && !strings.HasPrefix(path.Base(name), ".") &&
		protected.Path(name) == "" && policy.ForbiddenDropin(name) == ""
}

// purge returns the purged directories and the files in them to remove. seen is what the check has
// found already.
func (k *Kind) purge(ctx context.Context, seen []converge.Resource) []converge.Resource {
	dirs := k.purged()
	if len(dirs) == 0 {
		return nil
	}
	known := map[policy.ID]bool{}
	for _, r := range seen {
		known[r.ID] = true
	}
	var resources []converge.Resource
	var strays []string
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		r := converge.Wanted(dirs[dir])
		inside, err := k.strays(dir, known)
		if err != nil {
			r.SetUnknownErr(err)
		}
		strays = append(strays, inside...)
		resources = append(resources, r)
	}
	unowned, err := k.unowned(ctx, strays)
	for i := range resources {
		if err != nil && slices.ContainsFunc(strays, func(name string) bool { return path.Dir(name) == fileOf(resources[i].ID) }) {
			resources[i].SetUnknownErr(public.Because("cannot tell what belongs to packages", err))
		}
	}
	for _, name := range unowned {
		resources = append(resources, converge.Unwanted(policy.NewID(k.Name(), name), notNamed))
	}
	return resources
}

// strays returns the files of a directory that the policy does not name, subdirectories left out. With
// an error, the list is incomplete.
func (k *Kind) strays(dir string, known map[policy.ID]bool) ([]string, error) {
	bases, err := k.system.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	var unasked error
	for _, base := range bases {
		name := path.Join(dir, base)
		id := policy.NewID(k.Name(), name)
		if known[id] || !k.purgeable(id) {
			continue
		}
		info, err := k.system.FS.Stat(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		switch {
		case err != nil || info.IsDir():
		case strings.Contains(name, "\n"): // a crafted name could make the answer look like one about another file
			unasked = fmt.Errorf("cannot tell whether %q belongs to a package: its name has a line break; remove it by hand if it does not", name)
		default:
			names = append(names, name)
		}
	}
	return names, unasked
}

// A packageQuery asks which package owns files. A file counts as unowned only if the answer says so. A
// failed query makes no file a stray.
type packageQuery struct {
	database string // the query is skipped if this does not exist
	argv     []string
	own      string // a file of the manager's own package: a database that does not know it belongs to another machine, or was lost
	quote    *strings.Replacer
	unowned  string // the line about an unowned file
	trouble  string // prefix of an error message: rpm goes on without its database and knows no file
}

func packageQueries() []packageQuery {
	return []packageQuery{
		{
			"/var/lib/rpm",
			[]string{"rpm", "-qf", "--"},
			"/usr/bin/rpmkeys",
			strings.NewReplacer(), "file %s is not owned by any package", "error: ",
		},
		{
			"/var/lib/dpkg/status",
			[]string{"dpkg-query", "-S", "--"},
			"/usr/bin/dpkg-query",
			strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`), "dpkg-query: no path found matching pattern %s", "dpkg-query: error: ",
		},
	}
}

var errNoPackages = errors.New("there is no database of packages that knows its own")

// unowned returns the files that no package owns.
func (k *Kind) unowned(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	trusted := false
	for _, query := range packageQueries() {
		if _, err := k.system.FS.Stat(query.database); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		strays, err := query.unownedOf(ctx, k.system.Runner, append([]string{query.own}, names...))
		if errors.Is(err, system.ErrNotInstalled) {
			continue
		}
		if err != nil {
			return nil, err
		}
		trusted = trusted || !slices.Contains(strays, query.own)
		names = slices.DeleteFunc(strays, func(name string) bool { return name == query.own })
		if len(names) == 0 {
			return nil, nil
		}
	}
	if !trusted {
		return nil, errNoPackages
	}
	return names, nil
}

func (q packageQuery) unownedOf(ctx context.Context, runner system.Runner, names []string) ([]string, error) {
	argv := slices.Clone(q.argv)
	for _, name := range names {
		argv = append(argv, q.quote.Replace(name))
	}
	out, err := runner.Run(ctx, system.Command{Argv: argv, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	said, answers := map[string]bool{}, 0
	for line := range strings.SplitSeq(string(out.Stdout)+"\n"+string(out.Stderr), "\n") {
		if strings.HasPrefix(line, q.trouble) {
			return nil, errors.New(line)
		}
		said[line] = true
		if line != "" {
			answers++
		}
	}
	if answers < len(names) { // there is at least one line for each file
		return nil, fmt.Errorf("%s did not say of all files whose they are: exit code %d", q.argv[0], out.ExitCode)
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return !said[fmt.Sprintf(q.unowned, q.quote.Replace(name))]
	}), nil
}

// clear removes a file and keeps its content in the ledger.
func (b *batch) clear(ctx context.Context, name string) error {
	info, err := b.system.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if b.awaiting[name] {
			b.changed = append(b.changed, name) // it was removed, which is not in effect yet
		}
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsRegular() && info.Type != fs.ModeSymlink {
		return errors.New("it is not a file; remove it by hand if that is right")
	}
	if err := b.vetFile(ctx, name, nil); err != nil {
		return err
	}
	if err := b.expect(name); err != nil {
		return err
	}
	return b.system.FS.Remove(name)
}
