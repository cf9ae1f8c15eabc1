package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

const (
	alice     = "identity-alice123"
	ctxOne    = "context-abc12345"
	ctxTwo    = "context-zzz99999"
	anyKey    = "apikey-k3yk3yk3"
	userAgent = "docker-credential-dtz/1.0.0 (linux; amd64)"
)

// monday is the clock of the services in these tests.
var monday = time.Date(2026, 9, 7, 9, 0, 0, 0, time.UTC)

// jwt is a token with claims and a signature that nobody checks here.
func jwt(t testing.TB, claims any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	segment := base64.RawURLEncoding.EncodeToString
	return segment([]byte(`{"alg":"RS256","typ":"JWT","kid":"dtz1"}`)) + "." + segment(payload) + "." + segment([]byte("signature"))
}

// tokenFor is alice's token for a context, made at monday for a day.
func tokenFor(t testing.TB, contextID string) string {
	t.Helper()
	return jwt(t, map[string]any{
		"iss": "dtz.rocks", "aud": "dtz.rocks", "sub": alice, "scope": contextID,
		"roles": []string{"https://dtz.rocks/containerregistry/admin/" + contextID}, "contexts": []string{ctxOne, ctxTwo},
		"iat": monday.Unix(), "exp": monday.Add(24 * time.Hour).Unix(),
	})
}

// answerToken answers a token response, with monday's clock.
func answerToken(t testing.TB, w http.ResponseWriter, token string) {
	t.Helper()
	w.Header().Set("Date", monday.Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 86400.0}); err != nil {
		t.Error(err)
	}
}

// serve starts a service and returns its client, which counts pauses instead
// of waiting for them.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &Client{
		BaseURL:   server.URL + "/api",
		UserAgent: userAgent,
		Now:       func() time.Time { return monday.Add(-time.Hour) }, // we are an hour slow
		Source:    "build-7",
		sleep:     func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

// asError is err as the *Error that every failure has to be.
func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v (%T), want an *Error", err, err)
	}
	return e
}

func TestCalls(t *testing.T) {
	held := tokenFor(t, ctxOne)
	tests := []struct {
		name       string
		call       func(context.Context, *Client) (Token, error)
		wantLine   string
		wantBody   string
		wantBearer string
		wantSource string
	}{
		{
			name: "a password, whatever is in it",
			call: func(ctx context.Context, c *Client) (Token, error) {
				return c.Password(ctx, "alice@example.com", `pä:"ss\<&>`)
			},
			wantLine: "POST /api/token/auth",
			wantBody: `{"username":"alice@example.com","password":"pä:\"ss\\<&>"}`,
		},
		{
			name: "a refresh in a context",
			call: func(ctx context.Context, c *Client) (Token, error) {
				return c.Refresh(ctx, secret.String(held), ctxOne)
			},
			wantLine:   "POST /api/token/refresh",
			wantBody:   `{"contextId":"` + ctxOne + `"}`,
			wantBearer: held,
		},
		{
			name: "a refresh without one still sends an object",
			call: func(ctx context.Context, c *Client) (Token, error) {
				return c.Refresh(ctx, secret.String(held), "")
			},
			wantLine:   "POST /api/token/refresh",
			wantBody:   `{}`,
			wantBearer: held,
		},
		{
			name: "an API key says where it is used",
			call: func(ctx context.Context, c *Client) (Token, error) {
				return c.APIKey(ctx, anyKey, "")
			},
			wantLine:   "POST /api/auth/apikey",
			wantBody:   `{"apiKey":"` + anyKey + `"}`,
			wantSource: "build-7",
		},
		{
			name: "an API key in a context",
			call: func(ctx context.Context, c *Client) (Token, error) {
				return c.APIKey(ctx, anyKey, "abc12345") // the other spelling
			},
			wantLine:   "POST /api/auth/apikey",
			wantBody:   `{"apiKey":"` + anyKey + `","contextId":"abc12345"}`,
			wantSource: "build-7",
		},
		{
			name: "a host name that no header can hold is not sent",
			call: func(ctx context.Context, c *Client) (Token, error) {
				c.Source = "jürgens\r\nX-Evil: 1"
				return c.APIKey(ctx, anyKey, "")
			},
			wantLine: "POST /api/auth/apikey",
			wantBody: `{"apiKey":"` + anyKey + `"}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				wantRequest(t, r, tt.wantLine, tt.wantBody, tt.wantBearer)
				if got := r.Header.Get("X-DTZ-SOURCE"); got != tt.wantSource {
					t.Errorf("X-DTZ-SOURCE = %q, want %q", got, tt.wantSource)
				}
				if r.Header.Get("X-Evil") != "" {
					t.Error("a header was smuggled in")
				}
				answerToken(t, w, held)
			})
			got, err := tt.call(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if got.Access.Reveal() != held {
				t.Error("the token is not the one that was answered")
			}
			if got.Claims.Subject != alice || got.Claims.Context != ctxOne || len(got.Claims.Roles) != 1 || len(got.Claims.Contexts) != 2 {
				t.Errorf("Claims = %+v, want alice in %s", got.Claims, ctxOne)
			}
			if want := c.now().Add(24 * time.Hour); !got.Expires().Equal(want) {
				t.Errorf("Expires() = %v, want a day from now by our own clock, %v", got.Expires(), want)
			}
		})
	}
}

// wantRequest compares what arrived with what product and platform agreed on.
func wantRequest(t *testing.T, r *http.Request, line, body, bearer string) {
	t.Helper()
	if got := r.Method + " " + r.RequestURI; got != line {
		t.Errorf("request = %s, want %s", got, line)
	}
	if got := r.UserAgent(); got != userAgent {
		t.Errorf("User-Agent = %q, want %q", got, userAgent)
	}
	got, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	if body == "" {
		if len(got) != 0 {
			t.Errorf("body = %s, want none", got)
		}
	} else {
		if ct := r.Header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("Content-Type = %q, want application/json", ct)
		}
		if !sameJSON(t, string(got), body) {
			t.Errorf("body = %s, want %s", got, body)
		}
	}
	auth := ""
	if bearer != "" {
		auth = "Bearer " + bearer
	}
	if got := r.Header.Get("Authorization"); got != auth {
		t.Errorf("Authorization = %q, want %q", got, auth)
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y map[string]string
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil {
		t.Error(err)
		return false
	}
	if len(x) != len(y) {
		return false
	}
	for k, v := range x {
		if w, ok := y[k]; !ok || v != w {
			return false
		}
	}
	return true
}

func TestCreateKey(t *testing.T) {
	held := tokenFor(t, ctxOne)
	tests := []struct {
		name   string
		answer string
		want   string // empty: an error
	}{
		{"as documented", anyKey, anyKey},
		{"with a line's end", anyKey + "\r\n", anyKey},
		{"as a JSON string", `"` + anyKey + `"`, anyKey},
		{"a UUID", "apikey-3fa85f64-5717-4562-b3fc-2c963f66afa6", "apikey-3fa85f64-5717-4562-b3fc-2c963f66afa6"},
		{"nothing", "", ""},
		{"a prefix alone", "apikey-", ""},
		{"a page", "<html>apikey-k3yk3yk3</html>", ""},
		{"two lines", anyKey + "\n" + anyKey, ""},
		{"a path", "apikey-../../context", ""},
		{"half a JSON string", `"` + anyKey, ""},
		{"an object", `{"apiKey":"` + anyKey + `"}`, ""},
		{"endless", "apikey-" + strings.Repeat("a", 129), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				wantRequest(t, r, "POST /api/me/identity/apikey", `{"contextId":"`+ctxOne+`","alias":"docker-credential-dtz on laptop"}`, held)
				io.WriteString(w, tt.answer)
			})
			got, err := c.CreateKey(t.Context(), secret.String(held), ctxOne, "docker-credential-dtz on laptop")
			if got.Reveal() != tt.want || (err == nil) != (tt.want != "") {
				t.Fatalf("CreateKey for the answer %q = %q, %v, want %q", tt.answer, got.Reveal(), err, tt.want)
			}
			if err != nil {
				if e := asError(t, err); e.Refused() || e.Unreachable() || strings.Contains(err.Error(), "k3y") {
					t.Errorf("error = %v (%+v), want a wrong answer that is not quoted", err, *e)
				}
			}
		})
	}
}

