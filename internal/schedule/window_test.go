package schedule

import (
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

func read(t *testing.T, text string) (Window, error) {
	t.Helper()
	var document struct {
		Window Window `toml:"window"`
	}
	_, err := toml.Decode("window = { "+text+" }", &document)
	return document.Window, err
}

func TestAWindowIsOpenAtItsHours(t *testing.T) {
	for _, c := range []struct{ window, open, shut string }{
		{
			`days = ["Sun"], from = "02:00", to = "05:00", timezone = "UTC"`,
			"2026-11-22T02:00:00Z 2026-11-22T04:59:59Z", "2026-11-22T01:59:59Z 2026-11-22T05:00:00Z 2026-11-21T03:00:00Z",
		},
		{
			`days = ["saturday", "Wed"], from = "22:00", to = "03:00", timezone = "UTC"`,
			"2026-11-21T22:00:00Z 2026-11-22T02:59:00Z 2026-11-25T23:00:00Z 2026-11-26T01:00:00Z",
			"2026-11-22T03:00:00Z 2026-11-21T02:00:00Z 2026-11-22T22:30:00Z",
		},
		{`from = "23:00", to = "00:00", timezone = "UTC"`, "2026-11-21T23:00:00Z 2026-11-24T23:59:00Z", "2026-11-22T00:00:00Z"},
		{
			`days = ["Sun"], from = "00:00", to = "04:00", timezone = "America/New_York"`,
			"2026-11-22T05:00:00Z 2026-07-05T04:00:00Z", "2026-11-22T04:30:00Z 2026-11-22T09:00:00Z",
		},
		{``, "", "2026-11-22T00:00:00Z"},
		{`from = "02:00", to = "02:00"`, "", "2026-11-22T02:00:00Z"},
	} {
		w, err := read(t, c.window)
		if err != nil {
			t.Fatal(err)
		}
		for want, moments := range map[bool]string{true: c.open, false: c.shut} {
			for _, moment := range strings.Fields(moments) {
				at, err := time.Parse(time.RFC3339, moment)
				if err != nil {
					t.Fatal(err)
				}
				if w.Open(at) != want {
					t.Errorf("%s: at %s it is open: %t", c.window, moment, !want)
				}
			}
		}
	}
}

func TestWithoutATimeZoneTheHoursAreTheMachines(t *testing.T) {
	w, err := read(t, `from = "02:00", to = "05:00"`)
	if err != nil || !w.Open(time.Date(2026, 11, 22, 3, 0, 0, 0, time.Local).UTC()) {
		t.Errorf("it is shut at three: %v", err)
	}
}

func TestAWindowIsShownAsItIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		`days = ["Sun", "wed"], from = "02:00", to = "05:30", timezone = "UTC"`: "Sun, Wed 02:00–05:30 UTC",
		`from = "22:00", to = "00:00"`:                                          "22:00–00:00",
	} {
		if w, err := read(t, text); err != nil || w.String() != want {
			t.Errorf("%s: %s (%v)", text, w, err)
		}
	}
}

func TestWhatIsNoWindowIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`days = ["Son"]`: "is not a day", `from = "2 am"`: "is not a time of day", `to = "25:00"`: "is not a time of day",
		`timezone = "Mars"`: "is not a time zone", `timezone = ""`: "is not a time zone",
	} {
		if _, err := read(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestItIsKnownWhenAWindowOpensNext(t *testing.T) {
	for _, c := range []struct{ window, at, next string }{
		{`days = ["Sun"], from = "02:00", to = "05:00", timezone = "UTC"`, "2026-11-21T12:00:00Z", "2026-11-22T02:00:00Z"},
		{`days = ["Sun"], from = "02:00", to = "05:00", timezone = "UTC"`, "2026-11-22T02:00:00Z", "2026-11-29T02:00:00Z"},
		{`days = ["Sat", "Wed"], from = "22:00", to = "03:00", timezone = "UTC"`, "2026-11-21T23:00:00Z", "2026-11-25T22:00:00Z"},
		{`from = "23:00", to = "00:00", timezone = "UTC"`, "2026-11-21T22:59:59Z", "2026-11-21T23:00:00Z"},
		{`days = ["Sun"], from = "00:00", to = "04:00", timezone = "America/New_York"`, "2026-11-21T12:00:00Z", "2026-11-22T05:00:00Z"},
		{``, "2026-11-21T12:00:00Z", "0001-01-01T00:00:00Z"},
	} {
		w, err := read(t, c.window)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		next := w.Next(at)
		if got := next.UTC().Format(time.RFC3339); got != c.next {
			t.Errorf("%s: after %s it opens at %s, not %s", c.window, c.at, got, c.next)
		}
		if w.IsSet() && (!w.Open(next) || !w.Open(next.Add(w.Length()-time.Second)) || w.Open(next.Add(w.Length()))) {
			t.Errorf("%s: it is not open from %s for %s", c.window, next, w.Length())
		}
	}
}

func TestAWindowWithoutATimeZoneIsInTheOneThatTheMachineHasNow(t *testing.T) {
	w, err := read(t, `from = "02:00", to = "05:00"`)
	if err != nil {
		t.Fatal(err)
	}
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC) // three o'clock in Tokyo
	if w.Open(at) || !w.Open(at.In(tokyo)) {
		t.Error("the window is open elsewhere")
	}
	if next := w.Next(at.In(tokyo)); !next.Equal(time.Date(2026, 11, 22, 17, 0, 0, 0, time.UTC)) {
		t.Errorf("it opens next at %s", next)
	}
	if next := w.Next(at); !next.Equal(time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)) {
		t.Errorf("it opens next at %s", next)
	}
}
