package awsfake_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

func TestAQuotaAllowsItsBurstAndThenItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := awsfake.InMemory()
		s.PutParameter("/a", "1")
		s.SetQuota(40, 5)
		client := ssmClient(s, inMemory(s))
		answered := func(calls int) (n int) {
			for range calls {
				_, err := get(t, client, "/a")
				switch got := code(t, err); got {
				case "":
					n++
				case "ThrottlingException":
				default:
					t.Fatal(err)
				}
			}
			return n
		}
		for _, step := range []struct {
			pause       time.Duration
			calls, want int
		}{
			{0, 9, 5},
			{24 * time.Millisecond, 9, 0},
			{time.Millisecond, 9, 1}, // what was refused took nothing of it
			{50 * time.Millisecond, 9, 2},
			{time.Hour, 9, 5},
		} {
			time.Sleep(step.pause)
			if n := answered(step.calls); n != step.want {
				t.Errorf("%v later, %d of %d calls were answered, want %d", step.pause, n, step.calls, step.want)
			}
		}
		s.SetQuota(0, 0)
		if n := answered(100); n != 100 {
			t.Errorf("%d of 100 calls were answered without a quota", n)
		}
	})
}

func TestInTheLongRunAQuotaIsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := awsfake.InMemory()
		s.PutParameter("/a", "1")
		s.SetQuota(40, 40)
		s.Record(false)
		client := ssmClient(s, inMemory(s))
		for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
			get(t, client, "/a")
		}
		if calls := s.Calls("GetParameter"); calls.Answered != 40+399 || calls.Answered+calls.Throttled != 2000 {
			t.Errorf("in ten seconds: %+v", calls)
		}
		if n := len(s.Requests()); n != 0 {
			t.Errorf("%d requests were kept", n)
		}
	})
}

func TestReadingParametersSharesOneQuotaAndNothingElseDoes(t *testing.T) {
	s := awsfake.InMemory()
	s.PutParameter("/a", "1")
	s.SetTags(node, nil)
	s.SetQuota(1e-9, 3)
	client, ctx := ssmClient(s, inMemory(s), publishing), t.Context()
	reads := map[string]func() error{
		"GetParameter": func() error {
			_, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/a")})
			return err
		},
		"GetParameters": func() error {
			_, err := client.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"/a"}})
			return err
		},
		"GetParametersByPath": func() error {
			_, err := client.GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: aws.String("/")})
			return err
		},
	}
	for _, want := range []string{"", "ThrottlingException"} {
		for action, read := range reads {
			if got := code(t, read()); got != want {
				t.Errorf("%s: got %q, want %q", action, got, want)
			}
		}
	}
	for action := range reads {
		if calls := s.Calls(action); calls != (awsfake.Calls{Answered: 1, Throttled: 1}) {
			t.Errorf("%s: %+v", action, calls)
		}
	}
	in := &ssm.PutParameterInput{Name: aws.String("/a"), Value: aws.String("2"), Overwrite: aws.Bool(true)}
	if _, err := client.PutParameter(ctx, in); err != nil {
		t.Error(err)
	}
	if _, err := client.ListTagsForResource(ctx, tagsOf(node)); err != nil {
		t.Error(err)
	}
	if calls := s.Calls(awsfake.Any); calls != (awsfake.Calls{Answered: 5, Throttled: 3}) {
		t.Errorf("in all: %+v", calls)
	}
	s.ForgetRequests()
	if calls := s.Calls(awsfake.Any); calls != (awsfake.Calls{}) {
		t.Errorf("forgotten: %+v", calls)
	}
}

func TestWhoIsNotBelievedTakesNothingOfTheQuota(t *testing.T) {
	s := awsfake.InMemory()
	s.PutParameter("/a", "1")
	s.SetQuota(1e-9, 1)
	stranger := awsfake.DefaultCredentials()
	stranger.AccessKeyID = "ASIAUNKNOWN"
	_, err := get(t, ssmClient(s, inMemory(s), func(o *ssm.Options) { o.Credentials = provide(stranger) }), "/a")
	if code(t, err) != "UnrecognizedClientException" {
		t.Error(err)
	}
	if _, err := get(t, ssmClient(s, inMemory(s)), "/a"); err != nil {
		t.Error(err)
	}
}

func TestAQuotaIsFullWhenVirtualTimeBegins(t *testing.T) {
	s := awsfake.InMemory()
	s.PutParameter("/a", "1")
	s.SetQuota(40, 1)
	if _, err := get(t, ssmClient(s, inMemory(s)), "/a"); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // years ago
		for _, want := range []string{"", "ThrottlingException"} {
			if _, err := get(t, ssmClient(s, inMemory(s)), "/a"); code(t, err) != want {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	})
}

// What it costs to serve a fleet in memory, the client's part included.
func BenchmarkAThrottledFleet(b *testing.B) {
	s := awsfake.InMemory()
	s.PutParameter("/a", "1")
	s.SetQuota(40, 40)
	s.Record(false)
	client, name := ssmClient(s, inMemory(s)), "/a"
	for b.Loop() {
		client.GetParameter(b.Context(), &ssm.GetParameterInput{Name: &name})
	}
}
