package sudo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Whatever else is denied to whomever: bob's grant goes, and alice, who is allowed, administers.
func TestWhileSudoDoesNotAnswerAGrantGoesWhateverOtherLinesDeny(t *testing.T) {
	wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
	const include, single = "#includedir /etc/sudoers.d\n", "%ops ALL=(ALL) ALL, !/usr/bin/su\n"
	for _, line := range []string{
		single, "%admins ALL=(ALL) ALL, !/usr/bin/su\n", "ALL ALL=(ALL) !/usr/bin/su\n", "%ops ALL=(ALL:ALL) !ALL\n", "alice ALL=(ALL:ALL) !ALL\n",
		"!bob ALL=(ALL) ALL\n", "alice, !bob ALL=(ALL) ALL\n", "User_Alias OPS = bob, carol\nOPS ALL=(ALL) ALL, !/usr/bin/su\n", "%nobody ALL=(ALL:ALL) !ALL\n",
		"nobody-knows ALL=(ALL) ALL, !/usr/bin/su\n", "Cmnd_Alias SU = /usr/bin/su, /usr/bin/sh\nALL ALL = !SU\n", "%#700, #1002 ALL=(ALL:ALL) !ALL\n", "carol ALL=(ALL) ALL\n",
	} {
		for where, files := range map[string]map[string]string{
			"before the include":   {sudoers.Main: "root ALL=(ALL) ALL\n" + line + include},
			"behind it":            {sudoers.Main: "root ALL=(ALL) ALL\n" + include + line},
			"in a file":            {sudoers.Dir + "/50-x": line},
			"in one of two":        {sudoers.Dir + "/50-x": line, sudoers.Dir + "/60-x": single},
			"in one that is last":  {sudoers.Dir + "/zzzz": line},
			"where a lock-down is": {sudoers.Dir + "/50-x": line, grantsPath: string(grants([]string{"%admins"})), denialPath: string(denial([]string{"root", "%admins"}, nil, nil))},
		} {
			g := groveOf("%admins", map[string]string{sudoers.Dir + "/zzz": "bob ALL=(ALL) ALL\n", "/etc/nsswitch.conf": "sudoers: files sss\n"})
			g.files[sudoers.Main] = "root ALL=(ALL) ALL\n" + include
			for name, content := range files {
				g.files[name] = content
			}
			b := book{memory: g.plant(), silent: true}
			complain := func(format string, args ...any) { t.Errorf("%s %q: %s", where, line, fmt.Sprintf(format, args...)) }
			o := &outing{g: g, book: b, clock: wall.Clock, complain: complain}
			r := o.pass(t)["sudo/allow"]
			if got := b.administrators(); !slices.Equal(got, []string{"root", "alice"}) || r.State.InLine() {
				complain("%v administer; it is %s: %s", got, r.State, r.Reason)
			}
			// It denies others alone, and needs not go.
			if file, is := b.get(sudoers.Dir + "/50-x"); is && line == "%ops ALL=(ALL:ALL) !ALL\n" && file.content != line {
				complain("it becomes %q", file.content)
			}
		}
	}
}

// So is what may deny the allowed, or is in nobody's power to mend.
func TestWhileSudoDoesNotAnswerAGrantStaysWhereNobodyElseSurelyAdministers(t *testing.T) {
	wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
	for _, line := range []string{
		"alice ALL=(ALL:ALL) !ALL\n", "%admins ALL=(ALL:ALL) !ALL\n", "ALL, !root, !bob ALL=(ALL:ALL) !ALL\n", "+net ALL=(ALL:ALL) !ALL\n", "#1001 ALL=(ALL) !ALL\n",
		"alice ALL=(ALL) !/usr/bin/\n", "alice ALL=(ALL) NOEXEC: ALL\n", "User_Alias A = ALL, !bob\nA ALL=(ALL:ALL) !ALL\n", "alice ALL=(ALL) CHROOT=/srv ALL\n",
		"Cmnd_Alias MANY = /usr/bin/\nalice ALL=(ALL) !MANY\n", "alice ALL=(ALL) !UNKNOWN\n",
	} {
		g := groveOf("%admins", map[string]string{sudoers.Dir + "/zzz": "bob ALL=(ALL) ALL\n", "/etc/nsswitch.conf": "sudoers: files sss\n"})
		g.files[sudoers.Main] = "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n" + line
		b := book{memory: g.plant(), silent: true}
		b.full = []string{sudoers.Main} // where the line stands, behind the include
		o := &outing{g: g, book: b, clock: wall.Clock, complain: t.Errorf}
		r := o.pass(t)["sudo/allow"]
		if got := b.administrators(); !slices.Contains(got, "bob") || r.State.InLine() {
			t.Errorf("%q: %v administer; it is %s: %s", line, got, r.State, r.Reason)
		}
	}
}

