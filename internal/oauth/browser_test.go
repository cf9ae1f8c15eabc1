package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

const (
	aliceName     = "alice@example.com"
	alicePassword = "correct horse battery staple"
)

// around changes what a service is asked and answers.
type around func(http.Handler) http.Handler

// serveIdentity starts the identity service that alice logs in to.
func serveIdentity(t *testing.T, changes ...around) (*identity.Service, *Client) {
	t.Helper()
	service, err := identity.New(identity.Config{Users: []identity.User{
		{Name: aliceName, Password: alicePassword, Subject: alice, Email: aliceName, Contexts: []string{ctxOne, ctxTwo}},
		{Name: "bob@example.com", Password: alicePassword, Subject: "identity-bob12345", Contexts: []string{"context-bob12345"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = service
	for _, change := range changes {
		h = change(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return service, &Client{BaseURL: server.URL + identity.BasePath, sleep: noSleep}
}

// begin begins a login that ends with t.
func begin(t *testing.T, c *Client, clientID string) *BrowserLogin {
	t.Helper()
	b, err := c.Browser(t.Context(), BrowserOptions{ClientID: clientID})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Finish(context.Background(), Page{}) })
	return b
}

// page is what a browser shows.
type page struct {
	url    string
	status int
	header http.Header
	body   string
}

// visit is a browser in which alice logs in wherever she is asked to.
func visit(address string) (page, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return page{}, err
	}
	browser := &http.Client{Jar: jar}
	resp, err := browser.Get(address)
	if err == nil && resp.Request.URL.Path == "/login" {
		_ = resp.Body.Close()
		resp, err = browser.PostForm(resp.Request.URL.String(), url.Values{"username": {aliceName}, "password": {alicePassword}})
	}
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return page{resp.Request.URL.String(), resp.StatusCode, resp.Header, string(body)}, err
}

// start has alice log in, and returns where her browser ends.
func start(t *testing.T, b *BrowserLogin) <-chan page {
	t.Helper()
	ended := make(chan page, 1)
	go func() {
		p, err := visit(b.URL)
		if err != nil {
			t.Error(err)
		}
		ended <- p
	}()
	return ended
}

// redirectOf is the address to which the service would send alice's browser.
func redirectOf(t *testing.T, b *BrowserLogin) *url.URL {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var back *url.URL
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path != callbackPath {
			return nil
		}
		back = r.URL
		return http.ErrUseLastResponse
	}}
	for _, step := range []func() (*http.Response, error){
		func() (*http.Response, error) { return browser.Get(b.URL) },
		func() (*http.Response, error) {
			login := strings.Replace(b.URL, identity.BasePath+"/oauth/authorize", "/login", 1)
			return browser.PostForm(login, url.Values{"username": {aliceName}, "password": {alicePassword}})
		},
	} {
		resp, err := step()
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	if back == nil {
		t.Fatal("the service sends the browser nowhere")
	}
	return back
}

func TestBrowserLogin(t *testing.T) {
	_, c := serveIdentity(t)
	b := begin(t, c, ctxTwo)
	ended := start(t, b)
	token, err := b.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if token.Claims.Subject != alice || token.Claims.Context != ctxTwo || token.Lifetime < 23*time.Hour {
		t.Errorf("the token is %s's, in %s, for %v, want alice's in %s for a day", token.Claims.Subject, token.Claims.Context, token.Lifetime, ctxTwo)
	}
	select {
	case p := <-ended:
		t.Fatalf("the page is shown before the login has ended: %s", p.body)
	default:
	}
	b.Finish(t.Context(), Page{User: "Alice <b>", Context: ctxTwo})
	p := <-ended
	if p.status != http.StatusOK || !strings.Contains(p.body, "You are logged in") || !strings.Contains(p.body, "Alice &lt;b&gt;") || !strings.Contains(p.body, ctxTwo) {
		t.Errorf("the page is %d %s, want one that says who, and which context", p.status, p.body)
	}
	address, err := url.Parse(p.url)
	if err != nil || address.RawQuery != "" || "http://"+address.Host+callbackPath != b.RedirectURI {
		t.Errorf("the page is at %s, want the listener's address without a query", p.url)
	}
	for name, secret := range map[string]string{
		"token": token.Access.Reveal(), "state": b.state, "nonce": b.nonce, "verifier": b.verifier.Reveal(),
	} {
		if strings.Contains(p.body+p.url, secret) {
			t.Errorf("the %s is in the page", name)
		}
	}
	if _, err := http.Get(b.RedirectURI); err == nil {
		t.Error("the listener is still there")
	}
}

func TestAuthorizationRequest(t *testing.T) {
	_, c := serveIdentity(t)
	a, b := begin(t, c, ctxOne), begin(t, c, ctxOne)
	u, err := url.Parse(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, want := range map[string]string{
		"response_type": "code", "client_id": ctxOne, "scope": "openid", "code_challenge_method": "S256", "redirect_uri": a.RedirectURI,
	} {
		if got := q.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if !strings.HasPrefix(a.RedirectURI, "http://127.0.0.1:") {
		t.Errorf("the redirect URI is %s, want one on 127.0.0.1", a.RedirectURI)
	}
	if strings.Contains(a.URL, a.verifier.Reveal()) || len(a.verifier) < 43 {
		t.Error("the verifier is in the URL, or short")
	}
	hostile := begin(t, c, "$(calc)`calc`\"';|<>&^!%COMSPEC%")
	if i := strings.IndexFunc(hostile.URL, expandable); i >= 0 {
		t.Errorf("the URL is %s, and a shell may expand its %q", hostile.URL, hostile.URL[i])
	}
	for name, pair := range map[string][2]string{
		"state": {a.state, b.state}, "nonce": {a.nonce, b.nonce}, "verifier": {a.verifier.Reveal(), b.verifier.Reveal()},
		"port": {a.RedirectURI, b.RedirectURI}, "page": {a.loopback.pagePath, b.loopback.pagePath},
	} {
		if pair[0] == pair[1] || len(pair[0]) < 16 {
			t.Errorf("two logins have the %s %q and %q, want two that nobody guesses", name, pair[0], pair[1])
		}
	}
}

func TestPortIsTaken(t *testing.T) {
	_, c := serveIdentity(t)
	first := begin(t, c, ctxOne)
	u, err := url.Parse(first.RedirectURI)
	if err != nil {
		t.Fatal(err)
	}
	port := 0
	if err := json.Unmarshal([]byte(u.Port()), &port); err != nil {
		t.Fatal(err)
	}
	if _, err = c.Browser(t.Context(), BrowserOptions{ClientID: ctxOne, Port: port}); !errors.Is(err, ErrNotListening) || !strings.Contains(err.Error(), "port "+u.Port()+": ") {
		t.Errorf("on a taken port: error = %v, want one that names it", err)
	}
	first.Finish(t.Context(), Page{})
	second, err := c.Browser(t.Context(), BrowserOptions{ClientID: ctxOne, Port: port})
	if err != nil || second.RedirectURI != first.RedirectURI {
		t.Fatalf("on the port that is free again: %v, want the same redirect URI", err)
	}
	second.Finish(t.Context(), Page{})
}

// The service may not know PKCE; nothing is to depend on it.
func TestPKCEIsIgnored(t *testing.T) {
	_, c := serveIdentity(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			q.Del("code_challenge")
			q.Del("code_challenge_method")
			r.URL.RawQuery = q.Encode()
			if strings.HasSuffix(r.URL.Path, "/oauth/token") {
				_ = r.ParseForm()
				r.PostForm.Del("code_verifier")
			}
			h.ServeHTTP(w, r)
		})
	})
	b := begin(t, c, ctxOne)
	start(t, b)
	if token, err := b.Wait(t.Context()); err != nil || token.Claims.Context != ctxOne {
		t.Errorf("token in %q, %v, want one in %s", token.Claims.Context, err, ctxOne)
	}
}

// onToken changes the answer of the token endpoint.
func onToken(change func(answer map[string]any)) around {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/oauth/token") {
				h.ServeHTTP(w, r)
				return
			}
			recorded := httptest.NewRecorder()
			h.ServeHTTP(recorded, r)
			var answer map[string]any
			_ = json.Unmarshal(recorded.Body.Bytes(), &answer)
			change(answer)
			w.Header().Set("Date", recorded.Header().Get("Date"))
			_ = json.NewEncoder(w).Encode(answer)
		})
	}
}

