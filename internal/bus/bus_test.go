package bus

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/google/go-cmp/cmp"
)

// busConfig is a bus on which everybody may do everything.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
`

// privateBus is a system bus of the test's own.
type privateBus struct {
	config string
	daemon *exec.Cmd
}

func startBus(t *testing.T) *privateBus {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	b := &privateBus{config: filepath.Join(dir, "bus.conf")}
	if err := os.WriteFile(b.config, fmt.Appendf(nil, busConfig, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket+",guid=0123")
	b.start(t)
	t.Cleanup(b.stop)
	return b
}

// start returns when the bus can be reached.
func (b *privateBus) start(t *testing.T) {
	t.Helper()
	b.daemon = exec.Command("dbus-daemon", "--config-file="+b.config, "--nofork", "--print-address")
	said, err := b.daemon.StdoutPipe()
	if err == nil {
		err = b.daemon.Start()
	}
	if err == nil {
		_, err = said.Read(make([]byte, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b *privateBus) stop() {
	b.daemon.Process.Kill()
	b.daemon.Wait()
}

// agentDouble answers, and remembers what it was asked for.
type agentDouble struct {
	mu     sync.Mutex
	asked  []string
	state  State
	status string
	report string

	forRoot bool // the report was asked for by root

	hold chan struct{} // until it is closed, Status and Apply do not answer
	log  strings.Builder
}

// Write takes what the server logs.
func (a *agentDouble) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.Write(p)
}

func (a *agentDouble) logged(text string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(a.log.String(), text)
}

func (a *agentDouble) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

func (a *agentDouble) Status(ctx context.Context) ([]byte, error) {
	a.mu.Lock()
	a.forRoot = ForRoot(ctx)
	status, hold := a.status, a.hold
	a.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return []byte(status), nil
}

func (a *agentDouble) askedForRoot() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.forRoot
}

func (a *agentDouble) Report(ctx context.Context) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forRoot = ForRoot(ctx)
	if a.report == "" {
		return nil, errors.New("cannot show the last report: there is none yet")
	}
	return []byte(a.report), nil
}

func (a *agentDouble) note(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, what)
}

func (a *agentDouble) Apply(_ context.Context, kinds []string) error {
	a.note("apply " + strings.Join(kinds, ","))
	a.mu.Lock()
	hold := a.hold
	a.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return nil
}

func (a *agentDouble) Reload()                               { a.note("reload") }
func (a *agentDouble) CarryOutPending(context.Context) error { a.note("carry out pending"); return nil }
func (a *agentDouble) SetDebug(on bool)                      { a.note(fmt.Sprint("debug ", on)) }

func (a *agentDouble) wasAsked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

// instant is a clock on which nobody waits long, but for what must not be missed.
type instant struct{}

func (instant) Now() time.Time { return time.Now() }
func (instant) Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(d, 5*time.Millisecond)):
		return nil
	}
}

const notRoot = 4242 // whom the server takes for root when the test's own user is to be anybody

// serve serves until the test ends, and returns when it does.
func serve(t *testing.T, agent *agentDouble, root uint32) chan<- struct{} {
	t.Helper()
	changed := make(chan struct{}, 1)
	s := &Server{
		Documents: agent, Orders: agent, Kinds: []string{"sudo", "dropin"}, Changed: changed, Clock: instant{},
		Log: slog.New(slog.NewTextHandler(agent, nil)), root: root,
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return changed
}

// caller is a connection of somebody's, once the agent is there.
func caller(t *testing.T) *dbus.Conn {
	t.Helper()
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	until(t, "the agent is on the bus", func() bool {
		var has bool
		return conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, Name).Store(&has) == nil && has
	})
	return conn
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		runtime.Gosched()
	}
}

func ask(conn *dbus.Conn, method string, args ...any) *dbus.Call {
	return conn.Object(Name, Path).Call(method, 0, args...)
}

// interactively calls a method and lets a password be asked for.
func interactively(conn *dbus.Conn, method string, args ...any) *dbus.Call {
	message := &dbus.Message{
		Type: dbus.TypeMethodCall, Flags: dbus.FlagAllowInteractiveAuthorization, Body: args,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(Name), dbus.FieldPath: dbus.MakeVariant(Path),
			dbus.FieldInterface: dbus.MakeVariant(Interface), dbus.FieldMember: dbus.MakeVariant(method),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(args...)),
		},
	}
	return conn.Send(message, make(chan *dbus.Call, 1))
}

// errorName is the name of the error that a call ended with.
func errorName(c *dbus.Call) string {
	var answer dbus.Error
	if errors.As(c.Err, &answer) {
		return answer.Name
	}
	return fmt.Sprint(c.Err)
}

func TestEverybodyMayRead(t *testing.T) {
	startBus(t)
	agent := &agentDouble{status: `{"phase":"keeping"}`, report: `{"schema":1}`, state: State{"1.2", "keeping", "compliant", true, 7}}
	serve(t, agent, notRoot)
	conn := caller(t)
	var status, report, described string
	if err := ask(conn, Interface+".Status").Store(&status); err != nil || status != agent.status {
		t.Errorf("the status is %q, %v", status, err)
	}
	if err := ask(conn, Interface+".Report").Store(&report); err != nil || report != agent.report {
		t.Errorf("the report is %q, %v", report, err)
	}
	var properties map[string]dbus.Variant
	if err := ask(conn, propertiesInterface+".GetAll", Interface).Store(&properties); err != nil {
		t.Error(err)
	}
	want := map[string]dbus.Variant{
		"Version": dbus.MakeVariant("1.2"), "Phase": dbus.MakeVariant("keeping"),
		"Verdict": dbus.MakeVariant("compliant"), "Compliant": dbus.MakeVariant(true), "Serial": dbus.MakeVariant(int64(7)),
	}
	if diff := cmp.Diff(want, properties, cmp.Comparer(func(a, b dbus.Variant) bool { return a.String() == b.String() })); diff != "" {
		t.Error(diff)
	}
	var serial dbus.Variant
	if err := ask(conn, propertiesInterface+".Get", Interface, "Serial").Store(&serial); err != nil || serial.Value() != int64(7) {
		t.Errorf("the serial is %v, %v", serial, err)
	}
	if err := ask(conn, introspectableInterface+".Introspect").Store(&described); err != nil || described != Interfaces {
		t.Errorf("it is described as %q, %v", described, err)
	}
	for path, child := range map[dbus.ObjectPath]string{"/": "org", "/org": "soeagent", "/org/soeagent": "Agent1"} {
		node, err := introspect.Call(conn.Object(Name, path))
		if err != nil || len(node.Children) != 1 || node.Children[0].Name != child {
			t.Errorf("%s is described as %+v, %v", path, node, err)
		}
	}
	if err := ask(conn, peerInterface+".Ping").Err; err != nil {
		t.Error(err)
	}
}

func TestWhatIsServedIsWhatIsDescribed(t *testing.T) {
	var node introspect.Node
	if err := xml.Unmarshal([]byte(Interfaces), &node); err != nil {
		t.Fatal(err)
	}
	described := map[string]string{}
	for _, iface := range node.Interfaces {
		for _, m := range iface.Methods {
			in := ""
			for _, arg := range m.Args {
				if arg.Direction == "in" {
					in += arg.Type
				}
			}
			described[iface.Name+"."+m.Name] = in
		}
		for _, p := range iface.Properties {
			value, ok := State{}.properties()[p.Name]
			if !ok || value.Signature().String() != p.Type || p.Access != "read" {
				t.Errorf("the property %s is described as %+v", p.Name, p)
			}
		}
	}
	served := map[string]string{}
	for iface, all := range methods() {
		for name, m := range all {
			served[iface+"."+name] = m.signature
		}
	}
	if diff := cmp.Diff(described, served); diff != "" {
		t.Error(diff)
	}
}

func TestPolkitKnowsTheActionsAndTheBusTheInterfaces(t *testing.T) {
	read := func(name string, into any) {
		t.Helper()
		content, err := os.ReadFile(filepath.Join("..", "..", "systemd", name))
		if err == nil {
			err = xml.Unmarshal(content, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var policy struct {
		Actions []struct {
			ID       string `xml:"id,attr"`
			Message  string `xml:"message"`
			Defaults struct {
				Any      string `xml:"allow_any"`
				Inactive string `xml:"allow_inactive"`
				Active   string `xml:"allow_active"`
			} `xml:"defaults"`
		} `xml:"action"`
	}
	read("org.soeagent.agent1.policy", &policy)
	var config struct {
		Policies []struct {
			Context string `xml:"context,attr"`
			User    string `xml:"user,attr"`
			Allow   []struct {
				Own       string `xml:"own,attr"`
				To        string `xml:"send_destination,attr"`
				Interface string `xml:"send_interface,attr"`
			} `xml:"allow"`
		} `xml:"policy"`
	}
	read("org.soeagent.Agent1.conf", &config)
	declared, known := map[string]bool{}, map[string]bool{}
	for _, action := range policy.Actions {
		declared[action.ID] = true
		if d := action.Defaults; d.Any != "auth_admin" || d.Inactive != "auth_admin" || d.Active != "auth_admin" || action.Message == "" {
			t.Errorf("%s is declared as %+v", action.ID, action)
		}
	}
	open, served := map[string]bool{}, map[string]bool{}
	for _, policy := range config.Policies {
		for _, rule := range policy.Allow {
			if rule.Own != "" && (rule.Own != Name || policy.User != "root") {
				t.Errorf("%s may be had by %q %q", rule.Own, policy.User, policy.Context)
			}
			if rule.To == Name && policy.Context == "default" {
				open[rule.Interface] = true
			}
		}
	}
	for iface, all := range methods() {
		served[iface] = true
		for _, m := range all {
			if m.action != "" {
				known[actions+m.action] = true
			}
		}
	}
	if diff := cmp.Diff(known, declared) + cmp.Diff(served, open); diff != "" {
		t.Error(diff)
	}
}

func TestMalformedCallsAreRefusedWithTheStandardErrors(t *testing.T) {
	startBus(t)
	agent := &agentDouble{status: "{}"}
	serve(t, agent, 0)
	conn := caller(t)
	for _, c := range []struct {
		path   dbus.ObjectPath
		method string
		args   []any
		want   string
	}{
		{Path, Interface + ".Destroy", nil, standardError + "UnknownMethod"},
		{Path, "org.example.Other.Status", nil, standardError + "UnknownInterface"},
		{"/org/example", Interface + ".Status", nil, standardError + "UnknownObject"},
		{"/", Interface + ".Apply", []any{[]string{}}, standardError + "UnknownObject"},
		{"/org/example", introspectableInterface + ".Introspect", nil, standardError + "UnknownObject"},
		{Path, Interface + ".Apply", nil, standardError + "InvalidArgs"},
		{Path, Interface + ".Apply", []any{"sudo"}, standardError + "InvalidArgs"},
		{Path, Interface + ".Apply", []any{[]string{"sudo"}, "more"}, standardError + "InvalidArgs"},
		{Path, Interface + ".Status", []any{int32(1)}, standardError + "InvalidArgs"},
		{Path, Interface + ".SetDebug", []any{"yes"}, standardError + "InvalidArgs"},
		{Path, Interface + ".Apply", []any{[]string{"sudo", "sodu"}}, BadArgument},
		{Path, Interface + ".Report", nil, Failed},
		{Path, propertiesInterface + ".Get", []any{Interface, "Password"}, standardError + "UnknownProperty"},
		{Path, propertiesInterface + ".Get", []any{"org.example", "Phase"}, standardError + "UnknownInterface"},
		{Path, propertiesInterface + ".Set", []any{Interface, "Phase", dbus.MakeVariant("x")}, standardError + "PropertyReadOnly"},
		{Path, peerInterface + ".GetMachineId", nil, standardError + "UnknownMethod"},
	} {
		got := conn.Object(Name, c.path).Call(c.method, 0, c.args...)
		if errorName(got) != c.want {
			t.Errorf("%s%v at %s ends with %v, want %s", c.method, c.args, c.path, got.Err, c.want)
		}
	}
	err := ask(conn, Interface+".Apply", []string{"sodu"}).Err
	if err == nil || err.Error() != `cannot apply "sodu": it is no kind; kinds are sudo, dropin` {
		t.Errorf("an unknown kind: %v", err)
	}
	if asked := agent.wasAsked(); len(asked) > 0 {
		t.Errorf("it did %q", asked)
	}
}

func TestRootMayDoEverything(t *testing.T) {
	startBus(t)
	agent := &agentDouble{}
	serve(t, agent, uint32(os.Getuid()))
	conn := caller(t)
	for _, done := range []*dbus.Call{
		ask(conn, Interface+".Apply", []string{}),
		ask(conn, Interface+".Apply", []string{"sudo", "dropin", "sudo"}),
		ask(conn, Interface+".Reload"),
		ask(conn, Interface+".CarryOutPending"),
		ask(conn, Interface+".SetDebug", true),
	} {
		if done.Err != nil {
			t.Errorf("%s: %v", done.Method, done.Err)
		}
	}
	want := []string{"apply ", "apply dropin,sudo", "reload", "carry out pending", "debug true"}
	if diff := cmp.Diff(want, agent.wasAsked()); diff != "" {
		t.Error(diff)
	}
}

// polkitDouble stands in for polkit.
type polkitDouble struct {
	forbidden atomic.Bool
	asked     chan string
	answer    func(interactive bool) (authorized, challenge bool)
}

type polkitResult struct {
	Authorized, Challenge bool
	Details               map[string]string
}

type polkitSubject struct {
	Kind    string
	Details map[string]dbus.Variant
}

func (p *polkitDouble) CheckAuthorization(subject polkitSubject, action string, _ map[string]string, flags uint32, _ string) (polkitResult, *dbus.Error) {
	p.asked <- fmt.Sprint(subject.Kind, " ", subject.Details["name"].Value(), " ", action, " ", flags)
	authorized, challenge := p.answer(flags == 1)
	if p.forbidden.Load() {
		authorized, challenge = false, false
	}
	return polkitResult{authorized, challenge, map[string]string{}}, nil
}

func (p *polkitDouble) serve(t *testing.T) {
	t.Helper()
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.Export(p, polkitPath, "org.freedesktop.PolicyKit1.Authority"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(polkitName, 0); err != nil {
		t.Fatal(err)
	}
}

func TestPolkitDecidesForEverybodyElse(t *testing.T) {
	startBus(t)
	agent := &agentDouble{}
	serve(t, agent, notRoot)
	conn := caller(t)
	got := ask(conn, Interface+".Apply", []string{})
	if errorName(got) != NotAllowed || !strings.Contains(got.Err.Error(), "polkit cannot be asked") {
		t.Errorf("without polkit: %v", got.Err)
	}
	polkit := &polkitDouble{asked: make(chan string, 10), answer: func(interactive bool) (bool, bool) { return interactive, !interactive }}
	polkit.serve(t)
	got = ask(conn, Interface+".Apply", []string{})
	if errorName(got) != NotAllowed || !strings.Contains(got.Err.Error(), "an administrator's password") {
		t.Errorf("with a password that is not asked for: %v", got.Err)
	}
	for method, args := range map[string][]any{"Apply": {[]string{"sudo"}}, "Reload": nil, "CarryOutPending": nil, "SetDebug": {true}} {
		if err := (<-interactively(conn, method, args...).Done).Err; err != nil {
			t.Errorf("%s with a password: %v", method, err)
		}
	}
	polkit.forbidden.Store(true)
	if got = ask(conn, Interface+".Reload"); errorName(got) != NotAllowed || got.Err.Error() != "cannot reload: polkit does not allow org.soeagent.agent1.reload; try again with sudo" {
		t.Errorf("not allowed at all: %v", got.Err)
	}
	var questions []string
	for len(polkit.asked) > 0 { // every call has been answered
		questions = append(questions, <-polkit.asked)
	}
	if len(questions) != 6 {
		t.Fatalf("polkit was asked %q", questions)
	}
	slices.Sort(questions[1:5])
	us := "system-bus-name " + conn.Names()[0] + " org.soeagent.agent1."
	want := []string{us + "apply 0", us + "apply 1", us + "carry-out-pending 1", us + "reload 1", us + "set-debug 1", us + "reload 0"}
	if diff := cmp.Diff(want, questions); diff != "" {
		t.Error(diff)
	}
	if asked := agent.wasAsked(); len(asked) != 4 {
		t.Errorf("it did %q", asked)
	}
}

func TestWhoeverHasTheirAnswerMayCallAgainAtOnce(t *testing.T) {
	startBus(t)
	serve(t, &agentDouble{}, notRoot)
	conn := caller(t)
	polkit := &polkitDouble{asked: make(chan string, 1000), answer: func(bool) (bool, bool) { return true, false }}
	polkit.serve(t)
	for range 200 {
		if err := ask(conn, Interface+".Reload").Err; err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhileOneUserIsAskedForAPasswordTheOthersAreServed(t *testing.T) {
	startBus(t)
	agent := &agentDouble{status: "{}"}
	serve(t, agent, notRoot)
	conn := caller(t)
	release := make(chan struct{})
	polkit := &polkitDouble{asked: make(chan string, 10), answer: func(bool) (bool, bool) { <-release; return true, false }}
	polkit.serve(t)
	first := interactively(conn, "Reload")
	<-polkit.asked
	if got := errorName(ask(conn, Interface+".Reload")); got != standardError+"LimitsExceeded" {
		t.Errorf("a second question about one user: %s", got)
	}
	if err := ask(conn, Interface+".Status").Err; err != nil {
		t.Errorf("nothing can be read meanwhile: %v", err)
	}
	close(release)
	if err := (<-first.Done).Err; err != nil {
		t.Error(err)
	}
}

func TestAFloodIsRefusedAndNotKept(t *testing.T) {
	startBus(t)
	agent := &agentDouble{status: "{}"}
	serve(t, agent, 0)
	conn := caller(t)
	agent.mu.Lock()
	agent.hold = make(chan struct{})
	agent.mu.Unlock()
	before := runtime.NumGoroutine()
	const calls = 5000
	answers := make(chan *dbus.Call, calls)
	for range calls {
		conn.Object(Name, Path).Go(Interface+".Status", 0, answers)
	}
	refused := 0
	for refused < calls-maxPerName-1 { // one is being answered
		answer := <-answers
		if errorName(answer) != standardError+"LimitsExceeded" {
			t.Fatal(answer.Err)
		}
		refused++
	}
	if now := runtime.NumGoroutine(); now > before+500 { // of the callers, whose last are just ending
		t.Errorf("%d goroutines, and %d before", now, before)
	}
	close(agent.hold)
	for range maxPerName + 1 {
		if err := (<-answers).Err; err != nil {
			t.Error(err)
		}
	}
	if err := ask(conn, Interface+".Status").Err; err != nil {
		t.Error(err)
	}
}

func TestWhatIsTooLargeIsNeitherReadNorSent(t *testing.T) {
	startBus(t)
	agent := &agentDouble{status: "{}", report: strings.Repeat("x", maxDocument+1)}
	serve(t, agent, 0)
	conn := caller(t)
	if got := errorName(ask(conn, Interface+".Apply", slices.Repeat([]string{"sudo"}, 1<<20))); got != standardError+"LimitsExceeded" {
		t.Errorf("a million kinds: %s", got)
	}
	if err := ask(conn, Interface+".Apply", slices.Repeat([]string{"sudo"}, 1000)).Err; err != nil {
		t.Errorf("a thousand times the same kind: %v", err)
	}
	if diff := cmp.Diff([]string{"apply sudo"}, agent.wasAsked()); diff != "" {
		t.Error(diff)
	}
	if got := ask(conn, Interface+".Report"); errorName(got) != Failed || !strings.Contains(got.Err.Error(), "/run/soe-agent/report.json") {
		t.Errorf("a report of a megabyte: %v", got.Err)
	}
}

func TestReportAndStatusAreWholeForRootAlone(t *testing.T) {
	for _, document := range []string{".Report", ".Status"} {
		for _, root := range []uint32{0, notRoot} {
			startBus(t)
			agent := &agentDouble{report: "{}"}
			serve(t, agent, root)
			if err := ask(caller(t), Interface+document).Err; err != nil {
				t.Fatal(err)
			}
			if forRoot := agent.askedForRoot(); forRoot != (root == 0) {
				t.Errorf("%s: where %d is root, uid 0 is taken for root: %v", document, root, forRoot)
			}
		}
	}
}

func TestAFileDescriptorIsNotTaken(t *testing.T) {
	startBus(t)
	serve(t, &agentDouble{}, 0)
	conn := caller(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if got := errorName(ask(conn, Interface+".Status", dbus.UnixFD(null.Fd()))); got != standardError+"NotSupported" {
		t.Errorf("a call with a file descriptor ends with %s", got)
	}
}

func TestAChangeIsSignalledAndNoChangeIsNot(t *testing.T) {
	startBus(t)
	conn, err := dbus.ConnectSystemBus(dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 100)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchObjectPath(Path)); err != nil {
		t.Fatal(err)
	}
	next := func() string {
		t.Helper()
		for {
			select {
			case s := <-signals:
				if s.Path == Path {
					return fmt.Sprint(s.Name, s.Body)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("no signal")
			}
		}
	}
	agent := &agentDouble{status: "1", state: State{"1.2", "converging", "converging", false, 7}}
	changed := serve(t, agent, notRoot)
	properties := func(compliant bool, phase, verdict string) string {
		return fmt.Sprintf("%s.PropertiesChanged[%s map[Compliant:%t Phase:%q Serial:@x 7 Verdict:%q] []]", propertiesInterface, Interface, compliant, phase, verdict)
	}
	for _, want := range []string{properties(false, "converging", "converging"), Interface + ".Changed[converging false]"} {
		if got := next(); got != want {
			t.Errorf("it says %s, want %s", got, want)
		}
	}
	become := func(status string, state State) {
		agent.mu.Lock()
		agent.status, agent.state = status, state
		agent.mu.Unlock()
		changed <- struct{}{}
	}
	become("2", State{"1.2", "keeping", "compliant", true, 7})
	for _, want := range []string{properties(true, "keeping", "compliant"), Interface + ".Changed[keeping true]"} {
		if got := next(); got != want {
			t.Errorf("it says %s, want %s", got, want)
		}
	}
	for range 3 {
		changed <- struct{}{} // and nothing is
	}
	become("3", State{"1.2", "keeping", "compliant", true, 7})
	if got := next(); got != Interface+".Changed[keeping true]" {
		t.Errorf("it says %s", got)
	}
	if len(signals) > 0 {
		t.Errorf("it says %s too", next())
	}
}

func TestItComesBackWithTheBus(t *testing.T) {
	b := startBus(t)
	agent := &agentDouble{status: "{}"}
	serve(t, agent, notRoot)
	conn := caller(t)
	b.stop()
	<-conn.Context().Done()
	until(t, "it has tried without a bus", func() bool { return agent.logged("cannot reach the system bus") })
	b.start(t)
	if err := ask(caller(t), Interface+".Status").Err; err != nil {
		t.Error(err)
	}
}

func TestItWaitsForTheNameThatAnotherHas(t *testing.T) {
	startBus(t)
	rival, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	defer rival.Close()
	if _, err := rival.RequestName(Name, 0); err != nil {
		t.Fatal(err)
	}
	agent := &agentDouble{status: "{}"}
	serve(t, agent, notRoot)
	until(t, "it has asked for the name", func() bool { return agent.logged("another process has it") })
	if _, err := rival.ReleaseName(Name); err != nil {
		t.Fatal(err)
	}
	if err := ask(caller(t), Interface+".Status").Err; err != nil {
		t.Error(err)
	}
}

func TestAClientKnowsWhetherTheDaemonServes(t *testing.T) {
	b := startBus(t)
	if _, err := Dial(t.Context()); !errors.Is(err, ErrNotServed) {
		t.Errorf("on a bus without the daemon: %v", err)
	}
	agent := &agentDouble{status: "{}", report: strings.Repeat("x", maxDocument), state: State{Phase: "keeping"}}
	changed := serve(t, agent, uint32(os.Getuid()))
	caller(t)
	client, err := Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if report, err := client.Report(t.Context()); err != nil || string(report) != agent.report {
		t.Errorf("the report has %d bytes, %v", len(report), err)
	}
	if err := client.Apply(t.Context(), nil); err != nil {
		t.Error(err)
	}
	changes, err := client.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	agent.mu.Lock()
	agent.status = "{2}"
	agent.mu.Unlock()
	changed <- struct{}{}
	<-changes
	b.stop()
	for range changes { // until it is closed
	}
	if _, err := Dial(t.Context()); !errors.Is(err, ErrNotServed) {
		t.Errorf("without a bus: %v", err)
	}
}
