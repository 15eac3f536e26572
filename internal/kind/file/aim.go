package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strconv"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// An answer says why a file cannot be kept. It is a fact about the machine, and not a failed read.
type answer struct{ why string }

func (a answer) Error() string { return a.why }

func isAnswer(err error) bool {
	var a answer
	return errors.As(err, &a) || errors.Is(err, facts.ErrNoSuchID)
}

// A look reads each thing once, for all files.
type look struct {
	*Kind
	ids *facts.IDs
	on  map[string]error // by directory: why no file in it is kept

	untilBoot map[string]bool // files that are written and that their reader reads only at boot
	awaiting  map[string]bool // files that are written and whose reader has not been told yet
}

func (k *Kind) newLook() *look {
	return &look{Kind: k, ids: facts.NewIDs(k.system), on: map[string]error{}, untilBoot: k.readNames(untilBoot), awaiting: k.readNames(awaiting)}
}

// An aim is a file's current state and what it should become.
type aim struct {
	spec *policy.File // nil: the policy does not name it
	info system.Info
	attr system.Attr // the wanted attributes
	diff []converge.Difference

	missing         bool   // the file does not exist
	before, content []byte // of a file with more than attributes: its content, and the wanted one
	keys            []converge.Difference
	first           bool   // it gives back what has to be before anything else is done
	whole           *whole // what is to become of all of it; nil: keys and attributes alone change

	// What the ledger must know about it during the change (everything that it knows, and what is
	// new), and after it.
	during, after map[string]converge.Retouch
}

// setID are the bits that make a program run with the rights of its owner or group.
const setID = 0o6000

// aim reads the state of a file. Without a spec, the file should get back everything that it had.
func (l *look) aim(ctx context.Context, name string, spec *policy.File) (aim, error) {
	a := aim{spec: spec, during: map[string]converge.Retouch{}, after: map[string]converge.Retouch{}}
	retouched := l.ledger.Retouched(name)
	maps.Copy(a.during, retouched)
	if err := l.way(path.Dir(name)); err != nil {
		if gone := spec != nil && spec.Ensure == policy.Absent; gone && errors.Is(err, fs.ErrNotExist) {
			a.missing, a.after = true, retouched
			return a, nil
		}
		return a, err
	}
	reads := hasKeys(retouched) || hasContent(retouched) || spec != nil && (spec.Whole() || len(spec.Keys)+len(spec.Absent)+len(spec.Lines)+len(spec.AbsentLines) > 0)
	if err := l.see(&a, name, reads); err != nil {
		return a, err
	}
	wanted, err := l.wanted(ctx, spec, a.info)
	if err != nil {
		return a, err
	}
	a.compare(wanted, retouched, said(spec))
	if reads {
		if err := l.compareContent(&a, name, wanted, retouched); err != nil {
			return a, err
		}
	}
	if a.missing && a.whole == nil && spec != nil && !spec.Whole() {
		return a, fs.ErrNotExist
	}
	if reads && a.endsAsFile() && (spec == nil || !spec.Whole()) {
		if err := l.compareKeys(&a, name, retouched); err != nil {
			return a, err
		}
	}
	return a, a.heedACL(name, wanted)
}

// see reads what is at the path.
func (l *look) see(a *aim, name string, reads bool) (err error) {
	if reads {
		a.before, a.info, err = l.system.FS.Inspect(name)
		a.content = a.before
	} else {
		a.info, err = l.system.FS.Describe(name)
	}
	whole, restores := a.spec != nil && a.spec.Whole(), hasContent(a.during)
	if whole {
		restores = a.spec.Ensure == policy.Absent || !a.spec.IfExists
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && restores:
		a.missing = true
	case err != nil:
		return err
	case a.info.Type == fs.ModeSymlink && (whole || restores):
	case a.info.Type == fs.ModeSymlink:
		return answer{name + " is a link, and none is followed: name the file that it leads to"}
	case a.info.IsDir() && (whole || !policy.IsRootsDirectory(name)):
		return answer{name + " is a directory in which others than root may have business: only the files in it are kept"}
	case !a.info.IsRegular() && !a.info.IsDir():
		return answer{name + " is neither a file nor a directory"}
	}
	return nil
}

// heedACL decides about an access control list, which any change of the file removes.
func (a *aim) heedACL(name string, wanted map[string]string) error {
	_, byMode := wanted[aspectMode]
	switch {
	case !a.info.ACL:
	case byMode:
		a.diff = append(a.diff, converge.Difference{Aspect: "acl", Want: "none", Got: "one that lets others in, or keeps them out"})
	case a.spec == nil: // it was added since, by somebody else
		a.attr, a.diff, a.content, a.keys, a.whole = a.info.Attr, nil, a.before, nil, nil
	case len(a.diff)+len(a.keys) > 0 && (a.spec == nil || a.spec.Ensure != policy.Absent):
		return answer{name + " has an access control list, which would go with the change: say its mode too"}
	}
	return nil
}

