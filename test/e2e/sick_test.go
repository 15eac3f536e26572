package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
)

// An agent that can open but a few files says that it could not tell, or nothing at all:
// never that what has drifted is in line.
func TestAnAgentThatCanOpenTooFewFilesCallsNothingCompliantThatIsNot(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "groupadd", "soe-admins")
	d.MustExec(t, "useradd", "-m", "-G", "soe-admins", "boss")
	d.MustExec(t, "useradd", "-m", "mallory")
	d.MustWriteFile(t, "/etc/sudoers.d/50-mallory", box.File{Content: "mallory ALL = (ALL) NOPASSWD: ALL\n", Mode: 0o440})
	d.MustWriteFile(t, "/etc/cron.d/gone", box.File{Content: "# x\n"})
	d.setPolicy(t, "system.timezone = \"Europe/Berlin\"\n[sudo]\nallow = [\"%soe-admins\"]\n"+
		"[dropins.\"/etc/cron.d/gone\"]\nensure = \"absent\"\n[dropins.\"/etc/profile.d/soe.sh\"]\ncontent = \"umask 027\\n\"\n")
	truth := map[policy.ID]converge.State{}
	for _, r := range d.plan(t).Resources {
		truth[r.ID] = r.State
	}
	if truth["sudo/allow"] != converge.Drifted || truth["system/timezone"] != converge.Drifted {
		t.Fatalf("without a limit it is %v", truth)
	}
	told := 0
	for limit := 8; limit <= 64; limit++ {
		result, err := d.Exec(t.Context(), "prlimit", fmt.Sprintf("--nofile=%d:%d", limit, limit), "soe-agent", "--json", "plan", "--policy", policyDir)
		if err != nil {
			t.Fatal(err)
		}
		var said report.Report
		if json.Unmarshal([]byte(result.Stdout), &said) != nil {
			if result.Code == 0 {
				t.Errorf("with %d files it exits with 0 and says %q", limit, result.Stdout)
			}
			continue
		}
		told++
		for _, r := range said.Resources {
			if r.State.InLine() && !truth[r.ID].InLine() {
				t.Errorf("with %d files %s is called %s (%s), and is %s", limit, r.ID, r.State, r.Reason, truth[r.ID])
			}
		}
		if result.Code == 0 {
			t.Errorf("with %d files it exits with 0", limit)
		}
	}
	if told == 0 {
		t.Error("with no limit it said anything")
	}
}

// What everybody takes for granted may be gone, or be something else: rights are taken back all
// the same.
func TestWithSomethingElseInThePlaceOfTheNullDeviceAGrantIsTakenBackAllTheSame(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, onlyDomainAdmins)
	for _, instead := range []string{":", "mkfifo /dev/null", "mkdir /dev/null", "echo something >/dev/null", "ln -s /nowhere /dev/null", "mknod /dev/null c 1 5"} {
		d.MustExec(t, "sh", "-c", "echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zzz-stray; chmod 440 /etc/sudoers.d/zzz-stray; mv /dev/null /dev/null-was; "+instead)
		ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
		result, err := d.Exec(ctx, "soe-agent", "apply", "--policy", policyDir)
		cancel()
		d.MustExec(t, "sh", "-c", "rm -rf /dev/null; mv /dev/null-was /dev/null")
		if left := d.MustExec(t, "cat", "/etc/sudoers.d/zzz-stray"); err != nil || strings.HasPrefix(left, "user") {
			t.Errorf("%s: the grant is there: %q, %v, %+v", instead, left, err, result)
		}
	}
}

