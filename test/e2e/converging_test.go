package e2e

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// slowly is a policy whose package takes as long as one likes.
func (w *workspace) slowly(more string) map[string]string {
	d := desktop{repo: w.repo}
	return map[string]string{
		"10-base": "schema = 1\n[dropins.\"/etc/modprobe.d/soe-kept.conf\"]\ncontent = \"# kept\\n\"\n" + d.repository() + "[packages]\nsoe-slow = \"present\"\n" + more,
	}
}

// saysConverging fails the test unless everything that tells where the machine stands
// says that it converges.
func (w *workspace) saysConverging(t *testing.T, serial int64) {
	t.Helper()
	s, code := w.status(t)
	if code != 2 || s.Verdict != report.Converging || s.Compliant || s.Serial != serial {
		t.Errorf("status: exit code %d, serial %d, %q", code, s.Serial, s.Verdict)
	}
	if r := w.report(t); r.Code != 2 || r.Verdict != report.Converging || r.Compliant {
		t.Errorf("report: exit code %d, %q", r.Code, r.Verdict)
	}
	for command, want := range map[string]string{
		"status":               "compliance   … converging: ",
		"report":               "… converging  ",
		"report --format=html": "… Converging",
	} {
		result, err := w.Exec(t.Context(), append([]string{"soe-agent"}, strings.Fields(command)...)...)
		if err != nil || result.Code != 2 || !strings.Contains(result.Stdout, want) {
			t.Errorf("soe-agent %s: %v, exit code %d:\n%s", command, err, result.Code, result.Stdout)
		}
	}
	junit, err := w.Exec(t.Context(), "soe-agent", "report", "--format", "junit")
	var suites struct {
		Errors int `xml:"errors,attr"`
	}
	if err == nil {
		err = xml.Unmarshal([]byte(junit.Stdout), &suites)
	}
	if err != nil || junit.Code != 2 || suites.Errors == 0 {
		t.Errorf("JUnit: %v, exit code %d, %d errors", err, junit.Code, suites.Errors)
	}
	for property, want := range map[string]string{"Verdict": `s "converging"`, "Compliant": "b false"} {
		if got := w.MustExecAs(t, box.DesktopUser, "busctl", "get-property", bus.Name, string(bus.Path), bus.Interface, property); strings.TrimSpace(got) != want {
			t.Errorf("%s is %s", property, got)
		}
	}
}

// unseen fails the test unless the report says that the slow package has not been looked at.
func (w *workspace) unseen(t *testing.T) {
	t.Helper()
	if slow := w.report(t).resource("package/soe-slow"); slow.State != converge.Unknown || !slow.Unseen {
		t.Errorf("the package is %+v", slow)
	}
}

// told is what AWS knows of the machine.
func (w *workspace) told() string {
	line, _ := w.aws.Inventory(nodeID, report.ComplianceType)
	if len(line.Content) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("serial %s: %s, %s", line.Content[0]["PolicySerial"], line.Content[0]["Verdict"], line.Content[0]["Compliant"])
}

// neverSaidTooEarly fails the test if AWS was ever told that the machine is compliant
// under a serial before a moment.
func (w *workspace) neverSaidTooEarly(t *testing.T, serial int64, before time.Time) {
	t.Helper()
	for _, request := range w.aws.Requests() {
		body := string(request.Body)
		if request.Action == "PutInventory" && request.Time.Before(before) &&
			strings.Contains(body, fmt.Sprintf(`"PolicySerial":"%d"`, serial)) && strings.Contains(body, `"Compliant":"true"`) {
			t.Errorf("at %s AWS was told that it is compliant with serial %d: %s", request.Time, serial, body)
		}
	}
}

