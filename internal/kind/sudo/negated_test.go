package sudo

import (
	"slices"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Alice may administer, by a group, and bob may not.
func TestWhoIsShutOutOfAListIsNobodyWhomItLetsInUnlessTwice(t *testing.T) {
	const definitions = "User_Alias FINE = alice, %admins : MIXED = alice, bob : OTHERS = bob : SHUTS = !bob : IN = SHUTS : DEEP = IN, alice\n" +
		"User_Alias LOOP = POOL : POOL = LOOP : NOTBOB = alice, !bob : NOTTHEM = bob, !alice : EVERYBODY = ALL : NOTALICE = ALL, !alice\n"
	aliases := map[string][]sudotext.Subject{}
	for _, line := range sudotext.Parse([]byte(definitions)) {
		for name, users := range line.Aliases {
			aliases[name] = users
		}
	}
	for list, want := range map[string]struct{ allowed, met bool }{
		"alice":             {true, true},
		"bob":               {false, false},
		"alice, bob":        {false, true},
		"!bob":              {true, false}, // nobody is let in
		"!alice":            {true, false},
		"alice, !bob":       {true, true},
		"bob, !alice":       {false, false},
		"alice, !alice":     {true, true}, // perhaps: it depends on their order
		"ALL, !bob":         {false, true},
		"!!bob":             {false, false},
		"!!alice":           {true, true},
		"FINE":              {true, true},
		"OTHERS":            {false, false},
		"MIXED":             {false, true},
		"EVERYBODY":         {false, true},
		"!FINE":             {true, false},
		"!OTHERS":           {true, false},
		"alice, !OTHERS":    {true, true},
		"SHUTS":             {false, false},
		"NOTALICE":          {false, true}, // others are allowed too
		"!SHUTS":            {false, true}, // bob is in
		"alice, !SHUTS":     {false, true},
		"!IN":               {false, true},
		"!DEEP":             {false, true},
		"DEEP":              {false, true},
		"NOTBOB":            {false, true},
		"NOTTHEM":           {false, false},
		"LOOP":              {false, false},
		"!LOOP":             {false, true},
		`"SHUTS"`:           {false, false}, // a user of that name
		`alice, !"SHUTS"`:   {true, true},
		`"FINE"`:            {false, false},
		"#1001, !#1000":     {true, true},
		"%#500, !%#10":      {true, true},
		"%wheel, !%admins":  {false, false},
		"%admins, !%wheel":  {true, true},
		"+net, !alice":      {false, false},
		"nobody-knows, !#0": {false, false},
	} {
		s := kindtest.Open(t, system.Options{Root: machine(t, nil)})
		s.Runner = people()
		j := newJudge(t.Context(), s, []string{"root", "%admins"}, aliases)
		lines := sudotext.Parse([]byte(list + " ALL=ALL\n"))
		if len(lines) != 1 || lines[0].Sort != sudotext.Grant {
			t.Fatalf("%s: %+v", list, lines)
		}
		if got := j.allowsAll(lines[0].Users); got != want.allowed {
			t.Errorf("%s: it lets in the allowed alone: %v", list, got)
		}
		if got := j.meets(lines[0].Users); got != want.met {
			t.Errorf("%s: it may mean one of the allowed: %v", list, got)
		}
	}
}

func TestWhatIsKeptOfAGrantShutsOutWhomItDid(t *testing.T) {
	for line, want := range map[string]string{
		"alice, bob, !carol ALL=ALL":        "alice, !carol ALL=ALL",
		"!carol, bob, %admins ALL=ALL":      "!carol, %admins ALL=ALL",
		"alice, bob, !FINE ALL=ALL":         "alice, !FINE ALL=ALL",
		"!alice, bob ALL=ALL":               "", // nobody is left whom it lets in
		"!bob, bob ALL=ALL":                 "",
		"alice, bob, !SHUTS ALL=ALL":        "",
		"MIXED, !bob ALL=ALL":               "alice, !bob ALL=ALL",
		"MIXED, SHUTS ALL=ALL":              "alice ALL=ALL",
		"alice, NOTBOB ALL=ALL":             "alice ALL=ALL",
		"NOTBOB ALL=ALL":                    "",
		"OUTER, bob ALL=ALL":                "alice ALL=ALL",
		"LOOP, alice ALL=ALL":               "alice ALL=ALL",
		"FINE, bob ALL=(ALL) NOPASSWD: ALL": "FINE ALL=(ALL) NOPASSWD: ALL",
	} {
		s := kindtest.Open(t, system.Options{Root: machine(t, nil)})
		s.Runner = people()
		aliases := sudotext.Parse([]byte("User_Alias FINE = alice : MIXED = alice, bob : SHUTS = !bob : NOTBOB = alice, !bob : OUTER = MIXED, bob : LOOP = LOOP, bob\n"))[0].Aliases
		p := &plan{judge: newJudge(t.Context(), s, []string{"root", "%admins"}, aliases)}
		if got := p.allowedOf(sudotext.Parse([]byte(line))[0]); got != want {
			t.Errorf("of %q is kept %q", line, got)
		}
	}
}

func TestWhoIsShutOutIsNotGrantedAnything(t *testing.T) {
	for line, subjects := range map[string][]string{
		"alice ALL=ALL":    {"alice"},
		"!alice ALL=ALL":   nil,
		"%admins ALL=ALL":  {"%admins"},
		"!%admins ALL=ALL": nil,
		"#1001 ALL=ALL":    nil, // by another name
		"ADMINS ALL=ALL":   nil,
	} {
		subject := sudotext.Parse([]byte(line))[0].Users[0]
		var named []string
		for _, one := range []string{"alice", "%admins", "admins", "%alice", "ADMINS", "1001"} {
			if names(subject, one) {
				named = append(named, one)
			}
		}
		if !slices.Equal(named, subjects) {
			t.Errorf("%s names %v", line, named)
		}
	}
}