// What the agent knows of the machine decides what it takes away, and what it keeps of others'
// files. Without that a right is taken back as ever, and nothing else is given up.
func TestWithoutItsStateOrItsMachinesIdTheAgentTakesRightsBackAndGivesNothingUp(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const kept = "[dropins.\"/etc/foo.d/kept\"]\ncontent = \"kept\\n\"\nactivate = []\n"
	d.apply(t, onlyDomainAdmins+kept)
	d.setPolicy(t, onlyDomainAdmins)
	const state = "/var/lib/soe-agent"
	for harm, says := range map[string]string{
		"rm /etc/machine-id":                                                "/etc/machine-id",
		": >/etc/machine-id":                                                "/etc/machine-id",
		"rm /etc/machine-id; mkdir /etc/machine-id":                         "/etc/machine-id",
		"mv ledger.jsonl l; mkdir ledger.jsonl":                             state + "/ledger.jsonl",
		"mv ledger.jsonl l; mkfifo ledger.jsonl":                            state + "/ledger.jsonl",
		"mv ledger.jsonl l; ln -s ledger.jsonl ledger.jsonl":                state + "/ledger.jsonl",
		"rm -rf backups; echo nothing >backups":                             "",
		"mkdir -p backups; mount -t tmpfs -o ro none " + state + "/backups": "",
	} {
		d.sh(t, "echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zzz-stray; chmod 440 /etc/sudoers.d/zzz-stray; cp -a /etc/machine-id /root/id; rm -rf /root/state; cp -a "+state+" /root/state; cd "+state+"; "+harm)
		result, err := d.Exec(t.Context(), "soe-agent", "apply", "--policy", policyDir)
		d.sh(t, "umount "+state+"/backups 2>/dev/null || :; rm -rf /etc/machine-id; mv /root/id /etc/machine-id; rm -rf "+state+"; cp -a /root/state "+state)
		if err != nil || says != "" && (result.Code == 0 || !strings.Contains(result.Stdout+result.Stderr, says)) {
			t.Errorf("%s: that is not said: %v, %+v", harm, err, result)
		}
		if left := d.MustExec(t, "cat", "/etc/sudoers.d/zzz-stray"); strings.HasPrefix(left, "user") {
			t.Errorf("%s: the grant is there: %q, %+v", harm, left, result)
		}
		if says != "" {
			d.MustExec(t, "test", "-e", "/etc/foo.d/kept")
		}
		d.apply(t, onlyDomainAdmins+kept)
		d.setPolicy(t, onlyDomainAdmins)
	}
	d.MustExec(t, "soe-agent", "apply", "--policy", policyDir)
	if result, err := d.Exec(t.Context(), "test", "-e", "/etc/foo.d/kept"); err != nil || result.Code == 0 {
		t.Error("the machine that is known again does not know what it has made")
	}
}

func TestADaemonThatCannotUnderstandItsStateKeepsSudoAndSaysSo(t *testing.T) {
	t.Parallel()
	w := keeper(t)
	w.MustExec(t, "sh", "-c", "systemctl stop soe-agent; cd /var/lib/soe-agent; mv ledger.jsonl kept; mkdir ledger.jsonl; echo drift >/etc/motd.d/one; systemctl start soe-agent")
	w.MustExec(t, "sh", "-c", "echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zzzz")
	w.until(t, "the grant is taken back", func() bool { return w.fails(t, "grep", "-q", "^user", "/etc/sudoers.d/zzzz") })
	w.until(t, "the report says what is not kept, and why", func() bool {
		r := w.report(t)
		one := r.resource("dropin/etc/motd.d/one")
		return r.Code == 2 && one.State == converge.Unknown && strings.Contains(one.Reason, "ledger.jsonl") && r.resource("sudo/allow").State.InLine()
	})
	if got := w.MustReadFile(t, "/etc/motd.d/one"); got != "drift\n" {
		t.Errorf("what may be somebody else's was replaced by %q", got)
	}
	w.MustExec(t, "sh", "-c", "cd /var/lib/soe-agent; rmdir ledger.jsonl; mv kept ledger.jsonl; systemctl restart soe-agent")
	w.until(t, "all is in line", func() bool { r := w.report(t); return r.Code == 0 && r.Compliant })
	for how, harm := range map[string]string{
		"are empty":             ": >$file",
		"are cut by half":       "truncate -s $(( $(stat -c %s $file) / 2 )) $file",
		"lack their last byte":  "truncate -s $(( $(stat -c %s $file) - 2 )) $file", // behind some is a line break
		"are of zeros":          "dd if=/dev/zero of=$file bs=$(stat -c %s $file) count=1 conv=notrunc status=none",
		"are of a newer agent":  `echo '{"schema":9,"machine":[{}],"identity":[1],"boot":{},"activate":"x","path":{}}' >$file`,
		"are of another's JSON": "echo '[]' >$file",
	} {
		w.stateIsHarmed(t, how, harm)
	}
}

