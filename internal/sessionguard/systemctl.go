package sessionguard

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// MayRun returns an error, Held or another, when a command is one of systemctl(1) or
// service(8) that must not be run now. What another program does to sessions nobody
// can know.
func MayRun(ctx context.Context, s *system.System, argv []string, consent Consent) error {
	verb, units := asked(argv)
	may := map[string]func(context.Context, *system.System, string, Consent) error{
		"start": MayStart, "stop": MayStop, "kill": MayStop, "restart": MayRestart, "try-restart": MayRestart, "condrestart": MayRestart,
		"reload-or-restart": MayRestart, "try-reload-or-restart": MayRestart, "force-reload": MayRestart,
		"reload-or-try-restart": MayRestart, // as systemd 219 calls it
	}[verb]
	if may == nil {
		return nil
	}
	for _, unit := range units {
		if err := may(ctx, s, unit, consent); err != nil {
			return err
		}
	}
	return nil
}

// asked are the verb of a command and the units that it is about.
func asked(argv []string) (verb string, units []string) {
	words := slices.DeleteFunc(slices.Clone(argv[1:]), func(word string) bool { return strings.HasPrefix(word, "-") })
	if len(words) < 2 {
		return "", nil
	}
	switch path.Base(argv[0]) {
	case "systemctl":
		verb, units = words[0], words[1:]
	case "service": // names the unit first
		verb, units = words[1], words[:1]
	}
	for i, unit := range units {
		if path.Ext(unit) == "" {
			units[i] += ".service"
		}
	}
	return verb, units
}
