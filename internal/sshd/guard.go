package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Change is new content for files that sshd reads.
type Change struct {
	After system.Staged
	// Root is the policy's PermitRootLogin, or "". The policy may take logins away from root.
	Root string
}

// LocksOut returns why a change must not be made, or "": it would lock out somebody who can log in
// now, or it changes a setting whose effect cannot be predicted (UsePAM, StrictModes, or the
// algorithms that clients have). It asks sshd about root and all people whom the machine knows,
// before and after the change. An error means that a question was not answered, so that nothing is
// proved.
func LocksOut(ctx context.Context, s *system.System, c Change) (string, error) {
	g := guard{system: s, Change: c}
	before, err := Ask(ctx, s, nil, nil)
	if err != nil {
		return "", err
	}
	after, err := Ask(ctx, s, g.After, nil)
	if err != nil {
		return "", err
	}
	for _, key := range []string{"usepam", "strictmodes"} {
		if was, becomes := before.first(key), after.first(key); was != becomes {
			return fmt.Sprintf("%s would become %s, which is %s now: it cannot be told beforehand whom that lets in", key, becomes, was), nil
		}
	}
	if why := unspoken(before, after); why != "" {
		return why, nil
	}
	return g.people(ctx)
}

// unspoken returns a message if no algorithm would be left that all clients of recent years
// support, or "".
func unspoken(before, after Settings) string {
	for key, common := range map[string][]string{
		"ciphers":       {"aes128-ctr", "aes192-ctr", "aes256-ctr", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"},
		"macs":          {"hmac-sha2-256", "hmac-sha2-512", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"},
		"kexalgorithms": {"curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521", "diffie-hellman-group-exchange-sha256", "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512"},
	} {
		list := after.first(key)
		if list != before.first(key) && !slices.ContainsFunc(strings.Split(list, ","), func(one string) bool { return slices.Contains(common, one) }) {
			return fmt.Sprintf("%s would leave none that all clients have, such as %s", key, common[0])
		}
	}
	return ""
}

type guard struct {
	Change
	system *system.System
}

// A person is somebody who may log in by ssh.
type person struct {
	facts.Account
	local  bool
	groups []string
}

// unborn stands for people of the directory whom the machine does not know yet.
const unborn = "somebody-of-the-directory"

// people checks everybody who may log in.
func (g *guard) people(ctx context.Context) (string, error) {
	all, err := everybody(ctx, g.system)
	if err != nil {
		return "", fmt.Errorf("cannot tell who logs in by ssh: %w", err)
	}
	roots, others := "", false
	for _, p := range all {
		for _, from := range []Login{{p.Name, "localhost", "127.0.0.1"}, {p.Name, "elsewhere.invalid", "198.51.100.7"}} {
			why, sure, err := g.ask(ctx, p, from)
			if err != nil {
				return "", err
			}
			others = others || sure && p.UID != 0
			switch {
			case why == "":
			case p.UID == 0 && g.Root == "no":
				roots = why
			default:
				return why, nil
			}
		}
	}
	if roots == "" || others {
		return "", nil
	}
	for _, unit := range []string{"amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service"} {
		if state, err := g.system.Units.Unit(ctx, unit); err == nil && state.ActiveState == "active" {
			return "", nil // root can log in through Session Manager
		}
	}
	return roots + ", nobody else has a way in by ssh, and amazon-ssm-agent does not run", nil
}

// everybody returns root and all people whom the machine knows.
func everybody(ctx context.Context, s *system.System) ([]person, error) {
	local, err := facts.LocalAccounts(s)
	if err != nil {
		return nil, err
	}
	accounts, err := facts.People(ctx, s)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(local, func(a facts.Account) bool { return a.UID == 0 }); i >= 0 {
		accounts = append(accounts, local[i])
	}
	var all []person
	stranger := false
	for _, a := range accounts {
		p := person{Account: a, local: slices.ContainsFunc(local, func(l facts.Account) bool { return l.Name == a.Name })}
		stranger = stranger || !p.local
		if !facts.CanLogIn(a.Shell) {
			continue
		}
		if p.groups, err = facts.GroupsOf(ctx, s, a.Name); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if has, err := hasDirectory(s); err != nil || !has || stranger {
		return all, err
	}
	return append(all, person{Account: facts.Account{Name: unborn, UID: -1}}), nil
}

// hasDirectory reports whether people of a directory may log in.
func hasDirectory(s *system.System) (bool, error) {
	content, err := s.FS.ReadFile("/etc/nsswitch.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for line := range strings.Lines(string(content)) {
		if sources, is := strings.CutPrefix(strings.TrimSpace(line), "passwd:"); is {
			return slices.ContainsFunc(strings.Fields(sources), func(word string) bool {
				return slices.Contains([]string{"sss", "winbind", "ldap", "nis"}, word)
			}), nil
		}
	}
	return false, nil
}

// ask returns why a person who could log in from somewhere could not any more, or "". sure reports
// whether the person certainly can.
func (g *guard) ask(ctx context.Context, p person, from Login) (why string, sure bool, err error) {
	before, err := Ask(ctx, g.system, nil, &from)
	if err != nil {
		return "", false, err
	}
	after, err := Ask(ctx, g.system, g.After, &from)
	if err != nil {
		return "", false, err
	}
	has, err := g.credentials(p, before)
	if err != nil {
		return "", false, err
	}
	had, keeps := before.ways(p, true), after.ways(p, false)
	if p.UID == 0 && g.Root != "no" { // otherwise the policy wants that, and somebody else must be able to log in
		had = slices.DeleteFunc(had, func(w way) bool { return !rootMay(g.Root, w) })
	}
	had = slices.DeleteFunc(had, func(w way) bool { return !w.all(has.may) })
	sure = slices.ContainsFunc(keeps, func(w way) bool { return w.all(has.sure) })
	same := !slices.ContainsFunc(had, func(w way) bool {
		return !slices.ContainsFunc(keeps, func(k way) bool { return k.within(w) })
	})
	if sure || same {
		return "", sure, nil
	}
	if p.Name == unborn {
		return "the directory's user of this desktop has no home here yet and is not logged in, so that it is not known whether they could still log in by ssh", false, nil
	}
	where := "elsewhere"
	if from.Addr == "127.0.0.1" {
		where = "this machine"
	}
	return fmt.Sprintf("%s could log in from %s by %s, and could not any more", p.Name, where, had[0]), false, nil
}

// A way is a list of methods that are all required for a login.
type way []string

func (w way) String() string { return strings.Join(w, " and ") }

func (w way) all(has map[string]bool) bool {
	return !slices.ContainsFunc(w, func(method string) bool { return !has[method] })
}

// within reports whether a way requires nothing that the other does not require.
func (w way) within(other way) bool {
	return !slices.ContainsFunc(w, func(method string) bool { return !slices.Contains(other, method) })
}

const (
	byKey      = "publickey"
	byPassword = "password"
	byDialogue = "keyboard-interactive"
	byTicket   = "gssapi-with-mic"
	byHost     = "hostbased"
)

// ways returns the ways by which a person gets in. What cannot be determined counts as allowed if
// leniently, and otherwise as denied.
func (s Settings) ways(p person, leniently bool) (all []way) {
	if !s.lets(p, leniently) {
		return nil
	}
	on := map[string]bool{}
	for method, keys := range map[string][]string{
		byKey: names("PubkeyAuthentication"), byPassword: names("PasswordAuthentication"), byDialogue: names("KbdInteractiveAuthentication"),
		byTicket: names("GSSAPIAuthentication"), byHost: names("HostbasedAuthentication"),
	} {
		on[method] = slices.ContainsFunc(keys, func(key string) bool { return s.first(key) == "yes" })
	}
	on[byDialogue] = on[byDialogue] && s.first("usepam") == "yes"
	lists := strings.Fields(strings.Join(s["authenticationmethods"], " "))
	if len(lists) == 0 || lists[0] == "any" {
		lists = []string{byKey, byPassword, byDialogue, byTicket, byHost}
	}
	for _, list := range lists {
		w := way(strings.Split(list, ","))
		for i, method := range w {
			w[i], _, _ = strings.Cut(method, ":") // drop a device or submethod
		}
		if w.all(on) && (p.UID != 0 || rootMay(s.first("permitrootlogin"), w)) {
			all = append(all, w)
		}
	}
	return all
}

// rootMay reports whether PermitRootLogin lets root in by a way.
func rootMay(permit string, w way) bool {
	switch permit {
	case "", "yes":
		return true
	case "no":
		return false
	}
	return !slices.Contains(w, byPassword) && !slices.Contains(w, byDialogue)
}

// lets reports whether the lists of users and groups let a person in, in the order in which sshd
// evaluates them.
func (s Settings) lets(p person, leniently bool) bool {
	user := func(pattern string) bool {
		name, host, fromSomewhere := strings.Cut(pattern, "@")
		return (!fromSomewhere || host == "*") && globMatch(name, p.Name)
	}
	maybe := func(pattern string) bool { // depends on the client's host, or is understood only by some versions
		name, _, fromSomewhere := strings.Cut(pattern, "@")
		return fromSomewhere && globMatch(name, p.Name) || strings.HasPrefix(pattern, "!")
	}
	group := func(pattern string) bool {
		return slices.ContainsFunc(p.groups, func(name string) bool { return globMatch(pattern, name) })
	}
	denied := func(pattern string) bool { return user(pattern) || !leniently && maybe(pattern) }
	allowed := func(pattern string) bool { return user(pattern) || leniently && maybe(pattern) }
	switch {
	case slices.ContainsFunc(s.list("denyusers"), denied):
		return false
	case len(s["allowusers"]) > 0 && !slices.ContainsFunc(s.list("allowusers"), allowed):
		return false
	case slices.ContainsFunc(s.list("denygroups"), group):
		return false
	}
	return len(s["allowgroups"]) == 0 || slices.ContainsFunc(s.list("allowgroups"), group)
}

func (s Settings) list(key string) []string { return strings.Fields(strings.Join(s[key], " ")) }

// globMatch matches as match_pattern of sshd does: only "*" and "?" are special.
func globMatch(pattern, text string) bool {
	escaped := strings.NewReplacer(`\`, `\\`, "[", `\[`).Replace(pattern)
	matched, err := path.Match(strings.ReplaceAll(escaped, "/", "\x00"), strings.ReplaceAll(text, "/", "\x00"))
	return matched && err == nil
}

// credentials are the methods for which a person has credentials that sshd would accept.
type credentials struct {
	may  map[string]bool // possibly
	sure map[string]bool
}

func (g *guard) credentials(p person, s Settings) (credentials, error) {
	c := credentials{may: map[string]bool{byHost: true}, sure: map[string]bool{}}
	password, err := g.hasPassword(p)
	if err != nil {
		return c, err
	}
	for _, method := range []string{byPassword, byDialogue} {
		c.may[method], c.sure[method] = password, password
	}
	_, err = g.system.FS.Stat("/etc/krb5.keytab")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	c.may[byTicket] = err == nil
	c.may[byKey] = s.first("trustedusercakeys") != "none" || s.first("authorizedkeyscommand") != "none"
	for _, file := range s.list("authorizedkeysfile") {
		content, err := g.readKeys(p, file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			c.may[byKey] = true // unknown
		case len(bytes.TrimSpace(content)) > 0:
			c.may[byKey], c.sure[byKey] = true, true
		}
	}
	return c, nil
}

func (g *guard) readKeys(p person, file string) ([]byte, error) {
	if file == "none" || p.Home == "" {
		return nil, fs.ErrNotExist
	}
	name := strings.NewReplacer("%%", "%", "%h", p.Home, "%u", p.Name, "%U", strconv.Itoa(p.UID)).Replace(file)
	if !path.IsAbs(name) {
		name = path.Join(p.Home, name)
	}
	if inHome, is := strings.CutPrefix(path.Clean(name), path.Clean(p.Home)+"/"); is {
		return g.system.FS.ReadPersonal(p.Home, p.UID, inHome)
	}
	return g.system.FS.ReadFile(path.Clean(name))
}

// hasPassword reports whether a person has a password to log in with. Everybody in a directory has
// one.
func (g *guard) hasPassword(p person) (bool, error) {
	if !p.local {
		return true, nil
	}
	content, err := g.system.FS.ReadFile("/etc/shadow")
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(content) {
		fields := bytes.SplitN(line, []byte(":"), 3)
		if len(fields) == 3 && string(fields[0]) == p.Name {
			return len(fields[1]) > 0 && !bytes.ContainsAny(fields[1][:1], "!*"), nil
		}
	}
	return false, nil
}
