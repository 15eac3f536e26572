package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// tomlBlock is a block of TOML, with what it is indented by in a list.
var tomlBlock = regexp.MustCompile("(?ms)^( *)```toml\n(.*?)^ *```$")

// configuration is how a document begins that is an agent.toml.
var configuration = regexp.MustCompile(`(?m)^(personas *=.*\n\n?\[(\[persona|aws)|\[\[persona\]\]|\[(aws|schedule|report)\b)`)

// What people copy from a document the program reads.
func TestAllTOMLOfTheDocumentsIsWhatTheProgramReads(t *testing.T) {
	fragments, configurations := 0, 0
	for _, name := range documents(t) {
		content := read(t, name)
		for _, match := range tomlBlock.FindAllStringSubmatchIndex(content, -1) {
			indent, text := content[match[2]:match[3]], content[match[4]:match[5]]
			text = regexp.MustCompile(`(?m)^`+indent).ReplaceAllString(text, "")
			line := 1 + strings.Count(content[:match[4]], "\n")
			var err error
			switch {
			case strings.Contains(text, "[[fragment]]") || strings.Contains(text, "[[rule]]\ninclude"): // abridged, or an editor's
				_, err = toml.Decode(text, new(map[string]any))
			case strings.Contains(text, "serial = "):
				_, err = manifest.Parse(name, text)
			case configuration.MatchString(text):
				configurations++
				err = readConfiguration(t, text)
			default:
				fragments++
				if !regexp.MustCompile(`(?m)^schema `).MatchString(text) {
					text = "schema = 1\n" + text
				}
				_, err = policy.Parse(policy.Source{Name: name, Text: text})
			}
			if err != nil {
				t.Errorf("%s:%d: %v\n%s", name, line, err, text)
			}
		}
	}
	if fragments < 15 || configurations < 4 {
		t.Errorf("%d fragments and %d configurations found", fragments, configurations)
	}
}

func readConfiguration(t *testing.T, text string) error {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "agent.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	_, err = agent.ReadConfig(s.FS, "/agent.toml")
	return err
}

// Who has lost the manifest of a fleet writes one that nobody takes, and publishes.
func TestTheManifestThatIsWrittenByHandIsOneThatNoMachineTakes(t *testing.T) {
	_, text, found := strings.Cut(section(t, "publishing.md", "A manifest that is lost"), "```toml\n")
	text, _, _ = strings.Cut(text, "```")
	if !found {
		t.Fatal("there is none")
	}
	m, err := manifest.Parse("manifest", text)
	if err != nil {
		t.Fatal(err)
	}
	if _, takes := m.For("any machine", m.Serial-1); takes || m.Newest() < 1000 {
		t.Errorf("a machine takes %+v", m)
	}
}
