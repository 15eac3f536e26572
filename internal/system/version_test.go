package system

import "testing"

func TestTheVersionOfSystemdIsTheNumberInWhateverItCallsIt(t *testing.T) {
	for text, want := range map[string]int{"219": 219, "systemd 219": 219, "v239": 239, "252.39-1~deb12u2": 252, "255 (255.4-1ubuntu8)": 255, "": 0, "devel": 0} {
		if got, err := versionIn(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
}
