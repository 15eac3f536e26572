package link

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/internal/desktop"
)

// patience is more than enough for what luck does with packets.
const patience = 3 * time.Minute

// content is what the drop-in of a fragment is to hold: text that cannot be made much smaller, a parameter, a secret.
func content(fragment, parameter, secret string) string {
	var b strings.Builder
	for line := range 4 {
		fmt.Fprintln(&b, "#", manifest.Digest(fmt.Sprint(fragment, line)))
	}
	return fmt.Sprint(b.String(), parameter, " ", secret)
}

// publish publishes thirty fragments, which want twenty parameters and twenty secrets, and returns what machines are
// to make of them.
func publish(t *testing.T, aws *awsfake.Server, serial int) (want map[string]string) {
	t.Helper()
	const parameters, secrets = 20, 20
	for i := range parameters {
		aws.PutParameter(fmt.Sprint("/p", i), fmt.Sprint("value ", i))
	}
	for i := range secrets {
		aws.PutSecret(fmt.Sprint("s", i), fmt.Sprint("secret ", i))
	}
	fragments, want := map[string]string{}, map[string]string{}
	for i := range 30 {
		name, p, s := fmt.Sprintf("%02d", i), i%parameters, i%secrets
		fragments[name] = desktop.Dropin(name, content(name, fmt.Sprintf("{{resolve:ssm:/p%d}}", p), fmt.Sprintf("{{resolve:secretsmanager:s%d}}", s)))
		want[name] = content(name, fmt.Sprint("value ", p), fmt.Sprint("secret ", s))
	}
	if err := aws.PublishPolicy(desktop.Path, serial, fragments); err != nil {
		t.Fatal(err)
	}
	return want
}

// arrives looks once, and fails unless that ends with all of what is wanted.
func arrives(t *testing.T, d *desktop.Desktop, want map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found, err := d.Fetch(ctx, d.Subject, d.AWS)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Missing) > 0 {
		t.Fatal(found.Missing)
	}
	if diff := cmp.Diff(want, desktop.Contents(found.Policy)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := d.Keep(found); err != nil {
		t.Fatal(err)
	}
}

func TestAPolicyArrivesWholeThroughASlowLinkThatLosesAQuarterOfAllPackets(t *testing.T) {
	t.Parallel()
	c := newCable(t)
	aws := c.endpoint(t)
	want := publish(t, aws, 1)
	if err := errors.Join(c.slow(1000), c.lose(aQuarter)); err != nil {
		t.Fatal(err)
	}
	waits := 0
	client := c.client(t, 1500*time.Millisecond)
	d := desktop.New(t, "A-1", aws.URL, client, source.Retry{Waiting: func(err error, _ time.Time) {
		waits++
		saysNoNetwork(t, err)
	}})
	for look, calls := range []int{1 + 3 + 2 + 1, 1 + 2 + 1} { // for the manifest, fragments, the other parameters, secrets
		aws.ForgetRequests()
		arrives(t, d, want)
		if n := aws.Calls(awsfake.Any).Answered; n < calls || n > calls+waits {
			t.Errorf("look %d took %d calls, want %d, and one more for each of %d waits at most", look, n, calls, waits)
		}
	}
	if toDesktop, toAWS := c.lost(t); toDesktop == 0 || toAWS == 0 {
		t.Errorf("%d packets were lost on the way to the desktop, and %d on the way to AWS", toDesktop, toAWS)
	}
}

func saysNoNetwork(t *testing.T, err error) {
	t.Helper()
	if name := source.TroubleOf(err).Name; name != source.NoNetwork {
		t.Errorf("it waits because of %s: %v", name, err)
	}
}

// inTheMiddle does something when half of the answer has left.
func inTheMiddle(do func()) awsfake.Fault {
	return func(w http.ResponseWriter, _ *http.Request, carryOut func() awsfake.Reply) {
		reply := carryOut()
		maps.Copy(w.Header(), reply.Header)
		w.Header().Set("Content-Length", strconv.Itoa(len(reply.Body)))
		half := len(reply.Body) / 2
		_, _ = w.Write(reply.Body[:half]) // the client may be gone
		_ = http.NewResponseController(w).Flush()
		do()
		_, _ = w.Write(reply.Body[half:])
	}
}

func TestANetworkThatIsGoneIsSaidAndWhenItIsBackTheAgentGoesOn(t *testing.T) {
	lost := func(c cable) error { return c.lose(allPackets) }
	found := func(c cable) error { return c.lose(noPacket) }
	for _, outage := range []struct {
		name       string
		begin, end func(cable) error
		during     func(do func()) awsfake.Fault // the third call; nil: it begins before the first
	}{
		{"all packets are lost", lost, found, nil},
		{"all packets are lost during a call", lost, found, awsfake.Before},
		{"all packets are lost during an answer", lost, found, inTheMiddle},
		{"the cable is pulled", cable.pull, cable.plug, nil},
		{"the cable is pulled during a call", cable.pull, cable.plug, awsfake.Before},
		{"the cable is pulled during an answer", cable.pull, cable.plug, inTheMiddle},
	} {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			c := newCable(t)
			aws := c.endpoint(t)
			want := publish(t, aws, 1)
			var gone atomic.Bool
			begin := func() {
				if err := outage.begin(c); err != nil {
					t.Error(err)
				}
				gone.Store(true)
			}
			if outage.during == nil {
				begin()
			} else {
				aws.Fail("GetParameters", 2, awsfake.Before(func() {}))
				aws.Fail("GetParameters", 1, outage.during(begin))
			}
			client := c.client(t, 500*time.Millisecond)
			waits := 0
			d := desktop.New(t, "A-1", aws.URL, client, source.Retry{Waiting: func(err error, _ time.Time) {
				saysNoNetwork(t, err)
				if gone.Load() {
					waits++
				}
				if waits == 2 {
					if err := outage.end(c); err != nil {
						t.Error(err)
					}
				}
			}})
			arrives(t, d, want)
			if waits < 2 {
				t.Errorf("it has waited %d times while the network was gone", waits)
			}
		})
	}
}
