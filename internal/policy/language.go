package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// language is the form of a fragment. It is never changed.
var language = sync.OnceValue(func() *form {
	return record("A fragment of the policy of soe-agent",
		key{name: "schema", form: whole("the version of the language", 1, 1)},
		key{name: "personas", form: texts("the personas that the fragment is for; left out: everybody", like("", personaName.String())).eg(`["developer"]`)},
		key{name: "description", form: text("what the fragment is for, for people").eg(`"Developer desktops"`)},
		key{name: "system", form: systemForm()},
		key{name: "groups", form: named("local groups", "NAME", accountName.String(), groupForm())},
		key{name: "users", form: named("local accounts", "NAME", accountName.String(), userForm())},
		key{name: "ids", form: idsForm()},
		key{name: "sudo", form: sudoForm()},
		key{name: "dropins", form: named("files of directories that are read as a whole, such as `/etc/sysctl.d`, by their paths", `"/PATH"`, absolutePath, dropinForm())},
		key{name: "directories", form: named("directories of drop-ins, by their paths", `"/PATH"`, absolutePath, directoryForm())},
		key{name: "pcoip", form: pcoipForm()},
		key{name: "dconf", form: named("settings of the desktop, by the directory of their keys, such as `org/mate/desktop/session`", `"DIR"`, dconfDir, named("keys, as in the schema that is installed", "KEY", dconfKey.String(), dconfForm()))},
		key{name: "repositories", form: named("package repositories, by their ids", "NAME", repositoryName.String(), repositoryForm())},
		key{name: "packages", form: named("packages; a group of packages has an `@` before its name", "NAME", anyPackage, packageForm())},
		key{name: "patch", form: patchForm()},
		key{name: "services", form: named("systemd units", `"UNIT"`, unitName.String(), serviceForm())},
		key{name: "checks", form: named("commands whose outcome is reported and never repaired", "NAME", checkName.String(), checkForm())},
		key{name: "rules", form: &form{doc: "more about resources, by their IDs. Of several rules that match, the last one that says a thing is believed, and their controls add up", types: []string{anArray}, items: ruleForm()}},
	).needing([]string{"schema"})
})

// Patterns, for editors; what is right in detail Parse says.
const (
	absolutePath   = `^/.`
	dconfDir       = `^[^/\[\]]+(/[^/\[\]]+)*$`
	anyPackage     = `^@?[A-Za-z0-9][A-Za-z0-9 ._+-]*$`
	aVersion       = `^[A-Za-z0-9._+~^:-]*[0-9][A-Za-z0-9._+~^:-]*$`
	fileMode       = `^[0-7]{1,4}$`
	someTime       = `^([0-9.]+(h|m|s|ms))+$`
	someDays       = `^([0-9]+d|([0-9.]+(h|m|s|ms))+)$`
	anyFingerprint = `^([0-9A-Fa-f] *){40}$`
	anyDigest      = `^[0-9A-Fa-f]{64}$`
	anyURL         = `^(https?://|file:///)`
)

func ensureKey() key {
	return key{name: "ensure", form: word("whether it is to be there; left out: `present`", string(Present), string(Absent))}
}

const greatestID = 4294967294

func systemForm() *form {
	return record("the machine as a whole",
		key{name: "timezone", form: &form{doc: "a name of the tz database", types: []string{aString}, pattern: timezoneName.String(), open: true, example: `"Europe/Berlin"`}},
		key{name: "selinux", form: &form{doc: "SELinux is never turned on where the kernel has it off", types: []string{aString}, words: []string{"enforcing", "permissive", "disabled"}, open: true}},
		key{name: "hostname", form: text(""), refused: "AWS gives a WorkSpace its name, by which the directory knows it; {{fact:hostname}} tells it"},
		key{name: "locale", form: text(""), refused: "people choose the language of their desktop; for a default, use a drop-in such as /etc/profile.d/lang.sh"},
	)
}

func groupForm() *form {
	return record("a local group",
		ensureKey(),
		key{name: "gid", form: whole("the fixed id; left out: whichever groupadd chooses", 1, greatestID)},
		key{name: "system", form: yesOrNo("it is a system group")},
	)
}

func userForm() *form {
	return record("a local account; what is left out is not managed",
		ensureKey(),
		key{name: "uid", form: whole("the fixed id", 1, greatestID)},
		key{name: "group", form: text("the primary group")},
		key{name: "groups", form: texts("groups that the user must also be in; others are left alone", text(""))},
		key{name: "comment", form: text("as in passwd(5)")},
		key{name: "home", form: like("as in passwd(5). Unless it is a service account, it is there and the user's; it is never deleted", absolutePath)},
		key{name: "shell", form: like("as in passwd(5)", absolutePath)},
		key{name: "system", form: yesOrNo("it is a service account: no home is made, and nobody logs in to it")},
	)
}

