package policy

import (
	"strings"
	"testing"
)

// merged returns the problems of one fragment, and other advice for its author.
func merged(t *testing.T, toml string) string {
	t.Helper()
	fragment, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n" + toml})
	if err != nil {
		return err.Error()
	}
	p, err := Merge([]Fragment{fragment}, nil, nil)
	if err != nil {
		return err.Error()
	}
	return p.Doubtful().Error()
}

func TestASudoersFileOfThePolicyThatGrantsWhatItsSudoSectionDeniesIsAContradictionWithBothPlaces(t *testing.T) {
	const allow = "[sudo]\nallow = [\"root\", \"%domain-admins\"]\n"
	dropin := func(name, content string) string {
		return "[dropins.\"" + name + "\"]\nactivate = []\ncontent = '''\n" + content + "\n'''\n"
	}
	site := func(content string) string { return dropin("/etc/sudoers.d/60-site", content) }
	for name, test := range map[string]struct{ toml, want string }{
		"a group": {
			allow + site("# x\n%developers ALL=(root) NOPASSWD: /usr/bin/dmesg"),
			"f.toml:4: cannot merge dropin/etc/sudoers.d/60-site: line 2 of its content: it grants something to %developers, whom [sudo] allow at f.toml:3 (seed) does not name; say in [sudo.commands] what they may run",
		},
		"one of several":              {allow + site("%domain-admins, %developers ALL=ALL"), "grants something to %developers, whom"},
		"everybody":                   {allow + site("ALL ALL=/usr/bin/dmesg"), "grants something to ALL"},
		"a netgroup":                  {allow + site("+ops ALL=ALL"), "grants something to +ops"},
		"an alias":                    {allow + site("User_Alias A = root, %developers\nA ALL=ALL"), "grants something to A"},
		"an alias of another file":    {allow + site("A ALL=ALL") + dropin("/etc/sudoers.d/50-a", "User_Alias A = %developers"), "grants something to A"},
		"a user where none can be in": {"[sudo]\nallow = [\"root\", \"alice\"]\n" + site("bob ALL=ALL"), "cannot merge dropin/etc/sudoers.d/60-site: line 1"},
		"what it includes":            {allow + site("#include /etc/site.d/x") + dropin("/etc/site.d/x", "%developers ALL=ALL"), "cannot merge dropin/etc/site.d/x: line 1 of its content, which /etc/sudoers.d/60-site includes"},
		"a directory that it includes": {
			allow + site("@includedir /etc/site.d") + dropin("/etc/site.d/x", "%developers ALL=ALL"),
			"which /etc/sudoers.d/60-site includes",
		},
		"what nobody can tell":         {allow + site("root ALL=ALL root ALL=ALL"), "nobody can tell"},
		"an include behind the denial": {allow + dropin("/etc/sudoers.d/zzz", "#include /etc/x"), "sorts before"},
		"a user who may be in a group": {allow + site("bob ALL=ALL"), "f.toml:4: warning: dropin/etc/sudoers.d/60-site: line 1 of its content: it grants something to bob"},
		"a uid":                        {allow + site("#1000 ALL=ALL"), "warning"},
		"the allowed":                  {allow + site("%Domain-Admins ALL=(ALL) NOPASSWD: ALL\nroot ALL=ALL\n#0 ALL=ALL"), ""},
		"a member by the policy":       {allow + "[users.bob]\ngroups = [\"domain-admins\"]\n" + site("bob ALL=ALL"), ""},
		"denials and settings":         {allow + site("ALL ALL=(ALL) !/usr/bin/su\nDefaults:bob !lecture\nUser_Alias A = bob"), ""},
		"without a sudo section":       {site("%developers ALL=ALL"), ""},
		"one that is to be absent":     {allow + "[dropins.\"/etc/sudoers.d/60-site\"]\nensure = \"absent\"\n", ""},
		"a file elsewhere":             {allow + dropin("/etc/site.d/x", "%developers ALL=ALL"), ""},
		"a name that is not known yet": {allow + site("{{resolve:ssm:/x}} ALL=ALL"), ""},
		"those not known yet":          {"[sudo]\nallow = [\"root\", \"alice\", \"{{resolve:ssm:/x}}\"]\n" + site("%developers ALL=ALL"), "warning"},
	} {
		if got := merged(t, test.toml); !strings.Contains(got, test.want) || (test.want == "") != (got == "") {
			t.Errorf("%s: want %q, got %q", name, test.want, got)
		}
	}
}

