package dropin

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// sameSysctl reports whether the kernel has the wanted value. It prints numbers, lists and masks in its own
// format, and of a key with several numbers it keeps those that are not given.
func sameSysctl(want, got string) bool {
	wants, gots := strings.Fields(want), strings.Fields(got)
	switch {
	case want == got:
		return true
	case len(wants) == 0 || len(wants) > len(gots):
		return false
	case len(wants) < len(gots) && slices.ContainsFunc(slices.Concat(wants, gots), func(word string) bool { return !isNumber(word) }):
		return false
	}
	return slices.EqualFunc(wants, gots[:len(wants)], sameWord)
}

func isNumber(word string) bool {
	_, err := strconv.ParseInt(word, 0, 64)
	return err == nil
}

// mask matches how the kernel prints a mask of processors that is wider than a digit: hexadecimal, in groups.
var mask = regexp.MustCompile(`^(0[0-9a-f]{1,7}|[0-9a-f]{1,8}(,[0-9a-f]{8})+)$`)

func sameWord(want, got string) bool {
	if want == got {
		return true
	}
	if mask.MatchString(got) {
		digits := func(word string) string {
			return strings.TrimLeft(strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(word, ",", "")), "0x"), "0")
		}
		if digits(want) == digits(got) {
			return true
		}
	} else if w, err := strconv.ParseInt(want, 0, 64); err == nil {
		if g, err := strconv.ParseInt(got, 0, 64); err == nil {
			return w == g
		}
	} else if w, err := strconv.ParseUint(want, 0, 64); err == nil {
		g, err := strconv.ParseUint(got, 0, 64)
		return err == nil && w == g
	}
	w, isList := ranges(want)
	g, too := ranges(got)
	return isList && too && slices.Equal(w, g)
}

// ranges parses a list such as 8080,9000-9010. It returns the numbers as ascending ranges that do not touch.
func ranges(list string) (all [][2]uint64, is bool) {
	for part := range strings.SplitSeq(list, ",") {
		from, to, two := strings.Cut(part, "-")
		if !two {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 32)
		last, err2 := strconv.ParseUint(to, 10, 32)
		if err != nil || err2 != nil || first > last {
			return nil, false
		}
		all = append(all, [2]uint64{first, last})
	}
	slices.SortFunc(all, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	merged := all[:1]
	for _, next := range all[1:] {
		if last := &merged[len(merged)-1]; next[0] <= last[1]+1 {
			last[1] = max(last[1], next[1])
		} else {
			merged = append(merged, next)
		}
	}
	return merged, true
}
