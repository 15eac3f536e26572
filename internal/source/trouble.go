package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// Trouble is why a machine does not get its policy, as people see it.
type Trouble struct {
	Name   string `json:"name"`             // one of the names below, which never change
	Detail string `json:"detail,omitempty"` // more about it
}

// String returns the name and the detail.
func (t Trouble) String() string {
	if t.Detail == "" {
		return t.Name
	}
	return t.Name + ": " + t.Detail
}

// Line returns the trouble for root and for everybody. Everybody may read what the way to AWS is like, but
// no text from what is published, or from the program or file that provides credentials. If the
// configuration is hidden from some users, everybody gets the name only, because the detail may quote it.
func (t Trouble) Line(hidden bool) public.Line {
	l := public.Line{Whole: t.String(), Open: t.Name + "; root's status says more"}
	switch t.Name {
	case WaitingForActivation, CredentialsExpired, ClockWrong, AccessDenied, Throttling, ServiceFails, NoNetwork, NotTrusted, NoSense, NothingPublished:
		if !hidden {
			l.Open = l.Whole
		}
	}
	return l
}

// The names of trouble.
const (
	WaitingForActivation = "waiting for activation" // no registration and no credentials yet
	NoCredentials        = "no credentials"         // the configured source has none
	CredentialsExpired   = "expired"                // and amazon-ssm-agent has not renewed them
	CredentialsRefused   = "refused"
	ClockWrong           = "clock wrong"
	AccessDenied         = "denied"
	Throttling           = "throttled"
	ServiceFails         = "service failing"
	NoNetwork            = "no network"
	NotTrusted           = "not trusted" // TLS: somebody else answers, or the clock is wrong
	NoSense              = "makes no sense"
	NothingPublished     = "nothing published"
	HalfPublished        = "half published"
	OlderPublished       = "older policy published"
	PolicyRefused        = "policy refused"
	ValueMissing         = "value missing"
	Other                = "failing"
)

// TroubleOf returns what an error means to somebody who reads the status.
func TroubleOf(err error) Trouble {
	var missing Missing
	if errors.As(err, &missing) {
		return missing.trouble()
	}
	if t, ok := credentialTrouble(err); ok {
		return t
	}
	switch {
	case errors.Is(err, manifest.ErrHalfPublished):
		return Trouble{HalfPublished, err.Error()}
	case errors.Is(err, ErrOlder):
		return Trouble{OlderPublished, err.Error()}
	case errors.Is(err, ErrNothingPublished):
		return Trouble{NothingPublished, err.Error()}
	case len(policy.AsProblems(err)) > 0:
		return Trouble{PolicyRefused, err.Error()}
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return serviceTrouble(api, err)
	}
	if errors.Is(err, ErrNoValue) {
		return Trouble{ValueMissing, err.Error()}
	}
	return transportTrouble(err)
}

// trouble returns the trouble of the first value. It adds the reference if the detail does not name it:
// messages of AWS about a KMS key, or about a secret that is scheduled for deletion, do not.
func (m Missing) trouble() Trouble {
	r, why := m.first()
	t := TroubleOf(why)
	if (t.Name == AccessDenied || t.Name == ValueMissing) && !strings.Contains(t.Detail, r.Name) {
		t.Detail = r.String() + ": " + t.Detail
	}
	return t
}

func isCredentialTrouble(err error) bool {
	_, is := credentialTrouble(err)
	return is
}

// credentialTrouble recognizes errors of getting credentials, which occur before AWS is called.
func credentialTrouble(err error) (t Trouble, is bool) {
	name := ""
	switch {
	case errors.Is(err, credentials.ErrNotActivated):
		name = WaitingForActivation
	case errors.Is(err, credentials.ErrExpired):
		name = CredentialsExpired
	case errors.Is(err, credentials.ErrNoCredentials), errors.Is(err, credentials.ErrHalfWritten), errors.Is(err, credentials.ErrUnsafe):
		name = NoCredentials
	default:
		return Trouble{}, false
	}
	detail := err.Error()
	if _, said, ok := strings.Cut(detail, "cannot get credentials: "); ok {
		detail = said // without the call that needed them
	}
	if name == CredentialsExpired {
		detail += "; or is this machine's clock wrong?"
	}
	return Trouble{name, strings.TrimPrefix(detail, name+": ")}, true
}

