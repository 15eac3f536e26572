package file

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// aspectContent is the whole content of a file. The ledger records it as state returns it.
const aspectContent = "content"

func hasContent(retouched map[string]converge.Retouch) bool {
	_, is := retouched[aspectContent]
	return is
}

// A whole is the intended state of a path: a file, a link, or nothing.
type whole struct {
	content []byte
	attr    system.Attr
	link    string
	nothing bool
}

const nothing = "nothing"

// state returns a short text that identifies the state of a path.
func state(w whole) string {
	switch {
	case w.nothing:
		return nothing
	case w.link != "":
		return "link " + w.link
	}
	sum := sha256.Sum256(w.content)
	return hex.EncodeToString(sum[:])
}

// endsAsFile reports whether the path is a regular file, or will be one after the change.
func (a *aim) endsAsFile() bool {
	if a.whole != nil {
		return !a.whole.nothing && a.whole.link == ""
	}
	return !a.missing && a.info.IsRegular()
}

// compareContent determines the intended content of a file. That is what the policy wants. If the policy no
// longer names the content, it is what was there before it first did, unless somebody else has written the
// file since.
func (l *look) compareContent(a *aim, name string, wanted map[string]string, retouched map[string]converge.Retouch) error {
	there := whole{content: a.before, nothing: a.missing}
	if a.info.Type == fs.ModeSymlink {
		var err error
		if there.link, err = l.system.FS.Readlink(name); err != nil {
			return err
		}
	}
	original, kept, err := l.ledger.Original(name)
	if err != nil {
		return err
	}
	now, goal, named := state(there), whole{}, a.spec != nil && a.spec.Whole()
	switch {
	case named && a.spec.Ensure == policy.Absent:
		goal = whole{nothing: true}
	case named:
		goal = whole{content: []byte(*a.spec.Content), attr: a.attr}
		if a.missing || there.link != "" {
			goal.attr = fresh(*a.spec, wanted, original, kept)
		}
	}
	becomes := a.goal(aspectContent, now, state(goal), named, retouched)
	if named {
		a.keepAttributes(retouched)
	}
	if !named && becomes != now {
		switch {
		case becomes == nothing && l.ledger.Made(name):
			goal = whole{nothing: true}
		case !kept: // the original is not known, so the file stays
			return nil
		default:
			goal = whole{content: original.Content, link: original.Link, attr: a.givenBack(original.Info.Attr, wanted, retouched)}
		}
	}
	if becomes == now {
		return nil
	}
	a.whole, a.content, a.attr = &goal, goal.content, goal.attr
	if goal.nothing {
		a.diff = append(a.diff, converge.Difference{Aspect: "ensure", Want: "absent", Got: "present"})
		return nil
	}
	a.keys = append(a.keys, converge.Difference{Aspect: aspectContent, Want: excerpt(goal.content), Got: excerpt(there.content)})
	return nil
}

// fresh returns the attributes of a file that is made anew: those that the policy wants, otherwise those that
// the file had before the policy.
func fresh(spec policy.File, wanted map[string]string, original system.Original, kept bool) system.Attr {
	attr := system.Attr{Mode: 0o644}
	if kept && original.Link == "" {
		attr.Mode = original.Info.Mode &^ 0o7000
	}
	if spec.Mode != nil {
		attr.Mode = *spec.Mode
	}
	attr.UID, _ = strconv.Atoi(wanted[aspectOwner])
	attr.GID, _ = strconv.Atoi(wanted[aspectGroup])
	return attr
}

// before is the prefix of the aspects that an earlier policy had changed before the content was written. The
// kept original has these attributes as that policy had set them.
const before = "before "

func attributes() []string { return []string{aspectOwner, aspectGroup, aspectMode} }

// keepAttributes adjusts what the ledger records of a file's attributes while the policy owns its content.
// The kept original has the attributes, except those that an earlier policy had changed. Later changes of them
// are drift and are not given back.
func (a *aim) keepAttributes(retouched map[string]converge.Retouch) {
	if !hasContent(a.during) {
		return
	}
	for _, aspect := range attributes() {
		delete(a.after, aspect)
		r, known := retouched[aspect]
		if !known {
			delete(a.during, aspect)
		} else if !hasContent(retouched) {
			a.during[before+aspect], a.after[before+aspect] = r, r
		}
		if r, known := retouched[before+aspect]; known {
			a.after[before+aspect] = r
		}
	}
}

// givenBack returns the attributes of a file whose original content is restored: the original ones, except
// those that the policy still wants, and without set-id bits.
func (a *aim) givenBack(had system.Attr, wanted map[string]string, retouched map[string]converge.Retouch) system.Attr {
	texts := map[string]string{aspectOwner: strconv.Itoa(had.UID), aspectGroup: strconv.Itoa(had.GID), aspectMode: modeText(had.Mode &^ setID)}
	for _, aspect := range attributes() {
		if r, known := retouched[before+aspect]; known {
			texts[aspect] = r.Was
		}
		delete(a.after, aspect)
		if want, named := wanted[aspect]; named && !a.missing && want != texts[aspect] {
			r := converge.Retouch{Was: texts[aspect], Made: want}
			a.during[aspect], a.after[aspect] = r, r
			texts[aspect] = want
		}
	}
	for aspect, set := range map[string]func(uint64){
		aspectOwner: func(v uint64) { had.UID = int(v) },
		aspectGroup: func(v uint64) { had.GID = int(v) },
		aspectMode:  func(v uint64) { had.Mode = fs.FileMode(v) &^ setID },
	} {
		base := 10
		if aspect == aspectMode {
			base = 8
		}
		if value, err := strconv.ParseUint(texts[aspect], base, 31); err == nil {
			set(value)
		}
	}
	return had
}

// maxShown limits how much of a file a report shows.
const maxShown = 16 << 10

func excerpt(content []byte) string {
	if len(content) > maxShown {
		return strings.ToValidUTF8(string(content[:maxShown]), "") + "…\n"
	}
	return strings.ToValidUTF8(string(content), "?")
}

// writeWhole brings a path into its intended state in one step, unless somebody has changed it since the check.
func (k *Kind) writeWhole(name string, a aim) error {
	if err := k.unchanged(name, a); err != nil {
		return err
	}
	switch {
	case a.whole.nothing:
		return errors.Join(k.system.FS.Remove(name), k.system.FS.Remove(own.Temporary(name)))
	case a.whole.link != "":
		return k.system.FS.Symlink(a.whole.link, name)
	}
	return k.system.Guarded.WriteFile(name, a.content, a.attr)
}

// opens reports whether everybody may read both the current and the intended content of a file.
func (k *Kind) opens(name string, a aim) bool {
	mode := a.info.Mode
	if a.missing {
		mode = a.attr.Mode
	}
	return a.info.Type == 0 && public.May(mode&a.attr.Mode) && system.ReachedByAll(k.system.FS, name)
}
