package dropindir_test

import (
	"path"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/dropindir"
)

func TestNoDirectoryIsHiddenByOneBeforeIt(t *testing.T) {
	all := dropindir.All()
	for i, d := range all {
		example := strings.ReplaceAll(d.Dir, "*", "any")
		for _, earlier := range all[:i] {
			if matched, err := path.Match(earlier.Dir, example); err != nil || matched {
				t.Errorf("%s stands before %s: %v", earlier.Dir, d.Dir, err)
			}
		}
		if got := dropindir.Of(example).Dir; got != d.Dir {
			t.Errorf("%s is taken for one of %q", example, got)
		}
	}
	if d := dropindir.Of("/etc/nobody-knows.d"); d.Dir != "" || d.Names.Reads != nil || d.Reader != nil {
		t.Errorf("of a directory that is not in the table it says %v", d)
	}
}

func TestWhatADirectoryRefusesItSaysWhy(t *testing.T) {
	for _, d := range dropindir.All() {
		if (d.Names.Reads != nil) != (d.Names.Why != "") || d.Names.Skips != nil && d.Names.Reads == nil {
			t.Errorf("%s: %v", d.Dir, d.Names)
		}
		if (d.Modes.Forbidden|d.Modes.Needed != 0) != (d.Modes.Why != "") {
			t.Errorf("%s: %v", d.Dir, d.Modes)
		}
		if mode := d.Mode; mode != 0 && (mode&d.Modes.Forbidden != 0 || mode&d.Modes.Needed != d.Modes.Needed) {
			t.Errorf("%s: the mode %04o is one that its reader passes over", d.Dir, mode)
		}
		if d.Reader != nil && (len(d.Reader.Mains) > 0) != (d.Reader.Includes != nil) {
			t.Errorf("%s: %v", d.Dir, d.Reader)
		}
	}
}
