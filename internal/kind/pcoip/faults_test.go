package pcoip

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// stepping is a clock that only Sleep advances.
type stepping struct{ now time.Time }

func (s *stepping) Now() time.Time { return s.now }

func (s *stepping) Sleep(_ context.Context, d time.Duration) error {
	s.now = s.now.Add(d)
	return nil
}

func sickScene(name, toml string, units func() map[string]system.Unit, files map[string]string, owned ...policy.ID) faultwalk.Scene {
	return faultwalk.Scene{Name: name, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
		all := map[string]string{
			confPath: before, "/usr/share/xsessions/mate.desktop": "", "/usr/sbin/pcoip-agent": "",
			"/usr/lib/systemd/system/pcoip.service": "[Service]\nExecStart=/usr/sbin/pcoip-agent\n",
		}
		for name, content := range files {
			all[name] = content
			if content == "none" {
				delete(all, name)
			}
		}
		root := kindtest.Root(t, all)
		ledger := kindtest.Ledger(t, root)
		for _, id := range owned {
			ledger.Own(id)
		}
		s := kindtest.Open(t, system.Options{Root: root, Look: look})
		live := &streamer{units: units()}
		s.Root, s.Clock = "/", &stepping{now: time.Now()}
		s.Units, s.Sessions = faultwalk.Units(live.all(), look), faultwalk.Sessions(live, look)
		p := kindtest.Policy(t, toml)
		k := New(p, s, ledger, schedule.Window{})
		return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, ledger, s.Clock), State: func() string {
			return strings.Join(live.did, "\n")
		}}
	}}
}

func TestNoDirectiveIsJudgedByALookThatFailed(t *testing.T) {
	none := func() map[string]system.Unit { return nil }
	up := func() map[string]system.Unit {
		return map[string]system.Unit{"pcoip.service": {LoadState: "loaded", ActiveState: "active", ActiveSince: time.Unix(1e9, 0)}}
	}
	const note = `{"changes":{"pcoip/server_clipboard_state":{"at":1,"unread":{"pcoip.service":1000000000000000}}}}`
	const one = "pcoip.server_clipboard_state = 0\n"
	faultwalk.Walk(t, "pcoip",
		sickScene("in line", toml, none, map[string]string{confPath: after}),
		sickScene("drifted", toml, up, nil),
		sickScene("never made", toml, none, map[string]string{confPath: "none", confDir + "/": ""}),
		sickScene("without an agent", toml, none, map[string]string{confPath: "none"}),
		sickScene("a session that is not installed", "pcoip.desktop_session = \"kde\"\n", none, nil),
		sickScene("there though wanted no more", "", none, map[string]string{confPath: after}, "pcoip/enable_audio", "pcoip/max_link_rate"),
		sickScene("waiting to be read", one, up, map[string]string{confPath: after, notesFile: note}),
	)
}
