package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// A login again stays where the person was, if he may: the next push must not
// go elsewhere unnoticed.
func TestLoginAgainStaysInItsContext(t *testing.T) {
	const own, chosen = "context-abc12345", "context-def12345"
	in := func(contextID string) oauth.Token {
		return oauth.Token{Claims: oauth.Claims{Subject: "identity-alice123", Context: contextID}}
	}
	before := func(subject, contextID string) *store.Login {
		return &store.Login{Subject: subject, Context: contextID}
	}
	const (
		lost   = "docker-credential-dtz: warning: the context is " + own + ", not " + chosen + " as before: "
		failed = "working in context " + chosen + " as before: refreshing the token at identity.example: "
		remedy = "\ntry again, or add --context " + own + " to work there"
	)
	for _, tt := range []struct {
		name     string
		before   *store.Login
		flag     string // --context
		exchange error  // what comes of asking for the context before
		want     string // context, with a + where it stayed; "" if the login fails
		says     string // the warning, or the error and its remedy
	}{
		{name: "the first login", want: own},
		{name: "in its own context before", before: before("identity-alice123", own), want: own},
		{name: "in another context before", before: before("identity-alice123", chosen), want: chosen + "+"},
		{name: "in another one, by the bare id", before: before("alice123", chosen), want: chosen + "+"},
		{name: "somebody else before", before: before("identity-bob12345", chosen), want: own},
		{name: "a context that was asked for", before: before("identity-alice123", chosen), flag: own, want: own},
		{
			name: "the context before is refused", before: before("identity-alice123", chosen), want: own,
			exchange: &oauth.Error{Op: "refreshing the token", Status: http.StatusForbidden, Msg: "not yours"},
			says:     lost + "refreshing the token: identity service answered 403 Forbidden: not yours",
		},
		{
			name: "the context before is gone", before: before("identity-alice123", chosen), want: own,
			exchange: &oauth.Error{Op: "refreshing the token", Status: http.StatusNotFound},
			says:     lost + "refreshing the token: identity service answered 404 Not Found",
		},
		{
			name: "the service gives a token in another context", before: before("identity-alice123", chosen), want: own,
			exchange: &oauth.Error{Op: "refreshing the token", Status: http.StatusOK, Msg: "got one in another"},
			says:     lost + "refreshing the token: got one in another",
		},
		{
			name: "the service breaks", before: before("identity-alice123", chosen),
			exchange: &oauth.Error{Op: "refreshing the token", Status: http.StatusInternalServerError},
			says:     failed + "identity service answered 500 Internal Server Error" + remedy,
		},
		{
			name: "the service is away", before: before("identity-alice123", chosen),
			exchange: &oauth.Error{Op: "refreshing the token", Msg: "no answer in time", Err: context.DeadlineExceeded},
			says:     failed + "no answer in time" + remedy,
		},
		{
			name: "Ctrl-C", before: before("identity-alice123", chosen),
			exchange: &oauth.Error{Op: "refreshing the token", Msg: "interrupted", Err: context.Canceled},
			says:     "refreshing the token: interrupted",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var said bytes.Buffer
			sys := system{stderr: &said}
			got, stayed, err := sys.stay(tt.before, in(own), loginOptions{context: tt.flag}, "https://identity.example/api", func(contextID string) (oauth.Token, error) {
				return in(contextID), tt.exchange
			})
			is := got.Claims.Context
			if stayed {
				is += "+"
			}
			if err != nil {
				fmt.Fprintf(&said, "%v\n%s", err, hintOf(err))
			}
			says := strings.TrimSpace(said.String())
			if is != tt.want || says != tt.says {
				t.Errorf("in %q, saying\n%s\nwant %q, saying\n%s", is, says, tt.want, tt.says)
			}
		})
	}
}
