package oauth

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

func TestContexts(t *testing.T) {
	held := tokenFor(t, ctxOne)
	const uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	many := func(n int) string {
		entries := make([]string, n)
		for i := range entries {
			entries[i] = fmt.Sprintf(`{"contextId":"context-%08d"}`, i)
		}
		return "[" + strings.Join(entries, ",") + "]"
	}
	tests := []struct {
		name   string
		answer string
		want   []string
		wrong  bool // an error
	}{
		{name: "as documented", answer: `[{"contextId":"` + ctxTwo + `"},{"contextId":"` + ctxOne + `"}]`, want: []string{ctxTwo, ctxOne}},
		{name: "more members", answer: `[{"contextId":"` + ctxOne + `","alias":"home","roles":[]}]`, want: []string{ctxOne}},
		{name: "a bare UUID, and the same with its kind", answer: `[{"contextId":"` + uuid + `"},{"contextId":"context-` + uuid + `"}]`, want: []string{uuid}},
		{name: "none", answer: `[]`},
		{name: "null", answer: `null`},
		{name: "an object", answer: `{"contextId":"` + ctxOne + `"}`, wrong: true},
		{name: "a page", answer: `<html>` + ctxOne + `</html>`, wrong: true},
		{name: "nothing", answer: ``, wrong: true},
		{name: "cut short", answer: `[{"contextId":"` + ctxOne + `"}`, wrong: true},
		{name: "an entry without an id", answer: `[{"contextId":"` + ctxOne + `"},{}]`, wrong: true},
		{name: "a number for an id", answer: `[{"contextId":12345678}]`, wrong: true},
		{name: "an identity's id", answer: `[{"contextId":"` + alice + `"}]`, wrong: true},
		{name: "an API key", answer: `[{"contextId":"` + anyKey + `"}]`, wrong: true},
		{name: "an id that moves the cursor", answer: `[{"contextId":"context-\u001b[2Jabc"}]`, wrong: true},
		{name: "an id of two lines", answer: `[{"contextId":"context-abc12345\ncontext-def12345"}]`, wrong: true},
		{name: "an id that a shell would run", answer: `[{"contextId":"context-$(id)"}]`, wrong: true},
		{name: "an id that reads from right to left", answer: `[{"contextId":"context-\u202eabc"}]`, wrong: true},
		{name: "an endless id", answer: `[{"contextId":"context-` + strings.Repeat("a", 128) + `"}]`, wrong: true},
		{name: "a flag for an id", answer: `[{"contextId":"--help"}]`, wrong: true},
		{name: "more than anybody has", answer: many(maxContexts + 1), wrong: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				wantRequest(t, r, "GET /api/context", "", held)
				fmt.Fprint(w, tt.answer)
			})
			got, err := c.Contexts(t.Context(), secret.String(held))
			if !slices.Equal(got, tt.want) || (err != nil) != tt.wrong {
				t.Fatalf("Contexts for the answer %.100s = %q, %v, want %q", tt.answer, got, err, tt.want)
			}
			if err == nil {
				return
			}
			if e := asError(t, err); e.Refused() || e.Unreachable() || strings.ContainsAny(err.Error(), "\x1b\n\u202e$") {
				t.Errorf("error = %q (%+v), want a wrong answer that is not quoted", err, *e)
			}
		})
	}
}

func TestContextsRefused(t *testing.T) {
	held := tokenFor(t, ctxOne)
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"msg":"not with %s"}`, held)
	})
	_, err := c.Contexts(t.Context(), secret.String(held))
	e := asError(t, err)
	if !e.Refused() || calls.Load() != 1 {
		t.Errorf("Contexts = %v after %d calls, want a refusal after 1", err, calls.Load())
	}
	if want := "listing the contexts: identity service answered 401 Unauthorized: not with [redacted]"; err.Error() != want {
		t.Errorf("error = %q, want %q", err, want)
	}
}
