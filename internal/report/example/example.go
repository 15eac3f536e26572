// Package example makes reports of a machine that does not exist, of any size, with
// something in every state: for tests, measurements and pictures. The same size gives
// the same report.
package example

import (
	"fmt"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
)

// At is the time of the reports.
func At() time.Time { return time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC) }

// Report makes a report of n resources or, where n is smaller, of the dozen that are
// not simply compliant.
func Report(n int) report.Report {
	f := facts.Facts{
		Hostname: "example-desktop", MachineID: "0123456789abcdef0123456789abcdef",
		ManagedNode: "mi-0123456789abcdef0", OSName: "Amazon Linux 2",
	}
	resources := noteworthy()
	for i := 0; len(resources) < n; i++ {
		resources = append(resources, unremarkable(i))
	}
	rank := map[string]int{}
	for i, kind := range policy.Kinds() {
		rank[kind] = i
	}
	slices.SortStableFunc(resources, func(a, b converge.Resource) int { return rank[a.ID.Kind()] - rank[b.ID.Kind()] })
	timing := map[string]time.Duration{}
	for _, r := range resources {
		timing[r.ID.Kind()] += 90 * time.Microsecond
	}
	p := &policy.Policy{Personas: []string{"base", "developer"}, Serial: 42, Rules: rules()}
	return report.New("0.1.0", f, p, nil, At(), resources, timing)
}

func rules() []policy.Rule {
	at := func(line int) policy.Origin {
		return policy.Origin{Layer: policy.Remote, Fragment: "90-rules", Line: line}
	}
	return []policy.Rule{
		{Match: []string{"sudo/*", "dropin/etc/ssh/*"}, Severity: policy.Critical, Controls: []string{"CIS-AL2-5.2.2"}, Origin: at(3)},
		{
			Match: []string{"package/gimp"}, Audit: true, Until: At().AddDate(0, 1, 0), Reason: "needed until the training is over",
			Origin: at(8),
		},
		{
			Match: []string{"service/cups.service"}, Audit: true, Until: At().AddDate(0, 0, -20).Truncate(24 * time.Hour),
			Reason: "label printer in the lab", Origin: at(13),
		},
		{Match: []string{"package/nodejs-*"}, Severity: policy.Low, Origin: at(18)},
	}
}

func ago(d time.Duration) time.Time { return At().Add(-d) }

func origin(fragment string, line int, persona string, overrode ...policy.Origin) policy.Origin {
	return policy.Origin{Layer: policy.Remote, Fragment: fragment, Line: line, Persona: persona, Overrode: overrode}
}

// noteworthy has something in every state.
func noteworthy() []converge.Resource { return slices.Concat(outOfLine(), awaited(), settled()) }

// outOfLine is what somebody has to look after.
func outOfLine() []converge.Resource {
	seed := policy.Origin{Layer: policy.Seed, Fragment: "00-seed.toml", Line: 21}
	return []converge.Resource{
		{
			ID: "sudo/allow", State: converge.Contested, Cause: converge.Corrective, Since: ago(47 * time.Minute),
			Severity: policy.Critical, Controls: []string{"CIS-AL2-5.2.2"}, Origin: origin("10-base", 14, "", seed),
			Reason: "something else keeps changing it back: puppet (pid 2114); it is left alone until 06:20:00",
			Diff:   []converge.Difference{{Aspect: "granted", Want: "root", Got: "root, %helpdesk"}},
		},
		{
			ID: "package/firefox", State: converge.Failed, Cause: converge.Intentional, Since: ago(3 * time.Hour),
			Severity: policy.High, Controls: []string{"SOE-17"}, Origin: origin("20-developer", 31, "developer"),
			Reason: "cannot install firefox: no repository has version 128.5.0; it has 128.4.0",
			Diff:   []converge.Difference{{Aspect: "version", Want: "128.5.0", Got: "128.3.1"}},
		},
		{
			ID: "dropin/etc/ssh/sshd_config.d/50-soe.conf", State: converge.Drifted, Cause: converge.Corrective, Since: ago(2 * time.Minute),
			Severity: policy.Critical, Controls: []string{"CIS-AL2-5.3.8", "SOE-4"}, Origin: origin("10-base", 88, ""),
			Reason: "audited only: the policy says to report it and not to touch it",
			Diff: []converge.Difference{
				{
					Aspect: "content", Want: "PermitRootLogin no\nMaxAuthTries 4\nX11Forwarding no\nClientAliveInterval 300\n",
					Got: "PermitRootLogin no\nMaxAuthTries 4\nX11Forwarding yes\nClientAliveInterval 300\n",
				},
				{Aspect: "mode", Want: "0600", Got: "0644"},
			},
		},
		{
			ID: "check/home-encrypted", State: converge.Unknown, Since: ago(26 * time.Hour), Severity: policy.Medium,
			Origin: origin("10-base", 120, ""), Reason: "findmnt did not answer within 10s",
		},
		{
			ID: "dropin/etc/rsyslog.d/60-forward.conf", State: converge.Unknown, Since: ago(8 * time.Minute), Severity: policy.High,
			Origin: origin("10-base", 96, ""),
			Reason: "left as it is: the value of {{resolve:ssm:/soe/prod/syslog/host}} is not known yet: access denied",
		},
	}
}

