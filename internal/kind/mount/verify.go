package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/mounts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// ask checks a new /etc/fstab with its readers, as far as they are installed: it must not have more
// errors than the current file, and must mount the same.
func (k *Kind) ask(ctx context.Context, before, after string) error {
	if err := mounts.OnlyOptions(before, after); err != nil {
		return err
	}
	if err := k.askFindmnt(ctx, before, after); err != nil {
		return public.Because("findmnt would not take "+mounts.FstabFile+" as it was to be, so it was not written", err)
	}
	if err := k.askGenerator(ctx, before, after); err != nil {
		return public.Because("systemd would not take "+mounts.FstabFile+" as it was to be, so it was not written", err)
	}
	return nil
}

func staged(content string) system.Staged { return system.Staged{mounts.FstabFile: []byte(content)} }

func (k *Kind) askFindmnt(ctx context.Context, before, after string) error {
	was, asked, err := k.errorsFound(ctx, before)
	if err != nil || !asked {
		return err
	}
	is, _, err := k.errorsFound(ctx, after)
	if err == nil && is > was {
		err = fmt.Errorf("it finds %d errors in it, and %d in what is there", is, was)
	}
	return err
}

// errorsFound returns how many errors findmnt(8) reports for a file. asked is false if findmnt is
// missing or older than util-linux 2.29, which cannot verify.
func (k *Kind) errorsFound(ctx context.Context, content string) (n int, asked bool, err error) {
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: []string{"findmnt", "--verify"}, ReadOnly: true, Staged: staged(content)})
	if errors.Is(err, system.ErrNotInstalled) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	said := string(out.Stdout) + string(out.Stderr)
	if strings.Contains(said, "unrecognized option") {
		return 0, false, nil
	}
	if out.ExitCode == 0 && strings.Contains(said, "no errors or warnings") {
		return 0, true, nil
	}
	numbers := regexp.MustCompile(`(?m)^(\d+) parse errors?, (\d+) errors?,`).FindStringSubmatch(said)
	if numbers == nil {
		return 0, false, fmt.Errorf("its answer cannot be understood (exit code %d): %s", out.ExitCode, out.LastLine())
	}
	for _, number := range numbers[1:] {
		found, _ := strconv.Atoi(number) // the expression matches only digits
		n += found
	}
	return n, true, nil
}

// generators returns the possible paths of the program that generates units from /etc/fstab.
func generators() []string {
	const name = "/systemd/system-generators/systemd-fstab-generator"
	return []string{"/usr/lib" + name, "/lib" + name}
}

func (k *Kind) askGenerator(ctx context.Context, before, after string) error {
	if !k.system.Running() {
		return nil
	}
	for _, program := range generators() {
		if _, err := k.system.FS.Stat(program); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		was, err := k.generated(ctx, program, before)
		if err != nil {
			return err
		}
		is, err := k.generated(ctx, program, after)
		if err == nil && is != was {
			err = errors.New("its units would differ in more than options")
		}
		return err
	}
	return nil
}

// generated returns what systemd would generate from a file, without mount options. The generator
// writes into a directory that only this command sees, so nothing is on disk.
func (k *Kind) generated(ctx context.Context, program, content string) (string, error) {
	const dir = own.RunDir + "/fstab"
	files := staged(content)
	files[dir+"/.begin"] = []byte{}
	const script = `"$1" "$2" "$2" "$2" >&2; echo "exit code $?"; cd "$2" && for f in $(find . -type f -o -type l | sort); do echo "$f"; if [ -L "$f" ]; then readlink "$f"; else cat "$f"; fi; done`
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: []string{"sh", "-c", script, "sh", program, dir}, ReadOnly: true, Staged: files})
	switch {
	case err != nil:
		return "", err
	case out.ExitCode != 0 || !strings.HasPrefix(string(out.Stdout), "exit code "):
		return "", fmt.Errorf("its answer cannot be understood (exit code %d): %s", out.ExitCode, out.LastLine())
	}
	var text strings.Builder
	for line := range strings.Lines(string(out.Stdout)) {
		if !strings.HasPrefix(line, "Options=") {
			text.WriteString(line)
		}
	}
	return text.String(), nil
}
