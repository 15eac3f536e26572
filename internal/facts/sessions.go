package facts

import (
	"context"
	"fmt"

	"github.com/soe-agent/soe-agent/internal/system"
)

// LoggedIn returns the name of somebody who would lose something if all sessions ended now, or ""
// if nobody would.
func LoggedIn(ctx context.Context, s *system.System) (string, error) {
	return whose(ctx, s, system.Session.Live)
}

// AtDesktop returns the name of somebody who would lose something if all desktops ended now, or ""
// if nobody would.
func AtDesktop(ctx context.Context, s *system.System) (string, error) {
	return whose(ctx, s, func(session system.Session) bool { return session.Live() && session.Desktop() })
}

func whose(ctx context.Context, s *system.System, concerned func(system.Session) bool) (string, error) {
	sessions, err := s.Sessions.List(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot tell who is logged in: %w", err)
	}
	for _, session := range sessions {
		if concerned(session) {
			return session.User, nil
		}
	}
	return "", nil
}