// awaited is what comes by itself.
func awaited() []converge.Resource {
	return []converge.Resource{
		{
			ID: "pcoip/server_clipboard_state", State: converge.Pending, Effect: converge.NextSession, Cause: converge.Intentional,
			Since: ago(40 * time.Minute), Severity: policy.High, Controls: []string{"SOE-9"}, Origin: origin("10-base", 61, ""),
			Reason: "the PCoIP agent reads it when the next session begins",
			Diff:   []converge.Difference{{Aspect: "value", Want: "0", Got: "1"}},
		},
		{
			ID: "package/kernel", State: converge.Pending, Effect: converge.Reboot, Cause: converge.Intentional, Overdue: true,
			Since: ago(9 * 24 * time.Hour), Severity: policy.High, Origin: origin("10-base", 40, ""),
			Reason: "the new kernel runs after the next start; overdue: it has been pending since 2026-11-12 06:00:00, longer than 7d",
		},
	}
}

// settled is what has been decided, or done.
func settled() []converge.Resource {
	return []converge.Resource{
		{
			ID: "package/gimp", State: converge.Waived, Cause: converge.Corrective, Since: ago(12 * 24 * time.Hour),
			Severity: policy.Low, Origin: origin("20-developer", 35, "developer"),
			Reason: "waived until 2026-12-20: needed until the training is over",
			Diff:   []converge.Difference{{Aspect: "ensure", Want: "absent", Got: "present"}},
		},
		{
			ID: "service/cups.service", State: converge.Corrected, Cause: converge.Corrective, Since: ago(0), Severity: policy.Medium,
			Origin: origin("10-base", 131, ""), Reason: "its waiver ended after 2026-10-31: label printer in the lab",
			Diff: []converge.Difference{{Aspect: "running", Want: "false", Got: "true"}},
		},
		{
			ID: "dconf/org/mate/screensaver/lock-enabled", State: converge.Corrected, Cause: converge.Corrective, Since: ago(0),
			Severity: policy.High, Controls: []string{"SOE-2"}, Origin: origin("10-base", 70, ""),
			Diff: []converge.Difference{{Aspect: "value", Want: "true", Got: "false"}},
		},
	}
}

// unremarkable is the i-th resource in line.
func unremarkable(i int) converge.Resource {
	names := []string{
		"dropin/etc/sysctl.d/%d-soe.conf", "package/example-tool-%d", "dropin/etc/profile.d/%d-soe.sh", "dconf/org/mate/panel/example-%d",
		"dropin/etc/security/limits.d/%d-soe.conf", "package/lib-example-%d", "user/soe-service-%d", "group/soe-service-%d",
		"dropin/etc/polkit-1/rules.d/%d-soe.rules", "service/soe-example-%d.service", "pcoip/example_setting_%d", "package/font-example-%d",
	}
	r := converge.Resource{
		ID: policy.NewID("check", "none"), State: converge.Compliant, Since: ago(time.Duration(1+i%90) * 7 * time.Hour),
		Severity: policy.Medium, Origin: origin("10-base", 140+i, ""),
	}
	r.ID = policy.ID(fmt.Sprintf(names[i%len(names)], 10+i/len(names)))
	switch {
	case i%7 == 3:
		r.Severity = policy.High
		r.Controls = []string{fmt.Sprintf("SOE-%d", 20+i%60)}
	case i%11 == 5:
		r.Severity = policy.Low
		r.Origin = origin("20-developer", 40+i, "developer")
	}
	return r
}

// Changes are what became of the machine in the days before its report, oldest first.
func Changes() []history.Change {
	change := func(before time.Duration, id policy.ID, what converge.Event, cause converge.Cause, took, unnoticed time.Duration) history.Change {
		return history.Change{
			Time: ago(before), ID: id, Event: what, Cause: cause, Noticed: ago(before + took), Took: took, Unnoticed: unnoticed,
		}
	}
	const day, ms = 24 * time.Hour, time.Millisecond
	changes := []history.Change{
		change(9*day, "package/kernel", "pending", converge.Intentional, 41*time.Second, 0),
		change(6*day+2*time.Hour, "dropin/etc/sysctl.d/10-soe.conf", converge.WasCorrected, converge.Corrective, 4*ms, 2*ms),
		change(5*day+7*time.Hour, "user/soe-service-10", converge.WasCorrected, converge.Corrective, 61*ms, 12*ms),
		change(4*day, "package/example-tool-10", converge.WasCorrected, converge.Intentional, 12*time.Second, 0),
		change(4*day-time.Minute, "dropin/etc/profile.d/10-soe.sh", converge.WasCorrected, converge.Intentional, 3*ms, 0),
		change(2*day+time.Hour, "service/soe-example-10.service", converge.WasCorrected, converge.Corrective, 38*ms, 3*time.Second),
		change(29*time.Hour, "dropin/etc/sysctl.d/11-soe.conf", converge.WasReclaimed, converge.Intentional, 5*ms, 0),
		change(26*time.Hour, "pcoip/example_setting_10", converge.WasCarriedOut, converge.Intentional, 5*time.Hour, 0),
		change(3*time.Hour, "package/firefox", "failed", converge.Intentional, 9*time.Second, 0),
	}
	for i := range 5 {
		before := 130*time.Minute - time.Duration(i)*20*time.Minute
		changes = append(changes, change(before, "sudo/allow", converge.WasCorrected, converge.Corrective, 34*ms, 2*ms))
	}
	return append(changes,
		change(47*time.Minute, "sudo/allow", "contested", converge.Corrective, 0, 0),
		change(40*time.Minute, "pcoip/server_clipboard_state", "pending", converge.Intentional, 6*ms, 0),
		change(2*time.Minute, "dropin/etc/ssh/sshd_config.d/50-soe.conf", "drifted", converge.Corrective, 0, 3*ms),
		change(0, "dconf/org/mate/screensaver/lock-enabled", converge.WasCorrected, converge.Corrective, 9*ms, 4*ms),
		change(0, "service/cups.service", converge.WasCorrected, converge.Corrective, 41*ms, 0),
	)
}
