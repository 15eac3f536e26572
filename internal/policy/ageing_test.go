package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestHowLongAPasswordLastsIsRefusedWhereItWouldLockPeopleOut(t *testing.T) {
	for toml, want := range map[string]string{
		"ageing.people = { max_days = 365, min_days = 1, warn_days = 7, inactive_days = 30 }": "",
		"ageing.people = { max_days = 99999, min_days = 0 }":                                  "",
		"ageing.root = { max_days = 365, warn_days = 7 }":                                     "",
		"users.bob = { max_days = 90, expires = \"2027-01-31\" }":                             "",
		"users.bob = { expires = \"never\" }":                                                 "",
		"ageing.people = { max_days = 0 }":                                                    "max_days is not a number from 1 to 99999",
		"ageing.people = { max_days = 100000 }":                                               "max_days is not a number from 1 to 99999",
		"ageing.people = { max_days = -1 }":                                                   "max_days is not a number from 1 to 99999",
		"ageing.people = { min_days = 7, max_days = 7 }":                                      "min_days 7 is not less than max_days 7",
		"users.bob = { min_days = 90, max_days = 7 }":                                         "min_days 90 is not less than max_days 7",
		"ageing.people = { min_days = 9999 }":                                                 "min_days is not a number from 0 to 365",
		"ageing.people = { inactive_days = 0 }":                                               "inactive_days is not a number from 1",
		"users.bob = { inactive_days = -1 }":                                                  "inactive_days is not a number from 1",
		"ageing.people = { warn_days = -1 }":                                                  "warn_days is not a number from 0",
		"ageing.root = { inactive_days = 30 }":                                                "root's account is never locked",
		"ageing.people = {}":                                                                  "does not say how long passwords last",
		"ageing.bob = { max_days = 90 }":                                                      "of one account say it in [users]",
		"ageing.people = { expires = \"2027-01-31\" }":                                        "unknown key",
		"users.bob = { expires = \"\" }":                                                      "",
		"users.bob = { expires = \"31.1.2027\" }":                                             "neither a date",
		"users.bob = { expires = \"2027-02-30\" }":                                            "neither a date",
		"users.bob = { expires = \"1970-01-01\" }":                                            "neither a date",
		"users.bob = { expires = 2027-01-31 }":                                                "it wants a string",
		"users.people = {}":                                                                   "people is the name of no account",
		"users.root = { max_days = 90 }":                                                      "protected",
	} {
		_, err := policy.Parse(policy.Source{Name: "f.toml", Text: "schema = 1\n" + toml + "\n"})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", toml, err, want)
		}
	}
}

func TestAnAuthorIsWarnedOfAnAccountWhoseLastDayIsOver(t *testing.T) {
	f, err := policy.Parse(policy.Source{Name: "f.toml", Text: "schema = 1\nusers.bob = { expires = \"2026-01-31\" }\nusers.ann = { expires = \"never\" }\n"})
	if err != nil {
		t.Fatal(err)
	}
	for day, warned := range map[string]int{"2026-01-30": 0, "2026-01-31": 1, "2027-05-01": 1} {
		now, _ := time.Parse(time.DateOnly, day)
		if got := policy.Advise([]policy.Fragment{f}, now); len(got) != warned {
			t.Errorf("%s: %v", day, got)
		}
	}
}
