package dconf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/kind/dconf/gvdb"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	databasesDir = "/etc/dconf/db"
	databaseFile = databasesDir + "/soe"
	keyfileDir   = databasesDir + "/soe.d"
	locksDir     = keyfileDir + "/locks"
	keyfileName  = "50-soe"
	keyfilePath  = keyfileDir + "/" + keyfileName
	locksPath    = locksDir + "/" + keyfileName
	profileDir   = "/etc/dconf/profile"
	profilePath  = profileDir + "/user"
	mandatoryDir = "/run/dconf/user"

	locksTable = ".locks" // the database's table of locks
)

// packagedProfileDirs returns the directories outside /etc where dconf looks for a profile, in
// order.
func packagedProfileDirs() []string {
	return []string{"/usr/local/share/dconf/profile", "/usr/share/dconf/profile"}
}

// All of dconf's files must be readable by everybody: a process that cannot read the database has
// no locks.
const (
	fileMode = 0o644
	dirMode  = 0o755
)

// found is the state of the machine.
type found struct {
	keyfile, locks, database file

	settings settings   // from keyfile and locks
	live     gvdb.Table // the parsed database
	values   map[string]gvdb.Variant
	locked   map[string]bool
	sealed   bool     // the database is what dconf makes of the files
	foreign  []string // paths of other entries in the agent's directories
	wrong    []deviation
}

// A file is a regular file of the agent. content is nil if the file does not exist, or something
// else is in its place.
type file struct {
	content []byte
	open    bool // everybody may read it
}

// differs records drift that quotes the file. The drift is public only if the file is.
func (f file) differs(r *converge.Resource, aspect, want, got string) {
	if f.open || f.content == nil {
		r.AddPublicDrift(aspect, want, got)
	} else {
		r.AddDrift(aspect, want, got)
	}
}

// A deviation is one way in which a file or directory differs from what it must be.
type deviation struct{ aspect, want, got string }

// look reads the files and the database.
func (k *Kind) look() (*found, error) {
	var f found
	var errs []error
	read := func(name, aspect string) file {
		got, deviations, err := k.read(name, aspect)
		f.wrong = append(f.wrong, deviations...)
		errs = append(errs, err)
		return got
	}
	f.keyfile = read(keyfilePath, "mode")
	f.locks = read(locksPath, "mode")
	f.database = read(databaseFile, aspectDatabase)
	for _, dir := range []string{"/etc/dconf", databasesDir, keyfileDir, locksDir} {
		deviations, err := k.lookAtDir(dir, aspectDatabase)
		f.wrong = append(f.wrong, deviations...)
		errs = append(errs, err)
	}
	for _, dir := range []string{keyfileDir, locksDir} {
		names, err := k.foreign(dir)
		f.foreign = append(f.foreign, slices.DeleteFunc(names, func(name string) bool { return slices.Contains(f.foreign, name) })...)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	body, seal := cutSeal(f.keyfile.content)
	f.settings = parse(body, f.locks.content)
	f.sealed = seal != "" && seal == sealOf(body, f.locks.content, f.database.content)
	f.live, _ = gvdb.Parse(f.database.content) // an unreadable database has no values
	f.values, f.locked = contents(f.live)
	return &f, nil
}

// contents returns the values of a database by path, and the paths that it locks.
func contents(database gvdb.Table) (values map[string]gvdb.Variant, locked map[string]bool) {
	values, locked = maps.Collect(database.Values()), map[string]bool{}
	for path := range database.Table(locksTable).Values() {
		locked[path] = true
	}
	return values, locked
}

// read returns a file and its deviations. A missing file has no deviations.
func (k *Kind) read(name, aspect string) (file, []deviation, error) {
	info, err := k.system.FS.Stat(name)
	if isGone(err) {
		return file{}, nil, nil
	}
	if err != nil {
		return file{}, nil, err
	}
	if !info.IsRegular() {
		return file{}, []deviation{{aspect, "the file " + name, "not a regular file"}}, nil
	}
	content, err := k.system.FS.ReadFile(name)
	if err != nil {
		return file{}, nil, err
	}
	if content == nil {
		content = []byte{}
	}
	return file{content, public.May(info.Mode) && system.ReachedByAll(k.system.FS, name)}, attrDeviations(name, aspect, info, fileMode), nil
}

// isGone reports whether there is no file, or no directory that it would be in.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// lookAtDir returns the deviations of a directory. A missing directory has none.
func (k *Kind) lookAtDir(name, aspect string) ([]deviation, error) {
	info, err := k.system.FS.Stat(name)
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []deviation{{aspect, "the directory " + name, "not a directory"}}, nil
	}
	return attrDeviations(name, aspect, info, dirMode), nil
}

