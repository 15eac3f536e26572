// Forge sends to everybody on the system bus what a hostile user can: each signal that
// the agent takes from the bus, with the same words, and answers to calls that were made
// of others. Which signals those are it has from the agent's own code. It goes on for as
// many rounds as its first argument says, without an end for 0, and prints a line after
// each; the second is the path of a unit.
package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/watch"
)

// forged is in the words of what is forged, where there are any.
const forged = "forged: call 555-0100"

func main() {
	if err := forge(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type forgery struct {
	path dbus.ObjectPath
	name string
	body []any
}

// of is how a signal is forged. There is no way to leave one out.
func of(conn *dbus.Conn, signal system.Signal, unit dbus.ObjectPath) ([]forgery, error) {
	one := func(path dbus.ObjectPath, body ...any) ([]forgery, error) {
		return []forgery{{path, signal.Name, body}}, nil
	}
	session := dbus.ObjectPath("/org/freedesktop/login1/session/c1")
	switch signal.Name[strings.LastIndexByte(signal.Name, '.')+1:] {
	case "JobRemoved":
		return ofJobs(conn, signal.Name)
	case "SessionNew", "SessionRemoved":
		return one("/org/freedesktop/login1", "c1", session)
	case "PrepareForSleep":
		return one("/org/freedesktop/login1", false)
	case "UnitFilesChanged":
		return one("/org/freedesktop/systemd1")
	case "PropertiesChanged":
		return one(unit, "org.freedesktop.systemd1.Unit", map[string]dbus.Variant{}, []string{"ActiveState"})
	case "Changed":
		return one(bus.Path, forged, false)
	case "NameOwnerChanged":
		return one("/org/freedesktop/DBus", signal.From, "", conn.Names()[0])
	}
	return nil, fmt.Errorf("nobody has said how %s is forged", signal.Name)
}

// ofJobs says of each job that there is, and of those to come, how it ended.
func ofJobs(conn *dbus.Conn, name string) ([]forgery, error) {
	var jobs []struct {
		ID               uint32
		Unit, Kind, Word string
		Path, UnitPath   dbus.ObjectPath
	}
	if err := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").Call("org.freedesktop.systemd1.Manager.ListJobs", 0).Store(&jobs); err != nil {
		return nil, err
	}
	all := []forgery{{"/org/freedesktop/systemd1", name, []any{uint32(1), dbus.ObjectPath("/org/freedesktop/systemd1/job/1"), "a.service", forged}}}
	for _, job := range jobs {
		all = append(all, forgery{"/org/freedesktop/systemd1", name, []any{job.ID, job.Path, job.Unit, forged}})
	}
	return all, nil
}

func forge() error {
	rounds, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return err
	}
	defer conn.Close()
	signals := slices.Concat(system.JobSignals(), watch.Signals(), bus.Signals())
	for _, name := range []string{"org.freedesktop.systemd1", "org.freedesktop.login1", bus.Name} {
		signals = append(signals, system.Signal{From: name, Name: "org.freedesktop.DBus.NameOwnerChanged"})
	}
	for round := 1; rounds == 0 || round <= rounds; round++ {
		var forgeries []forgery
		for _, signal := range signals {
			some, err := of(conn, signal, dbus.ObjectPath(os.Args[2]))
			if err != nil {
				return err
			}
			forgeries = append(forgeries, some...)
		}
		if err := send(conn, forgeries, round == 1); err != nil {
			return err
		}
		fmt.Println("round", round)
	}
	return nil
}

// send sends to everybody, and returns when the bus has taken it.
func send(conn *dbus.Conn, forgeries []forgery, answers bool) error {
	var names []string
	if err := conn.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&names); err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, ":") || name == conn.Names()[0] {
			continue
		}
		for _, f := range forgeries {
			dot := strings.LastIndexByte(f.name, '.')
			conn.Send(message(dbus.TypeSignal, name, map[dbus.HeaderField]any{
				dbus.FieldPath: f.path, dbus.FieldInterface: f.name[:dot], dbus.FieldMember: f.name[dot+1:],
			}, f.body...), nil)
		}
		for serial := range uint32(40) {
			if !answers {
				break // the bus holds them back, and writes a line for each
			}
			conn.Send(message(dbus.TypeMethodReply, name, map[dbus.HeaderField]any{dbus.FieldReplySerial: serial + 1}, forged), nil)
		}
	}
	var id string
	return conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Store(&id)
}

func message(kind dbus.Type, to string, headers map[dbus.HeaderField]any, body ...any) *dbus.Message {
	m := &dbus.Message{Type: kind, Flags: dbus.FlagNoReplyExpected, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldDestination: dbus.MakeVariant(to)}}
	for field, value := range headers {
		m.Headers[field] = dbus.MakeVariant(value)
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	return m
}
