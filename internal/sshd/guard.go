package sshd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/sshdtext"
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
	for _, proof := range []func(before, after Settings) string{worse, unspoken, elsewhere} {
		if why := proof(before, after); why != "" {
			return why, nil
		}
	}
	return g.people(ctx)
}

// worse returns a message if a key would get a value that locks people out whoever they are, or "".
func worse(before, after Settings) string {
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if slices.Equal(before[key], after[key]) {
			continue
		}
		if why := sshdtext.KeepsOut(key, strings.Fields(after.first(key))...); why != "" {
			return fmt.Sprintf("%s would become %s: %s", key, after.first(key), why)
		}
	}
	return ""
}

// elsewhere returns a message if sshd would lose a port, an address or a host key, or "".
func elsewhere(before, after Settings) string {
	for _, c := range []struct{ key, what string }{
		{"port", "come to port %s"}, {"listenaddress", "come to the address %s"}, {"hostkey", "know it by its key %s"},
	} {
		for _, was := range before[c.key] {
			if !slices.Contains(after[c.key], was) {
				return "those could not log in any more who " + fmt.Sprintf(c.what, was)
			}
		}
	}
	return ""
}

// unspoken returns a message if no algorithm would be left that all clients of recent years
// support, or "".
func unspoken(before, after Settings) string {
	for key, common := range map[string][]string{
		"Ciphers":           {"aes128-ctr", "aes192-ctr", "aes256-ctr", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"},
		"MACs":              {"hmac-sha2-256", "hmac-sha2-512", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"},
		"KexAlgorithms":     {"curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521", "diffie-hellman-group-exchange-sha256", "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512"},
		"HostKeyAlgorithms": {"ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp256"},
	} {
		list := algorithms(after, key)
		if !slices.Equal(list, algorithms(before, key)) && !slices.ContainsFunc(list, func(one string) bool { return slices.Contains(common, one) }) {
			return fmt.Sprintf("%s would leave none that all clients have, such as %s", strings.ToLower(key), common[0])
		}
	}
	return ""
}

// algorithms returns the algorithms of a key whose value is a comma-separated list.
func algorithms(s Settings, key string) []string {
	for _, name := range names(key) {
		if list := s.first(name); list != "" {
			return strings.Split(list, ",")
		}
	}
	return nil
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
	keeps, err := g.credentials(p, after)
	if err != nil {
		return "", false, err
	}
	fewer := fewerKeys(before, after)
	keeps.sure[byKey] = keeps.sure[byKey] && (fewer == "" || fewer == authorizedKeys || slices.Contains(names("PubkeyAcceptedAlgorithms"), fewer))
	had, left := before.ways(p, true), after.ways(p, false)
	if p.UID == 0 && g.Root != "no" { // otherwise the policy wants that, and somebody else must be able to log in
		had = slices.DeleteFunc(had, func(w way) bool { return !rootMay(g.Root, w) })
	}
	had = slices.DeleteFunc(had, func(w way) bool { return !w.all(has.may) })
	if len(had) > 0 {
		if why := cmp.Or(worse(before, after), another(before, after)); why != "" {
			return "for " + p.Name + " " + why, false, nil
		}
	}
	sure = slices.ContainsFunc(left, func(w way) bool { return w.all(keeps.sure) })
	same := !slices.ContainsFunc(had, func(w way) bool {
		return fewer != "" && slices.Contains(w, byKey) || !slices.ContainsFunc(left, func(l way) bool { return l.within(w) })
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
	becomes := "could not any more"
	if fewer != "" && len(left) > 0 {
		becomes = "with another " + fewer + " nobody can tell whether they still could"
	}
	return fmt.Sprintf("%s could log in from %s by %s, and %s", p.Name, where, had[0], becomes), false, nil
}

// another returns a message if a session would not get a normal shell any more, or "".
func another(before, after Settings) string {
	for key, ordinary := range map[string]string{"forcecommand": "none", "chrootdirectory": "none", "permittty": "yes"} {
		if becomes := after.first(key); becomes != before.first(key) && becomes != ordinary {
			return fmt.Sprintf("%s would become %s, and a session another thing than a shell of theirs", key, becomes)
		}
	}
	return ""
}

const authorizedKeys = "authorizedkeysfile"

// fewerKeys returns a setting whose change may reject public keys that are accepted now, or "".
func fewerKeys(before, after Settings) string {
	for _, key := range []string{
		"authorizedkeyscommand", "authorizedkeyscommanduser", "authorizedprincipalscommand", "authorizedprincipalscommanduser", "authorizedprincipalsfile",
		"pubkeyauthoptions", "requiredrsasize", "revokedkeys", "rsaminsize", "trustedusercakeys", authorizedKeys, "casignaturealgorithms", "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes",
	} {
		was, becomes := before.list(key), after.list(key)
		if strings.HasSuffix(key, "algorithms") || strings.HasSuffix(key, "keytypes") {
			was, becomes = algorithms(before, key), algorithms(after, key)
		}
		more := key == "authorizedkeyscommand" || key == "authorizedkeyscommanduser" || key == "trustedusercakeys"
		switch {
		case slices.Equal(was, becomes):
		case more && (len(was) == 0 || was[0] == "none"):
		case len(was) > 0 && was[0] != "none" && !slices.ContainsFunc(was, func(one string) bool { return !slices.Contains(becomes, one) }):
		default:
			return key
		}
	}
	return ""
}