func TestASudoersFileOfThePolicyThatTakesFromTheAllowedOrWeakensSudoIsAContradiction(t *testing.T) {
	const allow = "[sudo]\nallow = [\"root\", \"alice\", \"%domain-admins\"]\n"
	dropin := func(name, content string) string {
		return "[dropins.\"" + name + "\"]\nactivate = []\ncontent = '''\n" + content + "\n'''\n"
	}
	site := func(content string) string { return dropin("/etc/sudoers.d/60-site", content) }
	for name, test := range map[string]struct{ toml, want string }{
		"the group": {
			allow + site("%domain-admins ALL=!ALL"),
			"f.toml:4: cannot merge dropin/etc/sudoers.d/60-site: line 1 of its content: it denies %domain-admins what [sudo] allow at f.toml:3 (seed) gives them; take the line out, or take them out of allow",
		},
		"the user":                            {allow + site("Alice ALL = (root) /usr/bin/id, !ALL"), "it denies alice what"},
		"root":                                {allow + site("#0 ALL=(ALL) !ALL"), "it denies root what"},
		"everybody":                           {allow + site("ALL ALL=!ALL"), "it denies root, alice, %domain-admins what"},
		"everybody but some":                  {allow + site("ALL, !root, !alice ALL=!ALL"), "it denies %domain-admins what"},
		"an alias":                            {allow + site("User_Alias A = %domain-admins, bob\nCmnd_Alias C = ALL\nA ALL=(ALL) !C"), "it denies %domain-admins what"},
		"aliases of two files":                {allow + site("A ALL=!C") + dropin("/etc/sudoers.d/50-a", "User_Alias A = alice\nCmnd_Alias C = /usr/bin/"), "it denies alice what"},
		"a member by the policy":              {allow + "[users.bob]\ngroups = [\"domain-admins\"]\n" + site("bob ALL=!ALL"), "it denies bob what"},
		"without other programs":              {allow + site("alice ALL=(ALL) NOEXEC: ALL"), "it denies alice what"},
		"what it includes":                    {allow + site("#include /etc/site.d/x") + dropin("/etc/site.d/x", "alice ALL=!ALL"), "cannot merge dropin/etc/site.d/x: line 1"},
		"a setting for all":                   {allow + site("Defaults targetpw"), "\"Defaults targetpw\" weakens sudo, and [sudo] at f.toml:3 (seed) undoes it; leave it out"},
		"a setting with a path":               {allow + site("Defaults mailerpath=/home/user/x"), "weakens sudo"},
		"a log where files decide":            {allow + site("Defaults logfile=/etc/sudoers.d/zzz"), "weakens sudo"},
		"no password for somebody else":       {allow + site("Defaults:%developers !authenticate"), "weakens sudo"},
		"no password for who may be allowed":  {allow + site("Defaults:bob !authenticate"), "warning"},
		"no other programs for all":           {allow + site("Defaults noexec"), "keeps those from becoming root whom [sudo] allow"},
		"no other programs for one":           {allow + site("Defaults:alice noexec"), "keeps those from becoming root"},
		"a person's file":                     {allow + site("@include /home/user/x"), "it includes /home/user/x, where others than root may write"},
		"a person's directory":                {allow + site("@includedir /tmp/x.d"), "where others than root may write"},
		"single programs":                     {allow + site("%domain-admins ALL=(ALL) !/usr/bin/su, !/usr/bin/passwd root"), ""},
		"what comes back":                     {allow + site("alice ALL=!ALL\nalice ALL=(ALL) NOPASSWD: ALL"), ""},
		"others":                              {allow + site("%developers ALL=!ALL\nALL, !root, !alice, !%domain-admins ALL=!ALL"), ""},
		"who may be one of them":              {allow + site("bob ALL=!ALL"), ""},
		"all of another host":                 {allow + site("alice web1=!ALL"), ""},
		"all as somebody else":                {allow + site("alice ALL=(bob) !ALL"), ""},
		"no password for the allowed":         {allow + site("Defaults:alice !authenticate\nDefaults:%domain-admins timestamp_timeout=-1"), ""},
		"harmless settings":                   {allow + site("Defaults logfile=/var/log/sudo.log, insults, passwd_tries=2"), ""},
		"no other programs for somebody else": {allow + site("Defaults:%developers noexec"), ""},
		"without a sudo section":              {site("alice ALL=!ALL\nDefaults targetpw"), ""},
	} {
		if got := merged(t, test.toml); !strings.Contains(got, test.want) || (test.want == "") != (got == "") {
			t.Errorf("%s: want %q, got %q", name, test.want, got)
		}
	}
}