func TestAsLongAsPackagesInstallTheMachineConvergesAndIsNotCalledCompliantByAnything(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	d := &desktop{Box: w.Box, repo: w.repo}
	w.publish(t, 1, w.slowly(""))
	w.activate(t)
	w.boot(t)
	waitFor(t, d, "/run/soe-slow.started")
	w.until(t, "AWS knows that it converges", func() bool { return w.told() == "serial 1: converging, false" })
	w.saysConverging(t, 1)
	w.unseen(t)
	w.restIsMended(t, "a script of a package hangs")
	if !w.fails(t, "systemctl", "is-active", "soe-configured.target") {
		t.Error("it is called configured")
	}

	before, _ := w.status(t)
	w.MustExec(t, "systemctl", "kill", "--signal=KILL", "--kill-who=main", "soe-agent")
	w.until(t, "another daemon keeps the published policy", func() bool {
		s, _ := w.status(t)
		return s.PID != 0 && s.PID != before.PID && s.Serial == 1 && s.Packages != "" && !w.fails(t, "busctl", "status", bus.Name)
	})
	w.saysConverging(t, 1)

	released := time.Now()
	w.MustExec(t, "touch", "/run/soe-slow.release")
	w.converged(t, 1)
	w.MustExec(t, "systemctl", "is-active", "soe-configured.target")
	w.until(t, "AWS knows that it is compliant", func() bool { return w.told() == "serial 1: compliant, true" })
	w.neverSaidTooEarly(t, 1, released)

	// What is lost later and takes long to bring back is not in line meanwhile.
	w.MustExec(t, "rm", "/run/soe-slow.release", "/run/soe-slow.started")
	w.MustExec(t, "rpm", "-e", "soe-slow")
	waitFor(t, d, "/run/soe-slow.started")
	w.until(t, "the report says that the package is missing", func() bool {
		s, code := w.status(t)
		return code == 2 && s.Verdict == report.NotCompliant && w.report(t).resource("package/soe-slow").State == converge.Drifted
	})

	// Under a newer policy nothing has been looked at, whatever was under the old one.
	w.publish(t, 2, w.slowly("soe-pkg-01 = \"present\"\n"))
	w.until(t, "AWS knows that it converges to the newer policy", func() bool { return w.told() == "serial 2: converging, false" })
	w.saysConverging(t, 2)
	w.unseen(t)
	released = time.Now()
	w.MustExec(t, "touch", "/run/soe-slow.release")
	w.converged(t, 2)
	w.until(t, "AWS knows that it is compliant", func() bool { return w.told() == "serial 2: compliant, true" })
	w.neverSaidTooEarly(t, 2, released)

	// A repository that sends a byte now and then.
	asked, trickles := trickle(t)
	w.publish(t, 3, w.slowly("soe-pkg-01 = \"present\"\nsoe-pkg-02 = \"present\"\n[repositories.trickle]\nbaseurl = \""+trickles.URL+"\"\ngpgkey = \""+rpmrepo.KeyURL+"\"\nfingerprint = \""+w.repo.Fingerprint+"\"\n"))
	w.until(t, "a repository that trickles is asked", func() bool { return asked.Load() > 0 })
	w.restIsMended(t, "a repository trickles")
	trickles.CloseClientConnections()
	trickles.Listener.Close()
	w.until(t, "the package is installed from the other repository", func() bool { return w.report(t).resource("package/soe-pkg-02").State.InLine() })
}

// trickle is a web server that sends each answer a byte at a time, without an end.
func trickle(t *testing.T) (asked *atomic.Int64, s *httptest.Server) {
	t.Helper()
	asked = &atomic.Int64{}
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Length", "1000000")
		for {
			if _, err := w.Write([]byte("<")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return asked, s
}

// restIsMended fails the test unless all but packages is kept while they wait.
func (w *workspace) restIsMended(t *testing.T, why string) {
	t.Helper()
	const file = "/etc/modprobe.d/soe-kept.conf"
	w.strayIsMended(t)
	w.MustExec(t, "rm", "-f", stray)
	w.MustWriteFile(t, file, box.File{Content: "# drift\n"})
	w.until(t, "a file is mended while "+why, func() bool { return w.MustReadFile(t, file) == "# kept\n" })
	if s, _ := w.status(t); len(s.Busy) == 0 {
		t.Errorf("nothing waits while %s: %+v", why, s)
	}
}

func TestAPersonaThatNoFragmentIsForIsADoubtAndTheMachineIsNotCompliant(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	config := w.MustReadFile(t, agent.ConfigFile)
	w.MustWriteFile(t, agent.ConfigFile, box.File{Content: strings.Replace(config, "developer", "develoepr", 1)})
	w.publish(t, 1, map[string]string{"10-base": "schema = 1\n", "20-developer": "schema = 1\npersonas = [\"developer\"]\n"})
	w.activate(t)
	w.boot(t)
	const doubt = "no fragment is for persona develoepr"
	w.until(t, "status says so", func() bool {
		s, code := w.status(t)
		return code == 2 && s.Verdict == report.NotCompliant && len(s.Doubts) == 1 && strings.Contains(s.Doubts[0], doubt)
	})
	if r := w.report(t); r.Code != 2 || r.Compliant || len(r.Policy.Doubts) != 1 {
		t.Errorf("exit code %d, %+v", r.Code, r.Policy)
	}
	w.until(t, "AWS knows it", func() bool {
		stored, _ := w.aws.Compliance(nodeID, report.ComplianceType)
		for _, item := range stored.Items {
			if item.ID == "policy/current" {
				return item.Status == "NON_COMPLIANT" && strings.Contains(item.Details["reason"], doubt)
			}
		}
		return false
	})
	w.MustWriteFile(t, agent.ConfigFile, box.File{Content: config})
	w.converged(t, 1)
}
