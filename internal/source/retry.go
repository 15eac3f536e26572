package source

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/cenkalti/backoff/v4"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// A Class says what to do about an error.
type Class int

// The classes, from the one to retry soonest to the one to retry last.
const (
	Passing     Class = iota // try again: the service fails, or there is no network
	Throttled                // try again: the account's calls are used up
	Credentials              // read the credentials again, and try again
	Half                     // a publication is under way; look again soon
	Denied                   // try again slowly: it succeeds once somebody grants the permission
	People                   // somebody has to act: a name that does not exist, a policy that is wrong
	Hopeless                 // the same request will never succeed
)

// classes is the table of error codes (Systems Manager and Secrets Manager API References, "Common
// Errors"; retry.DefaultThrottleErrorCodes of the SDK). A code that is not in it is Passing.
func classes() map[string]Class {
	return map[string]Class{
		"Throttling": Throttled, "ThrottlingException": Throttled, "ThrottledException": Throttled,
		"RequestThrottledException": Throttled, "RequestThrottled": Throttled, "TooManyRequestsException": Throttled,
		"RequestLimitExceeded": Throttled, "BandwidthLimitExceeded": Throttled, "LimitExceededException": Throttled,
		"ProvisionedThroughputExceededException": Throttled, "SlowDown": Throttled, "PriorRequestNotComplete": Throttled,
		"TransactionInProgressException": Throttled, "EC2ThrottledException": Throttled,

		"InternalServerError": Passing, "InternalServiceError": Passing, "InternalFailure": Passing,
		"ServiceUnavailable": Passing, "RequestTimeout": Passing, "RequestTimeoutException": Passing,

		"ExpiredToken": Credentials, "ExpiredTokenException": Credentials, "UnrecognizedClientException": Credentials,
		"InvalidClientTokenId": Credentials, "InvalidSignatureException": Credentials, "SignatureDoesNotMatch": Credentials,
		"RequestExpired": Credentials,

		"AccessDeniedException": Denied, "AccessDenied": Denied, "NotAuthorized": Denied, "OptInRequired": Denied,

		"ParameterNotFound": People, "ParameterVersionNotFound": People, "ResourceNotFoundException": People,
		"InvalidKeyId": People, "DecryptionFailure": People, "InvalidRequestException": People, "InvalidParameterException": People,
		"ParameterAlreadyExists": People, "ParameterLimitExceeded": People, "ParameterMaxVersionLimitExceeded": People,
		"HierarchyLevelLimitExceededException": People, "HierarchyTypeMismatchException": People,

		"ValidationException": Hopeless, "ValidationError": Hopeless, "InvalidFilterKey": Hopeless, "InvalidFilterOption": Hopeless,
		"InvalidFilterValue": Hopeless, "InvalidNextToken": Hopeless, "InvalidNextTokenException": Hopeless,
		"RequestEntityTooLargeException": Hopeless, "ItemSizeLimitExceededException": Hopeless, "TotalSizeLimitExceededException": Hopeless,
		"InvalidItemContentException": Hopeless, "ItemContentMismatchException": Hopeless, "InvalidTypeNameException": Hopeless,
		"InvalidResourceId": Hopeless, "InvalidResourceType": Hopeless, "InvalidInstanceId": Hopeless,
		"ComplianceTypeCountLimitExceededException": Hopeless, "CustomSchemaCountLimitExceededException": Hopeless,
		"SubTypeCountLimitExceededException": Hopeless, "UnsupportedInventorySchemaVersionException": Hopeless,
	}
}

// Classify returns the class of an error. For Missing values it is the class of the one that is to be
// retried soonest.
func Classify(err error) Class {
	var missing Missing
	if !errors.As(err, &missing) {
		return classifyOne(err)
	}
	soonest := Hopeless
	for _, why := range missing {
		soonest = min(soonest, classifyOne(why))
	}
	return soonest
}

func classifyOne(err error) Class {
	var api smithy.APIError
	var status *awshttp.ResponseError
	switch {
	case errors.Is(err, credentials.ErrUnsafe):
		return People
	case errors.Is(err, errKeepsFailing):
		return Denied
	case isCredentialTrouble(err):
		return Credentials
	case errors.Is(err, manifest.ErrHalfPublished):
		return Half
	case errors.Is(err, ErrNoValue), errors.Is(err, ErrNothingPublished), errors.Is(err, ErrOlder), len(policy.AsProblems(err)) > 0:
		return People
	case errors.As(err, &api):
		return classes()[api.ErrorCode()]
	case errors.As(err, &status) && status.HTTPStatusCode() == http.StatusTooManyRequests:
		return Throttled
	}
	return Passing
}

