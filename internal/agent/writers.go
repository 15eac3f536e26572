package agent

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A writerMonitor finds out which program changes contested resources. It is off while nothing is contested.
type writerMonitor struct {
	machine *Machine

	mu     sync.Mutex
	places map[policy.ID][]converge.Watch // where the contested resources change
	files  map[policy.ID]string           // the paths of those that are files
	dirs   []string                       // the directories being watched
	cancel context.CancelFunc             // stops the watching; nil if nothing is watched
	byName map[string]system.Writer       // the last writer, by file
	byDir  map[string]system.Writer       // the last writer, by directory
	owners map[policy.ID]string           // the packages of contested files; "" if there is none
	asking bool                           // rpm is running for one of them
}

// follow watches the directories of the resources that are contested now.
func (w *writerMonitor) follow(kinds []converge.Kind) {
	if w == nil {
		return
	}
	contested := w.machine.Ledger.Contested(w.machine.System.Clock.Now())
	w.mu.Lock()
	defer w.mu.Unlock()
	places, files := map[policy.ID][]converge.Watch{}, map[policy.ID]string{}
	var dirs []string
	for _, id := range contested {
		if i := slices.IndexFunc(kinds, func(k converge.Kind) bool { return k.Name() == id.Kind() }); i >= 0 {
			if files[id] = fileOf(id, kinds[i]); files[id] != "" {
				places[id] = []converge.Watch{{Dir: path.Dir(files[id]), Names: []string{path.Base(files[id])}}}
			} else {
				places[id] = whereOf(kinds[i])
			}
		} else { // another worker's kind
			places[id], files[id] = w.places[id], w.files[id]
		}
		for _, place := range places[id] {
			dirs = append(dirs, place.Dir)
		}
	}
	w.places, w.files = places, files
	w.askOwners()
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	if slices.Equal(dirs, w.dirs) {
		return
	}
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
	if w.dirs = dirs; len(dirs) == 0 {
		w.byName, w.byDir = nil, nil
		return
	}
	if w.byName == nil {
		w.byName, w.byDir = map[string]system.Writer{}, map[string]system.Writer{}
	}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	go func() {
		if err := w.machine.System.Writers.Monitor(ctx, dirs, w.record); !errors.Is(err, context.Canceled) {
			w.machine.Log.Info("cannot find out which program changes contested resources", "err", err)
		}
	}()
}

// stop ends the watching.
func (w *writerMonitor) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.places, w.files = nil, nil
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
}

// fileOf returns the path of a resource that is a file, or "".
func fileOf(id policy.ID, kind converge.Kind) string {
	if filed, is := kind.(converge.Filed); is {
		return filed.File(id)
	}
	return ""
}

// whereOf returns the directories in which resources of a kind change. A watch on all of /etc is left
// out: any program may have written there for any reason.
func whereOf(kind converge.Kind) []converge.Watch {
	watcher, ok := kind.(converge.Watcher)
	if !ok {
		return nil
	}
	return slices.DeleteFunc(watcher.Watches(), func(w converge.Watch) bool {
		return w.Dir == "" || w.Dir == "/etc" && len(w.Names) == 0
	})
}

// askOwners asks rpm once which package a contested file belongs to: a package's script or update may
// be what changes it back. It does not wait for the answer.
func (w *writerMonitor) askOwners() {
	maps.DeleteFunc(w.owners, func(id policy.ID, _ string) bool { _, contested := w.places[id]; return !contested })
	if !w.asking {
		w.asking = true
		go w.askInTurn()
	}
}

// askInTurn asks for one file after another: hundreds of contested files must not start hundreds of processes.
func (w *writerMonitor) askInTurn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.asking = false }()
	for {
		id, file, there := w.unasked()
		if !there {
			return
		}
		if w.owners == nil {
			w.owners = map[policy.ID]string{}
		}
		w.owners[id] = ""
		w.mu.Unlock()
		owner := w.owner(file)
		w.mu.Lock()
		if _, contested := w.owners[id]; contested {
			w.owners[id] = owner
		}
	}
}

// unasked returns a contested file for which rpm was not asked yet.
func (w *writerMonitor) unasked() (id policy.ID, file string, there bool) {
	for id, file := range w.files {
		if _, asked := w.owners[id]; !asked && file != "" {
			return id, file, true
		}
	}
	return "", "", false
}

// owner returns the package that a file belongs to; "" if there is none, or rpm cannot tell.
func (w *writerMonitor) owner(file string) string {
	out, err := w.machine.System.Runner.Run(context.Background(), system.Command{
		Argv: []string{"rpm", "-qf", "--qf", `%{NAME}\n`, file}, Timeout: time.Minute, ReadOnly: true,
	})
	if err != nil || out.ExitCode != 0 {
		return ""
	}
	return strings.Join(strings.Fields(string(out.Stdout)), ", ")
}

func (w *writerMonitor) record(name string, by system.Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, is := own.IsTemporary(name); is || w.byName == nil {
		return
	}
	if len(w.byName) > 1000 {
		clear(w.byName) // somebody makes many files; the latest ones matter
	}
	w.byName[name], w.byDir[path.Dir(name)] = by, by
}

// writer returns who was seen to change a resource, and which package its file belongs to; "" if
// neither is known.
func (w *writerMonitor) writer(id policy.ID) string {
	if w == nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	by, owner := w.seen(id), w.owners[id]
	switch {
	case owner == "":
		return by
	case by == "":
		return "nobody was seen, but the file is of the package " + owner
	}
	return by + ", and the file is of the package " + owner
}

func (w *writerMonitor) seen(id policy.ID) string {
	for _, place := range w.places[id] {
		if len(place.Names) == 0 {
			if by, seen := w.byDir[place.Dir]; seen {
				return by.String()
			}
		}
		for _, name := range place.Names {
			if by, seen := w.byName[path.Join(place.Dir, name)]; seen {
				return by.String()
			}
		}
	}
	return ""
}
