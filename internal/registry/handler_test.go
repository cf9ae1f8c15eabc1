package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
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

// A panic ends the request, as net/http has it, and lets nobody in.
func TestAPanicLetsNobodyIn(t *testing.T) {
	h := newHandler(t, func(http.ResponseWriter, *http.Request) { t.Error("let in") })
	h.Authenticator.Verifier = nil
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+goodToken())
	if resp, err := server.Client().Do(r); err == nil {
		resp.Body.Close()
		t.Errorf("answered %s, want an end", resp.Status)
	}
}

// The answers of both to HEAD are those to GET without the body.
func TestHead(t *testing.T) {
	forward := newForwardAuth(t)
	forward.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	mux := http.NewServeMux()
	mux.Handle("/v2/", newHandler(t, func(http.ResponseWriter, *http.Request) {}))
	mux.Handle("/verify/", forward)
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, path := range []string{"/v2/", "/verify/v2/"} {
		for authorization, want := range map[string]int{"": 401, "Bearer " + goodToken(): 200, basic("apikey", awayKey): 503} {
			var headers []http.Header
			for _, method := range []string{"GET", "HEAD"} {
				r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", authorization)
				resp, err := server.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != want || (len(body) > 0) != (method == "GET" && want != 200) {
					t.Errorf("%s %s = %d %q, %v, want %d", method, path, resp.StatusCode, body, err, want)
				}
				resp.Header.Del("Date")
				resp.Header.Del("Content-Length") // optional for HEAD (RFC 9110 §8.6)
				headers = append(headers, resp.Header)
			}
			if !reflect.DeepEqual(headers[0], headers[1]) {
				t.Errorf("GET %s has %q, HEAD %q", path, headers[0], headers[1])
			}
		}
	}
}

func TestProfileFromWithoutHandler(t *testing.T) {
	if p, ok := ProfileFrom(t.Context()); p != nil || ok {
		t.Errorf("ProfileFrom() = %v, %v, want none", p, ok)
	}
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

func TestIdentityIsSentInOneSpelling(t *testing.T) {
	const id = "0190A2B4-1C2D-7E3F-8A4B-5C6D7E8F9A0B"
	for _, tt := range []struct{ subject, context string }{
		{id, id},
		{"identity-" + id, "context-" + id},
		{"identity-" + strings.ToLower(id), strings.ToLower(id)},
	} {
		h := newHandler(t, func(_ http.ResponseWriter, r *http.Request) {
			for name, want := range map[string]string{"X-Dtz-Identity": "identity-", "X-Dtz-Context": "context-"} {
				if got := r.Header.Get(name); got != want+strings.ToLower(id) {
					t.Errorf("%s of %q and %q is %q", name, tt.subject, tt.context, got)
				}
			}
		})
		h.Policy = Policy{Contexts: []string{"*"}}
		token := withClaims(goodClaims.with("sub", fmt.Sprintf("%q", tt.subject)).with("scope", fmt.Sprintf("%q", tt.context)).
			with("roles", `["https://dtz.rocks/containerregistry/admin/context-`+strings.ToLower(id)+`"]`))
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("%q and %q: %d %s", tt.subject, tt.context, w.Code, w.Body)
		}
	}
}

func TestNoCacheGivesOneCallersAnswerToAnother(t *testing.T) {
	h := newHandler(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=31536000") // as distribution for blobs
	})
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.AddCookie(&http.Cookie{Name: "dtz-auth", Value: goodToken()})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for _, name := range []string{"Authorization", "Cookie", "X-API-KEY", "X-DTZ-CONTEXT"} {
		if vary := w.Header().Get("Vary"); w.Code != http.StatusOK || !strings.Contains(vary, name) {
			t.Errorf("%d, Vary: %q, want %s in it", w.Code, vary, name)
		}
	}
}

// Nobody has failed when a client does not wait for its key to be checked.
func TestAClientThatGoesIsNoFailure(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(context.Context) (context.Context, context.CancelFunc)
		want int
	}{
		{"the client goes", context.WithCancel, StatusClientGone},
		{"its time is up", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 0)
		}, http.StatusServiceUnavailable},
	} {
		ctx, cancel := tt.end(t.Context())
		cancel()
		release := make(chan struct{})
		h := newHandler(t, nil)
		h.Authenticator.Exchange = func(context.Context, string, string) (string, error) {
			<-release
			return "", errAway
		}
		var got Decision
		h.Observe = func(_ *http.Request, d Decision) { got = d }
		r := httptest.NewRequestWithContext(ctx, "GET", "/v2/", nil)
		r.Header.Set("X-Api-Key", goodKey)
		h.ServeHTTP(httptest.NewRecorder(), r)
		close(release)
		if got.status() != tt.want {
			t.Errorf("%s: %d (%v), want %d", tt.name, got.status(), got.Err, tt.want)
		}
	}
}
