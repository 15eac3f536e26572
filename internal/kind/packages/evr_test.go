package packages

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// Most of these are cases of rpm's own test suite (tests/rpmvercmp.at).
var comparisons = []struct {
	a, b string
	want int
}{
	{"1.0", "1.0", 0},
	{"1.0", "2.0", -1},
	{"2.0", "1.0", 1},
	{"2.0.1", "2.0.1", 0},
	{"2.0", "2.0.1", -1},
	{"2.0.1", "2.0", 1},
	{"2.0.1a", "2.0.1a", 0},
	{"2.0.1a", "2.0.1", 1},
	{"2.0.1", "2.0.1a", -1},
	{"5.5p1", "5.5p1", 0},
	{"5.5p1", "5.5p2", -1},
	{"5.5p2", "5.5p1", 1},
	{"5.5p10", "5.5p10", 0},
	{"5.5p1", "5.5p10", -1},
	{"5.5p10", "5.5p1", 1},
	{"10xyz", "10.1xyz", -1},
	{"10.1xyz", "10xyz", 1},
	{"xyz10", "xyz10", 0},
	{"xyz10", "xyz10.1", -1},
	{"xyz10.1", "xyz10", 1},
	{"xyz.4", "xyz.4", 0},
	{"xyz.4", "8", -1},
	{"8", "xyz.4", 1},
	{"xyz.4", "2", -1},
	{"2", "xyz.4", 1},
	{"5.5p2", "5.6p1", -1},
	{"5.6p1", "5.5p2", 1},
	{"5.6p1", "6.5p1", -1},
	{"6.5p1", "5.6p1", 1},
	{"6.0.rc1", "6.0", 1},
	{"6.0", "6.0.rc1", -1},
	{"10b2", "10a1", 1},
	{"10a2", "10b2", -1},
	{"1.0aa", "1.0aa", 0},
	{"1.0a", "1.0aa", -1},
	{"1.0aa", "1.0a", 1},
	{"10.0001", "10.0001", 0},
	{"10.0001", "10.1", 0},
	{"10.1", "10.0001", 0},
	{"10.0001", "10.0039", -1},
	{"10.0039", "10.0001", 1},
	{"4.999.9", "5.0", -1},
	{"5.0", "4.999.9", 1},
	{"20101121", "20101121", 0},
	{"20101121", "20101122", -1},
	{"20101122", "20101121", 1},
	{"2_0", "2_0", 0},
	{"2.0", "2_0", 0},
	{"2_0", "2.0", 0},
	{"a", "a", 0},
	{"a+", "a+", 0},
	{"a+", "a_", 0},
	{"a_", "a+", 0},
	{"+a", "+a", 0},
	{"+a", "_a", 0},
	{"_a", "+a", 0},
	{"+_", "+_", 0},
	{"_+", "+_", 0},
	{"_+", "_+", 0},
	{"+", "_", 0},
	{"_", "+", 0},
	{"1.0~rc1", "1.0~rc1", 0},
	{"1.0~rc1", "1.0", -1},
	{"1.0", "1.0~rc1", 1},
	{"1.0~rc1", "1.0~rc2", -1},
	{"1.0~rc2", "1.0~rc1", 1},
	{"1.0~rc1~git123", "1.0~rc1~git123", 0},
	{"1.0~rc1~git123", "1.0~rc1", -1},
	{"1.0~rc1", "1.0~rc1~git123", 1},
	{"1.0^", "1.0^", 0},
	{"1.0^", "1.0", 1},
	{"1.0", "1.0^", -1},
	{"1.0^git1", "1.0^git1", 0},
	{"1.0^git1", "1.0", 1},
	{"1.0", "1.0^git1", -1},
	{"1.0^git1", "1.0^git2", -1},
	{"1.0^git2", "1.0^git1", 1},
	{"1.0^git1", "1.01", -1},
	{"1.01", "1.0^git1", 1},
	{"1.0^20160101", "1.0^20160101", 0},
	{"1.0^20160101", "1.0.1", -1},
	{"1.0.1", "1.0^20160101", 1},
	{"1.0^20160101^git1", "1.0^20160101^git1", 0},
	{"1.0^20160102", "1.0^20160101^git1", 1},
	{"1.0^20160101^git1", "1.0^20160102", -1},
	{"1.0~rc1^git1", "1.0~rc1^git1", 0},
	{"1.0~rc1^git1", "1.0~rc1", 1},
	{"1.0~rc1", "1.0~rc1^git1", -1},
	{"1.0^git1~pre", "1.0^git1~pre", 0},
	{"1.0^git1", "1.0^git1~pre", 1},
	{"1.0^git1~pre", "1.0^git1", -1},
	{"16.20.2", "16.9.0", 1},
	{"5.amzn2.0.1", "5.amzn2.0.10", -1},
	{"1.el7", "1.el7_9", -1},
}

func TestVersionsAreComparedAsRPMDoes(t *testing.T) {
	for _, c := range comparisons {
		if got := rpmvercmp(c.a, c.b); got != c.want {
			t.Errorf("%s against %s is %d and not %d", c.a, c.b, got, c.want)
		}
	}
}

func TestTheRPMOfThisMachineAgrees(t *testing.T) {
	rpm, err := exec.LookPath("rpm")
	if err != nil {
		t.Log("there is none; the cases of its test suite must do")
		return
	}
	var script strings.Builder
	for _, c := range comparisons {
		fmt.Fprintf(&script, "print(rpm.vercmp(%q,%q)..' ') ", c.a, c.b)
	}
	out, err := exec.Command(rpm, "--eval", "%{lua: "+script.String()+"}").Output()
	if err != nil {
		t.Fatal(err)
	}
	results := strings.Fields(string(out))
	if len(results) != len(comparisons) {
		t.Fatalf("rpm says %s", out)
	}
	for i, c := range comparisons {
		if got := fmt.Sprint(rpmvercmp(c.a, c.b)); got != results[i] {
			t.Errorf("%s against %s is %s, and rpm says %s", c.a, c.b, got, results[i])
		}
	}
}

func FuzzComparingIsAntisymmetric(f *testing.F) {
	for _, c := range comparisons {
		f.Add(c.a, c.b)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if there, back := rpmvercmp(a, b), rpmvercmp(b, a); there != -back {
			t.Errorf("%q against %q is %d, and the other way round %d", a, b, there, back)
		}
	})
}

func TestAVersionInThePolicySaysOnlyWhatItSays(t *testing.T) {
	for _, c := range []struct {
		wanted string
		there  evr
		want   int
	}{
		{"1.0", evr{"0", "1.0", "7.el7"}, 0},
		{"1.0-7.el7", evr{"0", "1.0", "7.el7"}, 0},
		{"1.0-8.el7", evr{"0", "1.0", "7.el7"}, 1},
		{"1.0", evr{"2", "1.0", "1"}, 0},
		{"1:1.0", evr{"2", "1.0", "1"}, -1},
		{"2:1.0-1", evr{"2", "1.0", "1"}, 0},
		{"1.0.0", evr{"0", "1.0", "1"}, 1},
	} {
		if got := compareEVR(parseEVR(c.wanted), c.there); got != c.want {
			t.Errorf("%s against %s is %d and not %d", c.wanted, c.there, got, c.want)
		}
	}
}
