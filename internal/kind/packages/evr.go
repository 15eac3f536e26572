package packages

import (
	"cmp"
	"strings"
)

// evr is a package's epoch, version and release. In a wanted version, an empty part means that the
// policy does not restrict it.
type evr struct{ epoch, version, release string }

// parseEVR reads "[EPOCH:]VERSION[-RELEASE]".
func parseEVR(text string) evr {
	var e evr
	if epoch, rest, found := strings.Cut(text, ":"); found {
		e.epoch, text = epoch, rest
	}
	e.version = text
	if i := strings.LastIndexByte(text, '-'); i >= 0 {
		e.version, e.release = text[:i], text[i+1:]
	}
	return e
}

// String returns [EPOCH:]VERSION[-RELEASE]. It leaves out an epoch of 0, as rpm does.
func (e evr) String() string {
	text := e.version
	if e.epoch != "" && e.epoch != "0" {
		text = e.epoch + ":" + text
	}
	if e.release != "" {
		text += "-" + e.release
	}
	return text
}

// compareEVR compares two versions and returns -1, 0 or 1. A part that is empty in one of them is
// skipped.
func compareEVR(a, b evr) int {
	part := func(a, b string) int {
		if a == "" || b == "" {
			return 0
		}
		return rpmvercmp(a, b)
	}
	return cmp.Or(part(a.epoch, b.epoch), part(a.version, b.version), part(a.release, b.release))
}

// rpmvercmp compares versions as rpm does (rpm-version(7)): segment by segment of digits or
// letters. Digits are newer than letters, and a longer version is newer. A tilde sorts before
// everything, even the end. A caret sorts after the end and before anything else.
func rpmvercmp(a, b string) int {
	for a != "" || b != "" {
		a, b = strings.TrimLeftFunc(a, separator), strings.TrimLeftFunc(b, separator)
		if result, decided, stripped := compareMarks(&a, &b); decided {
			return result
		} else if stripped {
			continue
		}
		if a == "" || b == "" {
			break
		}
		class := letter
		if digit(rune(a[0])) {
			class = digit
		}
		restA, restB := strings.TrimLeftFunc(a, class), strings.TrimLeftFunc(b, class)
		segmentA, segmentB := a[:len(a)-len(restA)], b[:len(b)-len(restB)]
		numeric := digit(rune(a[0]))
		switch {
		case segmentB == "" && numeric:
			return 1
		case segmentB == "":
			return -1
		case numeric:
			segmentA, segmentB = strings.TrimLeft(segmentA, "0"), strings.TrimLeft(segmentB, "0")
			if result := cmp.Compare(len(segmentA), len(segmentB)); result != 0 {
				return result
			}
		}
		if result := strings.Compare(segmentA, segmentB); result != 0 {
			return result
		}
		a, b = restA, restB
	}
	return cmp.Compare(len(a), len(b))
}

// compareMarks handles a tilde or caret at the beginning of either version. It decides the
// comparison, or strips the mark from both.
func compareMarks(a, b *string) (result int, decided, stripped bool) {
	for _, mark := range []string{"~", "^"} {
		inA, inB := strings.HasPrefix(*a, mark), strings.HasPrefix(*b, mark)
		switch {
		case inA && inB:
			*a, *b = (*a)[1:], (*b)[1:]
			return 0, false, true
		case !inA && !inB:
		case mark == "~" && inA, mark == "^" && inA && *b != "", mark == "^" && inB && *a == "":
			return -1, true, false
		default:
			return 1, true, false
		}
	}
	return 0, false, false
}

func digit(r rune) bool  { return '0' <= r && r <= '9' }
func letter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

func separator(r rune) bool { return !digit(r) && !letter(r) && r != '~' && r != '^' }
