package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// An answer is why a file cannot be kept, whoever looks: no fault of the look.
type answer struct{ why string }

func (a answer) Error() string { return a.why }

func isAnswer(err error) bool {
	var a answer
	return errors.As(err, &a) || errors.Is(err, facts.ErrNoSuchID)
}

// A look looks each thing up once, for all files.
type look struct {
	*Kind
	ids *facts.IDs
	on  map[string]error // by directory: why no file in it is kept
}

func (k *Kind) newLook() *look {
	return &look{Kind: k, ids: facts.NewIDs(k.system), on: map[string]error{}}
}

// An aim is what is to be made of a file as it is.
type aim struct {
	spec *policy.File // nil: the policy does not name it
	info system.Info
	attr system.Attr // what it is to have
	diff []converge.Difference

	during, after map[string]converge.Retouch // what the ledger is to know of it before the change, and after it
}

// setID are the bits by which a program runs with the rights of who owns it.
const setID = 0o6000

// aim looks at a file. Without a spec it is to get back all that it had.
func (l *look) aim(ctx context.Context, name string, spec *policy.File) (aim, error) {
	a := aim{spec: spec, during: map[string]converge.Retouch{}, after: map[string]converge.Retouch{}}
	if err := l.way(path.Dir(name)); err != nil {
		return a, err
	}
	var err error
	if a.info, err = l.system.FS.Describe(name); err != nil {
		return a, err
	}
	switch {
	case a.info.Type == fs.ModeSymlink:
		return a, answer{name + " is a link, and none is followed: name the file that it leads to"}
	case a.info.IsDir() && !policy.IsRootsDirectory(name):
		return a, answer{name + " is a directory in which others than root may have business: only the files in it are kept"}
	case !a.info.IsRegular() && !a.info.IsDir():
		return a, answer{name + " is neither a file nor a directory"}
	}
	wanted := map[string]int{}
	if spec != nil {
		if wanted, err = l.wanted(ctx, *spec, a.info); err != nil {
			return a, err
		}
	}
	a.compare(wanted, l.ledger.Retouched(name), said(spec))
	if a.info.ACL {
		switch _, byMode := wanted[aspectMode]; {
		case byMode:
			a.diff = append(a.diff, converge.Difference{Aspect: "acl", Want: "none", Got: "one that lets others in, or keeps them out"})
		case spec == nil: // it came since, and is somebody else's
			a.attr, a.diff = a.info.Attr, nil
		case len(a.diff) > 0:
			return a, answer{name + " has an access control list, which would go with the change: say its mode too"}
		}
	}
	return a, nil
}

// way refuses a directory that is reached by a link: a file has one name here, which is
// the one that is asked about.
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

// wanted is what the policy wants of a file that is like that.
func (l *look) wanted(ctx context.Context, spec policy.File, info system.Info) (wanted map[string]int, err error) {
	wanted = map[string]int{}
	if spec.Owner != "" {
		if wanted[aspectOwner], err = l.ids.UID(ctx, spec.Owner); err != nil {
			return nil, err
		}
	}
	if spec.Group != "" {
		if wanted[aspectGroup], err = l.ids.GID(ctx, spec.Group); err != nil {
			return nil, err
		}
	}
	if spec.Mode != nil {
		mode := *spec.Mode
		if spec.AtMost {
			mode &= info.Mode
		}
		wanted[aspectMode] = int(mode)
	}
	return wanted, nil
}

// compare says what is to become of each aspect, as it is wanted, or as it was before an
// earlier policy wanted another.
func (a *aim) compare(wanted map[string]int, retouched map[string]converge.Retouch, said map[string]string) {
	a.attr = a.info.Attr
	for _, aspect := range []struct {
		name string
		now  int
		set  func(int)
		text string
	}{
		{aspectOwner, a.info.UID, func(v int) { a.attr.UID = v }, "%d"},
		{aspectGroup, a.info.GID, func(v int) { a.attr.GID = v }, "%d"},
		{aspectMode, int(a.info.Mode), func(v int) { a.attr.Mode = fs.FileMode(v) }, "%04o"},
	} {
		goal, named := wanted[aspect.name]
		was, known := retouched[aspect.name]
		if known {
			a.during[aspect.name] = was
		}
		switch {
		case named && known && goal == aspect.now:
			a.after[aspect.name] = was
		case named && goal != aspect.now:
			if !known {
				was.Was = aspect.now
			}
			was.Made = goal
			a.during[aspect.name], a.after[aspect.name] = was, was
		case !named && known && aspect.now == was.Made:
			goal = was.Was
			if aspect.name == aspectMode {
				goal &^= setID
			}
		default:
			continue
		}
		if goal != aspect.now {
			aspect.set(goal)
			a.diff = append(a.diff, converge.Difference{
				Aspect: aspect.name, Want: cmp.Or(said[aspect.name], fmt.Sprintf(aspect.text, goal)), Got: fmt.Sprintf(aspect.text, aspect.now),
			})
		}
	}
	if a.info.IsRegular() && (a.attr.UID != a.info.UID || a.attr.GID != a.info.GID) {
		a.attr.Mode &^= setID // as the kernel has it: who wrote the file is not whose rights it would run with
	}
}

// said is what the policy says of each aspect, in its own words.
func said(spec *policy.File) map[string]string {
	if spec == nil {
		return nil
	}
	words := map[string]string{aspectOwner: spec.Owner, aspectGroup: spec.Group}
	if spec.AtMost {
		words[aspectMode] = fmt.Sprintf("at most %04o", uint32(*spec.Mode))
	}
	return words
}
