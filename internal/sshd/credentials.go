package sshd

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

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
			c.may[byKey] = true
			c.sure[byKey] = c.sure[byKey] || s.takesOneOf(content)
		}
	}
	return c, nil
}

// takesOneOf reports whether sshd accepts the type of one of the keys in a file.
func (s Settings) takesOneOf(authorized []byte) bool {
	taken := algorithms(s, "PubkeyAcceptedAlgorithms")
	for line := range strings.Lines(string(authorized)) {
		for _, word := range strings.Fields(line) {
			switch {
			case strings.HasPrefix(word, "#"):
			case word == "ssh-rsa" && slices.ContainsFunc([]string{word, "rsa-sha2-256", "rsa-sha2-512"}, func(one string) bool { return slices.Contains(taken, one) }),
				(strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-") || strings.HasPrefix(word, "sk-")) && (len(taken) == 0 || slices.Contains(taken, word)):
				return true
			default:
				continue
			}
			break
		}
	}
	return false
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