func TestIDToken(t *testing.T) {
	tests := []struct {
		name    string
		idToken func(b *BrowserLogin) any
		want    string // in the error; "" means that it is accepted
	}{
		{"with our nonce", func(b *BrowserLogin) any { return jwt(t, map[string]any{"nonce": b.nonce}) }, ""},
		{"without a nonce, as the platform describes them", func(*BrowserLogin) any { return jwt(t, map[string]any{"sub": alice}) }, ""},
		{"that is null", func(*BrowserLogin) any { return nil }, ""},
		{"with the nonce of another login", func(*BrowserLogin) any { return jwt(t, map[string]any{"nonce": "another"}) }, "of another login"},
		{"with an empty nonce", func(*BrowserLogin) any { return jwt(t, map[string]any{"nonce": ""}) }, "of another login"},
		{"with a nonce that is no string", func(*BrowserLogin) any { return jwt(t, map[string]any{"nonce": 1}) }, "damaged"},
		{"that is no token", func(*BrowserLogin) any { return "x" }, "damaged"},
		{"that is no string", func(*BrowserLogin) any { return 7 }, "not a string"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b *BrowserLogin
			_, c := serveIdentity(t, onToken(func(answer map[string]any) { answer["id_token"] = tt.idToken(b) }))
			b = begin(t, c, ctxOne)
			start(t, b)
			_, err := b.Wait(t.Context())
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestExchangeFails(t *testing.T) {
	const code = "a-code-that-is-not-to-be-seen"
	tests := []struct {
		name        string
		answer      http.HandlerFunc
		want        string
		unreachable bool
	}{
		{"a code that is refused", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"msg":"unknown code `+code+`"}`)
		}, "400 Bad Request: unknown code [redacted]", false},
		{"a refusal in the words of the standard", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
		}, "400 Bad Request: invalid_grant", false},
		{"an error of the service", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, "500 Internal Server Error", true},
		{"an answer without a token", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "{}") }, "has no token", false},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/login", http.StatusTemporaryRedirect)
		}, "redirects are not followed", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			_, c := serveIdentity(t, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "/oauth/token") {
						calls++
						tt.answer(w, r)
						return
					}
					h.ServeHTTP(w, r)
				})
			})
			b := begin(t, c, ctxOne)
			if err := b.Paste("code=" + code + "&state=" + b.state + "&iss=" + url.QueryEscape(b.endpoints.issuer)); err != nil {
				t.Fatal(err)
			}
			_, err := b.Wait(t.Context())
			e := asError(t, err)
			if !strings.Contains(e.Error(), tt.want) || strings.Contains(e.Error(), code) || e.Unreachable() != tt.unreachable {
				t.Errorf("error = %v, want %q, and unreachable %v", err, tt.want, tt.unreachable)
			}
			if calls != 1 {
				t.Errorf("the code was sent %d times, want once", calls)
			}
		})
	}
}

// The person is told what the service said, by the page too.
func TestServiceRefuses(t *testing.T) {
	_, c := serveIdentity(t)
	b := begin(t, c, "context-bob12345") // alice may not use it
	ended := start(t, b)
	_, err := b.Wait(t.Context())
	var refused *AuthorizationError
	if !errors.As(err, &refused) || refused.Code != "access_denied" {
		t.Fatalf("error = %v, want access_denied", err)
	}
	b.Finish(t.Context(), Page{Problem: err.Error(), Remedy: "ask <bob>"})
	p := <-ended
	if !strings.Contains(p.body, "You are not logged in") || !strings.Contains(p.body, "access_denied") || !strings.Contains(p.body, "ask &lt;bob&gt;") {
		t.Errorf("the page is %s, want one that says why", p.body)
	}
}

func TestNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &BrowserLogin{arrived: make(chan redirect, 1)}
		start := time.Now()
		_, err := b.Wait(t.Context())
		if waited := time.Since(start); !errors.Is(err, ErrNobodyCame) || waited != 5*time.Minute {
			t.Errorf("after %v: %v, want that nobody came within five minutes", waited, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := b.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want the caller's own", err)
		}
	})
}

func TestEmail(t *testing.T) {
	service, c := serveIdentity(t)
	for subject, want := range map[string]string{alice: aliceName, "identity-bob12345": ""} {
		token, err := service.Issue(subject, "")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Email(t.Context(), secret.String(token)); got != want || err != nil {
			t.Errorf("e-mail of %s = %q, %v, want %q", subject, got, err, want)
		}
	}
	for _, body := range []string{"<html>", `{"email":"a\u001b[2J"}`, `{"email":7}`} {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, bytes.NewBufferString(body)) })
		if got, err := c.Email(t.Context(), "a.b.c"); got != "" || err == nil {
			t.Errorf("e-mail of %s = %q, want an error", body, got)
		}
	}
}
