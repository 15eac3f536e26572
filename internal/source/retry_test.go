package source_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/source"
)

func apiError(code string) error { return &smithy.GenericAPIError{Code: code} }

func TestHowLongIsWaitedDependsOnWhatIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		err            error
		first, longest time.Duration
	}{
		"credentials":  {credentials.ErrNotActivated, time.Second, time.Minute},
		"the network":  {errors.New("unreachable"), time.Second, 5 * time.Minute},
		"less traffic": {apiError("ThrottlingException"), 4 * time.Second, 2 * time.Minute},
		"permission":   {apiError("AccessDeniedException"), 30 * time.Second, 15 * time.Minute},
		"the author":   {manifest.ErrHalfPublished, time.Second, 5 * time.Minute},
		"people":       {policy.Problems{{Message: "wrong"}}, time.Minute, 15 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			backoff := source.Retry{}.Backoff()
			if first := backoff(c.err); first > c.first {
				t.Errorf("the first wait was %s, and its bound is %s", first, c.first)
			}
			var longest, total time.Duration
			const n = 1000
			for range n {
				d := backoff(c.err)
				longest, total = max(longest, d), total+d
			}
			// Of 990 waits that are uniform up to the bound, at least one is in its upper twentieth.
			if longest > c.longest || longest < c.longest*19/20 {
				t.Errorf("the longest wait was %s, and the bound is %s", longest, c.longest)
			}
			if average := total / n; average < c.longest*4/10 || average > c.longest*6/10 {
				t.Errorf("a wait was %s on average, and half the bound is %s", average, c.longest/2)
			}
		})
	}
}

func TestTheLongerCallsAreThrottledTheLongerTheWaitsUpToHalfAnHour(t *testing.T) {
	for after, bound := range map[time.Duration]time.Duration{
		10 * time.Minute: 2 * time.Minute, time.Hour: 10 * time.Minute, 24 * time.Hour: 30 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			backoff := source.Retry{}.Backoff()
			throttled := apiError("ThrottlingException")
			for range 10 {
				backoff(throttled)
			}
			time.Sleep(after)
			var longest time.Duration
			for range 1000 {
				longest = max(longest, backoff(throttled))
			}
			if longest > bound || longest < bound*19/20 {
				t.Errorf("after %s the longest wait was %s, and the bound is %s", after, longest, bound)
			}
		})
	}
}

func TestEveryCodeThatTheServicesKnowHasItsClass(t *testing.T) {
	for class, codes := range map[source.Class][]string{
		source.Throttled: {
			"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException", "TooManyRequestsException",
			"RequestLimitExceeded", "BandwidthLimitExceeded", "ProvisionedThroughputExceededException", "LimitExceededException",
			"RequestThrottled", "SlowDown", "PriorRequestNotComplete", "TransactionInProgressException", "EC2ThrottledException",
		},
		source.Passing: {
			"InternalServerError", "InternalServiceError", "InternalFailure", "ServiceUnavailable", "RequestTimeout",
			"RequestTimeoutException", "SomethingNew",
		},
		source.Credentials: {
			"ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
			"SignatureDoesNotMatch", "RequestExpired",
		},
		source.Denied: {"AccessDeniedException", "AccessDenied", "NotAuthorized", "OptInRequired"},
		source.People: {
			"ParameterNotFound", "ParameterVersionNotFound", "ResourceNotFoundException", "InvalidKeyId", "DecryptionFailure",
			"InvalidRequestException",
		},
		source.Hopeless: {
			"ValidationException", "ValidationError", "InvalidFilterKey", "InvalidNextToken", "RequestEntityTooLargeException",
			"ItemSizeLimitExceededException", "TotalSizeLimitExceededException",
		},
	} {
		for _, code := range codes {
			if got := source.Classify(fmt.Errorf("cannot do it: %w", apiError(code))); got != class {
				t.Errorf("%s is of class %d, want %d", code, got, class)
			}
		}
	}
}

func TestOfSeveralMissingValuesTheOneToTryAgainTheSoonestDecides(t *testing.T) {
	missing := source.Missing{
		{Service: "ssm", Name: "/a"}: apiError("AccessDeniedException"),
		{Service: "ssm", Name: "/b"}: apiError("ThrottlingException"),
		{Service: "ssm", Name: "/c"}: source.ErrNoValue,
	}
	if got := source.Classify(missing); got != source.Throttled {
		t.Errorf("class %d", got)
	}
}

func TestACallIsMadeAgainUntilItSucceedsAndEachWaitIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var announced time.Time
		attempts, forgot := 0, 0
		retry := source.Retry{Waiting: func(_ error, next time.Time) { announced = next }}
		err := retry.Do(t.Context(), func() { forgot++ }, func(context.Context) error {
			if attempts++; attempts > 1 && !time.Now().Equal(announced) {
				t.Errorf("attempt %d was at %s, and announced for %s", attempts, time.Now(), announced)
			}
			switch {
			case attempts == 300:
				return nil
			case attempts%3 == 0:
				return credentials.ErrExpired
			}
			return errors.New("unreachable")
		})
		if err != nil || attempts != 300 || forgot != 99 {
			t.Errorf("%v after %d attempts, %d times with other credentials", err, attempts, forgot)
		}
	})
}

func TestWhatDoesNotPassByItselfIsReturnedAtOnce(t *testing.T) {
	for _, err := range []error{apiError("AccessDeniedException"), apiError("ValidationException"), apiError("InvalidKeyId"), manifest.ErrHalfPublished} {
		attempts := 0
		got := source.Retry{}.Do(t.Context(), nil, func(context.Context) error { attempts++; return err })
		if !errors.Is(got, err) || attempts != 1 {
			t.Errorf("%v after %d attempts", got, attempts)
		}
	}
}

func TestAWaitEndsWithItsContextAndTheErrorIsTheLastAttempts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	unreachable := errors.New("unreachable")
	err := source.Retry{Waiting: func(error, time.Time) { cancel() }}.Do(ctx, nil, func(context.Context) error { return unreachable })
	if !errors.Is(err, unreachable) {
		t.Error(err)
	}
}

// told returns the error of an answer with a Retry-After.
func told(status int, retryAfter string) error {
	header := http.Header{"Retry-After": {retryAfter}}
	return fmt.Errorf("cannot do it: %w", &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status, Header: header}}, Err: apiError("ServiceUnavailable"),
	}})
}

func TestWhatTheServiceSaysAboutWhenToComeAgainIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for retryAfter, least := range map[string]time.Duration{
			"120": 2 * time.Minute,
			time.Now().Add(3 * time.Minute).UTC().Format(http.TimeFormat): 3 * time.Minute,
			"86400":                         15 * time.Minute,
			"-5":                            0,
			"soon":                          0,
			"Sat, 21 Oct 1995 07:28:00 GMT": 0,
		} {
			got := source.Retry{}.Backoff()(told(503, retryAfter))
			if got < least || got > least+time.Second {
				t.Errorf("%s: %s", retryAfter, got)
			}
		}
	})
}

func TestATooManyRequestsOfAProxyIsThrottling(t *testing.T) {
	err := &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: http.StatusTooManyRequests}}, Err: errors.New("no JSON"),
	}}
	if class, trouble := source.Classify(err), source.TroubleOf(err); class != source.Throttled || trouble.Name != source.Throttling {
		t.Errorf("class %d, %s", class, trouble)
	}
}