// counted counts how often sudo is asked.
type counted struct {
	system.Runner
	asked *atomic.Int32
}

func (c counted) Run(ctx context.Context, command system.Command) (system.Output, error) {
	if command.Argv[0] == "sudo" {
		c.asked.Add(1)
	}
	return c.Runner.Run(ctx, command)
}

func TestHowOftenSudoIsAskedDoesNotGrowWithTheNumberOfGrantsToTake(t *testing.T) {
	wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
	asked := func(files int, line string, more map[string]string) (times int32) {
		all := map[string]string{}
		for i := range files {
			all[fmt.Sprintf("%s/stray-%03d", sudoers.Dir, i)] = line
		}
		for name, content := range more {
			all[name] = content
		}
		g := groveOf("%admins", all)
		b := book{memory: g.plant()}
		o := &outing{g: g, book: b, clock: wall.Clock, complain: t.Errorf}
		var n atomic.Int32
		o.runner = func(r system.Runner) system.Runner { return counted{r, &n} }
		r := o.pass(t)["sudo/allow"]
		if got := b.administrators(); !slices.Equal(got, []string{"root", "alice"}) || !r.State.InLine() {
			t.Errorf("of %d files: %v administer; it is %s: %s", files, got, r.State, r.Reason)
		}
		return n.Load()
	}
	const plain = "bob ALL=(ALL) NOPASSWD: ALL\n"
	for _, line := range []string{
		plain, "bob ALL=(ALL) ALL, !/usr/bin/su\n", "%wheel ALL=(ALL) ALL\n", "alice, bob ALL=(ALL) ALL\n", "bob, carol ALL=(ALL) NOEXEC: ALL\nALL ALL=(root) /usr/bin/id\n",
	} {
		if few, many := asked(3, line, nil), asked(300, line, nil); many > few {
			t.Errorf("%q: for 3 files sudo is asked %d times, for 300 %d", line, few, many)
		}
	}
	// One file in the midst that may be about one of the allowed is judged alone.
	for _, odd := range []string{"bob ALL=(ALL) ALL, !/usr/bin/su\nalice ALL=(ALL:ALL) !ALL\n", "%ops ALL=(ALL) ALL, !/usr/bin/\n", "Alice ALL=(ALL) NOEXEC: ALL\n"} {
		more := map[string]string{sudoers.Dir + "/stray-150": odd}
		if few, many := asked(3, plain, more), asked(300, plain, more); many > few+8 {
			t.Errorf("with %q sudo is asked %d times for 3 files, for 300 %d", odd, few, many)
		}
	}
}

func TestGrantsOfWhichNoneMayGoEndTheRepairWithAFewReasons(t *testing.T) {
	wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
	for _, silent := range []bool{true, false} {
		g := groveOf("%admins", map[string]string{"/etc/nsswitch.conf": "sudoers: files sss\n"})
		for i := range 300 {
			g.files[fmt.Sprintf("%s/stray-%03d", sudoers.Dir, i)] = "bob ALL=(ALL) NOPASSWD: ALL\n"
		}
		g.files[sudoers.Main] = "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\nalice ALL=(ALL:ALL) !ALL\n"
		b := book{memory: g.plant(), silent: silent}
		b.full = []string{sudoers.Main, grantsPath}
		var n atomic.Int32
		o := &outing{g: g, book: b, clock: wall.Clock, complain: t.Errorf}
		o.runner = func(r system.Runner) system.Runner { return counted{r, &n} }
		r := o.pass(t)["sudo/allow"]
		if got := b.administrators(); !slices.Contains(got, "bob") || r.State.InLine() || len(r.Reason) > 16<<10 || n.Load() > 2000 {
			t.Errorf("silent %v: %v administer; it is %s, after %d questions, with a reason of %d characters", silent, got, r.State, n.Load(), len(r.Reason))
		}
	}
}

