package dropindir

import (
	"regexp"
	"sync"
)

// desktop are those that the sessions of people go by.
var desktop = sync.OnceValue(func() []Directory {
	return []Directory{
		{
			Dir:    "/etc/X11/xinit/xinitrc.d",
			Mode:   0o755,
			Check:  Shell,
			Effect: AwaitLogin,
			Reader: &Reader{Who: "xinit", Programs: []string{"/etc/X11/xinit/xinitrc-common", "/etc/X11/xinit/Xsession"}},
			Seen:   "the sessions of all people read it",
		},
		{
			Dir:    "/etc/chromium/policies/managed",
			Holds:  true,
			Names:  Names{Reads: endsInJSON, Why: "the browser reads only names that end in .json"},
			Mode:   0o644,
			Check:  JSON,
			Reader: &Reader{Who: "Chromium", Programs: append(sbin("chromium", "chromium-browser"), elsewhere("chromium/chromium", "chromium", "org.chromium.Chromium")...)},
			Seen:   "the browsers of all people read it",
		},
		{Dir: "/etc/dconf/profile", Holds: true},
		{
			Dir:    "/etc/environment.d",
			Names:  Names{Reads: endsInConf, Why: "systemd reads only names that end in .conf (environment.d(5))"},
			Mode:   0o644,
			Check:  Environment,
			Effect: AwaitLogin,
			Reader: &Reader{Who: "the user's systemd, since 233", Programs: []string{
				"/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator",
				"/lib/systemd/user-environment-generators/30-systemd-environment-d-generator",
			}},
			Seen: "the sessions of all people read it",
		},
		{
			Dir:    "/etc/firefox/policies",
			Holds:  true,
			Names:  Names{Reads: regexp.MustCompile(`^policies\.json$`), Why: "Firefox reads only policies.json"},
			Mode:   0o644,
			Check:  JSON,
			Reader: &Reader{Who: "Firefox", Programs: append(sbin("firefox", "firefox-esr"), elsewhere("firefox/firefox", "firefox", "org.mozilla.firefox")...)},
			Seen:   "the browsers of all people read it",
		},
		{
			Dir:    "/etc/opt/chrome/policies/managed",
			Holds:  true,
			Names:  Names{Reads: endsInJSON, Why: "the browser reads only names that end in .json"},
			Mode:   0o644,
			Check:  JSON,
			Reader: &Reader{Who: "Chrome", Programs: append(sbin("google-chrome", "google-chrome-stable"), elsewhere("google/chrome/chrome", "google-chrome", "com.google.Chrome")...)},
			Seen:   "the browsers of all people read it",
		},
		{
			Dir:    "/etc/opt/edge/policies/managed",
			Holds:  true,
			Names:  Names{Reads: endsInJSON, Why: "the browser reads only names that end in .json"},
			Mode:   0o644,
			Check:  JSON,
			Reader: &Reader{Who: "Edge", Programs: append(sbin("microsoft-edge", "microsoft-edge-stable"), elsewhere("microsoft/msedge/msedge", "microsoft-edge", "com.microsoft.Edge")...)},
			Seen:   "the browsers of all people read it",
		},
		{
			Dir:   "/etc/profile.d",
			Names: Names{Reads: regexp.MustCompile(`\.(sh|csh)$`), Why: "shells read only names that end in .sh or .csh"},
			Mode:  0o644,
			Check: Shell,
			Seen:  "the shells of all people read it",
		},
		{Dir: "/etc/skel", Seen: "everybody gets a copy of it"},
		{
			Dir:    "/etc/update-motd.d",
			Names:  Names{Reads: plainName, Why: "run-parts skips names with other than letters, digits, - and _ (run-parts(8))"},
			Mode:   0o755,
			Modes:  Modes{Forbidden: 0o0, Needed: 0o100, Why: "run-parts passes over files that are not executable"},
			Check:  Shell,
			Reader: &Reader{Who: "update-motd", Programs: append(sbin("update-motd"), "/etc/debian_version")},
		},
		{
			Dir:    "/etc/xdg/autostart",
			Holds:  true,
			Names:  Names{Reads: regexp.MustCompile(`\.desktop$`), Why: "sessions start only what ends in .desktop"},
			Mode:   0o644,
			Check:  DesktopEntry,
			Effect: AwaitLogin,
			Seen:   "the sessions of all people read it",
		},
		{
			Dir:    "/usr/local/share/ca-certificates",
			Holds:  true,
			Names:  Names{Reads: regexp.MustCompile(`\.crt$`), Why: "update-ca-certificates reads only names that end in .crt"},
			Mode:   0o644,
			Check:  Certificates,
			Effect: UpdateCACertificates,
			Reader: &Reader{Who: "update-ca-certificates", Programs: sbin("update-ca-certificates")},
			Seen:   "certificates are for everybody",
		},
		{
			Dir:   "/usr/share/applications",
			Holds: true,
			Seen:  "the desktops of all people read it",
		},
		{
			Dir:   "/usr/share/backgrounds",
			Holds: true,
			Seen:  "the desktops of all people read it",
		},
		{
			Dir:   "/etc/opt/*/policies/managed",
			Names: Names{Reads: endsInJSON, Why: "the browser reads only names that end in .json"},
			Mode:  0o644,
			Check: JSON,
			Seen:  "the browsers of all people read it",
		},
	}
})
