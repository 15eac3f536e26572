package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
)

const (
	localtimeLink = "/etc/localtime"
	timezoneFile  = "/etc/timezone" // on Debian; tzdata's scripts rely on it
	zoneinfoDir   = "/usr/share/zoneinfo"
)

func (k *Kind) checkTimezone(r *converge.Resource, want string) error {
	got, err := k.timezone()
	if err != nil {
		return err
	}
	if got != want {
		r.AddPublicDrift("timezone", want, got)
	}
	noted, there, err := k.notedTimezone()
	if err != nil {
		return err
	}
	if there && noted != want {
		r.AddPublicDrift(timezoneFile, want, noted)
	}
	if r.State != converge.Drifted {
		return nil
	}
	known, err := k.isTimezone(want)
	if err == nil && !known {
		r.SetFailed(fmt.Sprintf("there is no time zone %s in %s", want, zoneinfoDir)).ReasonIsPublic()
	}
	return err
}

// timezone returns the name of the time zone in effect, or a description if it has no name.
func (k *Kind) timezone() (string, error) {
	target, err := k.system.FS.Readlink(localtimeLink)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "UTC", nil
	case err != nil:
		info, statErr := k.system.FS.Stat(localtimeLink)
		if statErr == nil && info.Type != fs.ModeSymlink {
			return "a file without a name", nil // a copy, as some installers make
		}
		return "", errors.Join(err, statErr)
	}
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(localtimeLink), target)
	}
	return strings.TrimPrefix(target, zoneinfoDir+"/"), nil
}

// notedTimezone is the content of /etc/timezone, if it exists.
func (k *Kind) notedTimezone() (name string, there bool, err error) {
	content, err := k.system.FS.ReadFile(timezoneFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return strings.TrimSpace(string(content)), err == nil, err
}

// isTimezone reports whether the machine has a time zone: a file in the format of tzfile(5).
func (k *Kind) isTimezone(name string) (bool, error) {
	file := path.Join(zoneinfoDir, name)
	info, err := k.system.FS.Stat(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
		return false, nil
	}
	content, err := k.system.FS.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) { // a dangling link
		return false, nil
	}
	return bytes.HasPrefix(content, []byte("TZif")), err
}

func (k *Kind) setTimezone(name string) error {
	known, err := k.isTimezone(name)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("there is no such time zone in %s", zoneinfoDir)
	}
	got, err := k.timezone()
	if err != nil {
		return err
	}
	if got != name {
		// Relative, as timedatectl(1) does: also correct in an image.
		if err := k.system.FS.Symlink(path.Join("..", zoneinfoDir, name), localtimeLink); err != nil {
			return err
		}
	}
	noted, there, err := k.notedTimezone()
	if err != nil || !there || noted == name {
		return err
	}
	info, err := k.system.FS.Stat(timezoneFile)
	if err != nil {
		return err
	}
	return k.system.FS.WriteFile(timezoneFile, []byte(name+"\n"), info.Attr)
}