// Alice is in ops: a line for them restricts what the agent's own grants her, and one that counts after it lifts that
// again. Both go, and that in /etc/sudoers is the first, if it may be.
func TestWhatIsTakenTogetherTakesNobodyOutInBetween(t *testing.T) {
	wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
	const grant, restricted, denied = "%ops ALL=(ALL) ALL\n", "%ops ALL=(ALL) NOEXEC: ALL\n", "alice ALL=(ALL:ALL) !ALL\n"
	const main = "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n"
	for _, test := range []map[string]string{
		{sudoers.Main: main + grant, sudoers.Dir + "/50-x": restricted},
		{sudoers.Main: main + grant, sudoers.Dir + "/50-x": "Alice ALL=(ALL) NOEXEC: ALL\n"},
		{sudoers.Main: main, sudoers.Dir + "/40-x": restricted, sudoers.Dir + "/50-x": grant},
		{sudoers.Main: main + grant, sudoers.Dir + "/50-x": restricted, sudoers.Dir + "/60-x": grant, sudoers.Dir + "/70-x": restricted},
		{sudoers.Main: main, sudoers.Dir + "/40-x": denied, sudoers.Dir + "/50-x": grant, sudoers.Dir + "/60-x": "bob ALL=(ALL) ALL\n"},
		{sudoers.Main: main, sudoers.Dir + "/40-x": "carol ALL=ALL\n" + denied, sudoers.Dir + "/50-x": grant, sudoers.Dir + "/60-x": "bob ALL=(ALL) ALL, !/bin/su\n"},
	} {
		for n, hit := 1, true; hit; n++ {
			g := groveOf("%admins", test)
			g.files["/etc/group"] = "root:x:0:\nwheel:x:10:\nadmins:x:500:alice\nops:x:700:alice\n"
			b := book{memory: g.plant()}
			hit = false
			gate := system.FailNth(n)
			o := &outing{g: g, book: b, clock: wall.Clock, gate: func(c system.Change) error {
				err := gate(c)
				hit = hit || err != nil
				return err
			}}
			o.complain = func(format string, args ...any) {
				t.Errorf("%q, change %d failing: %s", test, n, fmt.Sprintf(format, args...))
			}
			o.pass(t)
			o.gate = nil
			if r := o.pass(t)["sudo/allow"]; !r.State.InLine() {
				t.Errorf("%q, after change %d: it is %s: %s", test, n, r.State, r.Reason)
			}
		}
	}
}

func TestOnlyWhatTakesNothingWidens(t *testing.T) {
	const grant, denial, other = "alice ALL=(ALL) ALL\n", "bob ALL=(ALL:ALL) !ALL\n", "carol ALL=(ALL) ALL\n"
	for _, test := range []struct {
		before, after string
		want          bool
	}{
		{"", grant, true},
		{"", denial, false},
		{"", "bob ALL=ALL, !/bin/su\n", false},
		{"", "Defaults noexec\n", false},
		{"", "#include /x\n", false},
		{"", "User_Alias A = bob\n", false},
		{"", "# " + denial, true},
		{"", "alice ALL=(ALL) NOEXEC: ALL\n", false},
		{denial, "", true},
		{denial + grant, grant, true},
		{grant + denial, grant, true},
		{grant + denial, denial, false},
		{grant, "", false},
		{grant + denial + other, grant + other, true},
		{denial, denial + grant, true},
		{denial, "# " + denial + grant, true},
		{grant + other, other + grant, false},
		{grant + denial, denial + grant, false},
		{denial + denial, denial, true},
		{"Defaults insults\n", "", false},
		{"junk\n" + denial, "junk\n", true},
		{"!MIXED ALL=ALL\n", "", false},
		{"bob ALL=ALL, !/bin/su\n", "", false},
	} {
		if got := widens(said([]byte(test.before)), said([]byte(test.after)), nil); got != test.want {
			t.Errorf("from %q to %q: %v", test.before, test.after, got)
		}
	}
}

