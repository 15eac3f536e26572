// Package support packs what a second-level engineer asks for first into one archive:
// status, report, policy, configuration, history, journal, and what the machine is like.
//
// A Bundle can be made whether the daemon runs or not, and of a system that does not
// run. What cannot be had is said in it and keeps nothing else out. It is bounded, in
// size and in the time that it takes, and it only reads.
//
// It is made to leave the machine, so no secret may be in it. Four things see to that:
// no file is taken that holds any by its nature (credentials, keys, drop-ins); of the
// policy there are the references and not the values; the values that are known, to the
// policy or from the files that hold them, are hidden wherever they turn up; and
// what looks like a secret is removed, whosever it is.
package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/redact"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Options say of what a bundle is made.
type Options struct {
	System  *system.System
	Version string // of the agent

	ConfigFile, LocalDir, SeedDir, StateDir, HistoryDir, RunDir string

	Credentials credentials.Config
	// Policy returns the policy in force, as well as it is known, and why it is not
	// newer. What it says besides an error is used.
	Policy func(context.Context) (p *policy.Policy, refused []string, err error)
}

// A Bundle is what was collected.
type Bundle struct {
	Name    string   // of the directory in the archive, good for a file name
	Missing []string // what could not be had, and why; free of secrets

	made  time.Time
	files []file
}

type file struct {
	name    string
	content []byte
}

// collectTimeout bounds all of it.
const collectTimeout = 3 * time.Minute

// Collect looks at everything. It takes seconds, and minutes at the most.
func Collect(ctx context.Context, o Options) Bundle {
	ctx, cancel := context.WithTimeout(ctx, collectTimeout)
	defer cancel()
	p, refused, err := o.Policy(ctx)
	if p == nil {
		p = &policy.Policy{}
	}
	c := collector{Options: o, policy: p, refused: refused, policyErr: err}
	known := onDisk(o.System.FS, p)
	c.keys, c.keysErr = c.retrieve(ctx)
	known = append(known, c.keys.SecretAccessKey, c.keys.SessionToken)
	clean := redact.Knowing(p, known...)

	made := o.System.Clock.Now().UTC()
	b := Bundle{made: made, Name: "soe-agent-support-" + inFileName(c.hostname()) + "-" + made.Format("20060102T150405Z")}
	documents := c.documents()
	for _, d := range documents {
		content, err := d.read(ctx)
		content = d.shorten(clean.Text(content))
		if err != nil {
			lines := strings.Split(string(clean.Text([]byte(err.Error()))), "\n")
			b.Missing = append(b.Missing, d.name+": "+strings.Join(slices.Compact(lines), "; "))
		}
		if len(content) > 0 {
			b.files = append(b.files, file{d.name, content})
		}
	}
	index := file{"README.txt", b.index(c, documents)}
	b.files = append([]file{index}, b.files...)
	return b
}

var notInFileName = regexp.MustCompile(`[^A-Za-z0-9-]+`)

func inFileName(host string) string {
	host = strings.Trim(notInFileName.ReplaceAllString(host, "-"), "-")
	return host[:min(len(host), 64)]
}

func (c collector) hostname() string {
	f, err := facts.Gather(context.Background(), c.System)
	if err != nil && f.Hostname == "" || f.Hostname == "" {
		return "unknown"
	}
	return f.Hostname
}

// index says what is what, and where to begin.
func (b Bundle) index(c collector, documents []document) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, "soe-agent support bundle\n\nof   %s\nmade %s by soe-agent %s\n", c.hostname(), b.made.Format(time.RFC3339), c.Version)
	if !c.System.Running() {
		fmt.Fprintf(&text, "\nThe system does not run: it is an image, and what only a machine that runs can tell is not here.\n")
	}
	fmt.Fprintf(&text, "\nLook in this order:\n\n")
	for _, d := range documents {
		fmt.Fprintf(&text, "  %-17s %s\n", d.name, d.about)
	}
	fmt.Fprintf(&text, "\nNot to be had:\n\n")
	for _, why := range b.Missing {
		fmt.Fprintf(&text, "  %s\n", why)
	}
	if len(b.Missing) == 0 {
		fmt.Fprintf(&text, "  nothing: it is complete\n")
	}
	fmt.Fprintf(&text, "\nSecrets: %s stands for a value that the policy keeps secret, %s for what looked like one.\n"+
		"Times are UTC where they end in Z. What was too long says where it was cut.\n", public.Secret, redact.Removed)
	return text.Bytes()
}

// Archive is the bundle as a gzip-compressed tar archive, whose files only their owner
// may read.
func (b Bundle) Archive() ([]byte, error) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zip)
	var errs []error
	for _, f := range b.files {
		err := archive.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: b.Name + "/" + f.name, Size: int64(len(f.content)), Mode: 0o600, ModTime: b.made.Truncate(time.Second),
		})
		if err == nil {
			_, err = io.Copy(archive, bytes.NewReader(f.content))
		}
		errs = append(errs, err)
	}
	if err := errors.Join(append(errs, archive.Close(), zip.Close())...); err != nil {
		return nil, fmt.Errorf("cannot pack the support bundle: %w", err)
	}
	return packed.Bytes(), nil
}

// retrieve asks for the credentials as the agent does: whether there are any is worth
// knowing, and the keys are among what must not be shown.
func (c collector) retrieve(ctx context.Context) (keys, error) {
	if !c.System.Running() {
		return keys{}, system.ErrNotRunning
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return credentials.New(c.Credentials, c.System).Retrieve(ctx)
}

// onDisk are the values of the policy's secrets as the files hold them that wanted
// them. AWS may be away when a bundle is made, or have others by now.
func onDisk(files system.FileReader, p *policy.Policy) []string {
	var secrets []string
	for _, r := range p.Resources {
		spec := r.Spec
		if r.Shown != nil {
			spec = r.Shown
		}
		confidential, is := spec.(policy.Confidential)
		if !is {
			continue
		}
		text, file := confidential.Confidential(r.ID)
		if !reference.MatchString(text) {
			continue
		}
		pattern, end := `(?s)\A`, 0
		for _, at := range reference.FindAllStringIndex(text, -1) {
			pattern += regexp.QuoteMeta(text[end:at[0]]) + `(.*?)`
			end = at[1]
		}
		like, err := regexp.Compile(pattern + regexp.QuoteMeta(text[end:]) + `\z`)
		if err != nil {
			continue // it is longer than a pattern may be
		}
		content, err := files.ReadFile(file)
		if err != nil {
			continue
		}
		for i, value := range like.FindSubmatch(content) {
			if i > 0 {
				secrets = append(secrets, string(value))
			}
		}
	}
	return secrets
}

// reference is one to a value that must not be seen.
var reference = regexp.MustCompile(`\{\{resolve:(?:ssm-secure|secretsmanager):[^{}]*\}\}`)
