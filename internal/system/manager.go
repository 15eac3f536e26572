package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// ask calls what with a connection to systemd, and waits for the answer for at most patience.
func (b *bus) ask(ctx context.Context, patience time.Duration, what func(context.Context, *manager) error) error {
	return b.question(ctx, systemdName, patience, func(ctx context.Context) error {
		conn, err := b.systemd(ctx)
		if err != nil {
			return err
		}
		return what(ctx, conn)
	})
}

// Unit implements Units.
func (b *bus) Unit(ctx context.Context, name string) (u Unit, err error) {
	err = b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		if err = b.look.at("ask", name); err != nil {
			return fmt.Errorf("cannot ask systemd about %s: %w", name, err)
		}
		u, err = unit(ctx, conn, name)
		return err
	})
	return u, err
}

func unit(ctx context.Context, conn *manager, name string) (Unit, error) {
	properties, err := conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return Unit{}, fmt.Errorf("cannot ask systemd about %s: %w", name, err)
	}
	text := func(key string) string { s, _ := properties[key].(string); return s }
	u := Unit{Name: name, ID: text("Id"), LoadState: text("LoadState"), ActiveState: text("ActiveState"), UnitFileState: text("UnitFileState")}
	u.ActiveSince, u.InactiveSince = moment(properties["ActiveEnterTimestamp"]), moment(properties["InactiveEnterTimestamp"])
	u.Result = result(ctx, conn, u)
	names := func(keys ...string) (all []string) {
		for _, key := range keys {
			some, _ := properties[key].([]string) // nil if systemd is too old for the property
			all = append(all, some...)
		}
		return all
	}
	u.Names = names("Names")
	u.Files = slices.DeleteFunc(append(names("DropInPaths"), text("FragmentPath"), text("SourcePath")), func(file string) bool { return file == "" })
	u.Dependents = names("RequiredBy", "RequiredByOverridable", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
	u.Excluded = names("Conflicts", "ConflictedBy")
	u.Needs = names("Requires", "RequiresOverridable", "BindsTo", "Wants", "Upholds")
	u.Triggers = names("Triggers")
	held, known := properties["ConditionResult"].(bool)
	tried, _ := properties["ConditionTimestamp"].(uint64)
	u.Unmet = known && !held && tried != 0
	u.Unstoppable, _ = properties["RefuseManualStop"].(bool)
	return u, nil
}

// States implements Units.
func (b *bus) States(ctx context.Context, names []string) (units []Unit, err error) {
	err = b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		units, err = b.states(ctx, conn, names)
		return err
	})
	return units, err
}

func (b *bus) states(ctx context.Context, conn *manager, names []string) ([]Unit, error) {
	units := make([]Unit, len(names))
	listed, err := conn.ListUnitsByNamesContext(ctx, names)
	if err != nil || len(listed) != len(names) {
		listed = nil // systemd before 230 has no such method
	}
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			get := func(property string) any {
				var p *systemd.Property
				err := b.look.at("ask", name)
				if err == nil {
					p, err = conn.GetUnitPropertyContext(ctx, name, property)
				}
				if err != nil {
					errs[i] = fmt.Errorf("cannot ask systemd about %s: %w", name, err)
					return nil
				}
				return p.Value.Value()
			}
			u := Unit{Name: name}
			if listed != nil {
				u.ID, u.LoadState, u.ActiveState = listed[i].Name, listed[i].LoadState, listed[i].ActiveState
			} else {
				u.ID, _ = get("Id").(string)
				u.LoadState, _ = get("LoadState").(string)
				u.ActiveState, _ = get("ActiveState").(string)
			}
			if u.ActiveState == "active" {
				u.ActiveSince = moment(get("ActiveEnterTimestamp"))
			}
			u.Result = result(ctx, conn, u)
			if answer := (dbus.Error{}); errors.As(errs[i], &answer) {
				u, errs[i] = Unit{Name: name, Err: errs[i]}, nil // as for a nonexistent unit: the other units are still returned
			}
			units[i] = u
		})
	}
	wg.Wait()
	return units, errors.Join(errs...)
}

// FileState implements Units.
func (b *bus) FileState(ctx context.Context, name string) (state string, err error) {
	err = b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		err := b.look.at("ask", name)
		if err == nil {
			err = conn.object.CallWithContext(ctx, systemdManager+".GetUnitFileState", 0, name).Store(&state)
		}
		if answer := (dbus.Error{}); errors.As(err, &answer) && slices.Contains(noFile(), answer.Name) {
			state, err = "", nil
		}
		if err != nil {
			return fmt.Errorf("cannot ask systemd about the file of %s: %w", name, err)
		}
		return nil
	})
	return state, err
}

