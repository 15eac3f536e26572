package history_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const dir = "/var/lib/soe-agent/history"

func files(t testing.TB, root string, gate system.Gate) system.FS {
	t.Helper()
	s, err := system.Open(system.Options{Root: root, Gate: gate})
	if err != nil {
		t.Fatal(err)
	}
	return s.FS
}

func at(minute int) time.Time { return time.Date(2026, 11, 21, 9, minute, 0, 0, time.UTC) }

func corrected(id policy.ID, minute int) history.Change {
	return history.Change{
		Time: at(minute), ID: id, Event: converge.WasCorrected, Cause: converge.Corrective, Policy: "d1g357", Serial: 42,
		Diff:   []converge.Difference{{Aspect: "mode", Want: "0644", Got: "0666"}},
		Origin: policy.Origin{Layer: policy.Remote, Fragment: "10-base", Line: 4},
	}
}

// many returns changes of about the same length.
func many(n, minute int) []history.Change {
	all := make([]history.Change, n)
	for i := range all {
		all[i] = corrected(policy.ID(fmt.Sprintf("dropin/etc/x.d/%06d", i)), minute)
	}
	return all
}

func read(t testing.TB, root string, q history.Query) []history.Change {
	t.Helper()
	changes, err := history.Read(files(t, root, nil), dir, q)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

// segments returns the files of a history, oldest first, with their sizes.
func segments(t testing.TB, root string) (names []string, sizes []int64) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", entry.Name(), info.Mode(), err)
		}
		names, sizes = append(names, filepath.Join(root, dir, entry.Name())), append(sizes, info.Size())
	}
	return names, sizes
}

func TestWhatIsRememberedIsReadAgainAsItWasOldestFirst(t *testing.T) {
	root := t.TempDir()
	if changes := read(t, root, history.Query{}); len(changes) != 0 {
		t.Errorf("before anything has changed: %v", changes)
	}
	pending := corrected("pcoip/enable_audio", 2)
	pending.Event, pending.Reason, pending.Effect = "pending", "a session is connected", converge.NextSession
	pending.Noticed, pending.Took, pending.Unnoticed = at(1), time.Minute, 5*time.Millisecond
	want := []history.Change{corrected("sudo/rules", 0), pending, corrected("package/firefox", 3)}
	if err := history.Open(files(t, root, nil), dir).Append(want[:2]); err != nil {
		t.Fatal(err)
	}
	if err := history.Open(files(t, root, nil), dir).Append(want[2:]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read(t, root, history.Query{})); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(filepath.Join(root, dir)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may look into it: %v, %v", info.Mode(), err)
	}
}

func TestChangesAreFoundByIDTimeAndNumber(t *testing.T) {
	root := t.TempDir()
	all := []history.Change{
		corrected("dropin/etc/a", 0), corrected("dropin/etc/b", 1), corrected("package/a", 2),
		corrected("dropin/etc/a", 3), corrected("dropin/etc/a", 4),
	}
	if err := history.Open(files(t, root, nil), dir).Append(all); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		query history.Query
		want  []int // minutes
	}{
		{history.Query{}, []int{0, 1, 2, 3, 4}},
		{history.Query{ID: "dropin/*"}, []int{0, 1, 3, 4}},
		{history.Query{ID: "dropin/etc/a"}, []int{0, 3, 4}},
		{history.Query{ID: "dropin/etc/a", Limit: 2}, []int{3, 4}},
		{history.Query{Since: at(2)}, []int{2, 3, 4}},
		{history.Query{Since: at(5)}, nil},
		{history.Query{Limit: 9, ID: "*/a"}, []int{0, 2, 3, 4}},
	} {
		var got []int
		for _, c := range read(t, root, test.query) {
			got = append(got, c.Time.Minute())
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v: %s", test.query, diff)
		}
	}
}

