package awsfake_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

func TestFaultsComeInTheirOrderAndThenStop(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	s.Fail("GetParameter", 2, awsfake.Throttled)
	s.Fail("GetParameter", 1, awsfake.ExpiredToken)
	s.Fail("GetParameters", 1, awsfake.InternalError)
	client := ssmClient(s)
	var got []string
	for range 4 {
		_, err := get(t, client, "/a")
		got = append(got, code(t, err))
	}
	if diff := cmp.Diff([]string{"ThrottlingException", "ThrottlingException", "ExpiredTokenException", ""}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFaultForAlwaysLastsUntilHealed(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	s.FailAlways(awsfake.Any, awsfake.Error(http.StatusBadRequest, "OptInRequired", "no").Fault)
	client := ssmClient(s)
	for range 3 {
		if _, err := get(t, client, "/a"); code(t, err) != "OptInRequired" {
			t.Fatal(err)
		}
	}
	s.Heal()
	if _, err := get(t, client, "/a"); err != nil {
		t.Error(err)
	}
}

func TestErrorsOfTheServices(t *testing.T) {
	s := awsfake.New(t)
	s.Fail("GetParameter", 1, awsfake.AccessDenied("ssm:GetParameter", "arn:aws:ssm:eu-west-1:123456789012:parameter/a"))
	_, err := get(t, ssmClient(s), "/a")
	if code(t, err) != "AccessDeniedException" || !strings.Contains(err.Error(), "not authorized to perform: ssm:GetParameter on resource: arn:aws:ssm") {
		t.Error(err)
	}
	s.FailAlways(awsfake.Any, awsfake.InternalError)
	if _, err := get(t, ssmClient(s), "/a"); code(t, err) != "InternalServerError" || status(err) != 500 {
		t.Error(err)
	}
	_, err = secretsClient(s).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("x")})
	if code(t, err) != "InternalServiceError" || status(err) != 500 {
		t.Error(err)
	}
}

func status(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

func TestALoadBalancersErrorIsNotJSON(t *testing.T) {
	s := awsfake.New(t)
	s.FailAlways("GetParameter", awsfake.ServiceUnavailable)
	_, err := get(t, ssmClient(s), "/a")
	if status(err) != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "deserialization") {
		t.Error(err)
	}
}

func TestAGarbledReplyIsCarriedOutButCannotBeRead(t *testing.T) {
	s := awsfake.New(t)
	s.FailAlways("PutParameter", awsfake.GarbledJSON)
	in := &ssm.PutParameterInput{Name: aws.String("/a"), Value: aws.String("1"), Type: "String"}
	if _, err := ssmClient(s, publishing).PutParameter(t.Context(), in); err == nil {
		t.Error("was read")
	}
	if value, err := get(t, ssmClient(s), "/a"); value != "1" {
		t.Error(err)
	}
}