// way refuses a directory that is reached through a link: a file must have one name here, which is
// the one in the policy.
func (l *look) way(dir string) error {
	err, known := l.on[dir]
	if known || dir == "/" {
		return err
	}
	if err = l.way(path.Dir(dir)); err == nil {
		var info system.Info
		info, err = l.system.FS.Stat(dir)
		if err == nil && info.Type == fs.ModeSymlink {
			err = answer{dir + " is a link, and none is followed on the way to a file: name the directory that it leads to"}
		}
	}
	l.on[dir] = err
	return err
}

const (
	aspectOwner = "owner"
	aspectGroup = "group"
	aspectMode  = "mode"
)

// wanted returns the attributes that the policy wants, given the current ones.
func (l *look) wanted(ctx context.Context, spec *policy.File, info system.Info) (wanted map[string]string, err error) {
	wanted = map[string]string{}
	if spec == nil || spec.Ensure == policy.Absent {
		return wanted, nil
	}
	if spec.Content != nil {
		wanted[aspectOwner], wanted[aspectGroup] = "0", "0"
	}
	if spec.Owner != "" {
		uid, err := l.ids.UID(ctx, spec.Owner)
		if err != nil {
			return nil, err
		}
		wanted[aspectOwner] = strconv.Itoa(uid)
	}
	if spec.Group != "" {
		gid, err := l.ids.GID(ctx, spec.Group)
		if err != nil {
			return nil, err
		}
		wanted[aspectGroup] = strconv.Itoa(gid)
	}
	if spec.Mode != nil {
		mode := *spec.Mode
		if spec.AtMost {
			mode &= info.Mode
		}
		wanted[aspectMode] = modeText(mode)
	}
	return wanted, nil
}

func modeText(mode fs.FileMode) string { return fmt.Sprintf("%04o", uint32(mode)) }

// compare determines the wanted value of each attribute: the policy's, or the one it had before an
// earlier policy changed it.
func (a *aim) compare(wanted map[string]string, retouched map[string]converge.Retouch, said map[string]string) {
	a.attr = a.info.Attr
	if a.missing || a.info.Type == fs.ModeSymlink || a.spec != nil && a.spec.Ensure == policy.Absent {
		return
	}
	for _, aspect := range []struct {
		name, now string
		set       func(uint64)
		base      int
	}{
		{aspectOwner, strconv.Itoa(a.info.UID), func(v uint64) { a.attr.UID = int(v) }, 10},
		{aspectGroup, strconv.Itoa(a.info.GID), func(v uint64) { a.attr.GID = int(v) }, 10},
		{aspectMode, modeText(a.info.Mode), func(v uint64) { a.attr.Mode = fs.FileMode(v) &^ (setID &^ a.info.Mode) }, 8},
	} {
		goal, named := wanted[aspect.name]
		goal = a.goal(aspect.name, aspect.now, goal, named, retouched)
		value, err := strconv.ParseUint(goal, aspect.base, 31)
		if goal == aspect.now || err != nil { // the ledger has no such words
			continue
		}
		aspect.set(value)
		a.diff = append(a.diff, converge.Difference{Aspect: aspect.name, Want: cmp.Or(said[aspect.name], goal), Got: aspect.now})
	}
	if a.info.IsRegular() && (a.attr.UID != a.info.UID || a.attr.GID != a.info.GID) {
		a.attr.Mode &^= setID // as the kernel does: the program must not run with the rights of somebody other than its author
	}
}

// goal returns what an aspect should become: the wanted value if the policy names it; the value
// before an earlier policy changed it, if nobody else has changed it since; otherwise its current
// value. It records what the ledger must know.
func (a *aim) goal(aspect, now, wanted string, named bool, retouched map[string]converge.Retouch) string {
	r := converge.Retouching{Before: retouched, During: a.during, After: a.after}
	return r.Goal(aspect, now, wanted, named)
}

// said returns the policy's words for each aspect.
func said(spec *policy.File) map[string]string {
	if spec == nil {
		return nil
	}
	words := map[string]string{aspectOwner: spec.Owner, aspectGroup: spec.Group}
	if spec.Content != nil {
		words = map[string]string{aspectOwner: cmp.Or(spec.Owner, "root"), aspectGroup: cmp.Or(spec.Group, "root")}
	}
	if spec.AtMost {
		words[aspectMode] = fmt.Sprintf("at most %04o", uint32(*spec.Mode))
	}
	return words
}
