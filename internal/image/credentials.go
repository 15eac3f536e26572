package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/redact"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// surveyTimeout limits the search through all files.
	surveyTimeout = 5 * time.Minute
	// mostFindings is how many findings are listed one by one.
	mostFindings = 100
	// mostUnseen is how many unread places are listed one by one.
	mostUnseen = 10
	// overlap is longer than the beginning of a key with the lines above it.
	overlap = 4 << 10

	whyCredentials = "the image is given to many, and whoever may read it has them"
)

// surveyed returns the directories that are searched for keys and passwords: where people put them,
// and directories in / that no system has by default.
func (s *searcher) surveyed() []string {
	all := []string{"/etc", "/home", "/opt", "/root", "/srv", "/usr/local", "/var/lib/cloud", "/var/spool/cron", "/var/www"}
	systems := []string{
		"bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "local", "lost+found", "media", "mnt", "opt", "proc", "root", "run",
		"sbin", "srv", "sys", "tmp", "usr", "var",
	}
	names, err := s.files.ReadDir("/")
	if err != nil {
		s.errs = append(s.errs, err)
	}
	for _, name := range names {
		if info, err := s.files.Stat("/" + name); err != nil {
			s.errs = append(s.errs, err)
		} else if info.IsDir() && !slices.Contains(systems, name) {
			all = append(all, "/"+name)
		}
	}
	return all
}

// credentials looks for credentials that every desktop would have: in well-known places, and in all
// files where people put them.
func credentials(ctx context.Context, o Options) ([]Finding, error) {
	s := &searcher{files: o.System.FS, told: map[string]bool{}}
	s.accounts()
	s.places()
	own := append([]string{o.ConfigFile}, filesIn(s.files, o.LocalDir)...)
	own = append(own, filesIn(s.files, o.SeedDir)...)
	for _, name := range append(own, filesIn(s.files, "/etc/systemd/system/soe-agent.service.d")...) {
		s.own(name)
	}
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	var unseen []system.Unseen
	for _, dir := range s.surveyed() {
		unseen = append(unseen, s.files.Survey(ctx, system.Survey{Dir: dir, Each: s.part, Overlap: overlap})...)
	}
	if err := context.Cause(ctx); err != nil && len(unseen) == 0 {
		s.errs = append(s.errs, errors.New("the time was up"))
	}
	for i, u := range unseen {
		if i == mostUnseen {
			s.errs = append(s.errs, fmt.Errorf("not read either: %d other places", len(unseen)-i))
			break
		}
		s.errs = append(s.errs, fmt.Errorf("not read: %s: %s", u.Name, u.Why))
	}
	return s.found(), errors.Join(s.errs...)
}

// A searcher collects findings.
type searcher struct {
	files system.FS
	all   []Finding
	told  map[string]bool // findings already listed, and files with enough of them
	lines int             // lines of the current file before the current part
	errs  []error
}

// found returns the findings, the important ones first.
func (s *searcher) found() []Finding {
	slices.SortStableFunc(s.all, func(a, b Finding) int {
		switch {
		case a.named == b.named:
			return 0
		case a.named:
			return 1
		}
		return -1
	})
	if more := len(s.all) - mostFindings; more > 0 {
		last := Finding{
			What: fmt.Sprintf("%d more places hold what looks like a key or a password", more), Why: whyCredentials,
			Do: "mend those that are named, and audit again", named: s.all[mostFindings].named,
		}
		return append(s.all[:mostFindings:mostFindings], last)
	}
	return s.all
}

// tell adds a finding in a file, once for each file and text.
func (s *searcher) tell(name, what, do string, named bool) {
	key := name + "\x00" + what
	if s.told[key] {
		return
	}
	s.told[key] = true
	s.all = append(s.all, Finding{What: what, Why: whyCredentials, Do: do, named: named})
}

// read returns the content of a file, or nil if it does not exist.
func (s *searcher) read(name string) []byte {
	content, err := s.files.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.errs = append(s.errs, err)
	}
	return content
}

// own checks a file of the agent's own configuration, which must not contain anything that looks
// like a secret.
func (s *searcher) own(name string) {
	if content := s.read(name); !bytes.Equal(redact.Redactor{}.Text(content), content) {
		s.told[name] = true
		s.tell(name, name+" seems to hold credentials", "take it out: secrets belong into Secrets Manager, and the credentials of a desktop come from its activation", false)
	}
}

// part checks a part of a file.
func (s *searcher) part(name string, info system.Info, part []byte, first bool) {
	if first {
		s.lines = 0
	}
	base := path.Base(name)
	if sort, at := keyIn(part, first); sort != "" {
		s.key(name, sort, s.lines+1+bytes.Count(part[:at], []byte("\n")))
	}
	text := bytes.IndexByte(part[:min(len(part), 8<<10)], 0) < 0
	if at := accessKeyIn(part); text && at >= 0 && !example(name) {
		s.accessKey(name, s.lines+1+bytes.Count(part[:at], []byte("\n")))
	}
	switch {
	case first && info.Size > 0 && history(base):
		s.tell(name, name+" is a history of what was typed, and passwords are typed", "remove it: rm "+name, false)
	case first && base == "authorized_keys" && len(bytes.TrimSpace(part)) > 0:
		s.tell(name, name+" lets whoever has the other half of its keys into every desktop", "remove it, if that is not meant", true)
	case isShadow(name):
	case configuration(name) && text:
		for _, h := range passwordsIn(name, part, s.lines) {
			if s.told[name] {
				break // the whole file must be reviewed anyway
			}
			s.tell(name, fmt.Sprintf("%s, line %d: %s", name, h.line, h.sort), takeOut(name), false)
		}
	}
	s.lines += bytes.Count(part[:max(0, len(part)-overlap)], []byte("\n"))
}