func TestWhatAValueMakesOfASudoersFileFailsThatFileAlone(t *testing.T) {
	p, err := Merge([]Fragment{mustParse(t, "f.toml", "schema = 1\n[sudo]\nallow = [\"%ops\"]\n[dropins.\"/etc/sudoers.d/60-site\"]\ncontent = \"{{resolve:ssm:/x}} ALL=ALL\\n\"\n")}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p = p.Expand(func(Reference) (string, bool) { return "%developers", true })
	if r, _ := p.Lookup("dropin/etc/sudoers.d/60-site"); !strings.Contains(r.Unusable, "%developers") || len(Of[Sudo](p)) != 1 || len(Of[Dropin](p)) != 0 {
		t.Errorf("got %q", r.Unusable)
	}
}

func TestTheCommandsOfSubjectsAreHeldToTheirLine(t *testing.T) {
	const allow = "[sudo]\nallow = [\"%ops\"]\n"
	for toml, want := range map[string]string{
		"[sudo.commands]\n\"%dev\" = [\"/x\"]\nbob = [\n\"/x\",\n\"ALL\"]\n": `f.toml:6: cannot use sudo.commands.bob: "ALL": whoever may run ALL is an administrator`,
		"[sudo.commands]\nbob = []\n":                                        "f.toml:5: cannot use sudo.commands.bob: it names no command",
		"[sudo.commands]\nbob = \"/x\"\n":                                    "f.toml:5: cannot use sudo.commands.bob: it wants an array",
		"[sudo.commands]\nbob = [\"/x\\nbob ALL=ALL\"]\n":                    "line break",
		"[sudo.commands]\nALL = [\"/x\"]\n":                                  "everybody",
		"[sudo.commands]\n\"#1000\" = [\"/x\"]\n":                            "not a user or a %group",
		"[sudo.commands]\nbob = [\"/x {{resolve:ssm:/x}}\"]\n":               "reference where none is replaced",
		"commands.\"{{fact:hostname}}\" = [\"/x\"]\n":                        "reference where none is replaced",
		"commands.bob = [\"/x a, /y\"]\n":                                    "comma",
	} {
		if got := merged(t, allow+toml); !strings.Contains(got, want) {
			t.Errorf("%s: want %q, got %q", toml, want, got)
		}
	}
	if got := advised(t, "2026-11-21 12:00:00", allow+"[sudo.commands]\nbob = [\"/x\"]\n\"%dev\" = [\"NOPASSWD: /usr/bin/vi\"]\n\"%ops\" = [\"/x\"]\n"); got !=
		"a.toml:3: warning: the commands of %ops in [sudo.commands] have no effect: [sudo] allow lets %ops run everything\n"+
			"a.toml:6: warning: %dev may become root by \"NOPASSWD: /usr/bin/vi\": an editor writes any file, and starts a shell; and it asks for no password; grant a program that does the one thing, with its arguments\n" {
		t.Errorf("got %s", got)
	}
}
