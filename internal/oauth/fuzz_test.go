package oauth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// What people are shown of an answer, and what is made of it, whatever the
// answer is: in every call, for there is no telling which of them a service that
// has been taken over begins with. In body, TOKEN, KEY and CODE stand for what
// was sent.
func FuzzAnswer(f *testing.F) {
	const (
		key  secret.String = "apikey-canary0123456789canary01"
		code secret.String = `code "canary" 0123456789`
	)
	token := secret.String(tokenFor(f, ctxOne))
	issued, err := json.Marshal(map[string]any{"access_token": token.Reveal(), "expires_in": 86400})
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range []string{
		string(issued), `[{"contextId":"` + ctxOne + `"},{"contextId":"abc12345"}]`, `[{"contextId":"\u001b[31m"}]`, `null`,
		`{"email":"alice@example.com"}`, `{"email":"a\u202eb"}`, `{"email":"a\nb"}`, `"apikey-abc12345"`, "apikey-abc12345\n", "apikey-\x1b[31m",
		`{"issuer":"http://127.0.0.1:1","token_endpoint":"http://127.0.0.1:1/t","authorization_endpoint":"http://127.0.0.1:1/a?b"}`,
		`{"issuer":"http://127.0.0.1:1","token_endpoint":"https://evil.example"}`, `{"issuer":"\u009b31m"}`,
		`{"msg":"no: TOKEN KEY CODE"}`, `{"status":"a\u0000b"}`, `{"error":"invalid_grant","error_description":"\u2066CODE"}`,
		`{"msg":"T` + "\x1b" + `OKEN"}`, strings.Repeat("[", 100_000), `{"msg":"` + strings.Repeat("a", 64<<10) + `"}`, "\xff\x00", "<html>",
	} {
		for _, status := range []int{200, 302, 401, 503} {
			f.Add(status, "Mon, 02 Jan 2006 15:04:05 GMT", "1", body)
		}
	}
	f.Add(429, "Mon, 32 Jan 99999 15:04:05 GMT", "18446744073709551615", "")
	f.Fuzz(func(t *testing.T, status int, date, retryAfter, body string) {
		if status < 200 || status > 599 {
			return // net/http makes an error of others
		}
		body = strings.NewReplacer("TOKEN", token.Reveal(), "KEY", key.Reveal(), "CODE", code.Reveal()).Replace(body)
		requests := 0
		c := &Client{
			BaseURL: "http://127.0.0.1:1/api",
			HTTP: &http.Client{Transport: transport(func(req *http.Request) (*http.Response, error) {
				requests++
				return &http.Response{
					StatusCode: status,
					Header:     http.Header{"Date": {date}, "Retry-After": {retryAfter}, "Location": {body}},
					Body:       io.NopCloser(strings.NewReader(body)),
					Request:    req,
				}, nil
			})},
			Now: func() time.Time { return monday },
			sleep: func(_ context.Context, d time.Duration) error {
				if d < 0 || d > 2*callTimeout {
					t.Errorf("Retry-After %q is a pause of %v", retryAfter, d)
				}
				return nil
			},
		}
		check := func(call string, err error, sent ...secret.String) bool {
			if requests > 1+maxRetries {
				t.Errorf("%s: %d requests", call, requests)
			}
			requests = 0
			if err == nil {
				return true
			}
			text := err.Error()
			if !showable(text) || utf8.RuneCountInString(text) > maxMessage+200 {
				t.Errorf("%s: error %q, want one line to be shown", call, text)
			}
			for _, s := range sent {
				if strings.Contains(text, s.Reveal()) {
					t.Errorf("%s: error %q holds what was sent", call, text)
				}
			}
			var e *Error
			if !errors.As(err, &e) || e.Unconnected {
				t.Errorf("%s: error %#v, want an *Error of a service that answered", call, err)
			}
			return false
		}
		trade := func(call, contextID string, got Token, err error, sent ...secret.String) {
			if check(call, err, sent...) && (!isToken(got.Access.Reveal()) || got.Lifetime <= 0 || contextID != "" && !platform.SameContext(got.Claims.Context, contextID)) {
				t.Errorf("%s: took %+v", call, got)
			}
		}

		got, err := c.Password(t.Context(), "alice", key)
		trade("Password", "", got, err, key)
		got, err = c.Refresh(t.Context(), token, ctxOne)
		trade("Refresh", ctxOne, got, err, token)
		got, err = c.APIKey(t.Context(), key, ctxTwo)
		trade("APIKey", ctxTwo, got, err, key)
		b := &BrowserLogin{client: c, endpoints: endpoints{token: c.BaseURL + "/oauth/token"}, verifier: key}
		got, err = b.redeem(t.Context(), code)
		trade("redeem", "", got, err, code, key)

		ids, err := c.Contexts(t.Context(), token)
		if check("Contexts", err, token) {
			seen := map[string]bool{}
			for _, id := range ids {
				canonical, _ := platform.ContextID(id)
				if !IsContextID(id) || !showable(id) || seen[canonical] {
					t.Errorf("Contexts = %q", ids)
				}
				seen[canonical] = true
			}
		}
		email, err := c.Email(t.Context(), token)
		if check("Email", err, token) && !showable(email) {
			t.Errorf("Email = %q", email)
		}
		made, err := c.CreateKey(t.Context(), token, ctxOne, "alias")
		if check("CreateKey", err, token) && (!isAPIKey(made.Reveal()) || !isHeaderSafe(made.Reveal())) {
			t.Errorf("CreateKey = %q", made.Reveal())
		}
		check("DeleteKey", c.DeleteKey(t.Context(), token, key), token, key)
		_, err = c.Clock(t.Context())
		check("Clock", err)
		found, err := c.endpoints(t.Context())
		if check("endpoints", err) {
			for _, endpoint := range []string{found.authorize, found.token} {
				if u, err := url.Parse(endpoint); err != nil || u.Scheme+"://"+u.Host != "http://127.0.0.1:1" || u.User != nil {
					t.Errorf("endpoints = %+v, want those on the service's own origin", found)
				}
			}
		}
	})
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) { return t(req) }

