package sudo

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // dpkg and old rpms know nothing else; what it is compared with is root's
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// harmlessActions are prefixes of actions that lead nobody to root, so a site may open them: power,
// names, clock, language, networks, colours, the person's own devices.
func harmlessActions() []string {
	return []string{
		"org.freedesktop.login1.", "org.freedesktop.hostname1.", "org.freedesktop.timedate1.", "org.freedesktop.timesync1.", "org.freedesktop.locale1.", "org.freedesktop.NetworkManager.",
		"org.freedesktop.network1.", "org.freedesktop.resolve1.", "org.freedesktop.ModemManager1.", "org.freedesktop.color-manager.", "org.freedesktop.color.", "org.freedesktop.upower.", "org.freedesktop.UPower.",
		"org.freedesktop.GeoClue2.", "org.freedesktop.RealtimeKit1.", "org.freedesktop.Flatpak.", "org.freedesktop.packagekit.system-sources-refresh", "org.freedesktop.packagekit.trigger-offline-update",
		"org.freedesktop.udisks2.filesystem-mount", "org.freedesktop.udisks2.eject-media", "org.blueman.", "org.debian.pcsc-lite.", "net.hadess.", "org.soeagent.",
	}
}

// openedByHand returns the actions, besides the given ones, that need no administrator's password
// because of a file that differs from its package. What a vendor's own file allows is the vendor's
// decision, unless it leads to root.
func (k *Kind) openedByHand(ctx context.Context, installed []system.Action, besides []string) (ids []string, err error) {
	var files []string
	by := map[string][]string{} // actions by the file that opens them
	for _, a := range installed {
		own := a.Any.OwnWord() || a.Inactive.OwnWord() || a.Active.OwnWord()
		isHarmless := slices.ContainsFunc(harmlessActions(), func(begin string) bool { return strings.HasPrefix(a.ID, begin) })
		if !own || isHarmless || a.Program != "" || slices.Contains(besides, a.ID) {
			continue
		}
		for _, file := range k.declaring(a.ID) {
			files, by[file] = appendNew(files, file), append(by[file], a.ID)
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	packaged, err := k.packaged(ctx, files)
	for _, file := range files {
		if err == nil && !packaged[file] {
			ids = append(ids, by[file]...)
		}
	}
	return ids, err
}

var declaration = regexp.MustCompile(`<action\s+id\s*=\s*["']([^"']+)["']`)

// declaring are the files that describe an action.
func (k *Kind) declaring(id string) (files []string) {
	for _, dir := range actionDirs() {
		for _, f := range k.list(dir, ".policy") {
			for _, match := range declaration.FindAllSubmatch(f.content, -1) {
				if string(match[1]) == id {
					files = appendNew(files, f.path)
				}
			}
		}
	}
	return files
}

// packaged returns which files are unchanged from their packages. Without a package manager all count
// as unchanged.
func (k *Kind) packaged(ctx context.Context, files []string) (map[string]bool, error) {
	digests := map[string][]string{}
	byRpm, err1 := k.rpmDigests(ctx, files, digests)
	byDpkg, err2 := k.dpkgDigests(ctx, files, digests)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("cannot tell whether files of polkit's are as their packages have them: %w", err)
	}
	same := map[string]bool{}
	for _, file := range files {
		content, err := k.system.FS.ReadFile(file)
		long, short := sha256.Sum256(content), md5.Sum(content) //nolint:gosec // see the import
		same[file] = !byRpm && !byDpkg || err == nil &&
			(slices.Contains(digests[file], hex.EncodeToString(long[:])) || slices.Contains(digests[file], hex.EncodeToString(short[:])))
	}
	return same, nil
}

func (k *Kind) rpmDigests(ctx context.Context, files []string, digests map[string][]string) (answered bool, err error) {
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: append([]string{"rpm", "-q", "--qf", `[%{FILENAMES}\t%{FILEDIGESTS}\n]`, "-f"}, files...), ReadOnly: true})
	if errors.Is(err, system.ErrNotInstalled) {
		return false, nil
	}
	for line := range strings.Lines(string(out.Stdout)) {
		if name, digest, is := strings.Cut(strings.TrimSpace(line), "\t"); is {
			digests[name] = append(digests[name], digest)
		}
	}
	return true, err
}

func (k *Kind) dpkgDigests(ctx context.Context, files []string, digests map[string][]string) (answered bool, err error) {
	const info = "/var/lib/dpkg/info"
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: append([]string{"dpkg-query", "-S"}, files...), ReadOnly: true})
	if errors.Is(err, system.ErrNotInstalled) {
		return false, nil
	}
	for line := range strings.Lines(string(out.Stdout)) {
		owners, file, is := strings.Cut(strings.TrimSpace(line), ": ")
		for _, owner := range strings.Split(owners, ", ") {
			sums, readErr := k.system.FS.ReadFile(path.Join(info, owner+".md5sums"))
			if !is || readErr != nil {
				continue
			}
			for sum := range bytes.Lines(sums) {
				if digest, name, is := strings.Cut(strings.TrimSpace(string(sum)), "  "); is && "/"+name == file {
					digests[file] = append(digests[file], digest)
				}
			}
		}
	}
	return true, err
}