func idsForm() *form {
	return record("ids of accounts that software makes itself",
		key{name: "uid", form: named("of users", "NAME", accountName.String(), whole("", 1, greatestID)).eg("uid.apache = 48")},
		key{name: "gid", form: named("of groups", "NAME", accountName.String(), whole("", 1, greatestID)).eg("gid.apache = 48")},
		key{name: "report_unregistered", form: yesOrNo("local system accounts and groups that the policy does not name are reported")},
	)
}

func sudoForm() *form {
	return record("who administers the machine, by sudo and by polkit",
		key{name: "allow", form: texts("users, and groups with a `%`: these and nobody else. One at least besides root", value("")).eg(`["root", "%EXAMPLE\\Linux Admins"]`)},
		key{name: "root_groups", form: texts("groups whose members are as good as root, in which only the allowed may be", text("")).eg(`["docker"]`)},
		key{name: "commands", form: named("what users, and groups with a `%`, may run who are not allowed", `"SUBJECT"`, `^%?[^!#+%" ]`, texts("commands as in sudoers(5), one each, with whom they are run as and tags before them", text(""))).eg(`commands."%developers" = ["(root) NOPASSWD: /usr/bin/systemctl restart docker.service"]`)},
	).needing([]string{"allow"})
}

func dropinForm() *form {
	return record("one file, whole",
		ensureKey(),
		key{name: "content", form: value("the whole file. It may hold references, and alone of all places secrets").eg(`"kernel.dmesg_restrict = 1\n"`)},
		key{name: "mode", form: like("left out: what its directory is for says it", fileMode).eg(`"0644"`)},
		key{name: "owner", form: text("a name; left out: root")},
		key{name: "group", form: text("a name; left out: root")},
		key{name: "activate", form: texts("the command that makes a change take effect, without a shell; `[]` for none; left out: what its directory is known to need", text("")).eg(`["/usr/bin/chronyc", "reload", "sources"]`)},
	).needing([]string{"content"}, []string{"ensure"})
}

func directoryForm() *form {
	return record("a directory of drop-ins",
		key{name: "purge", form: yesOrNo("nothing may be in it but what the policy names and what belongs to packages")},
	).needing([]string{"purge"})
}

func pcoipForm() *form {
	value := func(doc string) *form {
		return &form{doc: doc, types: []string{anInt, aString, aBoolean}, open: true}
	}
	f := named("directives of pcoip-agent.conf, without their `pcoip.`", "NAME", "", value(""))
	f.keys = []key{
		{name: "allow_unknown", form: yesOrNo("directives of this fragment that nobody knows are written as they are, and reported as not validated")},
		{name: PCoIPEncryption, form: word("how the stream is encrypted, by whichever directive the installed agent has for it", PCoIPAES256)},
	}
	directives := pcoipDirectives()
	for _, name := range slices.Sorted(maps.Keys(directives)) {
		d := directives[name]
		if d.Forbidden != "" {
			continue
		}
		heeded := map[PCoIPEffect]string{
			Immediately: "heeded at once", AtSession: "heeded in the next session", AtRestart: "heeded when the agent is restarted",
		}[d.Applies]
		directive := value(strings.Join(append(meanings(d), heeded), "; "))
		directive.is = "text"
		if !d.Text {
			directive.bounded, directive.least, directive.most = d.Verified, d.Min, d.Max
			directive.is = fmt.Sprintf("a number from %d to %d", d.Min, d.Max)
			for _, w := range d.Words {
				directive.words = append(directive.words, w.Word)
			}
			if len(d.Words) > 0 {
				directive.is += ", or a word"
				directive.pattern = map[bool]string{true: "^[0-9]+$", false: "^."}[d.Verified]
			}
		}
		if !d.Verified {
			directive.doc = "as far as is known: " + directive.doc
		}
		f.keys = append(f.keys, key{name: name, form: directive})
	}
	return f
}

// meanings are what a directive is, and each of its numbers.
func meanings(d PCoIPDirective) []string {
	says := []string{d.Means}
	for _, w := range d.Words {
		if w.Word == "on" || w.Word == "off" {
			says = append(says, fmt.Sprintf("%d `%s`", w.Number, w.Word))
		} else {
			says = append(says, strings.TrimSuffix(fmt.Sprintf("%d `%s`: %s", w.Number, w.Word, w.Means), ": "))
		}
	}
	return says
}