func attrDeviations(name, aspect string, info system.Info, mode fs.FileMode) []deviation {
	want := system.Attr{Mode: mode}
	if info.Attr == want {
		return nil
	}
	write := func(a system.Attr) string { return fmt.Sprintf("%s %04o %d:%d", name, a.Mode, a.UID, a.GID) }
	return []deviation{{aspect, write(want), write(info.Attr)}}
}

// foreign returns the entries of a directory that dconf would read besides the agent's file:
// everything except directories and names that begin with a dot. If the directory itself is
// something else, that is foreign too.
func (k *Kind) foreign(dir string) ([]string, error) {
	info, err := k.system.FS.Stat(dir)
	if err != nil && !isGone(err) {
		return nil, err
	}
	if err == nil && !info.IsDir() {
		return []string{dir}, nil
	}
	names, err := k.system.FS.ReadDir(dir)
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		if name == keyfileName || strings.HasPrefix(name, ".") {
			continue
		}
		info, err := k.system.FS.Stat(path.Join(dir, name))
		if err != nil && !isGone(err) {
			return nil, err
		}
		if err == nil && !info.IsDir() {
			found = append(found, path.Join(dir, name))
		}
	}
	return found, nil
}

// currentProfile returns the text of the profile that is the default for everybody.
func (k *Kind) currentProfile() (text string, f file, deviations []deviation, err error) {
	f, deviations, err = k.read(profilePath, "mode")
	if err != nil || f.content != nil {
		return string(f.content), f, deviations, err
	}
	text, err = k.readEverybodys(append([]string{profileDir}, packagedProfileDirs()...)...)
	return text, f, deviations, err
}

// packagedProfile returns the profile that dconf uses if there is none in /etc.
func (k *Kind) packagedProfile() (string, error) { return k.readEverybodys(packagedProfileDirs()...) }

// readEverybodys returns the default profile from those directories, or dconf's built-in one if
// there is none.
func (k *Kind) readEverybodys(dirs ...string) (string, error) {
	text, err := k.readProfile(path.Base(profilePath), dirs...)
	if text == "" {
		text = userSource + "\n"
	}
	return text, err
}

// readProfile returns a profile as dconf reads it: the first one that exists, following links. A
// file that others than root may write is ignored.
func (k *Kind) readProfile(name string, dirs ...string) (string, error) {
	for _, dir := range dirs {
		leads, info, err := system.Trusted(k.system.FS, path.Join(dir, name), 0)
		if isGone(err) || errors.Is(err, system.ErrUnsafe) || err == nil && !info.IsRegular() {
			continue
		}
		if err != nil {
			return "", err
		}
		content, err := k.system.FS.ReadFile(leads)
		return string(content), err
	}
	return "", nil
}

func (k *Kind) checkProfile(ctx context.Context, r *converge.Resource) {
	text, f, deviations, err := k.currentProfile()
	if err != nil {
		r.SetUnknownErr(err)
		return
	}
	profile := withDatabase(text)
	if f.content == nil || profile != text {
		got := strings.Join(sources(text), ", ")
		if f.content == nil {
			got = "no " + profilePath
		}
		f.differs(r, "sources", strings.Join(sources(profile), ", "), got)
	}
	for _, dir := range []string{"/etc/dconf", profileDir} {
		more, err := k.lookAtDir(dir, "mode")
		if err != nil {
			r.SetUnknownErr(err)
			return
		}
		deviations = append(deviations, more...)
	}
	for _, d := range deviations {
		r.AddPublicDrift(d.aspect, d.want, d.got)
	}
	if !k.system.Running() {
		return
	}
	if err := k.checkMandatory(ctx, r, profile); err != nil {
		r.SetUnknownErr(err)
		return
	}
	if r.State == converge.Compliant {
		k.checkSessions(ctx, r)
	}
}

// checkMandatory checks the mandatory profile files, which override the user's choice. They are
// gone after every boot.
func (k *Kind) checkMandatory(ctx context.Context, r *converge.Resource, profile string) error {
	files, err := k.mandatory(ctx, profile)
	if err != nil {
		return err
	}
	var deviations []deviation
	for _, dir := range []string{path.Dir(mandatoryDir), mandatoryDir} {
		more, err := k.lookAtDir(dir, aspectMandatory)
		if err != nil {
			return err
		}
		deviations = append(deviations, more...)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, more, err := k.read(name, aspectMandatory)
		if err != nil {
			return err
		}
		deviations = append(deviations, more...)
		switch {
		case f.content == nil:
			deviations = append(deviations, deviation{aspectMandatory, name, "missing"})
		case string(f.content) != files[name]:
			deviations = append(deviations, deviation{aspectMandatory, name + " of " + strings.Join(sources(files[name]), ", "), "another profile"})
		}
	}
	for _, d := range deviations {
		r.AddPublicDrift(d.aspect, d.want, d.got)
	}
	lost, err := k.lost(files)
	if len(lost) > 0 && r.State == converge.Compliant {
		r.Note("a mandatory profile goes before DCONF_PROFILE: for people, " + strings.Join(lost, ", and "))
	}
	return err
}