func TestAClockThatIsSetBackDisordersNothing(t *testing.T) {
	root := t.TempDir()
	log := history.Open(files(t, root, nil), dir)
	for _, minute := range []int{30, 5, 6, 31} {
		if err := log.Append([]history.Change{corrected("sudo/rules", minute)}); err != nil {
			t.Fatal(err)
		}
	}
	var got []int
	for _, c := range read(t, root, history.Query{Since: at(6)}) {
		got = append(got, c.Time.Minute())
	}
	if diff := cmp.Diff([]int{30, 6, 31}, got); diff != "" {
		t.Error(diff)
	}
	p := &policy.Policy{}
	back := converge.Change{At: at(1), Noticed: at(2), Event: converge.WasCorrected}
	back.Cause, back.Happened = converge.Corrective, at(3)
	if c := history.Of([]converge.Change{back}, p)[0]; c.Took != 0 || c.Unnoticed != 0 {
		t.Errorf("it took %s, after %s", c.Took, c.Unnoticed)
	}
}

func TestTheHistoryIsBoundedAndTheOldestGoesFirst(t *testing.T) {
	root := t.TempDir()
	log := history.Open(files(t, root, nil), dir)
	const walks, each = 160, 150
	for walk := range walks {
		if err := log.Append(many(each, walk%60)); err != nil {
			t.Fatal(err)
		}
		_, sizes := segments(t, root)
		total := int64(0)
		for _, size := range sizes {
			if total += size; size > 512<<10 {
				t.Fatalf("a segment has %d bytes", size)
			}
		}
		if total > 4<<20 || len(sizes) > 8 {
			t.Fatalf("after walk %d it has %d bytes in %d files", walk, total, len(sizes))
		}
	}
	names, _ := segments(t, root)
	kept := read(t, root, history.Query{})
	if strings.HasSuffix(names[0], "00000001.jsonl") || len(names) != 8 {
		t.Errorf("the oldest is there still: %q", names)
	}
	if len(kept) == walks*each || len(kept) < walks*each/2 || !kept[len(kept)-1].Time.Equal(at((walks-1)%60)) {
		t.Errorf("%d of %d changes are kept", len(kept), walks*each)
	}
}

func TestAStormWashesAwayLittleOfWhatWasBefore(t *testing.T) {
	root := t.TempDir()
	var changes system.Recorder
	log := history.Open(files(t, root, changes.Gate), dir)
	if err := log.Append([]history.Change{corrected("sudo/rules", 0)}); err != nil {
		t.Fatal(err)
	}
	changes.Changes()
	if err := log.Append(many(10_000, 1)); err != nil {
		t.Fatal(err)
	}
	writes := 0
	for _, c := range changes.Changes() {
		if c.Op == "append" || c.Op == "write" {
			writes++
		}
	}
	kept := read(t, root, history.Query{})
	last := kept[len(kept)-1]
	if kept[0].ID != "sudo/rules" || last.Omitted == 0 || last.Omitted+len(kept)-2 != 10_000 || !last.Time.Equal(at(1)) {
		t.Errorf("kept are %d from %s to %+v", len(kept), kept[0].ID, last)
	}
	if _, sizes := segments(t, root); len(sizes) > 3 || writes != len(sizes) {
		t.Errorf("it takes %d writes and is %d bytes long", writes, sizes)
	}
}

func TestAWalkIsOneWriteAndOneSync(t *testing.T) {
	root := t.TempDir()
	var changes system.Recorder
	log := history.Open(files(t, root, changes.Gate), dir)
	if err := log.Append(many(1, 0)); err != nil {
		t.Fatal(err)
	}
	changes.Changes()
	if err := errors.Join(log.Append(many(300, 1)), log.Append(nil)); err != nil {
		t.Fatal(err)
	}
	file := dir + "/00000001.jsonl"
	if diff := cmp.Diff([]system.Change{{Op: "append", Target: file}, {Op: "sync", Target: file}}, changes.Changes()); diff != "" {
		t.Error(diff)
	}
}

