package awsfake

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Reply is a response that was not sent yet.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// Write sends the reply. That the client may be gone is no concern of the server's.
func (r Reply) Write(w http.ResponseWriter) {
	r.writeHeader(w)
	w.Write(r.Body)
}

func (r Reply) writeHeader(w http.ResponseWriter) {
	for name, values := range r.Header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(r.Body)))
	w.WriteHeader(r.Status)
}

func jsonReply(status int, out any) Reply {
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // all answers are plain structures and maps
	}
	header := http.Header{}
	header.Set("Content-Type", "application/x-amz-json-1.1")
	header.Set("X-Amzn-Requestid", uuid())
	return Reply{Status: status, Header: header, Body: body}
}

// An APIError is an error as the services send it: the code in __type, no X-Amzn-ErrorType header.
type APIError struct {
	Status  int
	Code    string
	Message string
}

// Error returns an error of the service, to be answered by an operation or, as a Fault, by Fail.
func Error(status int, code, message string) *APIError {
	return &APIError{Status: status, Code: code, Message: message}
}

// Error returns the error's text, for those who meet it outside HTTP.
func (e *APIError) Error() string { return e.Code + ": " + e.Message }

// Fault makes the server answer with the error.
func (e *APIError) Fault(w http.ResponseWriter, _ *http.Request, _ func() Reply) { e.reply().Write(w) }

func (e *APIError) reply() Reply {
	out := map[string]string{"__type": e.Code}
	if e.Message != "" {
		out["message"] = e.Message
	}
	return jsonReply(e.Status, out)
}

func invalid(format string, args ...any) *APIError {
	return Error(http.StatusBadRequest, "ValidationException", fmt.Sprintf(format, args...))
}

// An operation answers the body of a request with what goes into the body of the response.
type operation func(body []byte) (any, *APIError)

func decoding[In any](do func(In) (any, *APIError)) operation {
	return func(body []byte) (any, *APIError) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, Error(http.StatusBadRequest, "SerializationException", err.Error())
		}
		return do(in)
	}
}

// Violations of the constraints in a service's model are all reported at once, in one ValidationException.
type violations []string

// constraint adds a violation, unless the member at path keeps the constraint.
func (v *violations) constraint(kept bool, value any, path, constraint string) {
	if kept {
		return
	}
	at := fmt.Sprintf("Value '%v' at '%s'", value, path)
	if value == nil {
		at = fmt.Sprintf("Value null at '%s'", path)
	}
	*v = append(*v, at+" failed to satisfy constraint: Member must "+constraint)
}

// length adds a violation, unless the value has min to max characters.
func (v *violations) length(value, path string, minimum, maximum int) {
	n := len([]rune(value))
	v.constraint(n >= minimum, value, path, fmt.Sprintf("have length greater than or equal to %d", minimum))
	v.constraint(n <= maximum, value, path, fmt.Sprintf("have length less than or equal to %d", maximum))
}

// required adds a violation if a member is missing.
func (v *violations) required(present bool, path string) {
	v.constraint(present, nil, path, "not be null")
}

func (v violations) err() *APIError {
	switch len(v) {
	case 0:
		return nil
	case 1:
		return invalid("1 validation error detected: %s", v[0])
	default:
		return invalid("%d validation errors detected: %s", len(v), strings.Join(v, "; "))
	}
}

// epoch is a time as the JSON protocol writes it.
func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func uuid() string {
	b := make([]byte, 16)
	rand.Read(b)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
