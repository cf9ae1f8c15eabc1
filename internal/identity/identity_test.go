package identity_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

const (
	alice    = "identity-alice001"
	password = "correct horse: battery"
	work     = "context-work0001" // alice's default
	home     = "context-home0001"
	foreign  = "context-bob00001" // bob's, whom alice does not know
)

var users = []identity.User{
	{
		Name: "alice", Password: password, Subject: alice, Email: "alice@example.com",
		Contexts: []string{work, home},
		Roles: []string{
			platform.RegistryRole,
			"https://dtz.rocks/identity/admin/{identity_id}",
			"https://dtz.rocks/containers/admin/" + home,
		},
	},
	{Name: "bob", Password: "hunter2", Subject: "identity-bob00001", Contexts: []string{foreign}},
}

// signingKey is shared, because making one is slow.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// server is a service at an address, with a clock that stands still until it
// is moved.
type server struct {
	*identity.Service
	t   *testing.T
	url string

	mu  sync.Mutex
	now time.Time
}

func (s *server) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *server) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func newServer(t *testing.T, configure ...func(*identity.Config)) *server {
	t.Helper()
	s := &server{t: t, now: time.Date(2026, 11, 23, 9, 0, 0, 250e6, time.UTC)} // a Monday
	c := identity.Config{Users: users, Now: s.time, Key: signingKey()}
	for _, f := range configure {
		f(&c)
	}
	var err error
	if s.Service, err = identity.New(c); err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	s.url = ts.URL
	return s
}

// call sends a request to the API, with header lines in the form "Name: value".
func (s *server) call(method, path, body string, header ...string) (status int, answer string) {
	s.t.Helper()
	resp := s.do(method, s.url+identity.BasePath+path, body, header...)
	return resp.StatusCode, read(s.t, resp)
}

