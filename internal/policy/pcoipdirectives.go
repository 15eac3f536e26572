package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
)

// PCoIPEncryption is the only name in [pcoip] that is not a directive: how the stream is encrypted.
// AWS documents a group of settings for it, but not the directive. On each machine the manual of
// the installed agent determines the directive.
const PCoIPEncryption = "encryption"

// PCoIPAES256 is the only value of PCoIPEncryption: AES-256 and nothing weaker.
const PCoIPAES256 = "aes256"

// A PCoIPEffect is when the agent applies a changed directive.
type PCoIPEffect string

// The effects. If it is not known, it is AtRestart, the latest of them.
const (
	Immediately PCoIPEffect = "immediately"
	AtSession   PCoIPEffect = "next-session"
	AtRestart   PCoIPEffect = "agent-restart"
)

// A PCoIPDirective is what is known about one directive of pcoip-agent.conf.
//
// Sources: WorkSpaces Administration Guide, "Manage your Amazon Linux 2 WorkSpaces"; HP Anyware
// Linux agent guide; files of real machines. If these do not mention something, it is from the
// directive of the same name in VMware Horizon, whose PCoIP is of the same family; such a directive
// is not Verified. The installed agent's own pcoip-agent.conf(5) takes precedence over all this.
type PCoIPDirective struct {
	Text      bool // any text; otherwise a whole number from Min to Max
	Min, Max  int
	Means     string      // what it is, with the unit of a number
	Words     []PCoIPWord // words for the numbers, if each has a meaning
	Applies   PCoIPEffect
	Verified  bool   // name, range and effect are documented for the Linux agent
	Forbidden string // why it must not be set on a WorkSpace
}

// A PCoIPWord is a word for one of the numbers of a directive.
type PCoIPWord struct {
	Number      int
	Word, Means string
}

// String returns the word and its meaning.
func (w PCoIPWord) String() string {
	if w.Means == "" {
		return w.Word
	}
	return w.Word + ", " + w.Means
}

// Number returns the text in pcoip-agent.conf for a value, which may be a word of the policy.
func (d PCoIPDirective) Number(value string) string {
	for _, w := range d.Words {
		if w.Word == value {
			return strconv.Itoa(w.Number)
		}
	}
	return value
}

// Meaning returns what a value means, or "" if that is obvious from the value.
func (d PCoIPDirective) Meaning(value string) string {
	for _, w := range d.Words {
		if strconv.Itoa(w.Number) == d.Number(value) {
			return w.String()
		}
	}
	return ""
}

// Word returns the word for a number, or "".
func (d PCoIPDirective) Word(number string) string {
	for _, w := range d.Words {
		if strconv.Itoa(w.Number) == number {
			return w.Word
		}
	}
	return ""
}

// LookupPCoIP returns the directive with this name, without its "pcoip.".
func LookupPCoIP(name string) (PCoIPDirective, bool) {
	d, ok := pcoipDirectives()[name]
	return d, ok
}

// PCoIPNames returns the names of all known directives, sorted.
func PCoIPNames() []string { return slices.Sorted(maps.Keys(pcoipDirectives())) }

// Check returns what is wrong with a value, or "".
func (d PCoIPDirective) Check(value string) string {
	if d.Text {
		return ""
	}
	n, err := strconv.Atoi(d.Number(value))
	if err == nil && n >= d.Min && n <= d.Max {
		return ""
	}
	return fmt.Sprintf("%q is not a number between %d and %d", value, d.Min, d.Max)
}

