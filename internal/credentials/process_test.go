package credentials_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/system"
)

const helper = "/usr/bin/aws_signing_helper"

// withProgram is a machine on which the program is there, and does that.
func withProgram(t *testing.T, does func(context.Context, system.Command) (system.Output, error)) (*machine, *programs) {
	t.Helper()
	m := newMachine(t)
	m.put(t, helper, "")
	ran := &programs{each: does}
	m.Runner = ran
	return m, ran
}

func byProcess(args ...string) credentials.Config {
	return credentials.Config{Source: "process", Process: append([]string{helper}, args...)}
}

func TestAProgramIsRunWithItsArgumentsAMinuteAtTheMostAndWithLittleOfTheEnvironment(t *testing.T) {
	m, ran := withProgram(t, prints(answer("1", time.Time{})))
	m.env = map[string]string{
		"HOME": "/home/ann", "HTTPS_PROXY": "http://proxy:3128", "AWS_REGION": "eu-west-1",
		"LD_PRELOAD": "/tmp/x.so", "PATH": "/tmp", "AWS_SECRET_ACCESS_KEY": canary,
	}
	gives(t, m.provider(t, byProcess("credential-process", "--role-arn", "a b")), "1")
	want := []system.Command{{
		Argv: []string{helper, "credential-process", "--role-arn", "a b"},
		Env:  []string{"AWS_REGION=eu-west-1", "HTTPS_PROXY=http://proxy:3128"}, Timeout: time.Minute, ReadOnly: true,
	}}
	if diff := cmp.Diff(want, ran.ran); diff != "" {
		t.Error(diff)
	}
	m.uid = 1000
	m.disk.owners["/"] = 1000
	gives(t, m.provider(t, byProcess()), "1")
	if env := sorted(ran.ran[1].Env); env[1] != "HOME=/home/ann" {
		t.Errorf("a user's program gets %v", env)
	}
}

func TestAProgramsCredentialsAreStaticUnlessItSaysWhenTheyExpire(t *testing.T) {
	m, ran := withProgram(t, prints(answer("1", time.Time{})))
	p := m.provider(t, byProcess())
	if c := gives(t, p, "1"); c.CanExpire || c.Source != "process" {
		t.Errorf("%s, can expire: %v", c.Source, c.CanExpire)
	}
	m.clock.pass(1000 * time.Hour)
	gives(t, p, "1")
	if len(ran.ran) != 1 {
		t.Errorf("it ran %d times", len(ran.ran))
	}
	p.Forget()
	ran.each = prints(answer("2", m.clock.Now().Add(time.Hour)))
	if c := gives(t, p, "2"); !c.CanExpire {
		t.Error("they do not expire")
	}
}

func TestAProgramIsRunAgainSomeMinutesBeforeItsCredentialsExpireAndTheyBridgeItsFailures(t *testing.T) {
	m, ran := withProgram(t, nil)
	ran.each = prints(answer("1", m.clock.Now().Add(time.Hour)))
	p := m.provider(t, byProcess())
	gives(t, p, "1")
	m.clock.pass(54 * time.Minute)
	ran.each = func(context.Context, system.Command) (system.Output, error) { return system.Output{ExitCode: 1}, nil }
	gives(t, p, "1")
	if len(ran.ran) != 1 {
		t.Fatal("it ran again with six minutes to go")
	}
	m.clock.pass(90 * time.Second)
	for range 5 {
		gives(t, p, "1")
	}
	if len(ran.ran) != 2 {
		t.Errorf("it ran %d times, and not once more", len(ran.ran))
	}
	m.clock.pass(time.Minute)
	gives(t, p, "1")
	if len(ran.ran) != 3 {
		t.Errorf("it ran %d times, and not again after a minute", len(ran.ran))
	}
	m.clock.pass(4 * time.Minute)
	_, err := p.Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrNoCredentials) {
		t.Error(err)
	}
	ran.each = prints(answer("2", m.clock.Now().Add(time.Hour)))
	gives(t, p, "2")
}

