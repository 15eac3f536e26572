package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// PCoIPEncryption is the one name in [pcoip] that is no directive: how the stream
// is encrypted, for which AWS names a group of settings and not the directive. On
// each machine the manual of the installed agent says which one it is.
const PCoIPEncryption = "encryption"

// PCoIPAES256 is what PCoIPEncryption may be: AES-256 and nothing weaker.
const PCoIPAES256 = "aes256"

// A PCoIPEffect is when the agent heeds a directive that has changed.
type PCoIPEffect string

// The effects. That of a directive of which it is not known is AtRestart, the
// latest of them.
const (
	Immediately PCoIPEffect = "immediately"
	AtSession   PCoIPEffect = "next-session"
	AtRestart   PCoIPEffect = "agent-restart"
)

// A PCoIPDirective is what is known of one directive of pcoip-agent.conf.
//
// Sources: WorkSpaces Administration Guide, "Manage your Amazon Linux 2
// WorkSpaces"; HP Anyware Linux agent guide; files of real machines. Where those
// are silent, the directive of the same name in VMware Horizon, whose PCoIP is of
// the same family: such a directive is not Verified. What the installed agent's
// own pcoip-agent.conf(5) says goes before all this.
type PCoIPDirective struct {
	Text      bool // any text; otherwise a whole number from Min to Max
	Min, Max  int
	Applies   PCoIPEffect
	Verified  bool   // name, range and effect are documented for the Linux agent
	Forbidden string // why it must not be set on a WorkSpace
}

// LookupPCoIP returns the directive of this name, without its "pcoip.".
func LookupPCoIP(name string) (PCoIPDirective, bool) {
	d, ok := pcoipDirectives()[name]
	return d, ok
}

// PCoIPNames are the names of all directives known, sorted.
func PCoIPNames() []string { return slices.Sorted(maps.Keys(pcoipDirectives())) }

