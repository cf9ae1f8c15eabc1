package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// Error is a question that the registry did not answer as was hoped for. Its
// text holds no secret that was sent and nothing of the answer but the
// registry's own message, cleaned.
type Error struct {
	// Address is the registry's.
	Address string
	// Scheme is how it was asked: https, or http where it speaks nothing else and
	// [Registry.PlainHTTP] allows that.
	Scheme string
	// Status is the HTTP status of the answer; 0: no whole answer came.
	Status int
	// Code is that of the OCI distribution specification («Error Codes»), e.g.
	// DENIED; empty if the answer has none.
	Code string
	// Msg is the registry's message, or what was wrong with the connection or
	// the answer.
	Msg string
	// Err is why no answer came, for errors.Is and errors.As, e.g. a
	// *tls.CertificateVerificationError. Its text is not cleaned: show Msg. It is
	// nil if an answer came or nothing was sent.
	Err error
}

func (e *Error) Error() string {
	s := e.Address
	if e.Status != 0 && e.Status/100 != 2 {
		s += strings.TrimRight(fmt.Sprintf(" answered %d %s", e.Status, http.StatusText(e.Status)), " ")
	}
	switch {
	case e.Msg != "":
		s += ": " + e.Msg
	case e.Code != "":
		s += ": " + e.Code
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Refused reports whether the registry would not have the credential.
func (e *Error) Refused() bool { return e.Status == http.StatusUnauthorized }

// Denied reports whether the registry knows who asks and lets them not in: a
// role is missing.
func (e *Error) Denied() bool { return e.Status == http.StatusForbidden }

// Unreachable reports whether the registry could not be asked or would not
// answer now, so that the same question may be answered later: no connection,
// TLS, no answer in time, 429 and 5xx. It is false when the caller gave up.
func (e *Error) Unreachable() bool {
	if e.Err != nil {
		return !errors.Is(e.Err, context.Canceled)
	}
	return e.Status == http.StatusTooManyRequests || e.Status >= 500
}

func (r *Registry) fail(status int, msg string) *Error {
	return &Error{Address: r.Address, Status: status, Msg: msg}
}

// broken is the failure of a connection, or the end of ctx in the midst of it.
func (r *Registry) broken(ctx context.Context, err error, secrets []secret.String) *Error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // the URL around it says nothing that the address does not
	}
	msg := oauth.Clean(err.Error(), secrets...)
	switch ctx.Err() {
	case context.DeadlineExceeded:
		err, msg = ctx.Err(), "no answer in time"
	case context.Canceled:
		err, msg = ctx.Err(), "interrupted"
	}
	return &Error{Address: r.Address, Msg: msg, Err: err}
}

// explanation is what an error answer says: that of the OCI distribution
// specification, {"errors": [{"code", "message"}]}, or the management API's,
// {"msg"}. Anything else, such as a proxy's page, is for browsers.
func explanation(body []byte) (code, msg string) {
	var oci struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &oci) == nil && len(oci.Errors) > 0 {
		return oci.Errors[0].Code, oci.Errors[0].Message
	}
	var platform struct {
		Msg string `json:"msg"`
	}
	if json.Unmarshal(body, &platform) != nil {
		return "", ""
	}
	return "", platform.Msg
}