func dconfForm() *form {
	plain := &form{doc: "the value: set, and locked", types: []string{aString, aNumber, aBoolean, anArray}, open: true}
	detailed := record("the value, and more about it",
		key{name: "value", form: &form{doc: "a string, a number, true, false or an array of these; it takes the type of the key in the installed schema", types: []string{aString, aNumber, aBoolean, anArray}, open: true}},
		key{name: "gvariant", form: value("the value in GVariant text format, instead of `value`").eg(`"(uint32 3, 'soft')"`)},
		key{name: "schema", form: text("the GSettings schema of the key, where the path does not tell").eg(`"org.mate.panel.toplevel"`)},
		key{name: "lock", form: yesOrNo("people cannot change it; left out: `true`")},
	).needing([]string{"value"}, []string{"gvariant"})
	return oneOf(plain, detailed)
}

func packageForm() *form {
	ensure := func() *form {
		return &form{
			doc: "`present`, `latest`, `absent`, or a version or version-release", types: []string{aString}, open: true,
			words: []string{string(Present), string(Latest), string(Absent)}, pattern: aVersion,
		}
	}
	return oneOf(ensure(), record("a package, and more about it",
		key{name: "ensure", form: ensure().eg(`"16.20.2-1.el7"`)},
		key{name: "topic", form: like("the topic of amazon-linux-extras that carries it", topicName.String())},
		key{name: "hold", form: yesOrNo("no update changes it")},
		key{name: "url", form: &form{doc: "where its file is, when it comes from no repository", types: []string{aString}, pattern: anyURL, open: true, example: `"https://downloads.example.com/tool-1.0-1.x86_64.rpm"`}},
		key{name: "sha256", form: &form{doc: "the SHA-256 of that file, 64 hexadecimal digits: no other is installed", types: []string{aString}, pattern: anyDigest, open: true}},
	))
}

func patchForm() *form {
	return record("updates, at once on a new machine and then in the maintenance window",
		key{name: "updates", form: word("which are installed", AllUpdates, SecurityUpdates)},
	).needing([]string{"updates"})
}

func serviceForm() *form {
	return record("a systemd unit; what is left out is not managed",
		key{name: "enabled", form: yesOrNo("it is started at boot")},
		key{name: "running", form: yesOrNo("it runs")},
		key{name: "masked", form: yesOrNo("nobody can start it")},
	).needing([]string{"enabled"}, []string{"running"}, []string{"masked"})
}

func checkForm() *form {
	return record("a command that judges the machine and changes nothing",
		key{name: "run", form: texts("the program with its whole path, and its arguments; no shell", value("")).eg(`["/usr/bin/findmnt", "-no", "SOURCE", "/home"]`)},
		key{name: "user", form: text("who runs it; left out: root")},
		key{name: "stdout", form: value("a regular expression (RE2) that the output must match").eg(`"^/dev/"`)},
		key{name: "stderr", form: value("a regular expression (RE2) that the errors must match")},
		key{name: "exit", form: whole("the exit code that it must have; left out: 0", 0, 255)},
		key{name: "timeout", form: like("how long it may take; left out: `10s`", someTime).eg(`"10s"`)},
	).needing([]string{"run"})
}

func ruleForm() *form {
	var severityWords []string
	for _, s := range severities() {
		severityWords = append(severityWords, string(s))
	}
	match := texts("globs over IDs of resources, in which `*` is any text, slashes included", like("", `^((`+strings.Join(Kinds(), "|")+`)/.|[a-z]*\*)`)).eg(`["sudo/*", "dconf/org/mate/screensaver/*"]`)
	return record("what is to be said of resources",
		key{name: "match", form: match},
		key{name: "severity", form: word("how much it matters that they are not in line; left out: `medium`", severityWords...)},
		key{name: "controls", form: texts("what they are demanded by", text("")).eg(`["CIS-AL2-5.2.2"]`)},
		key{name: "mode", form: word("`audit`: report them, and do not touch them", "audit")},
		key{name: "until", form: &form{doc: "the last day of a waiver, in UTC, without quotes; it needs `mode` and `reason`", types: []string{aString}, isDate: true, example: "2026-12-31"}},
		key{name: "reason", form: text("why they are audited only").eg(`"TICKET-123"`)},
		key{name: "pending", form: like("how long they may wait for their effect before that is held against the machine; left out: `7d`", someDays).eg(`"3d"`)},
		key{name: "disrupt", form: word("`window`: a session at the desktop may end for them in the maintenance window", DisruptInWindow)},
	).needing([]string{"match"})
}