// Version implements Units.
func (b *bus) Version(ctx context.Context) (version int, err error) {
	err = b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		err := b.look.at("ask", "systemd")
		var said dbus.Variant
		if err == nil {
			err = conn.object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, systemdManager, "Version").Store(&said)
		}
		if err != nil {
			return fmt.Errorf("cannot ask systemd for its version: %w", err)
		}
		text, _ := said.Value().(string)
		version, err = versionIn(text)
		return err
	})
	return version, err
}

// versionIn finds the number in the version string of systemd: "219", "252.39-1~deb12u1".
func versionIn(text string) (version int, err error) {
	digits := strings.TrimLeftFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	if version, err = strconv.Atoi(digits); err != nil {
		return 0, fmt.Errorf("cannot tell the version of systemd: it calls it %q", text)
	}
	return version, nil
}

// noFile lists the D-Bus errors of systemd for a unit that has no file.
func noFile() []string {
	return []string{"org.freedesktop.DBus.Error.FileNotFound", "org.freedesktop.systemd1.NoSuchUnit"}
}

// Service implements Units.
func (b *bus) Service(ctx context.Context, name string) (service Service, err error) {
	err = b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		err := b.look.at("ask", name)
		var properties map[string]any
		if err == nil {
			properties, err = conn.GetUnitTypePropertiesContext(ctx, name, "Service")
		}
		if err != nil {
			return fmt.Errorf("cannot ask systemd about %s: %w", name, err)
		}
		service.Type, _ = properties["Type"].(string)
		restarts, _ := properties["NRestarts"].(uint32)
		service.Restarts = int(restarts)
		for _, key := range []string{"ExecStartPre", "ExecStart", "EnvironmentFiles"} {
			entries, _ := properties[key].([][]any) // each begins with a file
			for _, entry := range entries {
				if file, isText := entry[0].(string); isText {
					service.Files = append(service.Files, file)
				}
			}
		}
		return nil
	})
	return service, err
}

// moment converts a time of systemd, in microseconds.
func moment(value any) time.Time {
	if µs, ok := value.(uint64); ok && µs > 0 {
		return time.UnixMicro(int64(µs))
	}
	return time.Time{}
}

// result returns why a service has failed, or "" if it has not or systemd does not say.
func result(ctx context.Context, conn *manager, u Unit) string {
	if u.ActiveState != "failed" || !strings.HasSuffix(u.Name, ".service") {
		return ""
	}
	p, err := conn.GetServicePropertyContext(ctx, u.Name, "Result")
	if err != nil {
		return ""
	}
	text, _ := p.Value.Value().(string)
	return text
}

type job func(ctx context.Context, name, mode string, result chan<- string) (int, error)

// destructive is the D-Bus error of systemd for a job that would cancel another one.
const destructive = "org.freedesktop.systemd1.TransactionIsDestructive"

// runJob starts a job and waits for its end. It never cancels a job that somebody else has started:
// its mode is "fail" (org.freedesktop.systemd1(5)).
func (b *bus) runJob(ctx context.Context, verb, name string, method func(*systemd.Conn) job) error {
	ctx, cancel := context.WithTimeout(ctx, jobPatience)
	defer cancel()
	result := make(chan string, 1)
	var lost <-chan struct{}
	err := b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		if err := b.gate(Change{verb, name}); err != nil {
			return err
		}
		lost = conn.lost
		_, err := method(conn.Conn)(ctx, name, "fail", result)
		return err
	})
	if err == nil {
		err = b.await(ctx, name, result, lost)
	}
	if err != nil {
		if answer := (dbus.Error{}); errors.As(err, &answer) && answer.Name == destructive {
			err = fmt.Errorf("%w: %w", ErrBusy, err)
		}
		return fmt.Errorf("cannot %s %s: %w", verb, name, err)
	}
	return nil
}

const (
	// jobPatience is how long anybody waits for a job; the job goes on after that. systemd itself
	// lets most jobs take 90 s, and some run without limit.
	jobPatience = 2 * time.Minute
	// askAfterJob is how often systemd is asked whether the job still exists: its signal that a
	// job has ended is lost when systemd or the bus restarts.
	askAfterJob = time.Second
)

// await waits for the end of a unit's job. If the result of the job got lost, it returns nil: the
// caller checks the unit anyway.
func (b *bus) await(ctx context.Context, name string, result <-chan string, lost <-chan struct{}) error {
	ticker := time.NewTicker(askAfterJob)
	defer ticker.Stop()
	for gone := 0; gone < 2; {
		select {
		case r := <-result:
			if r == "failed" {
				return fmt.Errorf("systemd says %w; see: journalctl -u %s", ErrJobFailed, name)
			}
			if r != "done" {
				return fmt.Errorf("systemd says %q; see: journalctl -u %s", r, name)
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-lost:
			lost = nil // from now on, ask whether the job still exists
			continue
		case <-ticker.C:
		}
		if there, err := b.hasJob(ctx, name); err == nil && !there {
			gone++ // its signal may still be on the way
		}
	}
	return nil
}

// hasJob reports whether a unit has a job.
func (b *bus) hasJob(ctx context.Context, name string) (there bool, err error) {
	err = b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		property, err := conn.GetUnitPropertyContext(ctx, name, "Job")
		if err != nil {
			return err
		}
		var one struct {
			ID   uint32
			Path dbus.ObjectPath
		}
		err = dbus.Store([]any{property.Value.Value()}, &one)
		there = one.ID != 0
		return err
	})
	return there, err
}

