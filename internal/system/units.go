package system

import (
	"context"
	"errors"
	"time"
)

// ErrNotRunning is the error of everything that needs a running machine, for one
// that does not run: an image, or a machine without systemd or logind.
var ErrNotRunning = errors.New("the machine does not run systemd")

// ErrBusy is wrapped by the error of a job that would cancel another one, which has not
// ended yet.
var ErrBusy = errors.New("systemd is still busy with what somebody else has asked of it")

// ErrJobFailed is wrapped by the error of a job that systemd calls failed, and not for
// instance skipped, or that of a unit of which another one it needs has failed.
var ErrJobFailed = errors.New(`"failed"`)

// Units is systemd's service manager. Who needs one part of it asks for that part.
type Units struct {
	UnitStates
	UnitJobs
	UnitFiles
	UnitManager
}

// UnitManager says what systemd itself is.
type UnitManager interface {
	// Version is its number, such as 219.
	Version(ctx context.Context) (int, error)
}

// UnitStates says where units stand.
type UnitStates interface {
	// Unit describes a unit. One that systemd cannot find has LoadState
	// "not-found", and there is no error.
	Unit(ctx context.Context, name string) (Unit, error)
	// States describes units, in the order of names, without their UnitFileState: to
	// work that out takes systemd a millisecond for each, and States needs little
	// more for all. One that systemd refuses to speak of has Err.
	States(ctx context.Context, names []string) ([]Unit, error)
	// FileState is the UnitFileState as the unit's files and links say now, "" when it has no
	// file: Unit tells what systemd remembers, and nothing of a template.
	FileState(ctx context.Context, name string) (string, error)
	// Active are the names of all units that are up, or coming up.
	Active(ctx context.Context) ([]string, error)
	// Service describes what only services have.
	Service(ctx context.Context, name string) (Service, error)
}

// UnitJobs changes what runs. A job returns when systemd's has ended. Its error is ErrBusy
// when there is another job in the way, and ErrJobFailed when systemd says so.
type UnitJobs interface {
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string) error
	// Restart has a unit that was started often come back all the same (StartLimitBurst=).
	Restart(ctx context.Context, name string) error
	// ReloadUnit has a unit that is up take in what it is told to: a mount is mounted anew where
	// it is, with the options that its file has now.
	ReloadUnit(ctx context.Context, name string) error
	// ResetFailed has systemd forget that a unit has failed, and how often. It is no job.
	ResetFailed(ctx context.Context, name string) error
}

// UnitFiles changes what starts by itself: the links of units. Disable and Unmask take
// those of this boot (systemctl --runtime) away too.
type UnitFiles interface {
	// Enable, Disable, Mask and Unmask change the links and reload systemd.
	Enable(ctx context.Context, name string) error
	Disable(ctx context.Context, name string) error
	Mask(ctx context.Context, name string) error
	Unmask(ctx context.Context, name string) error
	// Reload makes systemd read its unit files again.
	Reload(ctx context.Context) error
}

// Unit is where a unit stands. The words are systemd's.
type Unit struct {
	Name          string
	ID            string // its own name, of which Name may be an alias
	LoadState     string // "loaded", "not-found", "masked", "error", …
	ActiveState   string // "active", "inactive", "failed", "activating", …
	UnitFileState string // "enabled", "disabled", "static", "masked", …; empty without a file
	ActiveSince   time.Time
	Result        string // of a service that has failed: "exit-code", "timeout", …
	Err           error  // why systemd does not say more of it; only States has it

	// States does not tell of the rest.

	Names         []string  // all that it is called
	Files         []string  // that say what it is
	InactiveSince time.Time // when it last ended or failed

	// What systemd does to other units along with this one (systemd.unit(5)).
	Dependents []string // are stopped with it, and restarted
	Excluded   []string // are stopped when it is started
	Needs      []string // are started with it

	Unmet       bool     // a condition of its file did not hold when it was to be started last
	Triggers    []string // what a socket, a timer or a path starts
	Unstoppable bool     // by hand, says its file (RefuseManualStop=)
}

// Service is what only services have. The words are systemd's.
type Service struct {
	Type     string   // "simple", "forking", "notify", …
	Restarts int      // by systemd itself, since somebody started it; 0 before systemd 235
	Files    []string // its programs, and those of its environment
}

// Sessions is logind.
type Sessions interface {
	// List returns the sessions of people: those that are not plainly of a greeter or
	// of a job that runs by itself.
	List(ctx context.Context) ([]Session, error)
}

// Session is one login of a person. A person who has disconnected from the
// stream and is still logged in has one: the open programs are in it.
type Session struct {
	ID      string
	UID     uint32
	User    string
	Service string    // the PAM service: "pcoip-session", "sshd", …
	Type    string    // "x11", "wayland", "tty", …
	Class   string    // "user", "background", …
	State   string    // "online", "active", "closing"
	Idle    bool      // nothing has been typed for a while, says the desktop
	Locked  bool      // the screen is, says the desktop
	Since   time.Time // of the login
	Leader  int       // the process that opened it
}

// Live says whether something of the person's would be lost if the session ended
// now. In one that is closing the person has logged out, and only what was left
// running keeps it. An idle or locked one is live, and so is that of somebody who has
// disconnected from the stream: the programs are open.
func (s Session) Live() bool { return s.State != "closing" }

// Desktop says whether the session may be one at the desktop. All are taken for that
// but those of ssh, which do not end with the desktop: a type that PAM was not told
// says nothing.
func (s Session) Desktop() bool { return s.Service != "sshd" }

// notRunning stands for systemd and logind of a machine that does not run.
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
