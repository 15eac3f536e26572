package sudotext

import "testing"

func TestWhatNarrowsAndWhatOnlyGrantsIsToldFromTheRest(t *testing.T) {
	aliases := map[string]string{"SU": "/usr/bin/su, /bin/sh -c", "MANY": "/bin/x, /usr/sbin/", "NOT": "!/usr/bin/su", "DEEP": "SU", "LOOP": "LOOP", "EVERY": "ALL"}
	for rest, want := range map[string]struct{ narrows, grants bool }{
		"ALL = (ALL) ALL":                        {false, true},
		"ALL=(ALL:ALL) NOPASSWD: ALL":            {false, true},
		"ALL = ALL":                              {false, true},
		"ALL = NOPASSWD: /usr/bin/id -a, ALL":    {false, true},
		"ALL = (root) NOPASSWD: SETENV: /bin/x":  {false, true},
		"ALL = /usr/bin/":                        {false, true},
		"here, !there = ALL":                     {false, false},
		"ALL = (ALL) ALL, !/usr/bin/su":          {false, false},
		"ALL = (ALL) !/usr/bin/su, ! /bin/sh -c": {false, false},
		"ALL = !SU":                              {false, false},
		"ALL = !DEEP":                            {false, false},
		"ALL = SU":                               {false, false},
		"ALL = (ALL) !ALL":                       {true, false},
		"ALL = ALL, !/usr/bin/":                  {true, false},
		"ALL = !/usr/bin/*":                      {true, false},
		"ALL = !MANY":                            {true, false},
		"ALL = !NOT":                             {true, false},
		"ALL = NOT":                              {true, false},
		"ALL = !LOOP":                            {true, false},
		"ALL = LOOP":                             {true, false},
		"ALL = !EVERY":                           {true, false},
		"ALL = !UNKNOWN":                         {true, false},
		"ALL = !^/usr/.*$":                       {true, false},
		"ALL = !!ALL":                            {true, false},
		"ALL = (ALL) NOEXEC: ALL":                {true, false},
		"ALL = (ALL) CHROOT=/srv ALL":            {true, false},
		"ALL = (ALL) TIMEOUT=1 ALL":              {true, false},
		"ALL = (ALL, !root) ALL":                 {true, false},
		"ALL = ALL : here = !ALL":                {true, false},
		"here = ALL : ALL = (ALL) !ALL":          {true, false},
		`ALL = "!ALL"`:                           {true, false},
		`ALL = \!ALL`:                            {true, false},
		"ALL = (ALL !ALL":                        {true, false},
		"ALL = sudoedit /x":                      {true, false},
		"ALL = sha224:AAAA /bin/x":               {true, false},
		"nothing":                                {true, false},
	} {
		line := Line{Sort: Grant, Rest: rest}
		if got := line.Narrows(aliases); got != want.narrows {
			t.Errorf("%s: it narrows: %v", rest, got)
		}
		if got := line.OnlyGrants(); got != want.grants {
			t.Errorf("%s: it only grants: %v", rest, got)
		}
	}
	if (Line{Sort: Unclear, Rest: "ALL = ALL"}).OnlyGrants() {
		t.Error("what is unclear is no grant")
	}
}