func (b *bus) Start(ctx context.Context, name string) error {
	return b.runJob(ctx, "start", name, func(c *systemd.Conn) job { return c.StartUnitContext })
}

func (b *bus) Stop(ctx context.Context, name string) error {
	return b.runJob(ctx, "stop", name, func(c *systemd.Conn) job { return c.StopUnitContext })
}

// Restart implements UnitJobs. systemd would stop a unit that was started too often and then refuse
// to start it (StartLimitBurst=), so the count is reset first.
func (b *bus) Restart(ctx context.Context, name string) error {
	if err := b.ResetFailed(ctx, name); err != nil {
		return err
	}
	return b.runJob(ctx, "restart", name, func(c *systemd.Conn) job { return c.RestartUnitContext })
}

func (b *bus) ReloadUnit(ctx context.Context, name string) error {
	return b.runJob(ctx, "reload", name, func(c *systemd.Conn) job { return c.ReloadUnitContext })
}

// Active implements Units.
func (b *bus) Active(ctx context.Context) (names []string, err error) {
	err = b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		err := b.look.at("ask", "units")
		var listed []systemd.UnitStatus
		if err == nil {
			listed, err = conn.ListUnitsFilteredContext(ctx, []string{"active", "reloading", "activating"})
		}
		for _, unit := range listed {
			names = append(names, unit.Name)
		}
		if err != nil {
			return fmt.Errorf("cannot ask systemd which units are up: %w", err)
		}
		return nil
	})
	return names, err
}

// ResetFailed implements Units.
func (b *bus) ResetFailed(ctx context.Context, name string) error {
	err := b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		if err := b.gate(Change{"reset-failed", name}); err != nil {
			return err
		}
		return conn.ResetFailedUnitContext(ctx, name)
	})
	if err != nil {
		return fmt.Errorf("cannot reset %s: %w", name, err)
	}
	return nil
}

// changeFiles changes links of unit files, and reloads systemd.
func (b *bus) changeFiles(ctx context.Context, verb, name string, change func(context.Context, *manager) error) error {
	err := b.ask(ctx, reloadPatience, func(ctx context.Context, conn *manager) error {
		if err := b.gate(Change{verb, name}); err != nil {
			return err
		}
		return errors.Join(change(ctx, conn), conn.ReloadContext(ctx))
	})
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, name, err)
	}
	return nil
}

func (b *bus) Enable(ctx context.Context, name string) error {
	return b.changeFiles(ctx, "enable", name, func(ctx context.Context, c *manager) error {
		_, _, err := c.EnableUnitFilesContext(ctx, []string{name}, false, true)
		return err
	})
}

func (b *bus) Disable(ctx context.Context, name string) error {
	return b.changeFiles(ctx, "disable", name, func(ctx context.Context, c *manager) error {
		_, err := c.DisableUnitFilesContext(ctx, []string{name}, false)
		_, errOfBoot := c.DisableUnitFilesContext(ctx, []string{name}, true)
		return errors.Join(err, errOfBoot)
	})
}

func (b *bus) Mask(ctx context.Context, name string) error {
	return b.changeFiles(ctx, "mask", name, func(ctx context.Context, c *manager) error {
		_, err := c.MaskUnitFilesContext(ctx, []string{name}, false, true)
		return err
	})
}

func (b *bus) Unmask(ctx context.Context, name string) error {
	return b.changeFiles(ctx, "unmask", name, func(ctx context.Context, c *manager) error {
		_, err := c.UnmaskUnitFilesContext(ctx, []string{name}, false)
		_, errOfBoot := c.UnmaskUnitFilesContext(ctx, []string{name}, true)
		return errors.Join(err, errOfBoot)
	})
}

// Reload implements Units.
func (b *bus) Reload(ctx context.Context) error {
	err := b.ask(ctx, reloadPatience, func(ctx context.Context, conn *manager) error {
		if err := b.gate(Change{"reload", "systemd"}); err != nil {
			return err
		}
		return conn.ReloadContext(ctx)
	})
	if err != nil {
		return fmt.Errorf("cannot reload systemd: %w", err)
	}
	return nil
}
