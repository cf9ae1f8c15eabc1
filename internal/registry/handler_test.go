package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

const (
	goodKey = "apikey-abc12345"
	awayKey = "apikey-away0000" // while the identity service is away
	oddKey  = "apikey-odd00000" // which it answers with a token that is not for us
)

var errAway = errors.New("connection refused")

// exchange is the identity service's side of an API key.
func exchange(_ context.Context, apiKey, _ string) (string, error) {
	switch apiKey {
	case goodKey:
		return goodToken(), nil
	case awayKey:
		return "", errAway
	case oddKey:
		return withClaims(goodClaims.with("aud", `"elsewhere"`)), nil
	}
	return "", ErrKeyRefused
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// newHandler serves one context. next is for who is let in.
func newHandler(t testing.TB, next http.HandlerFunc) *Handler {
	return &Handler{
		Authenticator: &Authenticator{Verifier: newVerifier(t, testConfig()), Exchange: exchange},
		Policy:        Policy{Contexts: []string{"context-abc12345"}},
		Next:          next,
	}
}

// checkRefusal looks at what every refusal has in common.
func checkRefusal(t *testing.T, w *httptest.ResponseRecorder, code, message string) {
	t.Helper()
	var challenges []string
	if w.Code == 401 {
		challenges = []string{`Basic realm="dtz.rocks"`}
	}
	if got := w.Header()["Www-Authenticate"]; !slices.Equal(got, challenges) {
		t.Errorf("challenges %q, want %q", got, challenges)
	}
	retryAfter := ""
	if w.Code == 503 {
		retryAfter = "5"
	}
	for name, want := range map[string]string{
		"Content-Type":                    "application/json",
		"Docker-Distribution-Api-Version": "registry/2.0",
		"Retry-After":                     retryAfter,
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	quoted, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"errors":[{"code":"` + code + `","message":` + string(quoted) + "}]}\n"
	if got := w.Body.String(); got != want {
		t.Errorf("body %s, want %s", got, want)
	}
}

func TestHandlerPassesTheProfileAndNotTheCredential(t *testing.T) {
	r := httptest.NewRequest("PUT", "/v2/app/manifests/v1?x=1", strings.NewReader("manifest"))
	r.Header.Set("Authorization", "Bearer "+goodToken())
	r.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	h := newHandler(t, func(w http.ResponseWriter, next *http.Request) {
		p, ok := ProfileFrom(next.Context())
		if !ok || p.Subject != "identity-abc12345" || p.Context != "context-abc12345" {
			t.Errorf("ProfileFrom() = %+v, %v", p, ok)
		}
		if got := next.Header.Values("Authorization"); got != nil {
			t.Errorf("Next sees the credential: %q", got)
		}
		if next.Header.Get("Content-Type") != r.Header.Get("Content-Type") || next.URL.String() != r.URL.String() || next.Body != r.Body {
			t.Error("Next sees another request")
		}
		w.WriteHeader(http.StatusCreated)
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		t.Errorf("status %d, want Next's", w.Code)
	}
	if r.Header.Get("Authorization") == "" {
		t.Error("the caller's request has been changed")
	}
}

func TestProfileFromWithoutHandler(t *testing.T) {
	if p, ok := ProfileFrom(t.Context()); p != nil || ok {
		t.Errorf("ProfileFrom() = %v, %v, want none", p, ok)
	}
}

func TestPolicy(t *testing.T) {
	const (
		admin   = "https://dtz.rocks/containerregistry/admin/context-abc12345"
		auditor = "https://example.com/auditor/{context_id}"
	)
	tests := []struct {
		name   string
		policy Policy
		roles  []string
		want   string // "" is let in
	}{
		{"nobody said whom to serve", Policy{}, []string{admin}, "context-abc12345 may not use this registry"},
		{"another context", Policy{Contexts: []string{"context-zzz99999"}}, []string{admin}, "context-abc12345 may not use this registry"},
		{"an empty context", Policy{Contexts: []string{""}}, []string{admin}, "context-abc12345 may not use this registry"},
		{"a pattern, which is none", Policy{Contexts: []string{"context-*"}}, []string{admin}, "context-abc12345 may not use this registry"},
		{"this context among others", Policy{Contexts: []string{"context-zzz99999", "context-abc12345"}}, []string{admin}, ""},
		{"this context, in its other spelling", Policy{Contexts: []string{"abc12345"}}, []string{admin}, ""},
		{"every context", Policy{Contexts: []string{"*"}}, []string{admin}, ""},
		{"every context, but no role", Policy{Contexts: []string{"*"}}, nil, "missing role " + admin},
		{"another role, where it is enough", Policy{Contexts: []string{"*"}, Roles: Roles{Admin: []string{auditor}}}, []string{"https://example.com/auditor/abc12345"}, ""},
		{"the second of two roles", Policy{Contexts: []string{"*"}, Roles: Roles{Admin: []string{auditor, admin}}}, []string{admin}, ""},
		{
			"the platform's role, where others are asked for",
			Policy{Contexts: []string{"*"}, Roles: Roles{Admin: []string{auditor, "x"}}},
			[]string{admin},
			"missing role https://example.com/auditor/context-abc12345 or x",
		},
	}
	for _, tt := range tests {
		err := tt.policy.Authorize(&Profile{Context: "context-abc12345", Roles: tt.roles})
		if got := errorText(err); got != tt.want {
			t.Errorf("%s: Authorize() = %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A role or a list of contexts that names an identity or an API key names no
// context, though older tokens leave the kind of the scope to be guessed.
func TestOtherKindsOfTheSameLettersOpenNothing(t *testing.T) {
	const role = "https://dtz.rocks/containerregistry/admin/"
	tests := []struct {
		name   string
		scope  string
		role   string
		policy Policy
	}{
		{"a role for an identity", "abc12345", role + "identity-abc12345", Policy{Contexts: []string{"*"}}},
		{"a role for an API key", "abc12345", role + "apikey-abc12345", Policy{Contexts: []string{"*"}}},
		{"an identity for a scope, with its own role", "identity-abc12345", role + "identity-abc12345", Policy{Contexts: []string{"*"}}},
		{"an identity for a scope, with the context's role", "identity-abc12345", role + "abc12345", Policy{Contexts: []string{"*"}}},
		{"an identity for a scope, with a role of no context", "identity-abc12345", "x", Policy{Contexts: []string{"*"}, Roles: Roles{Admin: []string{"x"}}}},
		{"an identity among the contexts that are served", "abc12345", role + "abc12345", Policy{Contexts: []string{"identity-abc12345"}}},
		{"an identity that is served, and is the scope", "identity-abc12345", role + "identity-abc12345", Policy{Contexts: []string{"identity-abc12345"}}},
	}
	for _, tt := range tests {
		if err := tt.policy.Authorize(&Profile{Context: tt.scope, Roles: []string{tt.role}}); err == nil {
			t.Errorf("%s opens the registry", tt.name)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// What Observe sees is fit for a log: why somebody is refused, and no secret.
func TestObserve(t *testing.T) {
	forged := sign(foreignKey(), goodHeader.String(), goodClaims.String())
	tests := []struct {
		name          string
		method, path  string
		authorization string
		secret        string
		want          string // source, repository, action, status, reason
	}{
		{"no credential, as every client begins", "GET", "/v2/", "", "\x00", ` "" "" 401 authentication required`},
		{"a good token", "GET", "/v2/", "Bearer " + goodToken(), goodToken(), `Authorization header "" "" let in`},
		{"a good token to push with", "PUT", "/v2/team/app/manifests/v1", "Bearer " + goodToken(), goodToken(), `Authorization header "team/app" "push" let in`},
		{"a forged token", "DELETE", "/v2/app/blobs/sha256:00", "Bearer " + forged, forged[len(forged)-40:], `Authorization header "app" "delete" 401 token refused: signature: made with another key, or for another text`},
		{"an unknown key", "GET", "/v2/_catalog", basic("apikey", "apikey-zzz99999"), "zzz99999", `Authorization header "" "pull" 401 API key refused`},
		{"a key that cannot be checked", "GET", "/v2/", basic("apikey", awayKey), "away0000", `Authorization header "" "" 503 exchanging an API key: connection refused`},
		{"a password of another user", "GET", "/v2/", basic("alice", "hunter2"), "hunter2", `Authorization header "" "" 401 the user name is neither "bearer", for a token, nor "apikey", for an API key`},
	}
	for _, tt := range tests {
		h := newHandler(t, func(http.ResponseWriter, *http.Request) {})
		calls := 0
		h.Observe = func(seen *http.Request, d Decision) {
			calls++
			got := fmt.Sprintf("%s %q %q ", d.Source, d.Repository, d.Action)
			if d.Err == nil {
				got += "let in"
			} else {
				got += fmt.Sprint(d.Err.Status, " ", d.Err)
			}
			if got != tt.want || (d.Profile != nil) != (d.Err == nil) {
				t.Errorf("%s: %s, %+v, want %s", tt.name, got, d.Profile, tt.want)
			}
			if all := fmt.Sprint(seen.Method, seen.URL, seen.RequestURI, seen.Header, got); strings.Contains(all, tt.secret) {
				t.Errorf("%s: Observe sees the secret: %s", tt.name, all)
			}
		}
		r := httptest.NewRequest(tt.method, tt.path, nil)
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if calls != 1 {
			t.Errorf("%s: Observe called %d times", tt.name, calls)
		}
		if strings.Contains(w.Body.String(), tt.secret) {
			t.Errorf("%s: the answer quotes the secret: %s", tt.name, w.Body)
		}
	}
}