// A Pace bounds the waits between attempts. Each wait is a random part of a bound, which doubles from First
// to Longest.
type Pace struct{ First, Longest time.Duration }

// Pace returns the pace at which to try again after an error of a class.
//
// That for Throttled is a balance, which test/herd holds: when ten thousand machines share forty calls a
// second, longer waits leave calls unused towards the end, when few machines are left, and shorter waits
// cause more refused calls.
func (c Class) Pace() Pace {
	switch c {
	case Throttled:
		return Pace{4 * time.Second, 2 * time.Minute}
	case Credentials:
		return Pace{time.Second, time.Minute} // amazon-ssm-agent may write them at any moment
	case Denied:
		return Pace{30 * time.Second, 15 * time.Minute}
	case People, Hopeless:
		return Pace{time.Minute, 15 * time.Minute}
	default:
		return Pace{time.Second, 5 * time.Minute}
	}
}

// passes says whether an error goes away by itself, so that the call is repeated until it succeeds.
func (c Class) passes() bool { return c == Passing || c == Throttled || c == Credentials }

// FullJitter returns a random part of a bound, so that machines that failed together do not come back
// together.
func FullJitter(bound time.Duration) time.Duration {
	return rand.N(max(bound, 1)) //nolint:gosec // no secret depends on it
}

// A Retry repeats calls. The zero Retry is ready to use.
type Retry struct {
	// Waiting, if set, is called before each wait.
	Waiting func(err error, next time.Time)
	// Jitter returns how much of a bound to wait; nil means FullJitter.
	Jitter func(bound time.Duration) time.Duration
}

// Backoff returns a function that says how long to wait after an error. Its waits grow with each error of
// the same class. A Retry-After of the service is obeyed.
func (r Retry) Backoff() func(err error) time.Duration {
	jitter := r.Jitter
	if jitter == nil {
		jitter = FullJitter
	}
	bounds := map[Class]*backoff.ExponentialBackOff{}
	var throttled time.Time
	return func(err error) time.Duration {
		class := Classify(err)
		if bounds[class] == nil {
			bounds[class] = doubling(class.Pace())
		}
		bound := bounds[class].NextBackOff()
		if class == Throttled {
			if throttled.IsZero() {
				throttled = time.Now()
			}
			bound = max(bound, min(time.Since(throttled)/herdShare, longestThrottled))
		}
		if told := retryAfter(err); told > 0 {
			return told + jitter(bound) // so that those that were told the same time do not come together
		}
		return jitter(bound)
	}
}

// The longer calls have been throttled, the larger is the herd, and the longer it takes. Waits of up to a
// sixth of that time cost it little, and keep the number of refused calls per machine constant, however
// large the herd is.
const (
	herdShare        = 6
	longestThrottled = 30 * time.Minute
)

func doubling(p Pace) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(p.First),
		backoff.WithMaxInterval(p.Longest),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0), // the whole bound is random, not a part around it
		backoff.WithMaxElapsedTime(0),
	)
}

// longestTold bounds what a service, or whoever answers in its place, may ask for.
const longestTold = 15 * time.Minute

// retryAfter returns how long an answer asks to wait (RFC 9110, section 10.2.3); 0 if it does not.
func retryAfter(err error) time.Duration {
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.Response.Response == nil {
		return 0
	}
	value := answer.Response.Header.Get("Retry-After")
	told := time.Duration(0)
	if seconds, err := strconv.Atoi(value); err == nil {
		told = time.Duration(min(seconds, int(longestTold/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		told = time.Until(at)
	}
	return min(max(told, 0), longestTold)
}

// Do calls op until it succeeds, or fails for a reason that does not go away by itself, or ctx is done. It
// returns the error of the last attempt. It calls forget before an attempt that needs other credentials.
func (r Retry) Do(ctx context.Context, forget func(), op func(context.Context) error) error {
	pause := r.Backoff()
	for {
		err := op(ctx)
		class := Classify(err)
		if err == nil || !class.passes() || ctx.Err() != nil {
			return err
		}
		if class == Credentials {
			forget()
		}
		wait := pause(err)
		if r.Waiting != nil {
			r.Waiting(err, time.Now().Add(wait))
		}
		if !Sleep(ctx, wait) {
			return err
		}
	}
}

// Sleep waits for d. It returns false if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
