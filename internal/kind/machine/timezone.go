package machine

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
	timezoneFile  = "/etc/timezone" // of Debian, where tzdata's scripts believe it
	zoneinfoDir   = "/usr/share/zoneinfo"
)

func (k *Kind) checkTimezone(r *converge.Resource, want string) error {
	got, err := k.timezone()
	if err != nil {
		return err
	}
	if got != want {
		r.DiffersOpenly("timezone", want, got)
	}
	if noted, there := k.notedTimezone(); there && noted != want {
		r.DiffersOpenly(timezoneFile, want, noted)
	}
	if r.State == converge.Drifted && !k.isTimezone(want) {
		r.Fail(fmt.Sprintf("there is no time zone %s in %s", want, zoneinfoDir)).Openly()
	}
	return nil
}

// timezone is the name of the time zone in effect, or words in its place.
func (k *Kind) timezone() (string, error) {
	target, err := k.system.FS.Readlink(localtimeLink)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "UTC", nil
	case err != nil:
		if _, statErr := k.system.FS.Stat(localtimeLink); statErr == nil {
			return "a file without a name", nil // a copy, as some installers make
		}
		return "", err
	}
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(localtimeLink), target)
	}
	return strings.TrimPrefix(target, zoneinfoDir+"/"), nil
}

// notedTimezone is what /etc/timezone says, where there is one.
func (k *Kind) notedTimezone() (name string, there bool) {
	content, err := k.system.FS.ReadFile(timezoneFile)
	return strings.TrimSpace(string(content)), err == nil
}

// isTimezone says whether the machine knows a time zone: its file is as in tzfile(5).
func (k *Kind) isTimezone(name string) bool {
	content, err := k.system.FS.ReadFile(path.Join(zoneinfoDir, name))
	return err == nil && bytes.HasPrefix(content, []byte("TZif"))
}

func (k *Kind) setTimezone(name string) error {
	if !k.isTimezone(name) {
		return fmt.Errorf("there is no such time zone in %s", zoneinfoDir)
	}
	if got, err := k.timezone(); err != nil || got != name {
		// Relative, as timedatectl(1) makes it: right also in an image.
		if err := k.system.FS.Symlink(path.Join("..", zoneinfoDir, name), localtimeLink); err != nil {
			return err
		}
	}
	if noted, there := k.notedTimezone(); !there || noted == name {
		return nil
	}
	info, err := k.system.FS.Stat(timezoneFile)
	if err != nil {
		return err
	}
	return k.system.FS.WriteFile(timezoneFile, []byte(name+"\n"), info.Attr)
}