// lost returns the profiles that name databases which no mandatory profile names. The profiles of
// greeters stay in force, because greeters run as accounts of their own.
func (k *Kind) lost(files map[string]string) ([]string, error) {
	names, err := k.system.FS.ReadDir(profileDir)
	if err != nil && !isGone(err) {
		return nil, err
	}
	var kept, lost []string
	for _, text := range files {
		kept = append(kept, sources(text)...)
	}
	for _, name := range names {
		if slices.Contains([]string{"gdm", "gdm3", "lightdm", "sddm", "ibus"}, name) {
			continue
		}
		text, err := k.profileOf(name)
		if err != nil {
			return nil, err
		}
		if _, _, err := system.Trusted(k.system.FS, path.Join(profileDir, name), 0); errors.Is(err, system.ErrUnsafe) {
			lost = append(lost, path.Join(profileDir, name)+" has no effect, for others than root may write it")
		}
		gone := slices.DeleteFunc(sources(text), func(s string) bool { return isWritable(s) || slices.Contains(kept, s) })
		if len(gone) > 0 {
			lost = append(lost, strings.Join(gone, ", ")+" of "+path.Join(profileDir, name)+" has no effect")
		}
	}
	return lost, nil
}

// mandatory returns the mandatory profiles that must exist, by file: for the people who may use the
// desktop, and for whoever is logged in. profile is the default for everybody.
func (k *Kind) mandatory(ctx context.Context, profile string) (map[string]string, error) {
	uids, err := facts.PersonalUIDs(ctx, k.system)
	if err != nil {
		return nil, err
	}
	sessions, err := k.system.Sessions.List(ctx)
	if err != nil {
		return nil, err
	}
	names, err := k.names(ctx, sessions)
	if err != nil {
		return nil, err
	}
	for _, s := range sessions {
		if s.UID != 0 { // nothing restricts root
			uids = append(uids, int(s.UID))
		}
	}
	files := map[string]string{}
	for _, uid := range uids {
		file := mandatoryFile(uid)
		if _, known := files[file]; known {
			continue
		}
		files[file] = profile
		for _, name := range names[uid] {
			own, err := k.profileOf(name)
			if err != nil {
				return nil, err
			}
			if own != "" {
				files[file] = withSources(own, profile)
				break
			}
		}
	}
	return files, nil
}

// names returns the names of people by uid: from the local files, their sessions, and the names of
// their home directories. It does not query the directory service.
func (k *Kind) names(ctx context.Context, sessions []system.Session) (map[int][]string, error) {
	names := map[int][]string{}
	accounts, err := facts.LocalAccounts(k.system)
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		names[a.UID] = append(names[a.UID], a.Name)
	}
	for _, s := range sessions {
		names[int(s.UID)] = append(names[int(s.UID)], s.User)
	}
	homes, err := k.homes(ctx)
	for _, home := range sortedHomes(homes) {
		names[homes[home]] = append(names[homes[home]], path.Base(home))
	}
	return names, err
}

// profileOf returns the profile that an administrator made for one person, with the person's name,
// or "". DCONF_PROFILE=NAME selects it, which the mandatory profile overrides.
func (k *Kind) profileOf(name string) (string, error) {
	if name == "" || name == path.Base(profilePath) || strings.Contains(name, "/") || strings.HasPrefix(name, ".") {
		return "", nil
	}
	return k.readProfile(name, append([]string{profileDir}, packagedProfileDirs()...)...)
}

func mandatoryFile(uid int) string { return path.Join(mandatoryDir, strconv.Itoa(uid)) }

// checkSessions makes the resource pending if somebody logged in before the database came into the
// profile, because a program reads its profile only once.
func (k *Kind) checkSessions(ctx context.Context, r *converge.Resource) {
	changed := k.ledger.Changed(profileID)
	if changed.IsZero() {
		return
	}
	sessions, err := k.system.Sessions.List(ctx)
	if err != nil {
		r.SetUnknownErr(err)
		return
	}
	for _, s := range sessions {
		if s.Live() && s.UID != 0 && system.Earlier(s.Since, changed, k.system.Clock.Now()) {
			r.SetPending(converge.NextSession, fmt.Sprintf(
				"%s has been logged in since before the settings came into the profile, and programs read that when they start", s.User)).ReasonIsPublic()
			return
		}
	}
}
