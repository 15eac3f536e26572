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
`)}, nil)
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

func TestASudoSectionThatCannotBeRightIsRefused(t *testing.T) {
	for toml, want := range map[string]string{
		"[sudo]\nroot_groups = [\"docker\"]\n":                                                                         "no administrator",
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"%docker\"]\n":                                                   "without %",
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"\"]\n":                                                          "not the name of a group",
		"[sudo]\nallow = [\"%docker\"]\nroot_groups = [\"docker\"]\n":                                                  "whoever is in it is allowed",
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"docker\"]\n[users.bob]\ngroups = [\"docker\"]\n":                "puts bob there",
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"docker\"]\n[users.bob]\ngroup = \"docker\"\n":                   "puts bob there",
		"[sudo]\nallow = [\"alice\"]\nroot_group = [\"docker\"]\n":                                                     `did you mean "root_groups"`,
		"[sudo]\nallow = [\"alice\"]\nroot_groups = [\"{{resolve:ssm:/x}}\"]\n":                                        "where none is replaced",
		"[sudo]\nallow = [\"alice\", \"%ops\"]\n[users.alice]\nensure = \"absent\"\n[groups.ops]\nensure = \"absent\"": "removes everybody",
	} {
		fragment, err := Parse(Source{Name: "f.toml", Text: "schema = 1\n" + toml})
		if err == nil {
			_, err = Merge([]Fragment{fragment}, nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", toml, want, err)
		}
	}
}