func TestALongTextIsKeptWhereItDiffers(t *testing.T) {
	root := t.TempDir()
	var want, got strings.Builder
	for i := range 5_000 {
		fmt.Fprintf(&want, "line %d\n", i)
		if i == 3_000 {
			got.WriteString("changed\n")
		} else {
			fmt.Fprintf(&got, "line %d\n", i)
		}
	}
	long := corrected("dropin/etc/long", 0)
	long.Reason = strings.Repeat("ä", 100_000)
	long.Diff = []converge.Difference{{Aspect: "content", Want: want.String(), Got: got.String()}}
	for range 100 {
		long.Diff = append(long.Diff, converge.Difference{Aspect: strings.Repeat("\x00", 10_000), Want: strings.Repeat("\x01", 1<<20), Got: "x"})
	}
	if err := history.Open(files(t, root, nil), dir).Append([]history.Change{long}); err != nil {
		t.Fatal(err)
	}
	c := read(t, root, history.Query{})[0]
	around := "…\nline 2998\nline 2999\n%s\nline 3001\nline 3002\n…\n"
	if diff := cmp.Diff(converge.Difference{Aspect: "content", Want: fmt.Sprintf(around, "line 3000"), Got: fmt.Sprintf(around, "changed")}, c.Diff[0]); diff != "" {
		t.Error(diff)
	}
	if _, sizes := segments(t, root); len(sizes) != 1 || sizes[0] > 512<<10 || !strings.HasSuffix(c.Reason, "ä…") {
		t.Errorf("%d bytes; its reason ends with %q", sizes, c.Reason[len(c.Reason)-10:])
	}
}

