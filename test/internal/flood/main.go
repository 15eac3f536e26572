// Flood does to the agent what a hostile user can do over the system bus: it calls, as
// fast as the bus takes it, what may be read and what may not be done, with arguments
// that are too large and with file descriptors, which it also sends to everybody else.
// It prints how often each outcome came.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

const name = "org.soeagent.Agent1"

func main() {
	if err := flood(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// signalEverybody sends signals with a file descriptor to all connections that there
// are, among them those with which the agent follows others.
func signalEverybody(conn *dbus.Conn, file *os.File) error {
	var names []string
	if err := conn.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&names); err != nil {
		return err
	}
	for _, name := range names {
		for range 20 {
			conn.Send(&dbus.Message{Type: dbus.TypeSignal, Body: []any{dbus.UnixFD(file.Fd())}, Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldDestination: dbus.MakeVariant(name), dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/")),
				dbus.FieldInterface: dbus.MakeVariant("org.example.Flood"), dbus.FieldMember: dbus.MakeVariant("Drop"),
				dbus.FieldSignature: dbus.MakeVariant(dbus.ParseSignatureMust("h")),
			}}, nil)
		}
	}
	return nil
}

// caller makes the i-th call, of many sorts: what everybody may ask, what only root may, what is
// too large, and a file descriptor.
func caller(agent dbus.BusObject, null *os.File) func(i int, done chan *dbus.Call) {
	large := strings.Repeat("x", 1<<20)
	return func(i int, done chan *dbus.Call) {
		switch {
		case i%1000 == 0:
			agent.Go(name+".Apply", 0, done, []string{large})
		case i%100 == 1:
			agent.Go(name+".Status", 0, done, dbus.UnixFD(null.Fd()))
		case i%4 == 0:
			agent.Go(name+".Report", 0, done)
		case i%4 == 1:
			agent.Go(name+".Apply", 0, done, []string{})
		case i%4 == 2:
			agent.Go("org.freedesktop.DBus.Introspectable.Introspect", 0, done)
		default:
			agent.Go(name+".Status", 0, done)
		}
	}
}

// flood makes as many calls as its first argument says, and has as many under way at a
// time as its second.
func flood() error {
	calls, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	atOnce, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return err
	}
	defer conn.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	if err := signalEverybody(conn, null); err != nil {
		return err
	}
	agent := conn.Object(name, "/org/soeagent/Agent1")
	one := caller(agent, null)
	outcomes := map[string]int{}
	done := make(chan *dbus.Call, atOnce)
	for sent, answered := 0, 0; answered < calls; {
		for sent < calls && sent-answered < cap(done) {
			one(sent, done)
			sent++
		}
		answer := <-done
		answered++
		outcome := "answered"
		var refused dbus.Error
		switch {
		case errors.As(answer.Err, &refused):
			outcome = refused.Name
		case answer.Err != nil:
			return answer.Err
		}
		outcomes[outcome]++
	}
	fmt.Println(outcomes)
	return nil
}
