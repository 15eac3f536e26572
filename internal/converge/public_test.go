package converge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/public"
)

func TestWhatIsNotMarkedForEverybodyIsRoots(t *testing.T) {
	const mark = "M4RK"
	for name, make := range map[string]func(r *Resource){
		"a difference":            func(r *Resource) { r.AddDrift("content", mark, mark) },
		"a veiled difference":     func(r *Resource) { r.AddPrivateDrift("/etc/sudoers.d/"+mark, "a", "b") },
		"a literal difference":    func(r *Resource) { r.Diff = []Difference{{mark, mark, mark}} },
		"a failure":               func(r *Resource) { r.SetFailed(mark) },
		"a doubt":                 func(r *Resource) { r.SetUnknown(mark) },
		"a wait":                  func(r *Resource) { r.SetPending(Reboot, mark) },
		"a literal reason":        func(r *Resource) { r.Reason = mark },
		"an error":                func(r *Resource) { r.SetFailedErr(errors.New(mark)) },
		"the cause of an error":   func(r *Resource) { r.SetFailedErr(public.Because("cannot do it", errors.New(mark))) },
		"an error about another":  func(r *Resource) { r.SetUnknownErr(fmt.Errorf("%s: %w", mark, public.Error(errors.New("open")))) },
		"one of two errors":       func(r *Resource) { r.SetUnknownErr(errors.Join(errors.New(mark), public.Error(errors.New("open")))) },
		"an earlier open reason":  func(r *Resource) { r.SetFailed("open").ReasonIsPublic(); r.SetFailed(mark) },
		"more than an open one":   func(r *Resource) { r.Note("open"); r.Reason += mark },
		"an open one that became": func(r *Resource) { r.AddPublicDrift("value", "a", "b"); r.Diff[0].Got = mark },
		"what is overdue": func(r *Resource) {
			r.SetPending(Reboot, mark)
			r.age(time.Now(), time.UTC, time.Hour)
		},
	} {
		r := Resource{ID: "check/one", State: Compliant}
		make(&r)
		public := r.Public()
		if strings.Contains(fmt.Sprint(public.Diff, public.Reason, public.Withheld), mark) {
			t.Errorf("%s is for everybody: %+v", name, public)
		}
		if len(public.Withheld) == 0 || public.ID != r.ID || public.State != r.State || public.Overdue != r.Overdue {
			t.Errorf("%s: it is not said that something was left out, or it stands elsewhere: %+v", name, public)
		}
		if !strings.Contains(fmt.Sprint(r.Diff, r.Reason), mark) {
			t.Errorf("%s is not for root: %+v", name, r)
		}
	}
}

func TestWhatIsMarkedForEverybodyIsInBothReports(t *testing.T) {
	r := Resource{ID: "package/one", State: Compliant}
	r.AddPublicDrift("version", "1", "2")
	r.AddDrift("content", "a", "b")
	r.SetFailedErr(errors.Join(public.Because("cannot bring it into line", public.Error(errors.New("it is locked"))), public.Because("and", errors.New("m"))))
	p := r.Public()
	if diff := cmp.Diff([]Difference{{"version", "1", "2"}}, p.Diff); diff != "" {
		t.Error(diff)
	}
	if want := "cannot bring it into line: it is locked\nand: " + public.Withheld; p.Reason != want {
		t.Errorf("the reason is %q, not %q", p.Reason, want)
	}
	if !slices.Equal(p.Withheld, []string{"content", "reason"}) {
		t.Errorf("withheld is %q", p.Withheld)
	}
	whole := Unwanted("package/two", "nobody wants it")
	if p := whole.Public(); len(p.Withheld) > 0 || p.Reason != whole.Reason || len(p.Diff) != 1 {
		t.Errorf("of what is for everybody something is left out: %+v", p)
	}
}