// Check says what is wrong with a value, or "".
func (d PCoIPDirective) Check(value string) string {
	if d.Text {
		return ""
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < d.Min || n > d.Max {
		return fmt.Sprintf("%q is not a number between %d and %d", value, d.Min, d.Max)
	}
	return ""
}

// pcoipDirectives is never changed.
var pcoipDirectives = sync.OnceValue(func() map[string]PCoIPDirective {
	number := func(from, to int, applies PCoIPEffect) PCoIPDirective {
		return PCoIPDirective{Min: from, Max: to, Applies: applies}
	}
	flag := func(applies PCoIPEffect) PCoIPDirective { return number(0, 1, applies) }
	text := func(applies PCoIPEffect) PCoIPDirective { return PCoIPDirective{Text: true, Applies: applies} }
	verified := func(d PCoIPDirective) PCoIPDirective {
		d.Verified = true
		return d
	}
	forbidden := func(why string) PCoIPDirective {
		return PCoIPDirective{Text: true, Applies: AtRestart, Forbidden: why}
	}
	const (
		licence = "AWS brings the licence"
		tls     = "AWS brings the certificates"
		port    = "AWS chooses the ports and addresses of the streaming connection"
	)
	return map[string]PCoIPDirective{
		// Documented for the agent on Linux.
		"desktop_session":          verified(text(AtRestart)),
		"enable_audio":             verified(flag(AtRestart)),
		"enable_build_to_lossless": verified(flag(Immediately)),
		"enable_disclaimer_auth":   verified(flag(AtSession)),
		"enable_timezone_redirect": verified(flag(AtRestart)),
		"server_clipboard_state":   verified(number(0, 3, AtRestart)),

		// Seen, but not documented in all of name, range and effect.
		"audio_bandwidth_limit":         number(0, 100000, AtSession),
		"device_bandwidth_floor":        number(0, 100000, Immediately),
		"enable_aes_128_gcm":            flag(AtSession),
		"enable_aes_256_gcm":            flag(AtSession),
		"enable_fips_mode":              flag(AtRestart),
		"enable_salsa20_256_round12":    flag(AtSession),
		"enable_usb":                    flag(AtSession),
		"enable_vchan":                  number(0, 2, AtSession),
		"event_days_to_keep_log":        number(0, 100, AtRestart),
		"event_filter_mode":             number(0, 3, AtRestart),
		"event_size_to_keep_log_mb":     number(0, 1000, AtRestart),
		"frame_rate_vs_quality_factor":  number(0, 100, AtRestart),
		"max_link_rate":                 number(104, 900000, AtSession),
		"maximum_frame_rate":            number(0, 120, Immediately),
		"maximum_initial_image_quality": number(30, 100, Immediately),
		"minimum_image_quality":         number(30, 100, Immediately),
		"mtu_size":                      number(500, 1500, AtSession),
		"ssl_disable_aes_128":           flag(AtRestart),
		"transport_session_priority":    number(1, 4, AtSession),
		"usb_auth_table":                text(AtSession),
		"usb_unauth_table":              text(AtSession),
		"use_client_img_settings":       flag(Immediately),
		"use_host_autorepeat":           flag(AtRestart),
		"vchan_auth_list":               text(AtSession),
		"vchan_unauth_list":             text(AtSession),
		"yuv_chroma_subsampling":        flag(AtRestart),

		// From hearsay.
		"disable_locally_rendered_cursor":    flag(AtRestart),
		"enable_collaboration":               flag(AtRestart),
		"server_statistics_interval_seconds": number(0, 3600, AtRestart),
		"session_retry_timeout":              number(0, 60, AtRestart),
		"tls_cipher_blacklist":               text(AtSession),
		"tls_security_mode":                  number(0, 2, AtSession),
		"ultra":                              flag(AtRestart),
		"ultra_offload_mpps":                 number(0, 1000, AtRestart),
		"vchan_list":                         text(AtSession),

		// AWS's.
		"connection_address":      forbidden(port),
		"license_proxy_port":      forbidden(licence),
		"license_proxy_server":    forbidden(licence),
		"license_server_path":     forbidden(licence),
		"ssl_cert_min_key_length": forbidden(tls),
		"ssl_cert_type":           forbidden(tls),
		"tcpport":                 forbidden(port),
		"tcpport_range":           forbidden(port),
		"udpport":                 forbidden(port),
		"udpport_range":           forbidden(port),
	}
})

func (d *decoder) pcoip(t *table) {
	const allowUnknown = "allow_unknown"
	allowed := t.isSet(allowUnknown)
	for _, key := range t.keys() {
		if key == allowUnknown {
			continue
		}
		value, _ := t.value(key)
		var text string
		switch v := value.(type) {
		case string:
			text = v
		case int64:
			text = strconv.FormatInt(v, 10)
		case bool:
			text = map[bool]string{true: "1", false: "0"}[v]
		case map[string]any:
			t.problem(key, `its keys are written without "pcoip.", and none of them is a table`)
			continue
		default:
			t.problem(key, "it wants a string, a whole number or a boolean, and not %s", describe(value))
			continue
		}
		directive, known := LookupPCoIP(key)
		doubtful := !known || !directive.Verified && directive.Check(text) != ""
		d.set(t, key, NewID("pcoip", key), PCoIP{Value: text, Unchecked: allowed && doubtful && key != PCoIPEncryption})
	}
}

func (v *validator) pcoip(p PCoIP) {
	v.refuse(breaksLine(p.Value), "the value has a line break or another control character")
	if v.name == PCoIPEncryption {
		v.refuse(!v.open(p.Value) && p.Value != PCoIPAES256, "%q is not %q, the one encryption that can be demanded", p.Value, PCoIPAES256)
		return
	}
	directive, known := LookupPCoIP(v.name)
	switch {
	case strings.HasPrefix(v.name, "pcoip."):
		v.wrong(`keys are written without "pcoip."`)
	case !pcoipName.MatchString(v.name):
		v.wrong("it is not the name of a directive: small letters, digits and underscores")
	case directive.Forbidden != "":
		v.wrong("it must not be set on a WorkSpace: %s", directive.Forbidden)
	case p.Unchecked:
	case !known:
		if meant := Nearest(v.name, PCoIPNames()); meant != "" {
			v.wrong("no such directive is known; did you mean %q?", meant)
		} else {
			v.wrong("no such directive is known; if pcoip-agent.conf(5) of the installed agent names it, say allow_unknown = true")
		}
	case !v.open(p.Value):
		why := directive.Check(p.Value)
		if why != "" && !directive.Verified {
			why += ", as far as is known; if pcoip-agent.conf(5) of the installed agent says otherwise, say allow_unknown = true"
		}
		v.refuse(why != "", "%s", why)
	}
}