// do sends a request to any URL and follows no redirect.
func (s *server) do(method, url, body string, header ...string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// issue is a new token of alice's in context.
func (s *server) issue(context string) string {
	s.t.Helper()
	token, err := s.Issue(alice, context)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// createKey is a new API key of alice's in context.
func (s *server) createKey(context string) string {
	s.t.Helper()
	key, err := s.CreateKey(alice, context, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

func basic(username, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+password))
}

// decode is a JSON object.
func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

func TestEndpoints(t *testing.T) {
	s := newServer(t)
	token, key := s.issue(work), s.createKey(home)
	bearer := "Authorization: Bearer " + token
	tests := []struct {
		name   string
		method string
		path   string
		body   string
		header string
		status int
		answer string // a part of it
	}{
		{"the password of a user", "POST", "/token/auth", `{"username":"alice","password":"` + password + `","scopes":["x"]}`, "", 200, `"scope":"` + work + `"`},
		{"another password", "POST", "/token/auth", `{"username":"alice","password":"Correct horse: battery"}`, "", 401, `{"msg":"wrong user name or password"}`},
		{"another user's password", "POST", "/token/auth", `{"username":"alice","password":"hunter2"}`, "", 401, `{"msg":`},
		{"an unknown user", "POST", "/token/auth", `{"username":"carol","password":"hunter2"}`, "", 401, `{"msg":"wrong user name or password"}`},
		{"an unknown user with no password", "POST", "/token/auth", `{"username":"carol","password":""}`, "", 401, `{"msg":`},
		{"no body", "POST", "/token/auth", "", "", 401, `{"msg":`},
		{"a body that is no JSON", "POST", "/token/auth", "username=alice", "", 400, `{"msg":`},
		{"two JSON objects", "POST", "/token/auth", `{} {}`, "", 400, `{"msg":`},
		{"a number for a password", "POST", "/token/auth", `{"username":"alice","password":1}`, "", 400, `{"msg":`},
		{"a body over 64 KiB", "POST", "/token/auth", `{"username":"` + strings.Repeat("a", 64<<10) + `"}`, "", 413, `{"msg":`},

		{"refreshing stays in the context", "POST", "/token/refresh", "", bearer, 200, `"scope":"` + work + `"`},
		{"refreshing with an empty object", "POST", "/token/refresh", "{}", bearer, 200, `"scope":"` + work + `"`},
		{"refreshing into another context", "POST", "/token/refresh", `{"contextId":"` + home + `"}`, bearer, 200, `"scope":"` + home + `"`},
		{"refreshing into a context in its other spelling", "POST", "/token/refresh", `{"contextId":"home0001"}`, bearer, 200, `"scope":"` + home + `"`},
		{"refreshing into somebody else's context", "POST", "/token/refresh", `{"contextId":"` + foreign + `"}`, bearer, 403, `{"msg":`},
		{"refreshing without a token", "POST", "/token/refresh", "{}", "", 401, `{"msg":`},
		{"refreshing with Basic", "POST", "/token/refresh", "{}", basic("bearer", token), 401, `{"msg":`},
		{"refreshing with another signature", "POST", "/token/refresh", "{}", "Authorization: Bearer " + token[:len(token)-8] + "AAAAAAAA", 401, `{"msg":"token not valid"}`},
		{"refreshing with nonsense", "POST", "/token/refresh", "{}", "Authorization: Bearer a.b", 401, `{"msg":`},

		{"an API key", "POST", "/auth/apikey", `{"apiKey":"` + key + `"}`, "X-DTZ-SOURCE: host.example", 200, `"scope":"` + home + `"`},
		{"an API key in another context", "POST", "/auth/apikey", `{"apiKey":"` + key + `","contextId":"` + work + `"}`, "", 200, `"scope":"` + work + `"`},
		{"an API key in somebody else's context", "POST", "/auth/apikey", `{"apiKey":"` + key + `","contextId":"` + foreign + `"}`, "", 401, `{"msg":`},
		{"an unknown API key", "POST", "/auth/apikey", `{"apiKey":"apikey-abcdefgh"}`, "", 401, `{"msg":"unknown API key"}`},
		{"an empty API key", "POST", "/auth/apikey", `{"apiKey":""}`, "", 401, `{"msg":`},

		{"the contexts", "GET", "/context", "", bearer, 200, `[{"contextId":"` + work + `"},{"contextId":"` + home + `"}]`},
		{"the contexts without a token", "GET", "/context", "", "", 401, `{"msg":`},
		{"the contexts by API key", "GET", "/context", "", "X-API-KEY: " + key, 401, `{"msg":`},

		{"role counts", "GET", "/me", "", bearer, 200, `{"roles":[{"contextId":"` + work + `","count":1},{"contextId":"` + home + `","count":2}]}`},
		{"me without authentication", "GET", "/me", "", "", 401, `{"msg":`},
		{"e-mail by token", "GET", "/me/email", "", bearer, 200, `{"email":"alice@example.com"}`},
		{"e-mail by Basic bearer", "GET", "/me/email", "", basic("bearer", token), 200, `{"email":"alice@example.com"}`},
		{"e-mail by Basic apikey", "GET", "/me/email", "", basic("apikey", key), 200, `{"email":"alice@example.com"}`},
		{"e-mail by API key", "GET", "/me/email", "", "X-API-KEY: " + key, 200, `{"email":"alice@example.com"}`},
		{"e-mail by Basic with a user's name", "GET", "/me/email", "", basic("alice", password), 401, "bearer or apikey"},
		{"e-mail by cookie", "GET", "/me/email", "", "Cookie: dtz-auth=" + token, 401, `{"msg":`},

		{"userinfo", "GET", "/oauth/userinfo", "", bearer, 200, `"sub":"` + alice + `"`},
		{"userinfo without a token", "GET", "/oauth/userinfo", "", "", 401, `{"msg":`},

		{"an unknown path", "GET", "/nothing", "", bearer, 404, `{"msg":"no such endpoint"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.header != "" {
				header = append(header, tt.header)
			}
			status, answer := s.call(tt.method, tt.path, tt.body, header...)
			if status != tt.status || !strings.Contains(answer, tt.answer) {
				t.Errorf("%s %s = %d %s, want %d with %s", tt.method, tt.path, status, answer, tt.status, tt.answer)
			}
			if strings.Contains(answer, key) || strings.Contains(answer, password) {
				t.Errorf("%s %s quotes a secret: %s", tt.method, tt.path, answer)
			}
		})
	}
}

func TestEmailMayBeMissing(t *testing.T) {
	s := newServer(t)
	token, err := s.Issue("identity-bob00001", "")
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := s.call("GET", "/me/email", "", "Authorization: Bearer "+token); status != 404 {
		t.Errorf("GET /me/email = %d %s, want 404", status, answer)
	}
}

func TestContextOfAPIKeyHeader(t *testing.T) {
	s := newServer(t)
	key := s.createKey(home)
	for asked, want := range map[string]string{"": home, work: work} {
		status, answer := s.call("POST", "/oauth/register", `{"redirect_uris":["https://example.com/"]}`, "X-API-KEY: "+key, "X-DTZ-CONTEXT: "+asked)
		if status != 200 || decode(t, answer)["client_id"] != want {
			t.Errorf("X-DTZ-CONTEXT %q acts as %d %s, want %s", asked, status, answer, want)
		}
	}
}

func TestCallsCountsWhatArrives(t *testing.T) {
	s := newServer(t)
	key := s.createKey(work)
	for range 2 {
		s.call("POST", "/token/refresh", "", "Authorization: Bearer nonsense")
	}
	s.call("POST", "/token/refresh", "", "Authorization: Bearer "+s.issue(work))
	s.call("DELETE", "/me/identity/apikey/"+key, "", "X-API-KEY: "+key)
	for path, want := range map[string]int{"/token/refresh": 3, "/token/auth": 0, "/me/identity/apikey/{apikey}": 1} {
		if got := s.Calls(path); got != want {
			t.Errorf("Calls(%q) = %d, want %d", path, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	one := users[0]
	change := func(f func(*identity.User)) []identity.User {
		u := one
		f(&u)
		return []identity.User{u}
	}
	tests := []struct {
		name   string
		config identity.Config
	}{
		{"a lifetime under a second", identity.Config{Lifetime: 20 * time.Millisecond}},
		{"a negative lifetime", identity.Config{Lifetime: -time.Hour}},
		{"half seconds, which exp cannot say", identity.Config{Lifetime: 1500 * time.Millisecond}},
		{"a user without a password", identity.Config{Users: change(func(u *identity.User) { u.Password = "" })}},
		{"a user without a name", identity.Config{Users: change(func(u *identity.User) { u.Name = "" })}},
		{"a user without a subject", identity.Config{Users: change(func(u *identity.User) { u.Subject = "" })}},
		{"a user without a context", identity.Config{Users: change(func(u *identity.User) { u.Contexts = nil })}},
		{"two users of one name", identity.Config{Users: append(change(func(u *identity.User) { u.Subject = "identity-other001" }), one)}},
		{"two users of one identity", identity.Config{Users: append(change(func(u *identity.User) { u.Name, u.Subject = "al", "alice001" }), one)}},
		{"an API key of nobody", identity.Config{APIKeys: []identity.APIKey{{Hash: identity.HashAPIKey("apikey-abcdefgh"), Subject: alice, Context: work}}}},
		{"an API key in a context that its user may not use", identity.Config{Users: users, APIKeys: []identity.APIKey{{Hash: identity.HashAPIKey("apikey-abcdefgh"), Subject: alice, Context: foreign}}}},
	}
	for _, tt := range tests {
		tt.config.Key = signingKey()
		if _, err := identity.New(tt.config); err == nil {
			t.Errorf("%s: New gives no error", tt.name)
		} else if strings.Contains(err.Error(), password) {
			t.Errorf("%s: New quotes the password: %v", tt.name, err)
		}
	}
}

func TestBasePathIsThePlatforms(t *testing.T) {
	if !strings.HasSuffix(platform.IdentityURL, ".rocks"+identity.BasePath) {
		t.Errorf("BasePath = %q, but the platform is at %s", identity.BasePath, platform.IdentityURL)
	}
}
