// Package desktop is a machine in a temporary folder that follows what is published at an AWS endpoint: the agent's
// own code, from the credentials that amazon-ssm-agent leaves to the last good policy, without its daemon.
package desktop

import (
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

const (
	// Path is where the policy is published that desktops follow.
	Path = "/soe/prod"
	// MachineID is what all desktops have from their image.
	MachineID = "image"
)

// A Desktop is a machine. Who looks passes it its own Subject and AWS, of which the first may be changed.
type Desktop struct {
	policysync.Machine
	Subject policysync.Subject
	AWS     *source.AWS
}

// New makes a desktop with awsfake's DefaultCredentials, which sends its requests by a client such as
// source.Client() makes. It is gone when the test ends.
func New(t testing.TB, hostname, endpoint string, client *http.Client, retry source.Retry) *Desktop {
	t.Helper()
	root := t.TempDir()
	if err := awsfake.Activate(root, awsfake.DefaultCredentials(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	s.Root = "/" // it plays a machine that runs; an image gets no secret
	config := source.Config{Path: Path, Endpoint: endpoint, Credentials: credentials.Config{Source: "ssm-agent"}}
	aws, err := source.Connect(config, awsfake.Region, credentials.New(config.Credentials, s), client, retry)
	if err != nil {
		t.Fatal(err)
	}
	return &Desktop{
		Machine: policysync.Machine{
			System: s, SeedDir: "/usr/share/soe-agent/policy.d", LocalDir: "/etc/soe-agent/policy.d", StateDir: "/var/lib/soe-agent",
			Log: slog.New(slog.DiscardHandler),
		},
		Subject: policysync.Subject{Facts: facts.Facts{Hostname: hostname, MachineID: MachineID}, Path: Path},
		AWS:     aws,
	}
}

// Dropin is a fragment with one drop-in of this name, for personas.
func Dropin(name, content string, personas ...string) string {
	text := "schema = 1\n"
	if len(personas) > 0 {
		text += "personas = [\"" + strings.Join(personas, "\", \"") + "\"]\n"
	}
	return text + fmt.Sprintf("[dropins.\"/etc/soe.d/%s.conf\"]\ncontent = %q\n", name, content+"\n")
}

// Contents are what a policy of such fragments wants, by the drop-ins' names. What lacks a value is not among them.
func Contents(p *policy.Policy) map[string]string {
	all := map[string]string{}
	for _, w := range policy.Of[policy.Dropin](p) {
		name := strings.TrimSuffix(filepath.Base(string(w.ID)), ".conf")
		all[name] = strings.TrimSuffix(w.Spec.Content, "\n")
	}
	return all
}
