package sudo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A granted is what polkit lets a person do who is not allowed.
type granted struct {
	person facts.Account
	what   []question
	where  []place // for each, where the person would be
}

func (g granted) actions() (ids []string) {
	for _, a := range g.what {
		if !slices.Contains(ids, a.action) {
			ids = append(ids, a.action)
		}
	}
	return ids
}

// A place is the process on whose behalf polkit is asked.
type place struct {
	pid   int
	start uint64
}

// A survey is the result of asking polkit.
type survey struct {
	granted []granted
	own     []string // the actions, of those asked about, that their action files open without an administrator's password
	all     []string // all that is asked about
	strange string   // why polkit's answers cannot be trusted, if so
}

// actions are the bare actions that are asked about.
func (s survey) actions() (ids []string) {
	for _, over := range s.all {
		if !strings.Contains(over, " ") {
			ids = append(ids, over)
		}
	}
	return ids
}

// errAnew means that polkit was restarted while it was asked.
var errAnew = errors.New("cannot tell what polkit allows: it was started again and again while it was asked")

// survey asks polkit what the people who are not allowed may do.
func (k *Kind) survey(ctx context.Context, j *judge, people []facts.Account, rules []ruleFile) (s survey, err error) {
	c := k.catalogue(j, rules)
	for range 3 {
		var before, after string
		installed, err2 := k.system.Authority.Actions(ctx) // which starts it
		if err = err2; err == nil {
			before, err = k.system.Authority.Instance(ctx)
		}
		if err == nil {
			s, err = k.askPolkit(ctx, j, people, installed, c)
		}
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		var failed error
		if after, failed = k.system.Authority.Instance(ctx); failed != nil {
			return s, errors.Join(err, failed)
		}
		if before == after {
			k.mu.Lock()
			k.polkitAsked = after
			k.mu.Unlock()
			return s, err
		}
		if err == nil {
			err = errAnew
		}
	}
	return s, err
}

func (k *Kind) askPolkit(ctx context.Context, j *judge, people []facts.Account, installed []system.Action, c catalogue) (s survey, err error) {
	all := questions(installed, c)
	for _, a := range all {
		s.all = appendNew(s.all, a.over())
	}
	for _, a := range installed {
		if slices.Contains(s.all, a.ID) && (a.Any.OwnWord() || a.Inactive.OwnWord() || a.Active.OwnWord()) {
			s.own = append(s.own, a.ID)
		}
	}
	byHand, err := k.openedByHand(ctx, installed, s.all)
	j.doubt(err) // the rest is still judged
	s.own = append(s.own, byHand...)
	outside, err := k.place(1)
	if err != nil {
		return s, err
	}
	if s.strange, err = k.testPolkit(ctx, outside, all); err != nil || s.strange != "" {
		return s, err
	}
	sessions, err := k.directory.Sessions.List(ctx)
	j.doubt(err) // rights outside sessions are still known
	for _, person := range people {
		if allowed, err := j.tell(person.Name); err != nil || allowed {
			continue // keeps the right if unsure; the judge has recorded why
		}
		g := granted{person: person}
		places := []place{outside}
		for _, session := range sessions {
			if int(session.UID) == person.UID {
				if at, err := k.place(session.Leader); err == nil { // otherwise the session has ended
					places = append(places, at)
				}
			}
		}
		for _, at := range places {
			if err := k.askAbout(ctx, &g, at, all); err != nil {
				return s, err
			}
		}
		if len(g.what) > 0 {
			s.granted = append(s.granted, g)
		}
	}
	return s, nil
}

// askAbout asks all questions about a person at a place, and records what is granted.
func (k *Kind) askAbout(ctx context.Context, g *granted, at place, all []question) error {
	answers, err := k.system.Authority.Authorized(ctx, about(all, g.person.UID, at))
	if err != nil {
		if now, gone := k.place(at.pid); gone != nil || now != at {
			return nil //nolint:nilerr // the session is over
		}
		return err
	}
	for i, yes := range answers {
		if yes && !slices.ContainsFunc(g.what, func(a question) bool { return a.over() == all[i].over() }) {
			g.what, g.where = append(g.what, all[i]), append(g.where, at)
		}
	}
	return nil
}

func about(all []question, uid int, at place) []system.Question {
	questions := make([]system.Question, len(all))
	for i, a := range all {
		questions[i] = system.Question{Action: a.action, Details: a.details, UID: uid, PID: at.pid, Start: at.start}
	}
	return questions
}