// showable reports whether s is one line that does nothing to a terminal but to
// stand in it.
func showable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// isToken knows a JWT by its shape (RFC 7515 §3.1), by other means than
// payloadOf.
func isToken(s string) bool {
	return len(s) <= maxToken && strings.Count(s, ".") == 2 && !strings.Contains("."+s+".", "..") &&
		strings.Trim(s, ".-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && isHeaderSafe(s)
}

// quotes reports whether text holds part of a secret that came from elsewhere.
func quotes(text, from string) bool {
	const part = 16 // bytes; longer than any word of ours
	for i := 0; i+part <= len(from); i++ {
		if strings.Contains(text, from[i:i+part]) {
			return true
		}
	}
	return false
}

// Of all that can arrive at the listener, which any page in the browser and any
// user of the machine can reach, only the redirect with this login's state goes
// on, and nothing that was sent is sent back.
func FuzzListener(f *testing.F) {
	const (
		state = "STATE0123456789"
		page  = "/PAGE0123456789"
		host  = "127.0.0.1:1"
	)
	good := "GET " + callbackPath + "?code=1&state=" + state + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	for _, request := range []string{
		good, strings.Replace(good, "GET", "POST", 1), strings.Replace(good, host, "evil.example", 1), strings.Replace(good, state, "other", 1),
		strings.Replace(good, callbackPath, "/%63allback", 1), strings.Replace(good, callbackPath, "/x/.."+callbackPath, 1),
		strings.Replace(good, callbackPath, "http://"+host+callbackPath, 1), strings.Replace(good, "Host", "X-Host", 1),
		strings.Replace(good, "code=1", "error=%1b%5b31m&error_description=%e2%80%ae", 1), strings.Replace(good, "?", "?\x00", 1),
		"GET " + page + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n", "GET /favicon.ico HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
	} {
		f.Add([]byte(request))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(sent)))
		if err != nil {
			return // the server answers it
		}
		b := &BrowserLogin{state: state, endpoints: endpoints{issuer: "http://127.0.0.1:1"}, arrived: make(chan redirect, 1)}
		b.loopback = newLoopback(b, host)
		b.loopback.pagePath = page
		b.loopback.page = Page{User: "alice"}
		close(b.loopback.ended)
		w := httptest.NewRecorder()
		b.loopback.ServeHTTP(w, req)

		ours := req.Method == http.MethodGet && req.Host == host
		switch {
		case w.Code == http.StatusSeeOther:
			if q, err := url.ParseQuery(req.URL.RawQuery); !ours || req.URL.EscapedPath() != callbackPath || err != nil || len(q["state"]) != 1 || q.Get("state") != state {
				t.Errorf("%q is taken for the redirect", sent)
			}
			if len(b.arrived) != 1 || w.Header().Get("Location") != page || w.Body.Len() != 0 {
				t.Errorf("%q leads to %q, with a body of %d bytes", sent, w.Header().Get("Location"), w.Body.Len())
				return
			}
			if r := <-b.arrived; r.err != nil && !showable(r.err.Error()) {
				t.Errorf("%q ends the login with %q", sent, r.err)
			}
			return
		case w.Code == http.StatusOK:
			if !ours || req.URL.EscapedPath() != page {
				t.Errorf("%q is shown who has logged in", sent)
			}
		case w.Code < 400 || !strings.HasPrefix(w.Body.String(), "Nothing to see here.") || strings.Contains(w.Body.String(), "alice"):
			t.Errorf("%q is answered %d %q", sent, w.Code, w.Body)
		}
		if len(b.arrived) != 0 {
			t.Errorf("%q is answered %d and counts all the same", sent, w.Code)
		}
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%q is answered with the headers %v", sent, w.Header())
		}
	})
}

// sameClaims: what is handed on is what the token says, to whoever reads it.
func sameClaims(t *testing.T, token string, claims Claims) {
	t.Helper()
	again, err := ParseClaims(token)
	if err != nil || !reflect.DeepEqual(again, claims) {
		t.Errorf("claims = %+v, and read again %+v, %v", claims, again, err)
	}
}
