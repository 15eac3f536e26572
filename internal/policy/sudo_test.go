package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGroupsThatAreAsGoodAsRootAreNamedNextToTheAllowed(t *testing.T) {
	p, err := Merge([]Fragment{mustParse(t, "a.toml", `schema = 1
[sudo]
allow = ["root", "alice", "%ops"]
root_groups = ["docker", "disk"]
[users.alice]
groups = ["docker"]
[users.carol]
groups = ["docker", "ops"]
[users.builder]
system = true
groups = ["docker"]
`)}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Sudo{Allow: []string{"root", "alice", "%ops"}, RootGroups: []string{"docker", "disk"}}
	for _, got := range Of[Sudo](p) {
		if diff := cmp.Diff(want, got.Spec); diff != "" {
			t.Error(diff)
		}
	}
	if n := len(Of[Sudo](p)); n != 1 {
		t.Errorf("%d sudo resources", n)
	}
}

func TestAnAdministratorWhoCannotLogInIsWarnedOf(t *testing.T) {
	const others = "[sudo]\nallow = [\"root\", \"alice\", \"%ops\"]\n[users.alice]\n"
	for shell, want := range map[string]string{
		"/bin/false":        "f.toml:4: warning: alice administers the machine by [sudo] allow at f.toml:3 (seed), and cannot log in with the shell /bin/false",
		"/usr/sbin/nologin": "warning",
		"/usr/bin/sync":     "warning",
		"/bin/zsh":          "",
	} {
		if got := merged(t, others+"shell = \""+shell+"\"\n"); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: want %q, got %q", shell, want, got)
		}
	}
}

func TestASudoSectionThatCannotBeRightIsRefused(t *testing.T) {
	for toml, want := range map[string]string{
		"[sudo]\nroot_groups = [\"docker\"]\n":                                                                                   "no administrator",
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"%docker\"]\n":                                                             "without %",
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"\"]\n":                                                                    "not the name of a group",
		"[sudo]\nallow = [\"%docker\"]\nroot_groups = [\"docker\"]\n":                                                            "whoever is in it is allowed",
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"docker\"]\n[users.bob]\ngroups = [\"docker\"]\n":                          "puts bob there",
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"docker\"]\n[users.bob]\ngroup = \"docker\"\n":                             "puts bob there",
		"[sudo]\nallow = [\"alice\"]\nroot_group = [\"docker\"]\n":                                                               `did you mean "root_groups"`,
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"{{resolve:ssm:/x}}\"]\n":                                                  "where none is replaced",
		"[sudo]\nallow = [\"alice\", \"%ops\"]\n[users.alice]\nensure = \"absent\"\n[groups.ops]\nensure = \"absent\"":           "removes everybody",
		"[sudo]\nallow = [\"root\", \"alice\"]\n[users.alice]\nshell = \"/bin/false\"\n":                                         "or gives them a shell that ends at once",
		"[sudo]\nallow = [\"alice\", \"%ops\"]\n[users.alice]\nshell = \"/usr/sbin/nologin\"\n[groups.ops]\nensure = \"absent\"": "or gives them a shell",
		"[sudo]\nallow = [\"root\", \"svc\"]\n[users.svc]\nsystem = true\n":                                                      "or gives them a shell",
	} {
		fragment, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n" + toml})
		if err == nil {
			_, err = Merge([]Fragment{fragment}, nil, nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", toml, want, err)
		}
	}
}
