package dropindir

import "regexp"

// browsers are those of the policies of browsers.
func browsers() []Directory {
	return []Directory{
		browserPolicies("/etc/chromium/policies/managed", "Chromium", append(sbin("chromium", "chromium-browser"), elsewhere("chromium/chromium", "chromium", "org.chromium.Chromium")...)),
		{
			Dir:    "/etc/firefox/policies",
			Holds:  true,
			Names:  Names{Reads: regexp.MustCompile(`^policies\.json$`), Why: "Firefox reads only policies.json"},
			Check:  JSON,
			Reader: &Reader{Who: "Firefox", Programs: append(sbin("firefox", "firefox-esr"), elsewhere("firefox/firefox", "firefox", "org.mozilla.firefox")...)},
			Seen:   "the browsers of all people read it",
		},
		browserPolicies("/etc/opt/chrome/policies/managed", "Chrome", append(sbin("google-chrome", "google-chrome-stable"), elsewhere("google/chrome/chrome", "google-chrome", "com.google.Chrome")...)),
		browserPolicies("/etc/opt/edge/policies/managed", "Edge", append(sbin("microsoft-edge", "microsoft-edge-stable"), elsewhere("microsoft/msedge/msedge", "microsoft-edge", "com.microsoft.Edge")...)),
		{ // another browser's that is made of Chromium; nothing is known of where its program is
			Dir:   "/etc/opt/*/policies/managed",
			Names: browserNames(),
			Check: JSON,
			Seen:  "the browsers of all people read it",
		},
	}
}

// sessions are those that the sessions of people go by.
func sessions() []Directory {
	return []Directory{
		{
			Dir:    "/etc/X11/xinit/xinitrc.d",
			Mode:   0o755,
			Check:  Shell,
			Effect: AwaitLogin,
			Reader: &Reader{Who: "xinit", Programs: []string{"/etc/X11/xinit/xinitrc-common", "/etc/X11/xinit/Xsession"}},
			Seen:   "the sessions of all people read it",
		},
		{Dir: "/etc/dconf/profile", Holds: true},
		{
			Dir:    "/etc/environment.d",
			Names:  Names{Reads: endsInConf, Why: "systemd reads only names that end in .conf (environment.d(5))"},
			Check:  Environment,
			Effect: AwaitLogin,
			Reader: &Reader{Who: "the user's systemd, since 233", Programs: []string{
				"/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator",
				"/lib/systemd/user-environment-generators/30-systemd-environment-d-generator",
			}},
			Seen: "the sessions of all people read it",
		},
		{
			Dir:   "/etc/profile.d",
			Names: Names{Reads: regexp.MustCompile(`\.(sh|csh)$`), Why: "shells read only names that end in .sh or .csh"},
			Check: Shell,
			Seen:  "the shells of all people read it",
		},
		{Dir: "/etc/skel", Seen: "everybody gets a copy of it"},
		{
			Dir:    "/etc/update-motd.d",
			Names:  Names{Reads: regexp.MustCompile(`^[A-Za-z0-9_-]+$`), Why: "run-parts skips names with other than letters, digits, - and _ (run-parts(8))"},
			Mode:   0o755,
			Modes:  executable(),
			Check:  Shell,
			Reader: &Reader{Who: "update-motd", Programs: append(sbin("update-motd"), "/etc/debian_version")},
		},
		{
			Dir:    "/etc/xdg/autostart",
			Holds:  true,
			Names:  Names{Reads: regexp.MustCompile(`\.desktop$`), Why: "sessions start only what ends in .desktop"},
			Check:  DesktopEntry,
			Effect: AwaitLogin,
			Seen:   "the sessions of all people read it",
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
	}
}

// browserPolicies is the directory of the policies of a browser that is made of Chromium.
func browserPolicies(dir, who string, programs []string) Directory {
	return Directory{
		Dir:    dir,
		Holds:  true,
		Names:  browserNames(),
		Check:  JSON,
		Reader: &Reader{Who: who, Programs: programs},
		Seen:   "the browsers of all people read it",
	}
}

func browserNames() Names {
	return Names{Reads: regexp.MustCompile(`\.json$`), Why: "the browser reads only names that end in .json"}
}

// elsewhere is where a program is that no package of the distribution has brought.
func elsewhere(opt, snap, flatpak string) []string {
	return []string{"/opt/" + opt, "/usr/local/bin/" + snap, "/usr/lib64/" + opt, "/usr/lib/" + opt, "/snap/bin/" + snap, "/var/lib/flatpak/exports/bin/" + flatpak}
}