func TestAProgramThatGivesNoCredentialsIsNamedAndNotQuoted(t *testing.T) {
	for name, test := range map[string]struct {
		does func(context.Context, system.Command) (system.Output, error)
		want error
		says string
	}{
		"it fails": {func(context.Context, system.Command) (system.Output, error) {
			return system.Output{ExitCode: 3, Stdout: []byte(canary), Stderr: []byte(canary)}, nil
		}, credentials.ErrNoCredentials, helper + " ended with exit code 3"},
		"it hangs": {func(context.Context, system.Command) (system.Output, error) {
			return system.Output{Stdout: []byte(canary)}, context.DeadlineExceeded
		}, context.DeadlineExceeded, "deadline"},
		"it prints nothing":       {prints(""), credentials.ErrNoCredentials, "is not the JSON"},
		"it prints something":     {prints(canary), credentials.ErrNoCredentials, "is not the JSON"},
		"it prints a wrong type":  {prints(`{"Version":1,"SecretAccessKey":{"` + canary + `":1}}`), credentials.ErrNoCredentials, "is not the JSON"},
		"it prints two":           {prints(answer("1", time.Time{}) + answer("2", time.Time{})), credentials.ErrNoCredentials, "is not the JSON"},
		"it prints a new version": {prints(strings.Replace(answer("1", time.Time{}), `"Version":1`, `"Version":2`, 1)), credentials.ErrNoCredentials, "Version 2, and not 1"},
		"it prints no version":    {prints(strings.Replace(answer("1", time.Time{}), `"Version":1`, `"V":1`, 1)), credentials.ErrNoCredentials, "Version 0, and not 1"},
		"it prints half a pair":   {prints(`{"Version":1,"SecretAccessKey":"` + canary + `"}`), credentials.ErrNoCredentials, "no AccessKeyId"},
		"it prints a wrong time":  {prints(`{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"s","Expiration":"` + canary + `"}`), credentials.ErrNoCredentials, "Expiration"},
		"it prints expired ones":  {prints(answer("1", time.Now().Add(-time.Hour))), credentials.ErrExpired, "at 20"},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := withProgram(t, test.does)
			_, err := m.provider(t, byProcess("--pin", canary)).Retrieve(t.Context())
			if discreet(t, err); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v; want %v, and %q in it", err, test.want, test.says)
			}
		})
	}
}

func TestAProgramThatIsNotThereOrThatOthersMayChangeIsNotRun(t *testing.T) {
	m, ran := withProgram(t, prints(answer("1", time.Time{})))
	m.disk.owners[helper] = 1000
	_, err := m.provider(t, byProcess()).Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrUnsafe) {
		t.Error(err)
	}
	m.disk.owners = map[string]int{"/usr": 1000}
	_, err = m.provider(t, byProcess()).Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrUnsafe) {
		t.Error(err)
	}
	m.disk.owners = nil
	os.Remove(filepath.Join(m.root, helper))
	_, err = m.provider(t, byProcess()).Retrieve(t.Context())
	if discreet(t, err); !errors.Is(err, credentials.ErrNoCredentials) {
		t.Error(err)
	}
	if len(ran.ran) > 0 {
		t.Errorf("it ran: %v", ran.ran)
	}
}

func TestWhoWaitsForAProgramThatRunsHeedsTheirOwnContext(t *testing.T) {
	started, end := make(chan struct{}), make(chan struct{})
	m, _ := withProgram(t, func(context.Context, system.Command) (system.Output, error) {
		close(started)
		<-end
		return system.Output{Stdout: []byte(answer("1", time.Time{}))}, nil
	})
	p := m.provider(t, byProcess())
	first := make(chan error)
	go func() {
		_, err := p.Retrieve(context.WithoutCancel(t.Context()))
		first <- err
	}()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Retrieve(ctx)
	if discreet(t, err); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	p.Forget() // it does not wait either
	close(end)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestARealProgramIsRunWithoutAShellAndNothingOfItsOutputIsLogged(t *testing.T) {
	var log bytes.Buffer
	m := newMachineSaying(t, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	m.put(t, helper, "")
	build := exec.Command("go", "build", "-o", filepath.Join(m.root, helper), "./testdata/helper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // it is run by chroot
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(filepath.Join(m.root, helper), 0o755); err != nil {
		t.Fatal(err)
	}
	m.env["LD_PRELOAD"] = "/tmp/x.so"
	m.env["AWS_REGION"] = "eu-west-1"
	m.put(t, configured, "[profile soe]\ncredential_process = "+helper+` credential-process "--role arn" '$HOME' \"x * ; not-seen`+"\n")
	c, err := m.provider(t, credentials.Config{Source: "profile", Profile: "soe"}).Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := `credential-process|--role arn|$HOME|"x|* eu-west-1`; c.SessionToken != want {
		t.Errorf("the program was called with %s, want %s", c.SessionToken, want)
	}
	_, err = m.provider(t, byProcess("fail")).Retrieve(t.Context())
	discreet(t, err)
	if !strings.Contains(log.String(), helper) || strings.Contains(log.String(), canary) {
		t.Errorf("the log:\n%s", log.String())
	}
}
