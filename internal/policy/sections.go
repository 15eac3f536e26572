package policy

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/sudotext"
)

// document reads the top level of a fragment.
func (d *decoder) document(t *table) (personas []string, description string) {
	switch schema := t.number("schema"); {
	case schema == nil && !t.has("schema"):
		d.problem(nil, "cannot read the fragment: it does not say which schema it follows; begin it with: schema = 1")
	case schema != nil && *schema != 1:
		t.problem("schema", "this agent knows schema 1 and not %d; it may be too old for this policy", *schema)
		return nil, "" // what another schema means by the other keys is not known
	}
	personas = t.texts("personas")
	if personas != nil && len(personas) == 0 {
		t.problem("personas", "it names nobody; leave it out to mean every persona")
	}
	for _, p := range personas {
		if !IsPersona(p) {
			t.problem("personas", "%q is not a persona's name (small letters, digits and hyphens)", p)
		}
	}
	description = t.text("description")
	for _, section := range []struct {
		key  string
		read func(*table)
	}{
		{"system", d.system},
		{"groups", d.groups},
		{"users", d.users},
		{"ids", d.ids},
		{"sudo", d.sudo},
		{"dropins", d.dropins},
		{"directories", d.directories},
		{"pcoip", d.pcoip},
		{"dconf", d.dconf},
		{"repositories", d.repositories},
		{"packages", d.packages},
		{"patch", d.patch},
		{"services", d.services},
		{"checks", d.checks},
	} {
		if section, child := section, t.child(section.key); child != nil {
			section.read(child)
		}
	}
	for _, rule := range t.children("rules") {
		d.rule(rule)
	}
	t.close()
	return personas, description
}

// set records a resource, unless its values break a rule.
func (d *decoder) set(t *table, key string, id ID, spec Spec) {
	path := append(slices.Clone(t.path), key)
	if d.full() { // the fragment is refused already
		d.untold = true
		return
	}
	for _, message := range validate(id, spec, false) {
		d.problem(path, "cannot use %s: %s", t.name(key), message)
	}
	d.settings = append(d.settings, Setting{ID: id, Spec: spec, Line: d.lines.at(path)})
}

// each reads a section whose every key is a table of its own.
func (d *decoder) each(t *table, read func(name string, entry *table)) {
	for _, name := range t.keys() {
		if entry := t.child(name); entry != nil {
			read(name, entry)
			entry.close()
		}
	}
}

func (t *table) ensure() Ensure {
	if e := t.text("ensure"); e != "" {
		return Ensure(e)
	}
	return Present
}

func (d *decoder) system(t *table) {
	for _, key := range []string{"timezone", "selinux"} {
		if value, ok := read[string](t, key, "a string"); ok {
			d.set(t, key, NewID("system", key), System{Value: value})
		}
	}
	t.close()
}

func (d *decoder) groups(t *table) {
	d.each(t, func(name string, g *table) {
		d.set(t, name, NewID("group", name), Group{
			Ensure: g.ensure(), GID: g.number("gid"), System: g.isSet("system"),
		})
	})
}

func (d *decoder) users(t *table) {
	d.each(t, func(name string, u *table) {
		d.set(t, name, NewID("user", name), User{
			Ensure: u.ensure(), UID: u.number("uid"), Group: u.text("group"), Groups: u.texts("groups"),
			Comment: u.text("comment"), Home: u.text("home"), Shell: u.text("shell"), System: u.isSet("system"),
		})
	})
}

func (d *decoder) ids(t *table) {
	if uids := t.child("uid"); uids != nil {
		for _, name := range uids.keys() {
			d.set(uids, name, NewID("user", name), User{
				Ensure: Present, UID: uids.number(name), System: true, Registered: true,
			})
		}
	}
	if gids := t.child("gid"); gids != nil {
		for _, name := range gids.keys() {
			d.set(gids, name, NewID("group", name), Group{
				Ensure: Present, GID: gids.number(name), System: true, Registered: true,
			})
		}
	}
	if t.isSet("report_unregistered") {
		for _, kind := range []string{"user", "group"} {
			d.set(t, "report_unregistered", NewID(kind, "unregistered"), Registry{Of: kind})
		}
	}
	t.close()
}

func (d *decoder) sudo(t *table) {
	groups := t.texts("root_groups")
	if allow := t.texts("allow"); allow != nil || !t.has("allow") {
		d.set(t, "allow", NewID("sudo", "allow"), Sudo{Allow: allow, RootGroups: groups, Commands: d.commands(t)})
	}
	t.close()
}

// commands reads who may run what. Each subject has a line of its own, to which problems
// lead.
func (d *decoder) commands(sudo *table) map[string][]string {
	t := sudo.child("commands")
	if t == nil {
		return nil
	}
	commands := map[string][]string{}
	for _, subject := range t.keys() {
		if why := notASubject(subject); why != "" {
			t.problem(subject, "%s", why)
		}
		commands[subject] = t.texts(subject)
		if len(commands[subject]) == 0 && t.isArray(subject) {
			t.problem(subject, "it names no command")
		}
		for _, text := range commands[subject] {
			command, err := sudotext.ParseCommand(text)
			if err != nil {
				t.problem(subject, "%q: %v", text, err)
				continue
			}
			for _, why := range waysToRoot(command) {
				d.advice = append(d.advice, Problem{
					File: d.file, Line: d.lines.at(append(slices.Clone(t.path), subject)), Gravity: Warning,
					Message: fmt.Sprintf("%s may become root by %q: %s", subject, text, why),
					Hint:    "grant a program that does the one thing, with its arguments",
				})
			}
		}
	}
	return commands
}