// place identifies a process. Process 1 is root's and in no session; a session is represented by its
// leader.
func (k *Kind) place(pid int) (place, error) {
	if pid <= 0 {
		return place{}, errors.New("there is no such process")
	}
	stat, err := k.system.FS.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return place{}, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // fields 3 and up of proc(5)
	if len(fields) < 20 {
		return place{}, fmt.Errorf("cannot tell when process %d has begun", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return place{pid, start}, err
}

const nobody = 65534

// testPolkit checks that polkit's answers depend on the user: root may do everything. The opposite,
// that it lets nobody do everything, shows in the answers about people.
func (k *Kind) testPolkit(ctx context.Context, at place, all []question) (strange string, err error) {
	if len(all) == 0 {
		return "", nil
	}
	answers, err := k.system.Authority.Authorized(ctx, about(all[:1], 0, at))
	if err == nil && !answers[0] {
		return "it does not let root do " + all[0].action, nil
	}
	return "", err
}

// letsNobody reports whether polkit lets the user nobody do everything too.
func (k *Kind) letsNobody(ctx context.Context, s survey) bool {
	at, err := k.place(1)
	if err != nil {
		return false
	}
	var bare []question
	for _, id := range s.actions() {
		bare = append(bare, question{action: id})
	}
	answers, err := k.system.Authority.Authorized(ctx, about(bare, nobody, at))
	return err == nil && len(bare) > 0 && !slices.Contains(answers, false)
}

// A catalogue has the details to ask polkit about besides the actions: values that rules compare.
type catalogue struct {
	commands []string // of pkexec, with arguments where a rule names these
	users    []string // run-as users
	units    []string
	verbs    []string
}

// catalogue collects the shells, and what rules name that can lead to root.
func (k *Kind) catalogue(j *judge, rules []ruleFile) catalogue {
	c := catalogue{
		commands: []string{"/bin/sh", "/usr/bin/sh", "/bin/bash", "/usr/bin/bash"},
		users:    []string{"root"},
		// The unit of systemd-run, and systemd's debug shell.
		units: []string{"run-u1.service", "debug-shell.service"},
		verbs: []string{"start"},
	}
	shells, _ := k.system.FS.ReadFile("/etc/shells")
	for line := range strings.Lines(string(shells)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "/") {
			c.commands = appendNew(c.commands, line)
		}
	}
	for _, f := range rules {
		named := literals(f.content)
		looksUp := func(key string) bool {
			return bytes.Contains(f.content, []byte("lookup")) && slices.Contains(named, key)
		}
		if looksUp("user") { // an administrator is as good as root
			for _, name := range j.administrators()[:min(len(j.administrators()), maxRunAs)] {
				c.users = appendNew(c.users, name)
			}
		}
		for _, text := range named[:min(len(named), maxPrograms)] {
			switch {
			case strings.HasPrefix(text, "/"):
				if k.opensRoot(text) {
					c.commands = appendNew(c.commands, text)
				}
			case slices.Contains(unitVerbs, text):
				c.verbs = appendNew(c.verbs, text)
			case looksUp("unit") && unitName.MatchString(text) && !k.isRootsUnit(text):
				c.units = appendNew(c.units, text)
			case looksUp("user") && !strings.ContainsAny(text, "./ "):
				if allowed, _ := j.tell(text); allowed {
					c.users = appendNew(c.users, text)
				}
			}
		}
	}
	return c
}

// maxRunAs limits the run-as users that pkexec is asked about.
const maxRunAs = 8

// unitVerbs are the verbs that systemd passes to polkit for a unit.
var unitVerbs = strings.Fields("start stop restart try-restart reload reload-or-restart reload-or-try-restart try-reload-or-restart set-property kill clean freeze thaw reset-failed bind-mount mount-image ref")

var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(service|socket|timer|path|mount|automount|swap|target|device|scope|slice)$`)

// opensRoot reports whether pkexec of a command can lead to any root access: by what the program is,
// or because others can write it.
func (k *Kind) opensRoot(command string) bool {
	program, _, _ := strings.Cut(command, " ")
	return policy.CommandMakesRoot(command) || k.mayBeWrittenByOthers(program)
}

func (k *Kind) mayBeWrittenByOthers(program string) bool {
	for {
		_, _, err := system.Trusted(k.system.FS, program, 0)
		if !errors.Is(err, fs.ErrNotExist) || program == "/" {
			return errors.Is(err, system.ErrUnsafe)
		}
		program = path.Dir(program) // whoever can write the directory can create the program
	}
}

// isRootsUnit reports whether a unit has a file of root's, so that nobody can start another under its
// name, and gives no shell.
func (k *Kind) isRootsUnit(name string) bool {
	if slices.Contains([]string{"debug-shell.service", "emergency.service", "rescue.service", "emergency.target", "rescue.target"}, name) {
		return false
	}
	if template, _, is := strings.Cut(name, "@"); is {
		name = template + "@" + path.Ext(name)
	}
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator", "/run/systemd/generator.late", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		if file := path.Join(dir, name); !k.mayBeWrittenByOthers(file) {
			if _, err := k.system.FS.Stat(file); err == nil {
				return true
			}
		}
	}
	return false
}

// maxPrograms limits how many programs of a rule are asked about.
const maxPrograms = 256

func appendNew(all []string, one string) []string {
	if slices.Contains(all, one) {
		return all
	}
	return append(all, one)
}

// polkitState identifies everything on the machine that decides polkit's answers. It is empty if that
// cannot be told.
func (k *Kind) polkitState(ctx context.Context, people []facts.Account) string {
	instance, err := k.system.Authority.Instance(ctx)
	if err != nil || instance == "" {
		return ""
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %q\n", instance, people)
	for _, dir := range actionDirs() {
		entries, _ := k.system.FS.Entries(dir)
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			e := entries[name]
			fmt.Fprintf(hash, "%q %d %d %d\n", path.Join(dir, name), e.Size, e.Inode, e.Changed.UnixNano())
		}
	}
	for _, dir := range slices.Concat(ruleDirs(), k.entryDirs(), []string{authorityDir}) {
		names, _ := k.system.FS.ReadDir(dir)
		for _, name := range names {
			content, _ := k.system.FS.ReadFile(path.Join(dir, name))
			fmt.Fprintf(hash, "%q %d\n", path.Join(dir, name), len(content))
			hash.Write(content)
		}
	}
	for _, name := range []string{"/etc/group", "/etc/passwd", "/etc/shells", "/etc/nsswitch.conf"} {
		content, _ := k.system.FS.ReadFile(name)
		fmt.Fprintf(hash, "%q %d\n", name, len(content))
		hash.Write(content)
	}
	sessions, err := k.directory.Sessions.List(ctx)
	if err != nil {
		return ""
	}
	for _, s := range sessions {
		fmt.Fprintf(hash, "%q %d %d %q\n", s.ID, s.UID, s.Leader, s.State)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func (k *Kind) polkitBelieves(state string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return state != "" && k.polkitInLine == state && k.system.Clock.Now().Sub(k.polkitAskedAt) < trusted
}

func (k *Kind) polkitBelieve(state string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.polkitInLine, k.polkitAskedAt = state, k.system.Clock.Now()
}

// awaitPolkit waits until polkit has noticed that its rules changed, which it does by inotify, or
// until a timeout.
func (k *Kind) awaitPolkit(ctx context.Context, was []granted) {
	for range 40 {
		for _, g := range was {
			var questions []system.Question
			for i, a := range g.what {
				questions = append(questions, about([]question{a}, g.person.UID, g.where[i])...)
			}
			answers, err := k.system.Authority.Authorized(ctx, questions)
			if err == nil && slices.Contains(answers, false) {
				return
			}
		}
		if k.system.Clock.Sleep(ctx, 50*time.Millisecond) != nil {
			return
		}
	}
}

// mayStartAnew reports whether the agent may restart polkit because no file explains its answers. It
// does so only once per instance.
func (k *Kind) mayStartAnew() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.polkitAsked != "" && k.polkitAsked != k.polkitAnew
}

// startAnew restarts polkit. That interrupts no session.
func (k *Kind) startAnew(ctx context.Context) error {
	ctx, enough := context.WithTimeout(ctx, patienceToStart)
	defer enough()
	if err := k.system.Units.Restart(ctx, "polkit.service"); err != nil {
		return fmt.Errorf("cannot start polkit anew, which goes by what is in no file any more: %w", err)
	}
	instance := ""
	_, err := k.system.Authority.Actions(ctx) // which waits until polkit is up
	if err == nil {
		instance, err = k.system.Authority.Instance(ctx)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.polkitAnew = instance
	return err
}