func TestDeleteKey(t *testing.T) {
	held := tokenFor(t, ctxOne)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		wantRequest(t, r, "DELETE /api/me/identity/apikey/"+anyKey, "", held)
		w.WriteHeader(http.StatusNoContent)
	})
	if err := c.DeleteKey(t.Context(), secret.String(held), anyKey); err != nil {
		t.Error(err)
	}
}

// The first attempt may have done its work before its connection broke.
func TestDeleteKeyThatARetryDoesNotFind(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusNotFound)
	})
	if err := c.DeleteKey(t.Context(), "a.b.c", anyKey); err != nil || calls.Load() != 2 {
		t.Errorf("DeleteKey after %d calls = %v, want no error after 2", calls.Load(), err)
	}
	if err := c.DeleteKey(t.Context(), "a.b.c", anyKey); err == nil || asError(t, err).Status != http.StatusNotFound {
		t.Errorf("DeleteKey of a key that is not there = %v, want a 404", err)
	}
}

func TestNothingIsSentWith(t *testing.T) {
	const canary = "c4nary"
	tests := []struct {
		name string
		call func(context.Context, *Client) error
	}{
		{"a token with a line break", func(ctx context.Context, c *Client) error {
			_, err := c.Refresh(ctx, canary+"\r\nX-Evil: 1", "")
			return err
		}},
		{"a token with a letter beyond ASCII", func(ctx context.Context, c *Client) error {
			_, err := c.CreateKey(ctx, canary+"ä", ctxOne, "alias")
			return err
		}},
		{"a token over 48 KiB", func(ctx context.Context, c *Client) error {
			_, err := c.Refresh(ctx, secret.String(strings.Repeat(canary, 9<<10)), "")
			return err
		}},
		{"no key", func(ctx context.Context, c *Client) error {
			_, err := c.APIKey(ctx, "", "")
			return err
		}},
		{"a key with a line break", func(ctx context.Context, c *Client) error {
			_, err := c.APIKey(ctx, "apikey-"+canary+"\n", "")
			return err
		}},
		{"a key that is a path", func(ctx context.Context, c *Client) error {
			return c.DeleteKey(ctx, "a.b.c", "apikey-../"+canary)
		}},
		{"no token to delete with", func(ctx context.Context, c *Client) error {
			return c.DeleteKey(ctx, "", "apikey-"+canary)
		}},
		{"a password that is not UTF-8", func(ctx context.Context, c *Client) error {
			_, err := c.Password(ctx, "alice", canary+"\xff")
			return err
		}},
		{"plain http to a stranger", func(ctx context.Context, c *Client) error {
			c.BaseURL = "http://alice:" + canary + "@192.0.2.1/"
			_, err := c.APIKey(ctx, "apikey-"+canary, "")
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
			err := tt.call(t.Context(), c)
			if err == nil {
				t.Fatal("no error")
			}
			e := asError(t, err)
			if e.Refused() || e.Unreachable() || e.Unconnected || e.Status != 0 {
				t.Errorf("error = %+v, want neither a refusal nor an unreachable service", *e)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("error %q quotes the secret", err)
			}
		})
	}
}