// stateIsHarmed has the daemon start with something else in all files of its state: it says each, and keeps sudo.
func (w *workspace) stateIsHarmed(t *testing.T, how, harm string) {
	t.Helper()
	const state = "/var/lib/soe-agent"
	since := strings.TrimSpace(w.MustExec(t, "date", "+%s.%N"))
	names := strings.Fields(w.MustExec(t, "sh", "-c", "systemctl stop soe-agent; rm -rf /root/state; cp -a "+state+" /root/state; cd "+state+
		"; for file in *.json *.jsonl backups/*; do [ $file = report.json ] && continue; echo $file; "+harm+
		"; done; echo drift >/etc/motd.d/one; echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zzzz; systemctl start soe-agent"))
	if len(names) < 4 {
		t.Errorf("only %q were harmed", names)
	}
	w.until(t, "where files of its state "+how+" the grant is taken back", func() bool { return w.fails(t, "grep", "-q", "^user", "/etc/sudoers.d/zzzz") })
	for _, name := range names {
		w.until(t, "where files of its state "+how+" that is said of "+name, func() bool {
			status, err := w.Exec(t.Context(), "soe-agent", "status")
			return err == nil && strings.Contains(status.Stdout+w.MustExec(t, "journalctl", "--no-pager", "-u", "soe-agent", "-o", "cat", "--since", "@"+since), name)
		})
	}
	w.until(t, "where files of its state "+how+" a file is mended", func() bool { return w.MustReadFile(t, "/etc/motd.d/one") == "kept\n" })
	if n := w.shows(t, "NRestarts"); n != "0" {
		t.Errorf("where files of its state %s the agent was started %s times again", how, n)
	}
	w.MustExec(t, "sh", "-c", "systemctl stop soe-agent; rm -rf "+state+"; cp -a /root/state "+state+"; systemctl start soe-agent")
	w.until(t, "all is in line again", func() bool { r := w.report(t); return r.Code == 0 && r.Compliant })
}

// Whatever is in the place of the agent's own directory: the daemon starts, and takes rights back.
// What it knew of the machine is not known then, and that is said.
func TestADaemonWithoutADirectoryOfItsOwnKeepsSudoAndSaysSo(t *testing.T) {
	t.Parallel()
	w := keeper(t)
	const state = "/var/lib/soe-agent"
	for name, harm := range map[string]string{
		"a file":                          "echo x >" + state,
		"a link to nowhere":               "ln -s /nowhere " + state,
		"a link to a file":                "ln -s /etc/hostname " + state,
		"a link into a place of a user's": "mkdir -p /srv/theirs; chown user /srv/theirs; cp -a /root/state /srv/theirs/state; ln -s /srv/theirs/state " + state,
		"a pipe":                          "mkfifo " + state,
	} {
		w.MustExec(t, "sh", "-c", "systemctl stop soe-agent; rm -rf /root/state; mv "+state+" /root/state; "+harm+
			"; echo drift >/etc/motd.d/one; echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zzzz; systemctl start soe-agent")
		w.until(t, name+": the grant is taken back", func() bool { return w.fails(t, "grep", "-q", "^user", "/etc/sudoers.d/zzzz") })
		w.until(t, name+": the report says what is not kept, and why", func() bool {
			r := w.report(t)
			one := r.resource("dropin/etc/motd.d/one")
			return r.Code == 2 && one.State == converge.Unknown && strings.Contains(one.Reason, state) && r.resource("sudo/allow").State.InLine()
		})
		if got := w.MustReadFile(t, "/etc/motd.d/one"); got != "drift\n" {
			t.Errorf("%s: what may be somebody else's was replaced by %q", name, got)
		}
		w.MustExec(t, "sh", "-c", "systemctl stop soe-agent; rm -rf "+state+" /srv/theirs /etc/sudoers.d/zzzz; mv /root/state "+state+"; systemctl start soe-agent")
		w.until(t, name+": all is in line again", func() bool { r := w.report(t); return r.Code == 0 && r.Compliant })
	}
}