func (d *decoder) dropins(t *table) {
	d.each(t, func(path string, f *table) {
		dropin := Dropin{
			Ensure: f.ensure(), Content: f.text("content"), Owner: f.text("owner"), Group: f.text("group"),
			Activate: f.texts("activate"),
		}
		if text, ok := read[string](f, "mode", `a string such as "0644"`); ok {
			mode, err := strconv.ParseUint(text, 8, 12)
			if err != nil {
				f.problem("mode", "%q is not a file mode such as \"0644\"", text)
			}
			m := fs.FileMode(mode)
			dropin.Mode = &m
		}
		if _, ok := f.values["content"]; !ok && dropin.Ensure == Present {
			f.problem("content", "a drop-in that is to be present needs its content")
		}
		d.set(t, path, NewID("dropin", path), dropin)
		if !strings.HasPrefix(path, "/") {
			t.problem(path, "it is not an absolute path")
		}
	})
}

func (d *decoder) directories(t *table) {
	d.each(t, func(path string, f *table) {
		if !f.has("purge") {
			t.problem(path, "it does not say purge = true")
		}
		d.set(t, path, NewID("dropin", path), Directory{Purge: f.isSet("purge")})
		if !strings.HasPrefix(path, "/") {
			t.problem(path, "it is not an absolute path")
		}
	})
}

func (d *decoder) dconf(t *table) {
	for _, dir := range t.keys() {
		keys := t.child(dir)
		if keys == nil {
			continue
		}
		for _, key := range keys.keys() {
			d.dconfKey(keys, dir, key)
		}
	}
}

func (d *decoder) dconfKey(keys *table, dir, key string) {
	value, _ := keys.value(key)
	spec := Dconf{Value: value, Lock: true}
	if _, isTable := value.(map[string]any); isTable {
		k := keys.child(key)
		spec.Value, _ = k.value("value")
		spec.GVariant = k.text("gvariant")
		spec.Schema = k.text("schema")
		if lock := k.flag("lock"); lock != nil {
			spec.Lock = *lock
		}
		switch {
		case spec.Value == nil && spec.GVariant == "" && !k.has("gvariant"):
			keys.problem(key, `it wants a value or a gvariant; a path is written in quotes, such as [dconf."org/mate/desktop/session"]`)
			return
		case (spec.Value == nil) == (spec.GVariant == ""):
			keys.problem(key, "it wants either a value or a gvariant, and not both")
		}
		k.close()
	}
	d.set(keys, key, NewID("dconf", dir+"/"+key), spec)
}

func (d *decoder) packages(t *table) {
	for _, name := range t.keys() {
		value, _ := t.value(name)
		switch v := value.(type) {
		case string:
			d.set(t, name, NewID("package", name), Package{Ensure: Ensure(v)})
		case map[string]any:
			p := t.child(name)
			d.set(t, name, NewID("package", name), Package{
				Ensure: p.ensure(), Topic: p.text("topic"), Hold: p.isSet("hold"), URL: p.text("url"), SHA256: p.text("sha256"),
			})
			p.close()
		default:
			t.problem(name, `it wants "present", "latest", "absent", a version, or a table, and not %s`, describe(value))
		}
	}
}

func (d *decoder) patch(t *table) {
	if updates, ok := read[string](t, "updates", `"all" or "security"`); ok {
		d.set(t, "updates", NewID("patch", "updates"), Patch{Updates: updates})
	} else if !t.has("updates") {
		t.problem("updates", `it does not say which are to be installed; say "all" or "security"`)
	}
	t.close()
}

func (d *decoder) services(t *table) {
	d.each(t, func(unit string, s *table) {
		service := Service{Enabled: s.flag("enabled"), Running: s.flag("running"), Masked: s.flag("masked")}
		if !s.has("enabled") && !s.has("running") && !s.has("masked") {
			t.problem(unit, "it says neither enabled, running nor masked")
		}
		d.set(t, unit, NewID("service", unit), service)
	})
}

const defaultCheckTimeout = 10 * time.Second

func (d *decoder) checks(t *table) {
	d.each(t, func(name string, c *table) {
		check := Check{
			Run: c.texts("run"), User: c.text("user"), Stdout: c.text("stdout"), Stderr: c.text("stderr"), Timeout: defaultCheckTimeout,
		}
		if exit := c.number("exit"); exit != nil {
			check.Exit = *exit
		}
		if text := c.text("timeout"); text != "" {
			timeout, err := time.ParseDuration(text)
			if err != nil || timeout <= 0 {
				c.problem("timeout", "%q is not a duration such as \"10s\"", text)
			}
			check.Timeout = timeout
		}
		d.set(t, name, NewID("check", name), check)
	})
}