// takeOut returns what to do about a secret in a settings file.
func takeOut(name string) string {
	if strings.Contains(name, "/.aws/") {
		return "remove it; those of amazon-ssm-agent: soe-agent image seal --ssm-registration --yes"
	}
	return "take it out: a file of the policy gets its secret when the desktop runs"
}

// accessKey adds a finding for an access key of AWS, once per file: the whole file must be reviewed
// anyway.
func (s *searcher) accessKey(name string, line int) {
	if !s.told[name] {
		s.told[name] = true
		s.tell(name, fmt.Sprintf("%s, line %d: an access key of AWS", name, line), takeOut(name), false)
	}
}

// key adds a finding for a private key. Some keys are made anew on each desktop, or by each machine
// for itself.
func (s *searcher) key(name, sort string, line int) {
	what := fmt.Sprintf("%s, line %d: %s", name, line, sort)
	switch {
	case strings.HasPrefix(name, "/etc/ssh/ssh_host_"):
		s.tell(name, what+" of this machine's sshd", "leave it where cloud-init makes new ones (ssh_deletekeys); else remove it right before the capture: rm /etc/ssh/ssh_host_*", true)
	case strings.HasSuffix(name, "/ssl-cert-snakeoil.key"):
		s.tell(name, what+" that was made for this machine when a package was installed", "leave it if nothing uses it; else: make-ssl-cert generate-default-snakeoil --force-overwrite, on each desktop", true)
	case name == "/etc/krb5.keytab":
		s.tell(name, what+" of this machine's account in the directory", "AWS's documents do not say whether the capture takes it away: see that a desktop of the image has another", true)
	case example(name):
		s.tell(name, what+", by its place an example", "leave it if it is one, else remove it", true)
	default:
		s.tell(name, what, "remove it; what a desktop needs of it is a secret of the policy", false)
	}
}

// example reports whether a file belongs to the tests or examples of some software, so that its
// contents are public.
func example(name string) bool {
	return slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(dir string) bool {
		return slices.Contains([]string{"test", "tests", "testdata", "testing", "example", "examples", "doc", "docs", "certdata"}, dir)
	}) && !strings.HasPrefix(name, "/etc/")
}

func history(base string) bool {
	return strings.HasPrefix(base, ".") && (strings.HasSuffix(base, "_history") || strings.HasSuffix(base, "-history")) || slices.Contains([]string{".history", ".histfile", "fish_history", "ConsoleHost_history.txt"}, base)
}

func isShadow(name string) bool {
	return slices.Contains([]string{"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/passwd", "/etc/passwd-", "/etc/security/opasswd"}, name)
}

// accounts looks for passwords of local accounts and groups, also in the backup files.
func (s *searcher) accounts() {
	for _, file := range []string{"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/passwd", "/etc/passwd-"} {
		number := 0
		for raw := range bytes.Lines(s.read(file)) {
			number++
			fields := strings.Split(strings.TrimSpace(string(raw)), ":")
			if len(fields) < 3 || fields[0] == "" || strings.HasPrefix(fields[0], "#") {
				continue
			}
			group := strings.HasPrefix(file, "/etc/gshadow")
			what, do := "", "passwd --lock "+fields[0]
			switch hash := fields[1]; {
			case hash == "x" || strings.HasPrefix(hash, "!") || strings.HasPrefix(hash, "*"), hash == "" && group:
				continue
			case hash == "":
				what = "the account " + fields[0] + " has an empty password"
			case group:
				what, do = "the group "+fields[0]+" has a password", "gpasswd --remove-password "+fields[0]
			default:
				what = "the account " + fields[0] + " has a password"
			}
			if strings.HasSuffix(file, "-") {
				what, do = strings.Replace(what, " has ", " had ", 1), "remove it: rm "+file
			}
			s.tell(file, fmt.Sprintf("%s, line %d: %s", file, number, what), do, false)
		}
	}
	if content := s.read("/etc/security/opasswd"); len(bytes.TrimSpace(content)) > 0 {
		s.tell("/etc/security/opasswd", "/etc/security/opasswd has hashes of former passwords", "empty it: truncate --size 0 /etc/security/opasswd", false)
	}
}

// places looks for files that are secrets because of their location.
func (s *searcher) places() {
	const domain = "AWS's documents do not say whether the capture takes it away: see that a desktop of the image has another"
	for _, place := range [][2]string{
		{"/var/lib/samba/private/secrets.tdb", "the password of this machine's account in the directory"},
		{"/var/lib/sss/secrets/secrets.ldb", "secrets of sssd"},
	} {
		name, what := place[0], place[1]
		if _, err := s.files.Stat(name); err == nil {
			s.tell(name, name+" has "+what, domain, true)
		} else if !errors.Is(err, fs.ErrNotExist) {
			s.errs = append(s.errs, err)
		}
	}
	names, err := s.files.ReadDir("/var/log/journal")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.errs = append(s.errs, err)
	}
	if len(names) > 0 {
		s.tell("/var/log/journal", "/var/log/journal has what programs said on this machine, and is not looked into", "journalctl --rotate; journalctl --vacuum-time=1s", true)
	}
}