// pcoipDirectives returns the known directives by name. Each value of a fragment is looked up here,
// so the table is made once, on first use, and never changed.
var pcoipDirectives = sync.OnceValue(func() map[string]PCoIPDirective {
	number := func(from, to int, applies PCoIPEffect, means string, words ...PCoIPWord) PCoIPDirective {
		return PCoIPDirective{Min: from, Max: to, Applies: applies, Means: means, Words: words}
	}
	flag := func(applies PCoIPEffect, means string) PCoIPDirective {
		return number(0, 1, applies, means, PCoIPWord{0, "off", ""}, PCoIPWord{1, "on", ""})
	}
	text := func(applies PCoIPEffect, means string) PCoIPDirective {
		return PCoIPDirective{Text: true, Applies: applies, Means: means}
	}
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
		"desktop_session":          verified(text(AtRestart, "the session that is started, one of those in `/usr/share/xsessions`")),
		"enable_audio":             verified(flag(AtRestart, "sound")),
		"enable_build_to_lossless": verified(flag(Immediately, "an image that stands still becomes exact")),
		"enable_disclaimer_auth":   verified(flag(AtSession, "a text that people agree to before they log in")),
		"enable_timezone_redirect": verified(flag(AtRestart, "the session has the client's time zone")),
		"server_clipboard_state": verified(number(0, 3, AtRestart, "copying and pasting between the client and the desktop",
			PCoIPWord{0, "disabled", "neither way"}, PCoIPWord{1, "enabled", "both ways"},
			PCoIPWord{2, "paste-only", "from the client to the desktop"}, PCoIPWord{3, "copy-only", "from the desktop to the client"})),

		// Seen, but name, range and effect are not all documented.
		"audio_bandwidth_limit":      number(0, 100000, AtSession, "the most that sound takes, in kbit/s"),
		"device_bandwidth_floor":     number(0, 100000, Immediately, "what is kept for devices, in kbit/s"),
		"enable_aes_128_gcm":         flag(AtSession, "the stream may be encrypted so"),
		"enable_aes_256_gcm":         flag(AtSession, "the stream may be encrypted so"),
		"enable_fips_mode":           flag(AtRestart, "only what FIPS 140 allows"),
		"enable_salsa20_256_round12": flag(AtSession, "the stream may be encrypted so"),
		"enable_usb":                 flag(AtSession, "USB devices of the client"),
		"enable_vchan":               number(0, 2, AtSession, "virtual channels; what each number means is not known"),
		"event_days_to_keep_log":     number(0, 100, AtRestart, "in days"),
		"event_filter_mode": number(0, 3, AtRestart, "what is logged",
			PCoIPWord{0, "critical", "the gravest alone"}, PCoIPWord{1, "error", ""}, PCoIPWord{2, "info", ""}, PCoIPWord{3, "debug", ""}),
		"event_size_to_keep_log_mb":     number(0, 1000, AtRestart, "in MB"),
		"frame_rate_vs_quality_factor":  number(0, 100, AtRestart, "0 is for smooth motion, 100 for a sharp image"),
		"max_link_rate":                 number(104, 900000, AtSession, "the most that a session takes, in kbit/s"),
		"maximum_frame_rate":            number(0, 120, Immediately, "in frames a second; 0 is no limit"),
		"maximum_initial_image_quality": number(30, 100, Immediately, "in percent, of an image that changes"),
		"minimum_image_quality":         number(30, 100, Immediately, "in percent, below which an image does not go"),
		"mtu_size":                      number(500, 1500, AtSession, "of a packet, in bytes"),
		"ssl_disable_aes_128":           flag(AtRestart, "the handshake does without AES-128"),
		"transport_session_priority": number(1, 4, AtSession, "of the stream on the network; what 4 means is not known",
			PCoIPWord{1, "high", ""}, PCoIPWord{2, "medium", ""}, PCoIPWord{3, "low", ""}),
		"usb_auth_table":          text(AtSession, "USB devices that are let in"),
		"usb_unauth_table":        text(AtSession, "USB devices that are kept out"),
		"use_client_img_settings": flag(Immediately, "the client's settings of the image go before these"),
		"use_host_autorepeat":     flag(AtRestart, "keys repeat by the desktop's settings"),
		"vchan_auth_list":         text(AtSession, "virtual channels that are let in"),
		"vchan_unauth_list":       text(AtSession, "virtual channels that are kept out"),
		"yuv_chroma_subsampling":  number(0, 1, AtRestart, "of the colours of the image", PCoIPWord{0, "4:4:4", "all of them"}, PCoIPWord{1, "4:2:0", "a quarter"}),

		// Not from a reliable source.
		"disable_locally_rendered_cursor":    flag(AtRestart, "the desktop draws the pointer"),
		"enable_collaboration":               flag(AtRestart, "a session may be shared"),
		"server_statistics_interval_seconds": number(0, 3600, AtRestart, "how often figures are logged, in seconds"),
		"session_retry_timeout":              number(0, 60, AtRestart, "how long the client tries to come back, in minutes"),
		"tls_cipher_blacklist":               text(AtSession, "ciphers that the handshake does without"),
		"tls_security_mode":                  number(0, 2, AtSession, "of the handshake; what each number means is not known"),
		"ultra":                              flag(AtRestart, "PCoIP Ultra"),
		"ultra_offload_mpps":                 number(0, 1000, AtRestart, "in millions of pixels a second, from which on the graphics card encodes"),
		"vchan_list":                         text(AtSession, "virtual channels"),

		// Reserved for AWS.
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