// Alice is known to be in admins and ops and no other group; somebody in far is only known to be in it.
func TestWhomAListMeansIsSureOnlyWhereItIsKnown(t *testing.T) {
	const definitions = "User_Alias FINE = alice, %admins : OTHERS = bob : SHUTS = ALL, !alice : DEEP = FINE\n"
	aliases := map[string][]sudotext.Subject{}
	for name, users := range sudotext.Parse([]byte(definitions))[0].Aliases {
		aliases[name] = users
	}
	s := kindtest.Open(t, system.Options{Root: machine(t, nil)})
	s.Runner = people()
	r := reader{newJudge(t.Context(), s, []string{"root", "%admins", "%far"}, aliases), aliases}
	alice := candidate{name: "alice", uid: "1001", groups: []string{"alice", "admins", "ops"}, all: true}
	partly := candidate{name: "alice", uid: "1001", groups: []string{"admins"}}
	far := candidate{groups: []string{"far"}}
	const no, yes, perhaps = "no", "yes", "perhaps"
	for list, want := range map[string][3]string{
		"alice": {yes, yes, perhaps}, "bob": {no, no, no}, "ALL": {yes, yes, yes}, "%admins": {yes, yes, perhaps}, "%ops": {yes, perhaps, perhaps}, "%far": {no, perhaps, yes},
		"%wheel": {no, perhaps, perhaps}, "%ADMINS": {perhaps, perhaps, perhaps}, "Alice": {perhaps, perhaps, perhaps}, "#1001": {yes, yes, perhaps}, "#01001": {perhaps, perhaps, perhaps}, "#1000": {no, no, perhaps},
		"%#500": {yes, yes, perhaps}, "%#10": {no, perhaps, perhaps}, "%#4711": {perhaps, perhaps, perhaps}, "+net": {perhaps, perhaps, perhaps}, "%:x": {perhaps, perhaps, perhaps},
		"ALL, !alice": {no, no, perhaps}, "ALL, !%admins": {no, no, perhaps}, "ALL, !%far": {yes, perhaps, no}, "!alice": {no, no, no}, "!bob": {no, no, no}, "alice, !bob": {yes, yes, perhaps},
		"alice, !%wheel": {yes, perhaps, perhaps}, "alice, !+net": {perhaps, perhaps, perhaps}, "!alice, ALL": {yes, yes, yes},
		"FINE": {yes, yes, perhaps}, "OTHERS": {no, no, no}, "SHUTS": {perhaps, perhaps, perhaps}, "!SHUTS": {perhaps, perhaps, perhaps}, "alice, SHUTS": {perhaps, perhaps, perhaps}, "ALL, SHUTS": {perhaps, perhaps, perhaps}, "DEEP": {yes, yes, perhaps}, "ALL, !FINE": {no, no, perhaps}, "ALL, !OTHERS": {yes, yes, yes},
		"UNDEFINED": {no, no, perhaps}, // of such an account nobody could say anything
	} {
		users := sudotext.Parse([]byte(list + " ALL=ALL\n"))[0].Users
		for i, c := range []candidate{alice, partly, far} {
			got := no
			switch surely, maybe := r.matches(users, c, 0); {
			case surely:
				got = yes
			case maybe:
				got = perhaps
			}
			if got != want[i] {
				t.Errorf("%s: whether it means %s is %s and should be %s", list, strings.Join(c.groups, ","), got, want[i])
			}
		}
	}
}

// The book reads the same lines on its own.
func TestWhoSurelyAdministersByTheLinesIsLetInBySudo(t *testing.T) {
	wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
	surely, let := 0, 0
	for seed := range uint64(1500) {
		g := newGrove(seed)
		b := g.book
		b.memory = g.plant()
		s := &system.System{Root: "/", FS: b.all(), Runner: b, Clock: wall.Clock, Sessions: sickSessions{}}
		tree, err := sudoers.Read(s.FS, nil)
		if err != nil {
			t.Fatal(err)
		}
		k := New(g.policy(t), s)
		p := &plan{allow: append([]string{"root"}, g.allow...), judge: newJudge(t.Context(), s, g.allow, tree.Aliases())}
		reading := b.read(nil)
		for _, c := range k.candidates(t.Context(), p) {
			if c.name == "" || reading.broken != "" {
				continue
			}
			is, does := p.surelyAdministers(tree, c), b.administers(reading, c.name)
			if is && !does {
				t.Errorf("seed %d: by the lines %s surely administers, and sudo does not let %s", seed, c.name, c.name)
			}
			if does {
				let++
			}
			if is {
				surely++
			}
		}
	}
	if t.Logf("of %d who are let in the lines show it of %d", let, surely); surely < let/2 {
		t.Error("the lines show too little")
	}
}
