package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/report"
)

// historyDocument is what history prints for programs.
type historyDocument struct {
	Schema  int              `json:"schema"` // as report.Schema
	Changes []history.Change `json:"changes"`
}

func (a *app) historyCommand() *cobra.Command {
	var since string
	var q history.Query
	c := &cobra.Command{
		Use:   "history [ID]",
		Short: "Show what was changed on this machine, when, why, and from what to what",
		Long: `History shows what the agent changed on this machine and what else became of its
resources, oldest first: corrected, reclaimed, pending, carried out, failed, contested.
With --verbose also how long it took to notice and to mend, and which policy was in
force. A * in ID is any text, as in 'sudo/*'.

It is kept for as long as it fits into 4 MiB, needs no daemon, and holds no secret.`,
		Example: `  soe-agent history --since 2h
  soe-agent history 'dropin/etc/ssh/*' --limit 5`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeIDs,
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if len(args) > 0 {
				q.ID = args[0]
			}
			if q.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			if q.Limit < 0 {
				return fmt.Errorf("cannot show %d changes: --limit is a number from 0 on, and 0 is all", q.Limit)
			}
			if err := a.needsRoot(); err != nil {
				return err
			}
			changes, err := a.history(q) // with an error, too, there may be some
			switch {
			case a.json:
				return errors.Join(err, a.printJSON(historyDocument{Schema: report.Schema, Changes: append([]history.Change{}, changes...)}))
			case err == nil && len(changes) == 0:
				a.printf("Nothing of that kind is remembered.\n")
				return nil
			}
			return errors.Join(err, report.History(a.stdout, changes, a.style()))
		},
	}
	c.Flags().StringVar(&since, "since", "", "what happened since `TIME`: 2h or 7d ago, 2026-11-20, or 2026-11-20T09:00:00Z")
	c.Flags().IntVar(&q.Limit, "limit", 0, "the last `N` changes; 0 is all")
	return c
}

// history reads what is remembered of the machine below --root.
func (a *app) history(q history.Query) ([]history.Change, error) {
	s, err := a.look()
	if err != nil {
		return nil, err
	}
	return history.Read(s.FS, agent.HistoryDir, q)
}

// parseSince reads a point in time: so long ago, a day or a time here, or RFC 3339.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if number, inDays := strings.CutSuffix(text, "d"); inDays {
		if days, err := strconv.ParseUint(number, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(days)), nil
		}
	}
	for _, here := range []string{time.DateOnly, time.DateTime} { // the latter as it is shown
		if at, err := time.ParseInLocation(here, text, time.Local); err == nil {
			return at, nil
		}
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, fmt.Errorf("cannot tell since when: %q is neither a duration such as 90m, 2h or 7d, nor a day such as 2026-11-20, nor a time such as '2026-11-20 09:00:00' or 2026-11-20T09:00:00Z", text)
}
