package packages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/system"
)

// databaseFiles returns the files in which rpm keeps its database: Berkeley DB (Amazon Linux 2,
// Enterprise Linux 8), SQLite, ndb. SQLite's shared memory is left out, because readers write to
// it.
func databaseFiles() []string {
	return []string{
		"/var/lib/rpm/Packages", "/var/lib/rpm/Packages.db",
		"/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite-wal",
		"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
	}
}

// rpmdb asks the rpm database one question, and again only after the database has changed.
type rpmdb struct {
	system   *system.System
	question []string // arguments of rpm

	identity string // state of the database when it gave the answer
	answer   system.Output
}

// identity returns a text that changes whenever the database does. It is "" if there is no
// database.
func identity(files system.FileReader) string {
	var b strings.Builder
	for _, name := range databaseFiles() {
		info, err := files.Stat(name)
		if err != nil || !info.IsRegular() || info.Size == 0 {
			continue // SQLite's readers create and remove an empty log
		}
		fmt.Fprintf(&b, "%s %d %d %s\n", name, info.Inode, info.Size, info.ModTime.Format(time.RFC3339Nano))
	}
	return b.String()
}

// sources returns a text that changes whenever the repositories' files or the rpm database do.
func sources(files system.FileReader) string {
	info, err := files.Stat(repositoryDir)
	if err != nil {
		return identity(files)
	}
	return fmt.Sprintf("%s%d %s", identity(files), info.Inode, info.ModTime.Format(time.RFC3339Nano))
}

// databaseDirs returns the directories that contain a database.
func databaseDirs(files system.FileReader) []string {
	var dirs []string
	for _, name := range databaseFiles() {
		if _, err := files.Stat(name); err == nil && !slices.Contains(dirs, path.Dir(name)) {
			dirs = append(dirs, path.Dir(name))
		}
	}
	return dirs
}

// transactionSettles is how long the database must be quiet before a transaction counts as over.
// During a longer step the check may run in the middle of a transaction, which does no harm.
const transactionSettles = 150 * time.Millisecond

// databaseWatches returns the watches that notice changes of the database.
func databaseWatches(files system.FileReader) []converge.Watch {
	var names []string
	for _, name := range databaseFiles() {
		names = append(names, path.Base(name))
	}
	var watches []converge.Watch
	for _, dir := range databaseDirs(files) {
		watches = append(watches, converge.Watch{Dir: dir, Names: names, Settle: transactionSettles})
	}
	return watches
}

func (d *rpmdb) ask(ctx context.Context) (system.Output, error) {
	now := identity(d.system.FS) // taken before the question, so that a change in between is noticed next time
	if now != "" && now == d.identity {
		return d.answer, nil
	}
	out, err := d.system.Runner.Run(ctx, system.Command{Argv: append([]string{"rpm"}, d.question...), ReadOnly: true})
	if err == nil {
		err = trouble(out)
	}
	if err != nil {
		d.forget() // the database may be repaired without its files changing
		return out, fmt.Errorf("cannot ask the rpm database: %w", err)
	}
	d.identity, d.answer = now, out
	return out, nil
}

// trouble returns the last error that rpm printed, or nil. rpm continues without its database, and
// then knows no package.
func trouble(out system.Output) (last error) {
	for line := range strings.Lines(string(out.Stderr)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "error:") || strings.HasPrefix(line, "rpmdb:") || strings.Contains(line, "dummy database") {
			last = errors.New(line)
		}
	}
	return last
}

// errNoDatabase is the error of a database without any package. rpm reports nothing when its files
// are missing or truncated: it starts an empty database.
var errNoDatabase = errors.New("the rpm database is missing or empty, without even rpm itself in it: it is not known what is installed")

// believable returns an error if the database is empty, so that a missing package proves nothing.
// there is the answer to query.
func (m manager) believable(ctx context.Context, there installed) error {
	if len(there) > 0 {
		return nil
	}
	all, err := m.recorded(ctx)
	if err == nil && len(all) == 0 {
		err = errNoDatabase
	}
	return err
}

// forget discards the answer, so that the next ask queries rpm again.
func (d *rpmdb) forget() { d.identity = "" }

// query returns the arguments that ask rpm about all names at once.
func query(names []string) []string {
	return append([]string{"-q", "--qf", `=%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t[%{PROVIDENAME} ]\n`}, names...)
}

// parseQuery reads rpm's answer to query. It returns an error if rpm does not mention a name at
// all, because then the database could not be read.
func (m manager) parseQuery(names []string, out system.Output) (installed, error) {
	only := m.installOnly()
	there, missing := installed{}, map[string]bool{}
	for line := range strings.Lines(string(out.Stdout)) {
		line = strings.TrimRight(line, "\n")
		if fields := strings.Split(line, "\t"); strings.HasPrefix(line, "=") && len(fields) == 6 {
			name := fields[0][1:]
			is := instance{evr{fields[1], fields[2], fields[3]}, fields[4], only.has(name, strings.Fields(fields[5]))}
			if !slices.Contains(there[name], is) { // NAME and NAME.ARCH both return it
				there[name] = append(there[name], is)
			}
		} else if name, found := strings.CutSuffix(line, " is not installed"); found {
			missing[strings.TrimPrefix(name, "package ")] = true
		}
	}
	answered := len(there) > 0
	for _, name := range names {
		// A name such as tool-1.0 may match version 1.0 of tool. That does not answer for the name,
		// but shows that the database could be read.
		if there[name] == nil && !missing[name] && !answered {
			return nil, fmt.Errorf("cannot ask the rpm database: %s", out.LastLine())
		}
	}
	for _, instances := range there {
		slices.SortStableFunc(instances, func(a, b instance) int {
			return cmp.Or(compareEVR(b.evr, a.evr), cmp.Compare(a.arch, b.arch))
		})
	}
	return there, nil
}

// versions returns the versions of the instances, separated by commas.
func versions(instances []instance) string {
	var all []string
	for _, i := range instances {
		if text := i.String(); !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return strings.Join(all, ", ")
}