func TestATruncatedBodyEndsBeforeItsLength(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	s.Fail("GetParameter", 1, awsfake.TruncatedBody)
	client := ssmClient(s)
	if _, err := get(t, client, "/a"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if _, err := get(t, client, "/a"); err != nil {
		t.Error(err)
	}
}

func TestWhatIsStoredCanChangeBeforeItIsRead(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	s.Fail("GetParameter", 1, awsfake.Before(func() { s.PutParameter("/a", "2") }))
	if value, err := get(t, ssmClient(s), "/a"); value != "2" {
		t.Errorf("%q, %v", value, err)
	}
}

func TestAFaultSaysWhenToComeBack(t *testing.T) {
	s := awsfake.New(t)
	client := ssmClient(s)
	for want, fault := range map[int]awsfake.Fault{http.StatusServiceUnavailable: awsfake.ServiceUnavailable, http.StatusBadRequest: awsfake.Throttled} {
		s.Fail("GetParameter", 1, awsfake.RetryAfter(89*time.Second+time.Millisecond, fault))
		_, err := get(t, client, "/a")
		var response *smithyhttp.ResponseError
		if !errors.As(err, &response) || response.HTTPStatusCode() != want || response.Response.Header.Get("Retry-After") != "90" {
			t.Errorf("got %v", err)
		}
	}
}

func TestAResetConnectionIsOne(t *testing.T) {
	s := awsfake.New(t)
	s.FailAlways("GetParameter", awsfake.Reset)
	if _, err := get(t, ssmClient(s), "/a"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}

func TestAServerThatHangsIsSeenAndLeft(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	s.Fail("GetParameter", 1, awsfake.Hang)
	client := ssmClient(s)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/a")})
		failed <- err
	}()
	if _, err := s.WaitForRequest(t.Context(), "GetParameter"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		t.Fatalf("answered: %v", err)
	default:
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := get(t, client, "/a"); err != nil {
		t.Error(err)
	}
}

func TestLatencyAndSlowBodyTakeTheirTimeAndThenAnswer(t *testing.T) {
	const d = 60 * time.Millisecond
	for name, fault := range map[string]awsfake.Fault{"latency": awsfake.Latency(d), "slow body": awsfake.SlowBody(d)} {
		t.Run(name, func(t *testing.T) {
			s := awsfake.New(t)
			s.PutParameter("/a", strings.Repeat("1", 3000))
			s.FailAlways("GetParameter", fault)
			client, start := ssmClient(s), time.Now()
			value, err := get(t, client, "/a")
			if err != nil || len(value) != 3000 {
				t.Errorf("%d bytes, %v", len(value), err)
			}
			if took := time.Since(start); took < d {
				t.Errorf("took only %v", took)
			}
		})
	}
}

func TestASlowBodyEndsWithItsClient(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	s.FailAlways("GetParameter", awsfake.SlowBody(time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := ssmClient(s).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/a")})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestAnEndpointThatIsDownRefusesConnectionsUntilItIsUp(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	client := ssmClient(s)
	if _, err := get(t, client, "/a"); err != nil {
		t.Fatal(err)
	}
	s.Down()
	s.Down()
	if _, err := get(t, client, "/a"); err == nil {
		t.Error("an open connection survived")
	}
	if _, err := get(t, ssmClient(s), "/a"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("down: %v", err)
	}
	for range 2 {
		if err := s.Up(); err != nil {
			t.Fatal(err)
		}
	}
	if value, err := get(t, client, "/a"); value != "1" {
		t.Errorf("up again: %v", err)
	}
}

func TestTheSDKRetriesWhatTheFaultsStandFor(t *testing.T) {
	for name, fault := range map[string]awsfake.Fault{
		"throttled": awsfake.Throttled, "internal": awsfake.InternalError, "unavailable": awsfake.ServiceUnavailable, "reset": awsfake.Reset,
	} {
		t.Run(name, func(t *testing.T) {
			s := awsfake.New(t)
			s.PutParameter("/a", "1")
			s.Fail("GetParameter", 2, fault)
			client := ssmClient(s, func(o *ssm.Options) {
				o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
			})
			if _, err := get(t, client, "/a"); err != nil {
				t.Error(err)
			}
			if n := len(s.Requests()); n != 3 {
				t.Errorf("%d requests, want 3", n)
			}
		})
	}
}

func TestEveryRequestIsWaitedForOnce(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	client := ssmClient(s)
	get(t, client, "/a")
	get(t, client, "/b")
	for _, want := range []string{`{"Name":"/a"}`, `{"Name":"/b"}`} {
		request, err := s.WaitForRequest(t.Context(), "GetParameter")
		if err != nil || string(request.Body) != want || request.Action != "GetParameter" {
			t.Errorf("got %+v, %v, want %s", request, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if request, err := s.WaitForRequest(ctx, "GetParameter"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v again, %v", request, err)
	}
	if _, err := s.WaitForRequest(t.Context(), awsfake.Any); err != nil {
		t.Error(err)
	}
	s.ForgetRequests()
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests are remembered", n)
	}
	seen := make(chan error)
	go func() {
		_, err := s.WaitForRequest(t.Context(), "GetParameter")
		seen <- err
	}()
	get(t, client, "/a")
	if err := <-seen; err != nil {
		t.Error(err)
	}
}