// What cannot be written fails at every pass, perhaps for days.
func TestWhatTheAgentCannotWriteIsSaidOnceAndShownForAsLongAsItLasts(t *testing.T) {
	t.Parallel()
	w := keeper(t)
	for _, sick := range []struct{ harm, cure, says, shown string }{
		{"mount --bind /var/lib/soe-agent /var/lib/soe-agent && mount -o remount,bind,ro /var/lib/soe-agent", "umount /var/lib/soe-agent", "cannot write the ledger", "read-only file system"},
		{"systemctl stop soe-agent; rm -rf /run/soe-agent; echo x >/run/soe-agent; systemctl start soe-agent", "rm /run/soe-agent; systemctl restart soe-agent", "cannot write the status or report file", "it is a file or a link, and no directory"},
	} {
		since := strings.TrimSpace(w.MustExec(t, "date", "+%s.%N"))
		w.MustExec(t, "sh", "-c", sick.harm)
		for range 5 {
			w.MustExec(t, "sh", "-c", "echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zzzz")
			w.until(t, "the grant is taken back", func() bool { return w.fails(t, "grep", "-q", "^user", "/etc/sudoers.d/zzzz") })
			w.MustExec(t, "sh", "-c", "echo drift >/etc/motd.d/one")
			w.until(t, "the drift is mended", func() bool { return w.MustReadFile(t, "/etc/motd.d/one") != "drift\n" })
		}
		trouble := func() string {
			return w.MustExec(t, "sh", "-c", "soe-agent status | grep '^trouble' || :")
		}
		w.until(t, "the status shows it", func() bool { return strings.Contains(trouble(), sick.shown) })
		if shown := trouble(); strings.Contains(shown, "full") {
			t.Errorf("the status says %s", shown)
		}
		log := w.MustExec(t, "journalctl", "-u", "soe-agent", "-o", "cat", "--since", "@"+since)
		if n := strings.Count(log, sick.says); n < 1 || n > 2 { // of each file
			t.Errorf("%q is said %d times:\n%s", sick.says, n, log)
		}
		w.MustExec(t, "sh", "-c", sick.cure)
		w.MustExec(t, "sh", "-c", "echo drift >/etc/motd.d/one")
		w.until(t, "nothing is shown any more", func() bool { return trouble() == "" })
	}
}

// rpm says of a database that it cannot use, or that has been cut short, that nothing is
// installed.
func TestAPackageIsNotCalledAbsentByADatabaseThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, db := range []struct {
		name, file string
		options    []box.Option
	}{
		{"SQLite", "rpmdb.sqlite", nil},
		{"Berkeley DB", "Packages", []box.Option{box.OlderRPM()}},
	} {
		t.Run(db.name, func(t *testing.T) {
			t.Parallel()
			d := newDesktop(t, db.options...)
			d.MustExec(t, "sh", "-c", "rpm -i --nodeps --nosignature --force-debian $(find /repo -name 'soe-account-1*.rpm' | head -1)")
			const id = policy.ID("package/soe-account")
			database := "/var/lib/rpm/" + db.file
			d.MustExec(t, "test", "-s", database)
			d.setPolicy(t, "[packages]\nsoe-account = \"absent\"\n")
			d.plan(t).wants(t, map[policy.ID]converge.State{id: converge.Drifted})
			d.MustExec(t, "cp", "-a", "/var/lib/rpm", "/root/rpm")
			d.MustExec(t, "sh", "-c", "cp -a /etc/rpm /root/etc-rpm")
			for what, harm := range map[string]string{
				"cut to nothing":            "truncate -s 0 " + database,
				"cut short":                 "truncate -s 5000 " + database,
				"cut by half":               "truncate -s $(( $(stat -c %s " + database + ") / 2 )) " + database,
				"overwritten":               "dd if=/dev/urandom of=" + database + " bs=4096 count=4 conv=notrunc status=none",
				"zeroed":                    "dd if=/dev/zero of=" + database + " bs=4096 count=$(( $(stat -c %s " + database + ") / 4096 )) conv=notrunc status=none",
				"a directory":               "rm " + database + " && mkdir " + database,
				"a link to nowhere":         "rm " + database + " && ln -s /nowhere/db " + database,
				"gone":                      "rm " + database,
				"without its indexes":       "cd /var/lib/rpm && for f in *; do case $f in Packages|Packages.db|rpmdb.sqlite*|.*) ;; *) rm -f $f ;; esac; done",
				"with empty indexes":        "cd /var/lib/rpm && for f in *; do case $f in Packages|Packages.db|rpmdb.sqlite*|.*) ;; *) truncate -s 0 $f ;; esac; done",
				"without its place":         "rm -r /var/lib/rpm",
				"in a place that is a file": "rm -r /var/lib/rpm && touch /var/lib/rpm",
				"of no known backend":       "echo '%_db_backend none' >/etc/rpm/macros.zbackend",
			} {
				d.MustExec(t, "sh", "-c", "rm -f /var/lib/rpm/*-wal /var/lib/rpm/*-shm /var/lib/rpm/__db.*; "+harm)
				o := d.plan(t)
				if r := o.resource(id); r.State != converge.Unknown && r.State != converge.Drifted || o.Code == 0 {
					t.Errorf("%s: %s is %s (%s), and plan exits with %d", what, id, r.State, r.Reason, o.Code)
				}
				d.MustExec(t, "sh", "-c", "rm -rf /var/lib/rpm /etc/rpm && cp -a /root/rpm /var/lib/rpm && cp -a /root/etc-rpm /etc/rpm")
			}
		})
	}
}
