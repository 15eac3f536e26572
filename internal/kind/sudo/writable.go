package sudo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// polkitTop is the directory whose owners and modes the agent repairs. Others belong to packages.
const polkitTop = "/etc/polkit-1"

// A loose file or directory of polkit's can be written by others than root and polkit.
type loose struct {
	path string
	info system.Info
}

func (l loose) String() string {
	return fmt.Sprintf("owner %d, mode %04o", l.info.UID, l.info.Mode)
}

// looseFiles returns what others can write of polkit's files and their directories: those below
// polkitTop, and in words all others and links.
func (k *Kind) looseFiles() (mend []loose, stuck []string) {
	accounts, _ := facts.LocalAccounts(k.system)
	own := map[int]bool{0: true} // some distributions have polkitd own its directories
	for _, a := range accounts {
		own[a.UID] = own[a.UID] || a.Name == "polkitd" && isService(a)
	}
	look := func(name string) bool {
		info, err := k.system.FS.Stat(name)
		switch {
		case err != nil:
			return false
		case info.Type == fs.ModeSymlink:
			if k.mayBeWrittenByOthers(name) {
				stuck = append(stuck, fmt.Sprintf("%s is a link to what others than root may write; replace it by a file of root's", name))
			}
			return false
		case own[info.UID] && info.Mode&0o022 == 0:
		case name == polkitTop || strings.HasPrefix(name, polkitTop+"/") && k.editable(name): // or two kinds would repair it in turn
			mend = append(mend, loose{name, info})
		default:
			stuck = append(stuck, fmt.Sprintf("others than root may write %s, by which polkit decides; do chown root and chmod go-w", name))
		}
		return info.IsDir()
	}
	var seen []string
	for _, dir := range slices.Concat(ruleDirs(), actionDirs(), k.entryDirs(), []string{authorityDir}) {
		if parent := path.Dir(dir); !slices.Contains(seen, parent) {
			seen = append(seen, parent)
			look(parent)
		}
		if !look(dir) {
			continue
		}
		names, _ := k.system.FS.ReadDir(dir)
		for _, name := range names {
			look(path.Join(dir, name))
		}
	}
	return mend, stuck
}

func differsByLoose(r *converge.Resource, mend []loose) {
	for _, l := range mend {
		r.AddPublicDrift("owner and mode of "+l.path, "root's, and nobody else may write", l.String())
	}
}

// tighten gives polkit's files to root. A file is created anew, because whoever could write it may
// still have it open.
func (k *Kind) tighten() error {
	var errs []error
	mend, _ := k.looseFiles()
	for _, l := range mend {
		if l.info.IsDir() {
			errs = append(errs, k.system.FS.SetAttr(l.path, system.Attr{Mode: 0o755}))
			continue
		}
		content, err := k.system.FS.ReadFile(l.path)
		if err == nil {
			err = k.system.FS.WriteFile(l.path, content, polkitAttr())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
