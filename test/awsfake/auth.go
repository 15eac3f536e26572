package awsfake

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// DefaultCredentials returns a node's credentials that a new server accepts: those of AWS's own examples,
// with a session token.
func DefaultCredentials() aws.Credentials {
	return aws.Credentials{
		AccessKeyID:     "ASIAIOSFODNN7EXAMPLE",
		SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		SessionToken:    "IQoJb3JpZ2luX2VjEXAMPLETOKEN",
	}
}

// PublisherCredentials returns the credentials of one who publishes policies, which a new server accepts. They
// are allowed everything; all others are allowed what a node is.
func PublisherCredentials() aws.Credentials {
	return aws.Credentials{
		AccessKeyID:     "ASIAI44QH8DHBEXAMPLE",
		SecretAccessKey: "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
		SessionToken:    "IQoJb3JpZ2luX2VjPUBLISHEREXAMPLETOKEN",
	}
}

// SetCredentials sets which credentials are accepted, in place of all that were before. Those with
// CanExpire are refused as expired from Expires on.
func (s *Server) SetCredentials(credentials ...aws.Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.credentials)
	for _, c := range credentials {
		s.credentials[c.AccessKeyID] = c
	}
}

// maxClockSkew is what Signature Version 4 allows between the clocks of client and service.
const maxClockSkew = 5 * time.Minute

var authorizationSyntax = regexp.MustCompile(
	`^AWS4-HMAC-SHA256 Credential=([^/]+)/([0-9]{8})/([^/]+)/([^/]+)/aws4_request, *SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})$`)

type authorization struct {
	accessKeyID, day, region, service string
	signedHeaders                     []string
	signature                         string
}

func parseAuthorization(r *http.Request) (authorization, bool) {
	m := authorizationSyntax.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return authorization{}, false
	}
	return authorization{m[1], m[2], m[3], m[4], strings.Split(m[5], ";"), m[6]}, true
}

// authenticate judges who sent the request and whether it may be believed.
func (s *Server) authenticate(r *http.Request, body []byte) (role, *APIError) {
	if r.Header.Get("Authorization") == "" {
		return role{}, Error(http.StatusBadRequest, "MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	a, ok := parseAuthorization(r)
	date, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if !ok || err != nil {
		return role{}, Error(http.StatusBadRequest, "IncompleteSignatureException", "Authorization header and X-Amz-Date must be those of Signature Version 4.")
	}
	credentials, known := s.findCredentials(a.accessKeyID)
	if !known || r.Header.Get("X-Amz-Security-Token") != credentials.SessionToken {
		return role{}, Error(http.StatusBadRequest, "UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	now := s.now()
	if credentials.CanExpire && !now.Before(credentials.Expires) {
		return role{}, expiredToken()
	}
	if err := checkScope(a, r, date, now); err != nil {
		return role{}, err
	}
	if !s.signatureMatches(a, r, body, credentials, date) {
		return role{}, badSignature("The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	if credentials.AccessKeyID == PublisherCredentials().AccessKeyID {
		return publisherRole, nil
	}
	return nodeRole, nil
}

func (s *Server) findCredentials(accessKeyID string) (found aws.Credentials, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, known = s.credentials[accessKeyID]
	return found, known
}

func checkScope(a authorization, r *http.Request, date, now time.Time) *APIError {
	const basic = "20060102T150405Z"
	service := "ssm"
	if strings.HasPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager.") {
		service = "secretsmanager"
	}
	switch {
	case date.Before(now.Add(-maxClockSkew)):
		return badSignature(fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)",
			date.Format(basic), now.Add(-maxClockSkew).Format(basic), now.Format(basic)))
	case date.After(now.Add(maxClockSkew)):
		return badSignature(fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)",
			date.Format(basic), now.Add(maxClockSkew).Format(basic), now.Format(basic)))
	case a.day != date.Format("20060102"):
		return badSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
	case a.region != Region:
		return badSignature(fmt.Sprintf("Credential should be scoped to a valid region, not '%s'.", a.region))
	case a.service != service:
		return badSignature(fmt.Sprintf("Credential should be scoped to correct service: '%s'.", service))
	}
	for _, name := range []string{"host", "x-amz-date", "x-amz-target"} {
		if !slices.Contains(a.signedHeaders, name) {
			return badSignature(fmt.Sprintf("'%s' must be a 'SignedHeader' in the AWS Authorization.", name))
		}
	}
	return nil
}

// signatureMatches signs the request again, with what the client says that it signed, and compares.
func (s *Server) signatureMatches(a authorization, r *http.Request, body []byte, credentials aws.Credentials, date time.Time) bool {
	target := *r.URL // SignHTTP writes into it
	again := &http.Request{Method: r.Method, URL: &target, Host: r.Host, Header: http.Header{}}
	for _, name := range a.signedHeaders {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	hash := sha256.Sum256(body)
	if err := s.signer.SignHTTP(r.Context(), credentials, again, hex.EncodeToString(hash[:]), a.service, a.region, date); err != nil {
		return false
	}
	return strings.HasSuffix(again.Header.Get("Authorization"), "Signature="+a.signature)
}

func expiredToken() *APIError {
	return Error(http.StatusBadRequest, "ExpiredTokenException", "The security token included in the request is expired")
}

func badSignature(message string) *APIError {
	return Error(http.StatusBadRequest, "InvalidSignatureException", message)
}
