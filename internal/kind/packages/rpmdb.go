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

// databaseFiles are where rpm keeps what is installed: Berkeley DB (Amazon Linux
// 2, Enterprise Linux 8), SQLite, ndb. The shared memory of SQLite is left out,
// for readers write there.
func databaseFiles() []string {
	return []string{
		"/var/lib/rpm/Packages", "/var/lib/rpm/Packages.db",
		"/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite-wal",
		"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
	}
}

// rpmdb asks the rpm database one question, and again only when the database has
// changed.
type rpmdb struct {
	system   *system.System
	question []string // arguments of rpm

	identity string // of the database when it gave the answer
	answer   system.Output
}

// identity tells one state of the database from another; "" when it is not found.
func identity(files system.FileReader) string {
	var b strings.Builder
	for _, name := range databaseFiles() {
		info, err := files.Stat(name)
		if err != nil || !info.IsRegular() || info.Size == 0 {
			continue // an empty log comes and goes with its readers
		}
		fmt.Fprintf(&b, "%s %d %d %s\n", name, info.Inode, info.Size, info.ModTime.Format(time.RFC3339Nano))
	}
	return b.String()
}

// sources tells one state of the repositories' files, and of what is installed from
// them, from another.
func sources(files system.FileReader) string {
	info, err := files.Stat(repositoryDir)
	if err != nil {
		return identity(files)
	}
	return fmt.Sprintf("%s%d %s", identity(files), info.Inode, info.ModTime.Format(time.RFC3339Nano))
}

// databaseDirs are the directories in which there is a database.
func databaseDirs(files system.FileReader) []string {
	var dirs []string
	for _, name := range databaseFiles() {
		if _, err := files.Stat(name); err == nil && !slices.Contains(dirs, path.Dir(name)) {
			dirs = append(dirs, path.Dir(name))
		}
	}
	return dirs
}

// transactionSettles is how long nothing is written to the database when a
// transaction is over. One that takes longer over a step is looked at in the
// middle, which does no harm.
const transactionSettles = 150 * time.Millisecond

// databaseWatches are those of what a change of the database shows in.
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
	now := identity(d.system.FS) // before the question: a change in between is noticed next time
	if now != "" && now == d.identity {
		return d.answer, nil
	}
	out, err := d.system.Runner.Run(ctx, system.Command{Argv: append([]string{"rpm"}, d.question...), ReadOnly: true})
	if err == nil {
		err = trouble(out)
	}
	if err != nil {
		d.forget() // it may be mended without changing
		return out, fmt.Errorf("cannot ask the rpm database: %w", err)
	}
	d.identity, d.answer = now, out
	return out, nil
}

// trouble is what rpm says has gone wrong, if it does: it goes on without its database,
// and then knows of no package.
func trouble(out system.Output) (last error) {
	for line := range strings.Lines(string(out.Stderr)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "error:") || strings.HasPrefix(line, "rpmdb:") || strings.Contains(line, "dummy database") {
			last = errors.New(line)
		}
	}
	return last
}

// errNoDatabase is the error of a database that knows of no package at all. rpm tells
// nobody when its files have gone or were cut short: it then begins an empty one.
var errNoDatabase = errors.New("the rpm database is not there, or knows no package at all, not even rpm's own: it cannot be told what is installed")

// believable says whether an answer by which packages are missing comes from a database
// that has any. there is the answer.
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

// forget makes the next question be asked.
func (d *rpmdb) forget() { d.identity = "" }

// query asks rpm about all names at once.
func query(names []string) []string {
	return append([]string{"-q", "--qf", `=%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t[%{PROVIDENAME} ]\n`}, names...)
}

// parseQuery reads what rpm answers to query. A name of which it says nothing at
// all is an error: then the database cannot be read.
func (m manager) parseQuery(names []string, out system.Output) (installed, error) {
	only := m.installOnly()
	there, missing := installed{}, map[string]bool{}
	for line := range strings.Lines(string(out.Stdout)) {
		line = strings.TrimRight(line, "\n")
		if fields := strings.Split(line, "\t"); strings.HasPrefix(line, "=") && len(fields) == 6 {
			name := fields[0][1:]
			is := instance{evr{fields[1], fields[2], fields[3]}, fields[4], only.has(name, strings.Fields(fields[5]))}
			if !slices.Contains(there[name], is) { // which NAME and NAME.ARCH both tell of
				there[name] = append(there[name], is)
			}
		} else if name, found := strings.CutSuffix(line, " is not installed"); found {
			missing[strings.TrimPrefix(name, "package ")] = true
		}
	}
	answered := len(there) > 0
	for _, name := range names {
		// A name such as tool-1.0 may match version 1.0 of tool, which is no answer
		// about the name but shows that the database could be read.
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

// versions lists the instances for a person.
func versions(instances []instance) string {
	var all []string
	for _, i := range instances {
		if text := i.String(); !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return strings.Join(all, ", ")
}
