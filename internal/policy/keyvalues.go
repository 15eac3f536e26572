package policy

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sshdtext"
)

// A valueRule returns why a key must not have a value, or "".
type valueRule func(value string) string

func numberFrom(least, most int) valueRule {
	return func(value string) string {
		if n, err := strconv.Atoi(value); err != nil || n < least || n > most {
			return fmt.Sprintf("it is not a number from %d to %d", least, most)
		}
		return ""
	}
}

func oneOfWords(words ...string) valueRule {
	return func(value string) string {
		if slices.Contains(words, strings.ToLower(value)) {
			return ""
		}
		return "it is none of " + strings.Join(words, ", ")
	}
}

func refusedAlways(why string) valueRule { return func(string) string { return why } }

// refusesBy refuses keys that are not in a table, and values that their rules refuse. A key that is
// removed, or whose value is not known yet, has no value.
func refusesBy(reader string, table map[string]valueRule) func(key, value string) string {
	return func(key, value string) string {
		rule, known := table[strings.ToLower(key)]
		switch {
		case !known:
			return reader + " does not know it, or what it does with it is not known here"
		case value == "":
			return ""
		}
		return rule(value)
	}
}

// refusesValues refuses values that the rule of their key in a table refuses. Other keys are none of its
// business: whether the reader knows them is asked of the reader itself.
func refusesValues(table map[string]valueRule) func(key, value string) string {
	return func(key, value string) string {
		if rule, known := table[strings.ToLower(key)]; known && value != "" {
			return rule(value)
		}
		return ""
	}
}

// chronyKeys are keys of chrony.conf(5) with values with which chronyd does not start.
func chronyKeys() map[string]valueRule {
	port := numberFrom(0, 65535)
	return map[string]valueRule{
		"sched_priority": numberFrom(0, 100), "dscp": numberFrom(0, 63), "port": port, "cmdport": port, "ntsport": port, "ptpport": port,
	}
}

// pwqualityKeys are keys of pwquality.conf(5) with values for which nobody finds a password.
func pwqualityKeys() map[string]valueRule {
	credit := numberFrom(-8, 8)
	return map[string]valueRule{
		"difok": numberFrom(0, 15), "minlen": numberFrom(0, 64), "minclass": numberFrom(0, 4), "retry": numberFrom(1, 10),
		"dcredit": credit, "ucredit": credit, "lcredit": credit, "ocredit": credit,
		"maxrepeat": noneOrFrom(2), "maxclassrepeat": noneOrFrom(2), "maxsequence": noneOrFrom(3), "usersubstr": noneOrFrom(3),
		"dictpath": refusedAlways("without a dictionary there every password is refused"),
	}
}

// noneOrFrom takes 0, which stands for no limit, and numbers that leave a choice.
func noneOrFrom(least int) valueRule {
	from := numberFrom(least, 64)
	return func(value string) string {
		if why := from(value); value != "0" && why != "" {
			return why + ", nor 0, which is no limit"
		}
		return ""
	}
}

// useraddKeys are keys of /etc/default/useradd (useradd(8)) with values for which an account that is made
// cannot be used.
func useraddKeys() map[string]valueRule {
	return map[string]valueRule{
		"inactive": func(value string) string {
			if value == "-1" {
				return ""
			}
			return numberFrom(1, 99999)(value) // 0 shuts an account on the day on which its password expires
		},
		"skel": func(value string) string { // it is copied into each home that is made
			return sshdtext.Private(value)
		},
		"expire": refusedAlways("every account that is made after that day is shut"),
		"shell": func(value string) string {
			switch base := path.Base(value); {
			case slices.Contains([]string{"false", "nologin", "true"}, base):
				return "nobody could log in to an account that is made"
			case !path.IsAbs(value):
				return "it is not an absolute path"
			}
			return ""
		},
	}
}

// auditdKeys are those of auditd.conf(5).
func auditdKeys() map[string]valueRule {
	yesNo := oneOfWords("yes", "no")
	action := func(more ...string) valueRule {
		words := append([]string{"ignore", "syslog", "suspend"}, more...)
		return func(value string) string {
			if slices.Contains([]string{"halt", "single"}, strings.ToLower(value)) {
				return "auditd would end all sessions, and leave a machine that nobody can reach"
			}
			return oneOfWords(words...)(value)
		}
	}
	space := func(value string) string {
		if percent, is := strings.CutSuffix(value, "%"); is {
			return numberFrom(1, 99)(percent)
		}
		return numberFrom(0, 1<<30)(value)
	}
	word := func(value string) string {
		if strings.ContainsAny(value, " \t/") {
			return "it is not one word"
		}
		return ""
	}
	network := refusedAlways("other machines would be let in, or hear what happens here")
	return map[string]valueRule{
		"local_events": yesNo, "write_logs": yesNo, "verify_email": yesNo, "use_libwrap": yesNo, "distribute_network": network,
		"log_format": oneOfWords("raw", "enriched"), "flush": oneOfWords("none", "incremental", "incremental_async", "data", "sync"),
		"name_format": oneOfWords("none", "hostname", "fqd", "numeric", "user"), "name": word, "action_mail_acct": word, "log_group": word,
		"log_file": below("/var/log/audit"), "plugin_dir": exactly("/etc/audit/plugins.d"), "dispatcher": refusedAlways("auditd would run it as root"),
		"disp_qos": oneOfWords("lossy", "lossless"), "priority_boost": numberFrom(0, 19), "freq": numberFrom(0, 1<<30), "num_logs": numberFrom(0, 999),
		"max_log_file": numberFrom(1, 1<<20), "max_log_file_action": action("rotate", "keep_logs"), "space_left": space, "admin_space_left": space,
		"space_left_action": action("rotate", "email"), "admin_space_left_action": action("rotate", "email"), "disk_full_action": action("rotate"),
		"disk_error_action": action(), "overflow_action": action(), "q_depth": numberFrom(1, 99999), "max_restarts": numberFrom(0, 1000), "end_of_event_timeout": numberFrom(1, 3600),
		"tcp_listen_port": network, "tcp_listen_queue": network, "tcp_max_per_addr": network, "tcp_client_ports": network, "tcp_client_max_idle": network,
		"transport": network, "enable_krb5": network, "krb5_principal": network, "krb5_key_file": network,
	}
}

// below takes files of a directory in which root alone has business.
func below(dir string) valueRule {
	return func(value string) string {
		if path.Clean(value) != value || !strings.HasPrefix(value, dir+"/") {
			return "it is not below " + dir
		}
		return ""
	}
}

func exactly(only string) valueRule {
	return func(value string) string {
		if value != only {
			return "it is not " + only
		}
		return ""
	}
}
