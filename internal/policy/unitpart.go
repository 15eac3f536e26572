package policy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

// A unitLine is an assignment in the file of a unit (systemd.syntax(7)).
type unitLine struct {
	number              int
	section, key, value string
}

func unitLines(content string) (lines []unitLine) {
	section, number := "", 0
	continued := false
	for text := range strings.SplitSeq(strings.ReplaceAll(content, "\r", "\n"), "\n") {
		number++
		text = strings.TrimSpace(text)
		if text != "" && strings.ContainsRune("#;", rune(text[0])) {
			continue // a comment between continued lines goes for nothing
		}
		text, more := strings.CutSuffix(text, `\`)
		switch key, value, assigned := strings.Cut(text, "="); {
		case continued:
			lines[len(lines)-1].value += " " + text
		case strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]"):
			section = text[1 : len(text)-1]
		case text == "" && !more:
		case !assigned:
			lines = append(lines, unitLine{number, section, text, ""})
		default:
			lines = append(lines, unitLine{number, section, strings.TrimSpace(key), strings.TrimSpace(value)})
		}
		continued = more && len(lines) > 0
	}
	return lines
}

// doneByUnit returns why the file of a unit, or a part of one, must not have this content, or "": it takes
// something away from a unit that is needed, or ends all that runs.
func doneByUnit(file, content string) string {
	needed := protected.AddsTo(file)
	for _, l := range unitLines(content) {
		if why := l.doneToOthers(); why != "" {
			return fmt.Sprintf("line %d: %s", l.number, why)
		}
		if needed == "" || l.harmless() {
			continue
		}
		return fmt.Sprintf("line %d: %s may keep a unit from starting, or end it, and what %s adds to is needed: %s", l.number, l.key, path.Dir(file), needed)
	}
	return ""
}

// doneToOthers returns why a unit must not do to others what the line says, or "".
func (l unitLine) doneToOthers() string {
	names := strings.Fields(l.value)
	if hasReference(l.value) {
		return ""
	}
	find := func(why func(string) string) string {
		for _, name := range names {
			if reason := why(strings.Trim(name, `"'`)); reason != "" {
				return fmt.Sprintf("%s=%s: %s", l.key, name, reason)
			}
		}
		return ""
	}
	switch l.key {
	case "Alias", "Conflicts", "PropagatesStopTo", "RequiredBy":
		return find(func(name string) string {
			if l.key == "Conflicts" && protected.EndsAll(name) {
				return "" // it ends when they come
			}
			return protected.Service(name)
		})
	case "Wants", "Requires", "BindsTo", "Upholds", "OnFailure", "OnSuccess", "Unit", "Also":
		return find(func(name string) string {
			if protected.EndsAll(name) || slices.Contains([]string{"ctrl-alt-del.target", "runlevel0.target", "runlevel1.target", "runlevel6.target", "soft-reboot.target"}, name) {
				return "starting it ends everything that is running"
			}
			return ""
		})
	case "OnFailureJobMode", "OnSuccessJobMode":
		if strings.HasPrefix(l.value, "isolate") {
			return l.key + "=" + l.value + ": it ends everything else that is running"
		}
	case "SuccessAction", "FailureAction", "StartLimitAction", "JobTimeoutAction":
		if l.value != "none" && l.value != "" {
			return l.key + "=" + l.value + ": it ends everything that is running"
		}
	}
	return ""
}

// A harmlessKey is one that keeps no unit from starting and ends none, if its value is one of these.
type harmlessKey struct {
	names  string // patterns of path.Match
	values *regexp.Regexp
}

var (
	anyValue     = regexp.MustCompile(`.`)
	yesOrNoValue = regexp.MustCompile(`^(?i:yes|no|true|false|on|off|1|0)$`)
	weight       = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)
	someSeconds  = regexp.MustCompile(`^([0-9]{1,3}ms|[0-5]?[0-9]s?)$`)
	proxies      = regexp.MustCompile(`^((?i:[a-z]+_proxy)|LANG|LANGUAGE|LC_[A-Z]+|TZ)=[^%$\\]*$`)
)

func harmlessKeys() []harmlessKey {
	return []harmlessKey{
		{"Unit/Description Unit/Documentation */X-*", anyValue},
		{"Unit/StartLimitInterval* Service/StartLimitInterval*", regexp.MustCompile(`^0$`)},
		{"Unit/OnFailure", regexp.MustCompile(`^([A-Za-z0-9:_.-]+(@%?[A-Za-z0-9:_.-]*)?\.service[ ]?)+$`)},
		{"Service/Restart", regexp.MustCompile(`^(always|on-failure|on-abnormal|on-abort|on-watchdog)$`)},
		{"Service/RestartSec", someSeconds},
		{"*/CPUWeight */StartupCPUWeight */CPUShares */IOWeight */StartupIOWeight */BlockIOWeight", weight},
		{"*/*Accounting", yesOrNoValue},
		{"Service/LogRateLimit* Service/SyslogIdentifier Service/SyslogFacility Service/LogLevelMax", anyValue},
		{"Service/Nice", regexp.MustCompile(`^(-[0-9]{1,2}|[0-9])$`)},
		{"Service/OOMScoreAdjust", regexp.MustCompile(`^(0|-[0-9]{1,4})$`)},
		{"Service/OOMPolicy", regexp.MustCompile(`^continue$`)},
		{"*/ManagedOOMPreference", regexp.MustCompile(`^(avoid|omit)$`)},
		{"*/MemoryLow */MemoryMin", anyValue},
		{"Service/LimitCORE", regexp.MustCompile(`^([0-9]+[KMG]?|infinity)$`)},
		{"Service/LimitNOFILE Service/LimitNPROC", regexp.MustCompile(`^(infinity|[1-9][0-9]{5,8})$`)},
		{"*/TasksMax", regexp.MustCompile(`^(infinity|[1-9][0-9]{3,8}|([3-9][0-9]|100)%)$`)},
		{"*/MemoryMax */MemoryHigh */MemoryLimit", regexp.MustCompile(`^(infinity|([2-9]|[1-9][0-9]+)G|([5-9][0-9]|100)%)$`)},
		{"Slice/CPUQuota", regexp.MustCompile(`^([5-9][0-9]|[1-9][0-9]{2,3})%$`)},
	}
}

// harmless reports whether the line keeps no unit from starting and ends none, whichever unit that is. Of a
// value that is not known yet it is asked again.
func (l unitLine) harmless() bool {
	name := l.section + "/" + l.key
	if name == "Service/Environment" {
		words := quotedFields(l.value)
		return hasReference(l.value) || len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return !proxies.MatchString(w) })
	}
	for _, k := range harmlessKeys() {
		for pattern := range strings.FieldsSeq(k.names) {
			if is, _ := path.Match(pattern, name); is {
				return (k.values.MatchString(l.value) || hasReference(l.value))
			}
		}
	}
	return false
}
