package packages

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/system"
)

// TestTheStandInForYumDoesWhatYumWasRecordedToDo compares the fake yum with the records in
// testdata/yum3.txt. Each record has a scenario here.
func TestTheStandInForYumDoesWhatYumWasRecordedToDo(t *testing.T) {
	type scenario struct {
		installed string // NAME-VERSION-RELEASE
		script    string // lines for yum's shell
		argv      string // arguments of another command
		set       func(*yum)
	}
	scenarios := map[string]scenario{
		"install, done": {script: "install good"},
		"shell, one name unknown among good ones":            {script: "install good\ninstall lost"},
		"shell, all names unknown":                           {script: "install lost"},
		"shell, one cannot be resolved":                      {script: "install good\ninstall nodep"},
		"shell, one is not signed":                           {script: "install good\ninstall unsigned"},
		"shell, failing %pre":                                {script: "install good\ninstall badpre"},
		"shell, install of an older version":                 {installed: "tool-2.0-1", script: "install tool-1.0-1"},
		"shell, downgrade":                                   {installed: "tool-2.0-1", script: "downgrade tool-1.0-1"},
		"shell, remove with dependents":                      {installed: "tool-2.0-1 plugin-1.0-1 other-1.0-1", script: "remove tool"},
		"check-update, that repository left out":             {installed: "tool-2.0-1", argv: "yum --disablerepo=dead check-update tool", set: func(y *yum) { y.dead = []string{"dead"} }},
		"another yum at work, exit_on_lock":                  {argv: "yum --setopt=exit_on_lock=True check-update", set: func(y *yum) { y.locked = 1 }},
		"check-update, there are":                            {installed: "tool-1.0-1", argv: "yum check-update tool"},
		"check-update, there are none":                       {installed: "tool-2.0-1", argv: "yum check-update tool"},
		"check-update, a repository is down":                 {installed: "tool-1.0-1", argv: "yum check-update tool", set: func(y *yum) { y.dead = []string{"dead"} }},
		"check-update, from an old cache":                    {installed: "tool-1.0-1", argv: "yum check-update tool", set: func(y *yum) { y.stale = true }},
		"check-update, an unknown name":                      {installed: "tool-1.0-1", argv: "yum check-update lost"},
		"shell, a group":                                     {script: `install "@both"`, set: func(y *yum) { y.groups = map[string][]string{"both": {"a", "b"}} }},
		"shell, an unknown group with a good name":           {script: "install \"@lost\"\ninstall good"},
		"shell, another version than the one that is locked": {installed: "tool-1.0-1", script: "install tool-2.0-1", set: func(y *yum) { y.write("/etc/yum/pluginconf.d/versionlock.list", "0:tool-1.0-1.*\n") }},
		"update, done":                                       {installed: "tool-1.0-1", argv: "yum -y update"},
		"update, one is excluded":                            {installed: "tool-1.0-1", argv: "yum -y --exclude=tool update"},
		"--security update, only some":                       {installed: "tool-1.0-1 other-1.0-1", argv: "yum -y --security update", set: func(y *yum) { y.security = []string{"tool"} }},
		"--security check-update":                            {installed: "tool-1.0-1 other-1.0-1", argv: "yum --security check-update", set: func(y *yum) { y.security = []string{"tool"} }},
		"--security check-update, nothing left":              {installed: "tool-2.0-1 other-1.0-1", argv: "yum --security check-update", set: func(y *yum) { y.security = []string{"tool"} }},
		"yum-complete-transaction, a package twice":          {installed: "tool-2.0-1", argv: "yum-complete-transaction -y", set: func(y *yum) { y.twice = map[string]string{"tool": "1.0-1"} }},
	}
	records, err := os.ReadFile("testdata/yum3.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(records)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		record := strings.Split(line, "|")
		for i := range record {
			record[i] = strings.TrimSpace(record[i])
		}
		t.Run(record[0], func(t *testing.T) {
			s, there := scenarios[record[0]]
			if !there {
				t.Fatal("nothing here does that")
			}
			delete(scenarios, record[0])
			d := newDesk(t, world{
				installed:  map[string]string{},
				repository: map[string][]string{"good": {"1.0-1"}, "other": {"1.0-1", "2.0-1"}, "a": {"1.0-1"}, "b": {"1.0-1"}, "tool": {"1.0-1", "2.0-1"}, "nodep": {"1-1"}, "unsigned": {"1-1"}, "badpre": {"1-1"}},
				requires:   map[string]string{"plugin": "tool"},
				broken:     map[string]string{"nodep": "nodep", "unsigned": "unsigned", "badpre": "badpre"},
			})
			for _, nevra := range strings.Fields(s.installed) {
				name := nameOf(nevra)
				d.installed[name] = strings.TrimPrefix(nevra, name+"-")
			}
			if s.set != nil {
				s.set(d.yum)
			}
			c := system.Command{Argv: strings.Fields(s.argv), Scope: scope}
			if s.script != "" {
				d.write(scriptFile, s.script+"\nrun\n")
				c.Argv = append(append([]string{"yum", "-y"}, c.Argv...), "shell", scriptFile)
			}
			out, err := d.Run(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if got := strconv.Itoa(out.ExitCode); got != record[1] {
				t.Errorf("it exits with %s, yum with %s", got, record[1])
			}
			if text := string(out.Stdout) + string(out.Stderr); !strings.Contains(text, record[2]) {
				t.Errorf("it does not say %q: %s", record[2], text)
			}
			var after []string
			for _, name := range slices.Sorted(maps.Keys(d.installed)) {
				after = append(after, name+"-"+d.installed[name])
			}
			if got := strings.Join(after, " "); got != record[3] {
				t.Errorf("afterwards there is %q, with yum %q", got, record[3])
			}
		})
	}
	for name := range scenarios {
		t.Errorf("%s is in no record", name)
	}
}
