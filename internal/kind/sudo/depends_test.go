package sudo

import (
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

func fn(body string) string {
	return "polkit.addRule(function(action, subject) {\n" + body + "\n});\n"
}

func TestATextThatGoesByMoreThanPolkitCanBeAskedWithIsKnown(t *testing.T) {
	const yes = " return polkit.Result.YES;"
	for _, text := range []string{
		`if (/^\/home\//.test(action.lookup("program")))` + yes,
		`if (action.lookup("program").indexOf("/home/") == 0)` + yes,
		`if (action.lookup("command_line").indexOf("/usr/bin/bash -c ")==0)` + yes,
		`var c = action.lookup("command_line"); if (c.startsWith("/usr/bin/env -i "))` + yes,
		`var c = action.lookup("command_line"); if (c.indexOf("x") >= 0)` + yes,
		`if (action.lookup("program").length > 9)` + yes,
		`if (action.lookup("program") > "/usr")` + yes,
		`if (action.lookup("program") == "/usr/bin/" + "bash")` + yes,
		`if (action["lookup"]("program") == "/bin/sh")` + yes,
		`if (action.lookup(subject.user) == "x")` + yes,
		`if (action.lookup("pid") == "1")` + yes,
		`if ({"/bin/x": 1}[action.lookup("program")])` + yes,
		`try { polkit.spawn(["/usr/bin/test", "-e", "/tmp/flag"]);` + yes + ` } catch (e) { return null; }`,
		`if (new Date().getSeconds() > 3)` + yes,
		`if (Date.now() % 2)` + yes,
		`if (Math.random() > 0.5)` + yes,
		`if (subject.pid != 1)` + yes,
		`if (subject["pid"] != 1)` + yes,
		`if (subject.system_unit == "x.service")` + yes,
		`if (("" + subject).indexOf("pid=1") < 0)` + yes,
		`if (String(action).indexOf("/home") > 0)` + yes,
		`if (n++ > 100)` + yes,
		`n = n + 1; if (n > 9)` + yes,
		`if (/x/g.test(action.id))` + yes,
		`for (;;) { return polkit.Result.YES; }`,
		`return eval("polkit.Result.YES");`,
		`return this.answer;`,
		"return `yes`;",
		`if (with_what(subject))` + yes,
	} {
		if dependsOn([]byte(fn(text))) == "" {
			t.Errorf("it is taken for one that can be asked about: %s", text)
		}
	}
	for _, text := range []string{
		`this["pol" + "kit"]["add" + "Rule"](f);`, `polkit["addRule"](f);`, `var p = polkit; p["add" + "Rule"](f);`, `polkit._ruleFuncs.push(f);`, `eval("polkit.add" + "Rule(f)");`,
		`polkit.addAdminRule(eval("x"));`, `[polkit][0].addRule(f);`,
	} {
		if dependsOn([]byte(text)) == "" {
			t.Errorf("it is taken for one that adds no rules: %s", text)
		}
	}
	for _, text := range []string{
		`if (action.id == "org.freedesktop.systemd1.manage-units" && action.lookup("unit") == "pcoip.service")` + yes,
		`if (action.id == "x.y" && ["start", "stop"].indexOf(action.lookup("verb")) >= 0)` + yes,
		`var unit = action.lookup("unit"); if (unit == "a.service" || unit == 'b.service')` + yes + ` else { return polkit.Result.NOT_HANDLED; }`,
		`if (action.id.indexOf("org.freedesktop.systemd1.") == 0 && action.lookup("unit") != "sshd.service")` + yes,
		`switch (action.id) { case "x.y": return polkit.Result.AUTH_ADMIN_KEEP; default: return null; }`,
		`if (/^org\.freedesktop\./.test(action.id) && !subject.isInGroup("a"))` + yes,
		`if (action.id.match("^org.x") && subject.user.toLowerCase() == "us" + "er") return "y" + "es";`,
		`if (subject.active && subject.local && subject.session && subject.groups.indexOf("a") > -1)` + yes,
		"/* new Date() */ // polkit.spawn\n polkit.log(\"Date // \"); if (action.id == \"x.y\")" + yes,
		`if (action.lookup("user") == subject.user && action.lookup("program") === "/usr/local/bin/helper")` + yes,
	} {
		if word := dependsOn([]byte(fn(text))); word != "" {
			t.Errorf("for %q it is taken for one that cannot be asked about: %s", word, text)
		}
	}
	if word := dependsOn([]byte(`polkit.addAdminRule(function(a, s) { return polkit.spawn(["x"]); });`)); word != "" {
		t.Errorf("one that only names administrators is taken for one that grants, for %q", word)
	}
}

func TestATextIsAboutTheActionsAloneThatStandBeforeEachOfItsAnswers(t *testing.T) {
	all := []string{execAction, unitsAction}
	for text, want := range map[string][]string{
		`if (action.id == "org.freedesktop.policykit.exec" && Date.now() % 2) return polkit.Result.YES;`:                     {execAction},
		`if (action.id === "org.example.print") { if (true) { polkit.log(""); } } if (Date.now()) return polkit.Result.YES;`: all,
		`if (action.id == "org.example.print" && Date.now() % 2) return polkit.Result.YES;`:                                  {},
		`if (action.id == "org.example.print" && Date.now() % 2) { polkit.log("x"); return polkit.Result.YES; }`:             {},
		`if (action.id != "org.example.print" && Date.now() % 2) return polkit.Result.YES;`:                                  all,
		`if (action.id == "org.example.print") return null; return Date.now() % 2 ? "yes" : "no";`:                           all,
		`if (action.id == "org.example.print") polkit.log(""); return f(Date.now());`:                                        all,
		`if (action.id == "org.example.print" || Date.now() % 2) return polkit.Result.YES;`:                                  all,
		`if (action.id == "org.example.print" + Date.now()) return polkit.Result.YES;`:                                       all,
		`if (action.id == "org.example.print") { return null; } else { return Date.now() % 2 ? polkit.Result.YES : null; }`:  all,
		`if (action.id == "org.example.print") return eval("polkit.addRule(x)");`:                                            all,
	} {
		if got := couldGrant([]byte(fn(text)), all); !slices.Equal(got, want) {
			t.Errorf("%s: it is about %v", text, got)
		}
	}
}

func TestTheRuleOfPolkitsEntriesIsKnownAndNoneThatTakesItsName(t *testing.T) {
	s := kindtest.Open(t, system.Options{Root: machine(t, nil)})
	s.Runner = packagers{dpkg: "\n"}
	k := New(nil, s)
	for text, known := range map[string]bool{
		"// one\n" + pklaText: true,
		strings.Replace(pklaText, "/usr/sbin/pkla-check", "/usr/local/bin/check", 1): false,
		pklaText + "polkit.addRule(function() { return polkit.spawn(['x']); });":     false,
	} {
		if word := k.goesBy(t.Context(), ruleFile{vendorRules + "/" + pklaCompat, []byte(text)}); (word == "") != known {
			t.Errorf("%q in %s", word, text)
		}
	}
	if word := k.goesBy(t.Context(), ruleFile{vendorRules + "/50-x.rules", []byte(pklaText)}); word == "" {
		t.Error("another file is taken for it")
	}
}
