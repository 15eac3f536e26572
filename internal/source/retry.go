package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/cenkalti/backoff/v4"

	"github.com/soe-agent/soe-agent/internal/system"
)

// errNonsense is wrapped by the error of an answer that is whole and says nothing.
var errNonsense = errors.New("the answer is empty")

// A Class says what to do about an error.
type Class int

// The classes.
const (
	Soon        Class = iota // it passes: throttling, a failing service, no network
	Credentials              // read the credentials again, and try
	Later                    // somebody has to act; it heals without us: permissions, a missing parameter
)

// classes is the table of error codes (Systems Manager and Secrets Manager API
// References, "Common Errors"). What is not in it is Soon.
func classes() map[string]Class {
	return map[string]Class{
		"ExpiredToken": Credentials, "ExpiredTokenException": Credentials, "UnrecognizedClientException": Credentials,
		"InvalidClientTokenId": Credentials, "InvalidSignatureException": Credentials, "SignatureDoesNotMatch": Credentials,
		"RequestExpired": Credentials,

		"AccessDeniedException": Later, "AccessDenied": Later, "NotAuthorized": Later, "OptInRequired": Later,
		"ParameterNotFound": Later, "ParameterVersionNotFound": Later, "ResourceNotFoundException": Later,
		"InvalidKeyId": Later, "DecryptionFailure": Later, "ValidationException": Later, "ValidationError": Later,
		"InvalidRequestException": Later, "InvalidParameterException": Later,
	}
}

// Classify returns the class of an error.
func Classify(err error) Class {
	var api smithy.APIError
	switch {
	case errors.Is(err, ErrNoCredentials), errors.Is(err, ErrExpired):
		return Credentials
	case errors.Is(err, ErrHalfPublished):
		return Soon
	case errors.As(err, &api):
		return classes()[api.ErrorCode()]
	}
	return Soon
}

// Reason says in a few words what an error means for whoever looks at the status.
func Reason(err error) string {
	var api smithy.APIError
	var network net.Error
	var status *awshttp.ResponseError
	switch {
	case errors.Is(err, ErrNoCredentials):
		return "no credentials yet: the hybrid activation has not happened"
	case errors.Is(err, ErrExpired):
		return "credentials expired: amazon-ssm-agent has not refreshed them"
	case errors.Is(err, ErrHalfPublished):
		return err.Error()
	case errors.As(err, &api):
		return apiReason(api, wrongBy(err))
	case errors.Is(err, errNonsense), errors.As(err, &status) && status.HTTPStatusCode() == http.StatusOK:
		return "the answer makes no sense: does a proxy answer instead of AWS?"
	case errors.As(err, &status) && status.HTTPStatusCode() > 0:
		return fmt.Sprintf("the service fails (HTTP %d)", status.HTTPStatusCode())
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
		return "no network: " + innermost(err)
	}
	return err.Error()
}

// mostSkew is what Signature Version 4 allows between two clocks, less what an
// answer may take.
const mostSkew = 4 * time.Minute

// wrongBy is how far this machine's clock is from that of the service, as its
// answer has just told; 0 when it did not tell.
func wrongBy(err error) time.Duration {
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.Response.Response == nil {
		return 0
	}
	theirs, err := http.ParseTime(answer.Response.Header.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Since(theirs).Abs().Round(time.Second)
}

func apiReason(err smithy.APIError, skew time.Duration) string {
	code, message := err.ErrorCode(), err.ErrorMessage()
	switch {
	case strings.HasPrefix(code, "AccessDenied"), code == "NotAuthorized":
		return "denied: " + message
	case strings.Contains(code, "Throttl"), code == "TooManyRequestsException", code == "RequestLimitExceeded":
		return "throttled"
	case classes()[code] == Credentials && skew > mostSkew:
		return fmt.Sprintf("the clock is wrong by %s: %s", skew, message)
	case classes()[code] == Credentials:
		return "credentials refused: " + message
	case err.ErrorFault() == smithy.FaultServer:
		return "the service fails: " + code
	}
	return code + ": " + message
}

// innermost is the end of a chain of errors, where a network error says what it is.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// The longest waits between attempts.
const (
	longestCredentials = time.Minute // amazon-ssm-agent may write them at any moment
	longestSoon        = 5 * time.Minute
	longestLater       = 15 * time.Minute
)

// Retry calls op until it succeeds or ctx is done, whose error it then returns. Between
// attempts it waits as long as the error's class asks for: exponentially longer,
// and each time a random part of that ("full jitter"), so that machines that
// failed together do not come back together. waiting is told of each wait. A
// signal on hurry ends a wait.
func Retry(ctx context.Context, clock system.Clock, hurry <-chan struct{}, waiting func(err error, next time.Time), op func(context.Context) error) error {
	pauses := map[Class]*backoff.ExponentialBackOff{
		Credentials: fullJitter(time.Second, longestCredentials),
		Soon:        fullJitter(time.Second, longestSoon),
		Later:       fullJitter(30*time.Second, longestLater),
	}
	for {
		err := op(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		pause := pauses[Classify(err)].NextBackOff()
		waiting(err, clock.Now().Add(pause))
		pausing, cancel := context.WithCancel(ctx)
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			select {
			case <-hurry:
			case <-stop:
			}
			cancel()
		}()
		_ = clock.Sleep(pausing, pause) // it ends early only for those who want it to
		close(stop)
		<-ended // or a signal meant for the next attempt could be lost
	}
}

// fullJitter returns waits that are uniform between 0 and a bound, which doubles
// from first to longest. The library spreads its interval by a factor to both
// sides; with the factor 1, half the bound is spread from 0 to the bound.
func fullJitter(first, longest time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(first/2),
		backoff.WithMaxInterval(longest/2),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1),
		backoff.WithMaxElapsedTime(0),
	)
}

// client is how requests are sent: with a deadline each, and connections that do
// not outlive a suspend.
func client() *http.Client {
	return &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: 15 * time.Second,
			IdleConnTimeout:       30 * time.Second,
			MaxIdleConnsPerHost:   2,
			ForceAttemptHTTP2:     true,
		},
	}
}
