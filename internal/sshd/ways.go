package sshd

import (
	"path"
	"slices"
	"strings"
)

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
