package registry

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// challenge is the only one: a second, or one for Bearer, breaks docker login.
const challenge = `Basic realm="dtz.rocks"`

// retryAfter is how soon a client may ask again what could not be checked.
const retryAfter = 5 * time.Second

// loginHint ends the message of a 401 that a new token mends: its reader is a
// person whose client has shown it.
const loginHint = `; run "docker-credential-dtz login"`

// An Error refuses a request, in the terms of the OCI distribution
// specification ("Error Codes"). It is an [http.Handler] that answers with
// itself. Code and Message are for the client; Err is why, for the log, where
// the client is not to know. None ever quotes a credential.
type Error struct {
	Status     int
	Code       string // UNAUTHORIZED, DENIED, …
	Message    string
	RetryAfter time.Duration // sent in whole seconds, rounded up; 0: no such header
	Err        error         // may be nil
}

// Error is why the request is refused.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// SetHeader sets in h what the status asks for, whatever the body is:
// WWW-Authenticate and Retry-After.
func (e *Error) SetHeader(h http.Header) {
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
}

// ServeHTTP writes the error as a response.
func (e *Error) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	h.Set("Content-Type", "application/json")
	e.SetHeader(h)
	w.WriteHeader(e.Status)
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body := map[string][]entry{"errors": {{e.Code, e.Message}}}
	_ = json.NewEncoder(w).Encode(body) // the client has gone; nobody is left to tell
}

// unauthorized refuses a credential, or its absence.
func unauthorized(message string, why error) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: message, Err: why}
}

// denied refuses somebody whose credential is good.
func denied(message string) *Error {
	return &Error{Status: http.StatusForbidden, Code: "DENIED", Message: message}
}

// malformed refuses a request that can be read in more than one way.
func malformed(message string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Message: message}
}

// refusal is the answer for any error of the [Authenticator] or the [Policy].
func refusal(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return unavailable(err)
}

// StatusClientGone is nginx's status for a request whose client has closed the
// connection before the answer.
const StatusClientGone = 499

// gone is for a credential that has not been checked since nobody waits for it
// any more, which is no fault of the identity service's.
func gone(why error) *Error {
	return &Error{Status: StatusClientGone, Code: "UNAVAILABLE", Message: "the client has gone", Err: why}
}

// unavailable is for a credential that could not be checked, while the identity
// service or the keys are out of reach: to call it refused would make people
// throw away good ones.
func unavailable(why error) *Error {
	return &Error{
		Status:     http.StatusServiceUnavailable,
		Code:       "UNAVAILABLE",
		Message:    "the credential cannot be checked at the moment; try again",
		RetryAfter: retryAfter,
		Err:        why,
	}
}
