// Demo shows the main job on real parts, in a minute: a throw-away machine boots as
// a thin image with only the agent's package in it; an SSM and Secrets Manager
// endpoint on loopback holds the policy; the agent bootstraps, converges and
// reports; then the machine is broken on purpose and mended.
//
// It is called by "make demo", which prepares what it needs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "cannot show anything without the agent's package; run: make demo")
		os.Exit(1)
	}
	if err := show(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	region     = "eu-west-1"
	policyPath = "/soe/prod"
	nodeID     = "mi-0123456789abcdef0"
	patience   = 2 * time.Minute
)

// stage is what the demo plays on.
type stage struct {
	box   *box.Box
	aws   *awsfake.Server
	began time.Time
}

func (s *stage) title(text string) { fmt.Printf("\n\x1b[1m== %s\x1b[0m\n", text) }

func (s *stage) say(format string, args ...any) {
	fmt.Printf("%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// run shows a command and what it prints, as its user would see it.
func (s *stage) run(ctx context.Context, args ...string) error {
	fmt.Printf("\n\x1b[2m$ %s\x1b[0m\n", strings.Join(args, " "))
	result, err := s.box.Exec(ctx, args...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(result.Stdout + result.Stderr) {
		fmt.Print("  ", line)
	}
	return nil
}

func show(ctx context.Context, rpm string) error {
	s := &stage{began: time.Now()}
	var err error
	if s.aws, err = awsfake.Start("127.0.0.1:0"); err != nil {
		return err
	}
	defer s.aws.Down()
	s.title("A policy is published, in SSM Parameter Store and Secrets Manager on loopback")
	if err := s.publish(1); err != nil {
		return err
	}
	s.title("A thin image boots, with nothing of ours in it but the agent's package")
	if err := s.install(ctx, rpm); err != nil {
		return err
	}
	defer s.box.Close()
	for _, act := range []func(context.Context) error{s.firstBoot, s.activation, s.breakage, s.ending} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// publish puts the examples of policies/example where a fleet would read them.
func (s *stage) publish(serial int) error {
	repo, err := rpmrepo.Open()
	if err != nil {
		return err
	}
	s.aws.PutParameter("/soe/prod/repository/baseurl", rpmrepo.BaseURL)
	s.aws.PutParameter("/soe/prod/repository/gpgkey", rpmrepo.KeyURL)
	s.aws.PutParameter("/soe/prod/repository/fingerprint", repo.Fingerprint)
	s.aws.PutSecret("soe/scanner", `{"token":"a-secret-that-you-will-not-see-again"}`)
	files, err := filepath.Glob("policies/example/*.toml")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("cannot find policies/example; run the demo by: make demo (%w)", errors.Join(err, os.ErrNotExist))
	}
	fragments := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fragments[strings.TrimSuffix(filepath.Base(file), ".toml")] = string(text)
	}
	if err := s.aws.PublishPolicy(policyPath, serial, fragments); err != nil {
		return err
	}
	s.say("%d fragments, serial %d; this machine's personas are base and developer", len(fragments), serial)
	return nil
}

func (s *stage) install(ctx context.Context, rpm string) error {
	repo, err := rpmrepo.Open()
	if err != nil {
		return err
	}
	content, err := os.ReadFile(rpm)
	if err != nil {
		return err
	}
	config := fmt.Sprintf("personas = [\"base\", \"developer\"]\n\n[aws]\nregion   = %q\npath     = %q\nendpoint = %q\n\n[schedule]\npoll = \"2s\"\n",
		region, policyPath, s.aws.URL)
	conf := box.Config{Binds: map[string]string{rpmrepo.MountPoint: repo.Dir}, NotBooted: true, Files: map[string]box.File{
		"/root/soe-agent.rpm": {Content: string(content)},
	}}
	box.ThinImage()(&conf)
	if s.box, err = box.Start(ctx, conf); err != nil {
		return err
	}
	result, err := s.box.Exec(ctx, "dnf", "-y", "-q", "--nogpgcheck", "--disablerepo=*", "install", "/root/soe-agent.rpm")
	if err == nil && result.Code != 0 {
		err = errors.New(result.Stderr)
	}
	if err != nil {
		return fmt.Errorf("cannot install %s: %w", rpm, err)
	}
	if err := s.box.WriteFile(agent.ConfigFile, box.File{Content: config}); err != nil {
		return err
	}
	s.say("installed %s", filepath.Base(rpm))
	if err := s.box.Boot(ctx); err != nil {
		return err
	}
	s.say("booted: a real systemd, D-Bus, logind, sudo, dconf, rpm and dnf")
	return nil
}

// firstBoot shows what holds before there is any contact with AWS.
func (s *stage) firstBoot(ctx context.Context) error {
	s.title("No credentials yet: the seed policy locks the desktop down all the same")
	if err := s.until(ctx, func(status agent.Status) bool { return status.Waiting != "" }); err != nil {
		return err
	}
	if err := s.run(ctx, "cat", "/etc/sudoers.d/01-ws-admin-user"); err != nil {
		return err
	}
	return s.run(ctx, "soe-agent", "status")
}

func (s *stage) activation(ctx context.Context) error {
	s.title("The hybrid activation comes; the agent bootstraps and converges")
	credentials := awsfake.DefaultCredentials()
	now := time.Now()
	if err := s.box.WriteFiles(box.Activation{
		NodeID: nodeID, Region: region,
		AccessKeyID: credentials.AccessKeyID, SecretAccessKey: credentials.SecretAccessKey, SessionToken: credentials.SessionToken,
		RetrievedAt: now, ExpiresAt: now.Add(time.Hour),
	}.Files()); err != nil {
		return err
	}
	s.say("amazon-ssm-agent has left its credentials")
	phase := agent.Phase("")
	err := s.until(ctx, func(status agent.Status) bool {
		if status.Phase != phase {
			phase = status.Phase
			s.say("%s%s", phase, about(status))
		}
		return status.Phase == agent.Keeping && status.Serial > 0 && status.Compliant
	})
	if err != nil {
		return err
	}
	for _, command := range [][]string{
		{"soe-agent", "status"},
		{"sudo", "-l", "-U", box.DesktopUser, "/usr/bin/id"},
		{"rpm", "-q", "soe-pkg-01", "soe-pkg-03", "soe-service"},
		{"cat", box.PCoIPConf},
		{"runuser", "-u", box.DesktopUser, "--", "env", "DCONF_PROFILE=/tmp/mine", "gsettings", "writable", "org.mate.screensaver", "lock-enabled"},
		{"stat", "-c", "%a %U %n", "/etc/soe-scan.d/token.conf"},
	} {
		if err := s.run(ctx, command...); err != nil {
			return err
		}
	}
	return nil
}

func about(status agent.Status) string {
	if len(status.Busy) > 0 {
		return ": " + strings.Join(status.Busy, ", ")
	}
	return ""
}

// breakage breaks the machine in ways that people and programs do.
func (s *stage) breakage(ctx context.Context) error {
	s.title("The machine is broken on purpose, and mended")
	for _, harm := range []struct {
		what   string
		script string
		id     policy.ID
	}{
		{"somebody edits a drop-in", "echo 'kernel.randomize_va_space = 0' > /etc/sysctl.d/60-soe.conf", "dropin/etc/sysctl.d/60-soe.conf"},
		{"somebody deletes one", "rm /etc/profile.d/soe-proxy.sh", "dropin/etc/profile.d/soe-proxy.sh"},
		{"AWS grants sudo again", "echo '#1000 ALL=(ALL:ALL) NOPASSWD:ALL' > /etc/sudoers.d/01-ws-admin-user", "sudo/allow"},
		{"a file that sorts last grants it as well", "echo 'user ALL=(ALL) ALL' > /etc/sudoers.d/zzzz-mine", "sudo/allow"},
		{"the compiled dconf database is replaced", "cp /etc/dconf/db/soe /tmp/x && truncate -s 100 /etc/dconf/db/soe", "dconf/database"},
		{"a service is stopped", "systemctl stop soe-service", "service/soe-service.service"},
		{"a package is removed", "rpm -e soe-pkg-02", "package/soe-pkg-02"},
	} {
		before := time.Now()
		if result, err := s.box.Exec(ctx, "sh", "-c", harm.script); err != nil || result.Code != 0 {
			return fmt.Errorf("cannot break the machine (%s): %w %s", harm.what, err, result.Stderr)
		}
		done := time.Now()
		if err := s.mended(ctx, harm.id, before); err != nil {
			return fmt.Errorf("%s: %w", harm.what, err)
		}
		fmt.Printf("  %-44s mended within %4.0f ms   %s\n", harm.what, float64(time.Since(done).Microseconds())/1000, harm.id)
	}
	return nil
}

func (s *stage) ending(ctx context.Context) error {
	s.title("The compliance report")
	if err := s.run(ctx, "soe-agent", "report"); err != nil {
		return err
	}
	if err := s.run(ctx, "soe-agent", "explain", "pcoip/server_clipboard_state"); err != nil {
		return err
	}
	if stored, ok := s.aws.Compliance(nodeID, report.ComplianceType); ok {
		fmt.Printf("\nSSM Compliance has %d items of type %s for %s.\n", len(stored.Items), report.ComplianceType, nodeID)
	}
	s.say("done; the machine is thrown away")
	return nil
}

// read decodes a JSON file that the agent keeps for all to read.
func (s *stage) read(name string, document any) bool {
	content, err := s.box.ReadFile(name)
	return err == nil && json.Unmarshal([]byte(content), document) == nil
}

func (s *stage) until(ctx context.Context, holds func(agent.Status) bool) error {
	return s.watch(ctx, func() bool {
		var status agent.Status
		return s.read(agent.StatusFile, &status) && holds(status)
	})
}

// mended waits for a walk since a moment that corrected the resource.
func (s *stage) mended(ctx context.Context, id policy.ID, since time.Time) error {
	return s.watch(ctx, func() bool {
		var r report.Report
		if !s.read(agent.ReportFile, &r) {
			return false
		}
		return slices.ContainsFunc(r.Resources, func(resource converge.Resource) bool {
			return resource.ID == id && resource.State == converge.Corrected && resource.Since.After(since)
		})
	})
}

// watch looks again and again until something holds.
func (s *stage) watch(ctx context.Context, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			status, _ := s.box.Exec(context.WithoutCancel(ctx), "soe-agent", "report")
			return fmt.Errorf("cannot see it happen within %s:\n%s%s", patience, status.Stdout, status.Stderr)
		}
	}
	return nil
}
