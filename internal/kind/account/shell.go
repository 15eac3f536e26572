package account

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/soe-agent/soe-agent/internal/public"
)

// shellIsThere returns an error if a shell does not exist, because nobody could log in with it.
func (u *Users) shellIsThere(shell string) error {
	if shell == "" {
		return nil
	}
	if _, err := u.system.FS.Stat(shell); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if err != nil {
		return public.Error(fmt.Errorf("there is no %s on this machine, without which a login ends at once; does a package bring it?", shell))
	}
	return nil
}

func (u *Users) nologin() string {
	const old = "/sbin/nologin" // the path before the merge of /usr
	if _, err := u.system.FS.Stat("/usr/sbin/nologin"); err != nil {
		return old
	}
	return "/usr/sbin/nologin"
}
