package system

import (
	"context"
	"errors"
	"time"
)

// ErrNotRunning is wrapped by the errors of everything that needs a running machine, on an image or
// a machine without systemd or logind.
var ErrNotRunning = errors.New("the machine does not run systemd")

// ErrBusy is wrapped by the error of a job that would cancel another job, which has not ended yet.
var ErrBusy = errors.New("systemd is still busy with a job that somebody else has started")

// ErrJobFailed is wrapped by the error of a job with the result "failed". Other results, such as
// "skipped" or "dependency" (a unit that it needs has failed), do not wrap it.
var ErrJobFailed = errors.New(`"failed"`)

// Units is systemd's service manager. Code that needs one part takes that interface.
type Units struct {
	UnitStates
	UnitJobs
	UnitFiles
	UnitManager
}

// UnitManager tells about systemd itself.
type UnitManager interface {
	// Version is the version number of systemd, such as 219.
	Version(ctx context.Context) (int, error)
}

// UnitStates tells the states of units.
type UnitStates interface {
	// Unit describes a unit. If systemd does not find it, the error is nil and LoadState is
	// "not-found".
	Unit(ctx context.Context, name string) (Unit, error)
	// States describes units, in the order of names, without their UnitFileState: that would take
	// systemd a millisecond for each, and States takes little more for all. A unit that systemd
	// does not describe has Err.
	States(ctx context.Context, names []string) ([]Unit, error)
	// FileState returns the UnitFileState according to the files and links that exist now, or "" if
	// the unit has no file. Unit returns what systemd remembers, and does not know templates.
	FileState(ctx context.Context, name string) (string, error)
	// Active returns the names of all units that are active or activating.
	Active(ctx context.Context) ([]string, error)
	// Service returns the properties that only services have.
	Service(ctx context.Context, name string) (Service, error)
}

// UnitJobs changes what runs. Each method returns when the job of systemd has ended. The error
// wraps ErrBusy when another job is in the way, and ErrJobFailed when the result is "failed".
type UnitJobs interface {
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string) error
	// Restart also works for a unit that was started too often (StartLimitBurst=).
	Restart(ctx context.Context, name string) error
	// ReloadUnit reloads an active unit. A mount is remounted with the options that its file has
	// now.
	ReloadUnit(ctx context.Context, name string) error
	// ResetFailed makes systemd forget that a unit has failed, and how often it was started. It
	// needs no job.
	ResetFailed(ctx context.Context, name string) error
}

// UnitFiles changes what starts at boot: the links of units. Disable and Unmask also remove those
// that last until the next boot (systemctl --runtime).
type UnitFiles interface {
	// Enable, Disable, Mask and Unmask change the links and reload systemd.
	Enable(ctx context.Context, name string) error
	Disable(ctx context.Context, name string) error
	Mask(ctx context.Context, name string) error
	Unmask(ctx context.Context, name string) error
	// Reload makes systemd read its unit files again.
	Reload(ctx context.Context) error
}

// Unit is the state of a unit, in the words of systemd.
type Unit struct {
	Name          string
	ID            string // its own name, of which Name may be an alias
	LoadState     string // "loaded", "not-found", "masked", "error", …
	ActiveState   string // "active", "inactive", "failed", "activating", …
	UnitFileState string // "enabled", "disabled", "static", "masked", …; empty without a file
	ActiveSince   time.Time
	Result        string // of a service that has failed: "exit-code", "timeout", …
	Err           error  // why systemd does not describe it further; set only by States

	// States leaves the following fields empty.

	Names         []string  // all its names
	Files         []string  // the files that define it
	InactiveSince time.Time // when it last ended or failed

	// What systemd does to other units with this one (systemd.unit(5)).
	Dependents []string // are stopped with it, and restarted
	Excluded   []string // are stopped when it is started
	Needs      []string // are started with it

	Unmet       bool     // a condition in its file did not hold at the last start
	Triggers    []string // what a socket, a timer or a path starts
	Unstoppable bool     // not by hand, because of RefuseManualStop= in its file
}

// Service is what only services have, in the words of systemd.
type Service struct {
	Type     string   // "simple", "forking", "notify", …
	Restarts int      // restarts by systemd since somebody started it; 0 before systemd 235
	Files    []string // its programs and environment files
}

// Sessions is logind.
type Sessions interface {
	// List returns the sessions of people: all except those that obviously belong to a greeter or a
	// background job.
	List(ctx context.Context) ([]Session, error)
}

// Session is one login of a person. Somebody who has disconnected from the stream and is still
// logged in has one, with programs open in it.
type Session struct {
	ID      string
	UID     uint32
	User    string
	Service string    // the PAM service: "pcoip-session", "sshd", …
	Type    string    // "x11", "wayland", "tty", …
	Class   string    // "user", "background", …
	State   string    // "online", "active", "closing"
	Idle    bool      // there was no input for a while, according to the desktop
	Locked  bool      // the screen is locked, according to the desktop
	Since   time.Time // time of the login
	Leader  int       // the process that opened it
}

// Live reports whether the person would lose something if the session ended now. A closing session
// is not live: the person has logged out, and leftover processes keep it. An idle or locked session
// is live, and so is one whose person has disconnected from the stream, because programs are open.
func (s Session) Live() bool { return s.State != "closing" }

// Desktop reports whether the session may be at the desktop. It is false only for sessions of ssh,
// which do not end with the desktop. PAM not having been told the type proves nothing.
func (s Session) Desktop() bool { return s.Service != "sshd" }

// notRunning is systemd and logind of a machine that is not running.
type notRunning struct{}

func (notRunning) Unit(context.Context, string) (Unit, error) { return Unit{}, ErrNotRunning }
func (notRunning) States(context.Context, []string) ([]Unit, error) {
	return nil, ErrNotRunning
}
func (notRunning) FileState(context.Context, string) (string, error) { return "", ErrNotRunning }
func (notRunning) Version(context.Context) (int, error)              { return 0, ErrNotRunning }
func (notRunning) Active(context.Context) ([]string, error)          { return nil, ErrNotRunning }
func (notRunning) ReloadUnit(context.Context, string) error          { return ErrNotRunning }
func (notRunning) Service(context.Context, string) (Service, error) {
	return Service{}, ErrNotRunning
}
func (notRunning) ResetFailed(context.Context, string) error { return ErrNotRunning }
func (notRunning) Start(context.Context, string) error       { return ErrNotRunning }
func (notRunning) Stop(context.Context, string) error        { return ErrNotRunning }
func (notRunning) Restart(context.Context, string) error     { return ErrNotRunning }
func (notRunning) Enable(context.Context, string) error      { return ErrNotRunning }
func (notRunning) Disable(context.Context, string) error     { return ErrNotRunning }
func (notRunning) Mask(context.Context, string) error        { return ErrNotRunning }
func (notRunning) Unmask(context.Context, string) error      { return ErrNotRunning }
func (notRunning) Reload(context.Context) error              { return ErrNotRunning }
func (notRunning) List(context.Context) ([]Session, error)   { return nil, nil }
func (notRunning) Instance(context.Context) (string, error)  { return "", ErrNotRunning }
func (notRunning) Actions(context.Context) ([]Action, error) { return nil, ErrNotRunning }
func (notRunning) Authorized(context.Context, []Question) ([]bool, error) {
	return nil, ErrNotRunning
}
