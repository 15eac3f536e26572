package facts_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

func gather(t *testing.T, files, links map[string]string) facts.Facts {
	t.Helper()
	root := t.TempDir()
	place := func(name string) string {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, content := range files {
		if err := os.WriteFile(place(name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, place(name)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	f, err := facts.Gather(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const amazonLinux = `NAME="Amazon Linux"
VERSION="2"
ID="amzn"
ID_LIKE="centos rhel fedora"
VERSION_ID="2"
PRETTY_NAME="Amazon Linux 2"
`

func TestAManagedMachineIsKnownByWhatItsFilesSay(t *testing.T) {
	got := gather(t, map[string]string{
		"etc/os-release":                      amazonLinux,
		"etc/hostname":                        "not-in-effect\n",
		"proc/sys/kernel/hostname":            "A-1BCDEFGHIJKLM\n",
		"proc/sys/kernel/random/boot_id":      "b\n",
		"etc/machine-id":                      "0123456789abcdef0123456789abcdef\n",
		"var/lib/amazon/ssm/registration":     `{"ManagedInstanceID":"mi-0123456789abcdef0","Region":"eu-west-1"}`,
		"var/lib/amazon/ssm/Vault/Store/Keys": "none of our business",
		"etc/locale.conf":                     "# of the image\nLANG=\"de_DE.UTF-8\"\n",
	}, nil)
	want := facts.Facts{
		Hostname: "A-1BCDEFGHIJKLM", MachineID: "0123456789abcdef0123456789abcdef", BootID: "b",
		OSID: "amzn", OSVersion: "2", OSName: "Amazon Linux 2", OSCodename: "none", OSLike: []string{"centos", "rhel", "fedora"},
		ManagedNode: "mi-0123456789abcdef0", Region: "eu-west-1", Locale: "de_DE.UTF-8",
	}
	if diff := cmp.Diff(want, got, withoutKind); diff != "" {
		t.Error(diff)
	}
	for name, value := range map[string]string{
		"hostname": want.Hostname, "machine-id": want.MachineID, "os.id": "amzn", "os.version": "2",
		"managed-node": want.ManagedNode, "region": "eu-west-1", "locale": "de_DE.UTF-8",
	} {
		if got, known := got.Lookup(name); !known || got != value {
			t.Errorf("%s is %q, %v", name, got, known)
		}
	}
	if _, known := got.Lookup("colour"); known {
		t.Error("an unknown fact is known")
	}
}

// withoutKind leaves out what kind of machine it is, which has tests of its own.
var withoutKind = cmpopts.IgnoreFields(facts.Facts{}, "Kind")

func TestAnImageThatDoesNotRunTellsWhatItCan(t *testing.T) {
	got := gather(t, map[string]string{
		"usr/lib/os-release":              "ID=rocky\nVERSION_ID='9.4'\n",
		"etc/hostname":                    "image\n",
		"var/lib/amazon/ssm/registration": `{"ManagedInstanceID":"mi-`, // incomplete
	}, map[string]string{"etc/os-release": "/usr/lib/os-release"}) // an absolute link
	if diff := cmp.Diff(facts.Facts{Hostname: "image", OSID: "rocky", OSVersion: "9.4", OSCodename: "none"}, got, withoutKind); diff != "" {
		t.Error(diff)
	}
}
