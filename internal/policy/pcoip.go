package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// A PCoIPDirective is what is known of one directive of pcoip-agent.conf.
//
// Sources: WorkSpaces Administration Guide, "Manage your Amazon Linux 2
// WorkSpaces"; HP Anyware Linux agent guide. What neither of them says is not
// restricted here; pcoip-agent.conf(5) of the installed agent is authoritative.
type PCoIPDirective struct {
	Min, Max  int    // the range of a number; both 0: any text
	Immediate bool   // the running agent takes it up; otherwise it waits for the agent's next start
	Forbidden string // why it must not be set on a WorkSpace
}

// LookupPCoIP returns the directive of this name, without its "pcoip.".
func LookupPCoIP(name string) (PCoIPDirective, bool) {
	d, ok := pcoipDirectives()[name]
	return d, ok
}

// Check says what is wrong with a value, or "".
func (d PCoIPDirective) Check(value string) string {
	if d.Min == 0 && d.Max == 0 {
		return ""
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < d.Min || n > d.Max {
		return fmt.Sprintf("%q is not a number between %d and %d", value, d.Min, d.Max)
	}
	return ""
}

func pcoipNames() []string { return slices.Sorted(maps.Keys(pcoipDirectives())) }

func pcoipDirectives() map[string]PCoIPDirective {
	const (
		licence = "AWS brings the licence"
		tls     = "AWS brings the certificates"
		port    = "AWS chooses the ports of the streaming connection"
	)
	onOff := PCoIPDirective{Max: 1}
	text := PCoIPDirective{}
	return map[string]PCoIPDirective{
		"audio_bandwidth_limit":              {Max: 100000},
		"desktop_session":                    text,
		"device_bandwidth_floor":             {Max: 100000},
		"disable_locally_rendered_cursor":    onOff,
		"enable_aes_128_gcm":                 onOff,
		"enable_aes_256_gcm":                 onOff,
		"enable_audio":                       onOff,
		"enable_build_to_lossless":           {Max: 1, Immediate: true},
		"enable_collaboration":               onOff,
		"enable_disclaimer_auth":             onOff,
		"enable_fips_mode":                   onOff,
		"enable_salsa20_256_round12":         onOff,
		"enable_timezone_redirect":           onOff,
		"enable_usb":                         onOff,
		"enable_vchan":                       onOff,
		"event_days_to_keep_log":             {Max: 100},
		"event_filter_mode":                  {Max: 3},
		"event_size_to_keep_log_mb":          {Max: 1000},
		"frame_rate_vs_quality_factor":       {Max: 100},
		"license_server_path":                {Forbidden: licence},
		"license_proxy_port":                 {Forbidden: licence},
		"license_proxy_server":               {Forbidden: licence},
		"max_link_rate":                      {Min: 104, Max: 900000},
		"maximum_frame_rate":                 {Max: 120},
		"maximum_initial_image_quality":      {Min: 30, Max: 100},
		"minimum_image_quality":              {Min: 30, Max: 100},
		"mtu_size":                           {Min: 500, Max: 1500},
		"server_clipboard_state":             {Max: 3},
		"server_statistics_interval_seconds": {Max: 3600},
		"session_retry_timeout":              {Max: 60},
		"ssl_cert_min_key_length":            {Forbidden: tls},
		"ssl_cert_type":                      {Forbidden: tls},
		"ssl_disable_aes_128":                onOff,
		"tcpport":                            {Forbidden: port},
		"tcpport_range":                      {Forbidden: port},
		"tls_cipher_blacklist":               text,
		"tls_security_mode":                  {Max: 2},
		"transport_session_priority":         {Min: 1, Max: 4},
		"udpport":                            {Forbidden: port},
		"udpport_range":                      {Forbidden: port},
		"usb_auth_table":                     text,
		"usb_unauth_table":                   text,
		"use_client_img_settings":            onOff,
		"use_host_autorepeat":                onOff,
		"vchan_auth_list":                    text,
		"vchan_unauth_list":                  text,
		"yuv_chroma_subsampling":             {Max: 1},
	}
}