func serviceTrouble(api smithy.APIError, err error) Trouble {
	code, message := api.ErrorCode(), api.ErrorMessage()
	switch class := classes()[code]; {
	case class == Denied:
		return Trouble{AccessDenied, denial(message)}
	case class == Throttled:
		return Trouble{Throttling, code}
	case class == Credentials:
		if skew := wrongBy(err); skew > mostSkew {
			return Trouble{ClockWrong, fmt.Sprintf("by %s; AWS says: %s", skew, message)}
		}
		return Trouble{CredentialsRefused, message}
	case class == People:
		return Trouble{ValueMissing, code + ": " + message}
	case api.ErrorFault() == smithy.FaultServer:
		return Trouble{ServiceFails, code}
	}
	return Trouble{Other, code + ": " + message}
}

// notAuthorized matches IAM's message about a denied action (IAM User Guide, "Troubleshoot access denied
// error messages").
var notAuthorized = regexp.MustCompile(`is not authorized to perform: (\S+) on resource: (\S+)`)

// denial returns the denied action and resource if the message names them, else the message.
func denial(message string) string {
	if m := notAuthorized.FindStringSubmatch(message); m != nil {
		return m[1] + " on " + m[2]
	}
	return message
}

func transportTrouble(err error) Trouble {
	var name *net.DNSError
	var network net.Error
	var status *awshttp.ResponseError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var expired x509.CertificateInvalidError
	switch {
	case ofTheMachine(err):
		return Trouble{Other, err.Error()}
	case errors.As(err, &name):
		return Trouble{NoNetwork, name.Error()}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return Trouble{NoNetwork, at(err) + "no answer in time"}
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		return Trouble{NotTrusted, innermost(err) + "; or is this machine's clock wrong?"}
	case errors.As(err, &certificate), errors.As(err, &record):
		return Trouble{NotTrusted, innermost(err) + "; does a proxy answer instead of AWS?"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Trouble{NoSense, "the answer is cut off"}
	case errors.Is(err, errEmptyAnswer), errors.As(err, &status) && status.HTTPStatusCode() == http.StatusOK:
		return Trouble{NoSense, "does a proxy answer instead of AWS?"}
	case errors.As(err, &status) && status.HTTPStatusCode() == http.StatusTooManyRequests:
		return Trouble{Throttling, "HTTP 429"}
	case errors.As(err, &status) && status.HTTPStatusCode() > 0:
		return Trouble{ServiceFails, fmt.Sprintf("HTTP %d", status.HTTPStatusCode())}
	case errors.As(err, &network):
		return Trouble{NoNetwork, at(err) + innermost(err)}
	}
	return Trouble{Other, err.Error()}
}

// noSocket is the prefix of errors of socket(2). Without a socket the network cannot be at fault.
const noSocket = "socket: "

// ofTheMachine says whether the machine itself has failed, and not the network: a file, or a socket that
// could not be created. Every syscall.Errno has the methods of net.Error, so an Errno counts as the
// network's only if it comes from a socket or the resolver.
func ofTheMachine(err error) bool {
	var path *fs.PathError
	var socket *net.OpError
	var name *net.DNSError
	var number syscall.Errno
	switch {
	case errors.As(err, &path):
		return true
	case !errors.As(err, &number):
		return false
	case errors.As(err, &socket) && strings.HasPrefix(socket.Err.Error(), noSocket), errors.As(err, &name) && strings.HasPrefix(name.Err, noSocket):
		return true
	}
	return !errors.As(err, &socket) && !errors.As(err, &name)
}

// at returns the address at which the error occurred, with a colon, or "".
func at(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return op.Addr.String() + ": "
	}
	return ""
}

// mostSkew is what Signature Version 4 allows between two clocks, less the time that an answer may take.
const mostSkew = 4 * time.Minute

// wrongBy returns how far this machine's clock is from the service's, by the Date of its answer; 0 if
// there is none.
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

// innermost returns the text of the last error of a chain, which is where a network error says what it is.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
