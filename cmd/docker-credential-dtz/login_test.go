package main

import (
	"bytes"
	"errors"
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
	away := errors.New("away")
	for _, tt := range []struct {
		name     string
		before   *store.Login
		flag     string // --context
		exchange error  // what comes of asking for the context before
		want     string // context, with a + where it stayed
		warns    bool
	}{
		{name: "the first login", want: own},
		{name: "in its own context before", before: before("identity-alice123", own), want: own},
		{name: "in another context before", before: before("identity-alice123", chosen), want: chosen + "+"},
		{name: "in another one, by the bare id", before: before("alice123", chosen), want: chosen + "+"},
		{name: "somebody else before", before: before("identity-bob12345", chosen), want: own},
		{name: "a context that was asked for", before: before("identity-alice123", chosen), flag: own, want: own},
		{name: "the context before is refused", before: before("identity-alice123", chosen), exchange: &oauth.Error{Status: http.StatusForbidden}, want: own, warns: true},
		{name: "the service is away", before: before("identity-alice123", chosen), exchange: away},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var said bytes.Buffer
			sys := system{stderr: &said}
			got, stayed, err := sys.stay(tt.before, in(own), loginOptions{context: tt.flag}, func(contextID string) (oauth.Token, error) {
				return in(contextID), tt.exchange
			})
			if tt.want == "" {
				if !errors.Is(err, away) {
					t.Errorf("error = %v, want %v", err, away)
				}
				return
			}
			is := got.Claims.Context
			if stayed {
				is += "+"
			}
			if err != nil || is != tt.want {
				t.Errorf("in %s, %v, want %s", is, err, tt.want)
			}
			if warned := strings.Contains(said.String(), chosen+", which is refused now"); warned != tt.warns {
				t.Errorf("it says %q", said.String())
			}
		})
	}
}