func TestALineThatACrashCutShortIsNotReadAndSpoilsNoOther(t *testing.T) {
	root := t.TempDir()
	if err := history.Open(files(t, root, nil), dir).Append([]history.Change{corrected("sudo/a", 0), corrected("sudo/b", 1)}); err != nil {
		t.Fatal(err)
	}
	names, _ := segments(t, root)
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.IndexByte(whole, '\n') + 1
	for length := range whole {
		if err := os.WriteFile(names[0], whole[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		kept := 0
		if length >= second {
			kept = 1
		}
		if changes := read(t, root, history.Query{}); len(changes) != kept {
			t.Fatalf("cut after %d bytes: %v", length, changes)
		}
		if err := history.Open(files(t, root, nil), dir).Append([]history.Change{corrected("sudo/c", 2)}); err != nil {
			t.Fatal(err)
		}
		changes := read(t, root, history.Query{})
		if len(changes) != kept+1 || changes[kept].ID != "sudo/c" || kept == 1 && changes[0].ID != "sudo/a" {
			t.Fatalf("cut after %d bytes, and another written: %v", length, changes)
		}
	}
}

// fill makes a full history, with one large change in each segment.
func fill(t *testing.T, root string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		line := fmt.Sprintf(`{"id":"old/%d","reason":"%s"}`+"\n", i, strings.Repeat("x", 500<<10))
		if err := os.WriteFile(filepath.Join(root, dir, fmt.Sprintf("%08d.jsonl", 50+i)), []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhateverFailsWhatWasRememberedStays(t *testing.T) {
	const walk = 100 // some fit into the last segment; for the others the oldest segment is removed
	for _, gate := range []func(int) system.Gate{system.FailNth, system.FailFrom} {
		for n := 1; ; n++ {
			root := t.TempDir()
			fill(t, root)
			err := history.Open(files(t, root, gate(n)), dir).Append(many(walk, 1))
			old, added := read(t, root, history.Query{ID: "old/*"}), read(t, root, history.Query{ID: "dropin/*"})
			if len(old) < 7 || old[len(old)-1].ID != "old/7" {
				t.Fatalf("change %d: %d are left", n, len(old))
			}
			for i, c := range added {
				if c.ID != many(walk, 1)[i].ID {
					t.Fatalf("change %d: the %dth added is %s", n, i, c.ID)
				}
			}
			// What is appended later comes after it.
			if err := history.Open(files(t, root, nil), dir).Append([]history.Change{corrected("sudo/rules", 2)}); err != nil {
				t.Fatal(err)
			}
			if all := read(t, root, history.Query{}); len(all) < 8 || all[len(all)-1].ID != "sudo/rules" {
				t.Fatalf("change %d: it ends with %s", n, all[len(all)-1].ID)
			}
			if err == nil {
				if len(added) != walk || n < 8 {
					t.Errorf("%d of a walk are there, after %d changes", len(added), n)
				}
				break
			}
		}
	}
}

func TestAFullDiskIsNoEndOfTheHistory(t *testing.T) {
	root := t.TempDir()
	full := false
	disk := func(system.Change) error {
		if full {
			return errors.New("no space left on device")
		}
		return nil
	}
	log := history.Open(files(t, root, disk), dir)
	for minute, isFull := range []bool{false, true, false} {
		full = isFull
		err := log.Append([]history.Change{corrected("sudo/rules", minute)})
		if (err != nil) != isFull || isFull && err.Error() != "cannot write the history: cannot write "+dir+"/00000001.jsonl: no space left on device" {
			t.Errorf("minute %d: %v", minute, err)
		}
	}
	if changes := read(t, root, history.Query{}); len(changes) != 2 || !changes[1].Time.Equal(at(2)) {
		t.Errorf("%v", changes)
	}
}

func TestTwoWorkersWriteWholeLines(t *testing.T) {
	root := t.TempDir()
	log := history.Open(files(t, root, nil), dir)
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			for range 50 {
				if err := log.Append(many(3, worker)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if changes := read(t, root, history.Query{}); len(changes) != 300 {
		t.Errorf("%d changes", len(changes))
	}
}

func TestAPlanWritesNoHistory(t *testing.T) {
	root := t.TempDir()
	if err := history.Open(files(t, root, system.ReadOnly), dir).Append(many(1, 0)); !errors.Is(err, system.ErrReadOnly) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(filepath.Join(root, "var")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-21T09:00:00Z","id":"sudo/rules","event":"corrected","policy":"d"}` + "\n" + `{"time":`))
	f.Add([]byte("\x00\x00\n\n{}\n[]\nnull\n"))
	root := f.TempDir()
	machine := files(f, root, nil)
	file := filepath.Join(root, dir, "00000007.jsonl")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		before, errBefore := history.Read(machine, dir, history.Query{})
		err := history.Open(machine, dir).Append(many(1, 0))
		after, errAfter := history.Read(machine, dir, history.Query{})
		if err := errors.Join(errBefore, err, errAfter); err != nil {
			t.Fatal(err)
		}
		if len(after) != len(before)+1 || after[len(before)].ID != "dropin/etc/x.d/000000" {
			t.Errorf("before %v, after %v", before, after)
		}
	})
}

// loose is a kind that shows whatever it finds, secrets too.
type loose struct{ found converge.Resource }

func (loose) Name() string { return "dropin" }

func (k loose) Check(context.Context) ([]converge.Resource, error) {
	return []converge.Resource{k.found}, nil
}

func (k loose) Repair(_ context.Context, drifted []converge.Resource) []converge.Outcome {
	return []converge.Outcome{{ID: drifted[0].ID, Err: fmt.Errorf("cannot: %s", drifted[0].Diff[0].Got)}}
}

func TestASecretIsNotRemembered(t *testing.T) {
	const canary = "c4n4ry-value"
	root := t.TempDir()
	p := &policy.Policy{Resources: []policy.Resource{{
		ID: "dropin/etc/token", Secrets: []string{canary}, Spec: policy.Dropin{Content: canary}, Shown: policy.Dropin{Content: "{{…}}"},
	}}}
	found := converge.Wanted(p.Resources[0])
	found.AddDrift("content", canary, "it was "+canary+strings.Repeat("x", 1<<20))
	found.Reason = "it is " + canary
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := converge.OpenLedger(s.FS, "/var/lib/soe-agent", facts.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	e := converge.New(p, []converge.Kind{loose{found}}, ledger, s.Clock, slog.New(slog.DiscardHandler))
	log := history.Open(s.FS, dir)
	e.Changed = func(changes []converge.Change) {
		if err := log.Append(history.Of(changes, p)); err != nil {
			t.Error(err)
		}
	}
	e.Pass(t.Context())
	names, _ := segments(t, root)
	content, err := os.ReadFile(names[0])
	if err != nil || bytes.Contains(content, []byte(canary[:6])) || !bytes.Contains(content, []byte("‹secret›")) {
		t.Errorf("it remembers %.300q, %v", content, err)
	}
}
