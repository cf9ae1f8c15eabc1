package dev_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/dev"
)

// instance is a running one, for as long as the test.
type instance struct {
	*dev.Instance
	t    *testing.T
	stop func()
}

func start(t *testing.T, o dev.Options) *instance {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	i, err := dev.Start(ctx, o)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	stop := func() {
		cancel()
		if err := i.Wait(); err != nil {
			t.Errorf("Wait: %v", err)
		}
	}
	t.Cleanup(stop)
	return &instance{i, t, stop}
}

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// login is a token by password, in the context contextID or the default one.
func (i *instance) login(contextID string) *authn.Basic {
	i.t.Helper()
	client := &oauth.Client{BaseURL: i.Identity}
	token, err := client.Password(i.t.Context(), i.Username, secret.String(i.Password))
	if err == nil && contextID != "" {
		token, err = client.Refresh(i.t.Context(), token.Access, contextID)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return bearer(token.Access.Reveal())
}

func bearer(token string) *authn.Basic { return &authn.Basic{Username: "bearer", Password: token} }

func apiKey(key string) *authn.Basic { return &authn.Basic{Username: "apikey", Password: key} }

func (i *instance) tag(image string) name.Tag {
	i.t.Helper()
	tag, err := name.NewTag(i.Registry + "/" + image)
	if err != nil {
		i.t.Fatal(err)
	}
	return tag
}

func (i *instance) push(image string, auth authn.Authenticator) v1.Image {
	i.t.Helper()
	img, err := random.Image(1024, 3)
	if err != nil {
		i.t.Fatal(err)
	}
	if err := remote.Write(i.tag(image), img, remote.WithAuth(auth), remote.WithContext(i.t.Context())); err != nil {
		i.t.Fatal(err)
	}
	return img
}

// pull is the digest of an image whose layers have been read.
func (i *instance) pull(image string, auth authn.Authenticator) (v1.Hash, error) {
	img, err := remote.Image(i.tag(image), remote.WithAuth(auth), remote.WithContext(i.t.Context()))
	if err != nil {
		return v1.Hash{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return v1.Hash{}, err
	}
	for _, layer := range layers {
		r, err := layer.Compressed()
		if err != nil {
			return v1.Hash{}, err
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return v1.Hash{}, err
		}
	}
	return img.Digest()
}

// noRedirect shows redirects instead of following them.
var noRedirect = http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// do asks the registry by hand.
func (i *instance) do(method, path string, auth authn.Authenticator) (*http.Response, string) {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), method, "http://"+i.Registry+path, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	credentials, err := auth.Authorization()
	if err != nil {
		i.t.Fatal(err)
	}
	if credentials.Username != "" {
		req.SetBasicAuth(credentials.Username, credentials.Password)
	}
	resp, err := noRedirect.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return resp, string(body)
}

func (i *instance) want(want int, method, path string, auth authn.Authenticator) string {
	i.t.Helper()
	resp, body := i.do(method, path, auth)
	if resp.StatusCode != want {
		i.t.Errorf("%s %s = %d %s, want %d", method, path, resp.StatusCode, body, want)
	}
	return body
}

func TestPushAndPull(t *testing.T) {
	i := start(t, dev.Options{})
	for name, auth := range map[string]authn.Authenticator{
		"a token":      i.login(""),
		"the API key":  apiKey(i.APIKey),
		"Bearer token": &authn.Bearer{Token: i.login("").Password},
	} {
		want, err := i.push("team/app:v1", auth).Digest()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := i.pull("team/app:v1", auth); got != want || err != nil {
			t.Errorf("with %s: pulled %v, %v, want %v", name, got, err, want)
		}
	}
}

func TestContextsAreApart(t *testing.T) {
	i := start(t, dev.Options{})
	first, second := i.login(i.Contexts[0]), i.login(i.Contexts[1])
	i.push("app:v1", first)
	i.push("other:v1", second)
	if _, err := i.pull("app:v1", second); err == nil {
		t.Error("an image of the first context can be pulled in the second")
	}
	if got := i.want(200, "GET", "/v2/_catalog", second); got != `{"repositories":["other"]}`+"\n" {
		t.Errorf("the second context's catalogue is %s", got)
	}
	if got := i.want(200, "GET", "/v2/_catalog", i.login("")); got != `{"repositories":["app"]}`+"\n" {
		t.Errorf("the default context's catalogue is %s, want that of %s", got, i.Contexts[0])
	}
}

// bob may log in, but lacks the registry's role.
var bob = identity.User{
	Name: "bob", Password: "hunter2", Subject: "identity-bob00001", Contexts: []string{"context-bob00001"},
	Roles: []string{"https://dtz.rocks/containers/admin/{context_id}"},
}

// issue is a token that nobody has logged in for.
func (i *instance) issue(u identity.User) *authn.Basic {
	i.t.Helper()
	token, err := i.IdentityService.Issue(u.Subject, "")
	if err != nil {
		i.t.Fatal(err)
	}
	return bearer(token)
}

func TestWhoIsRefused(t *testing.T) {
	i := start(t, dev.Options{Users: []identity.User{bob}})
	deleted, err := i.IdentityService.CreateKey(bob.Subject, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := i.IdentityService.DeleteKey(deleted); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		auth   authn.Authenticator
		status int
		says   string
	}{
		{"nobody", authn.Anonymous, 401, `"UNAUTHORIZED"`},
		{"somebody with another user name", &authn.Basic{Username: i.Username, Password: i.Password}, 401, "bearer"},
		{"somebody with nonsense for a token", bearer("a.b.c"), 401, `"UNAUTHORIZED"`},
		{"somebody with an unknown API key", apiKey("apikey-abcdefgh"), 401, `"UNAUTHORIZED"`},
		{"somebody with a deleted API key", apiKey(deleted), 401, `"UNAUTHORIZED"`},
		{"bob, who lacks the registry's role", i.issue(bob), 403, platform.RoleFor(platform.RegistryRole, bob.Contexts[0])},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := i.do("GET", "/v2/", tt.auth)
			challenges := resp.Header.Values("WWW-Authenticate")
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.says) {
				t.Errorf("GET /v2/ = %d %s, want %d with %s", resp.StatusCode, body, tt.status, tt.says)
			}
			if wantChallenge := tt.status == 401; wantChallenge != (len(challenges) == 1 && strings.HasPrefix(challenges[0], "Basic ")) {
				t.Errorf("challenges %q with %d, want one of Basic for 401 only", challenges, tt.status)
			}
			if credentials, _ := tt.auth.Authorization(); credentials.Password != "" && strings.Contains(body, credentials.Password) {
				t.Errorf("the answer quotes the credential: %s", body)
			}
		})
	}
}

// The base of the API is challenged with and without its slash: some clients
// ask without, and follow no redirect.
func TestChallengeNeedsNoSlash(t *testing.T) {
	i := start(t, dev.Options{})
	for _, path := range []string{"/v2", "/v2/"} {
		if resp, body := i.do("GET", path, authn.Anonymous); resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("GET %s = %d %s, want 401 with a challenge", path, resp.StatusCode, body)
		}
	}
	i.want(200, "GET", "/v2/", i.login(""))
	if resp, body := i.do("GET", "/v2", i.login("")); resp.StatusCode != 301 || resp.Header.Get("Location") != "/v2/" {
		t.Errorf("GET /v2 with a token = %d %s to %q, want a redirect to /v2/", resp.StatusCode, body, resp.Header.Get("Location"))
	}
}

func TestTokenEndsOnTheSecond(t *testing.T) {
	clock := &clock{now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	i := start(t, dev.Options{TokenLifetime: 20 * time.Second, Now: clock.time})
	auth, key := i.login(""), apiKey(i.APIKey)
	i.want(200, "GET", "/v2/", key)
	clock.advance(20*time.Second - time.Nanosecond)
	i.want(200, "GET", "/v2/", auth)
	clock.advance(time.Nanosecond)
	i.want(401, "GET", "/v2/", auth)
	i.want(200, "GET", "/v2/", key)
	if got := i.IdentityService.Calls("/auth/apikey"); got != 2 {
		t.Errorf("the registry exchanged the API key %d times, want one exchange for each token's life", got)
	}
}

func TestManagementAPI(t *testing.T) {
	i := start(t, dev.Options{Users: []identity.User{bob}})
	first, second := i.login(i.Contexts[0]), i.login(i.Contexts[1])
	i.push("app:v1", first)
	i.push("app:v2", first)
	i.push("team/other:v1", first)

	for auth, want := range map[authn.Authenticator]int{first: 2, second: 0} {
		var stats struct {
			ImageCount *int
			ServerURL  string
		}
		body := i.want(200, "GET", "/api/2023-12-28/stats", auth)
		if err := json.Unmarshal([]byte(body), &stats); err != nil || stats.ImageCount == nil || *stats.ImageCount != want || stats.ServerURL != i.Registry {
			t.Errorf("stats = %s (%v), want %d images at %s", body, err, want, i.Registry)
		}
	}
	if body := i.want(403, "GET", "/api/2023-12-28/stats", i.issue(bob)); !strings.Contains(body, platform.RoleFor(platform.RegistryRole, bob.Contexts[0])) {
		t.Errorf("stats without the role = %s, want it named", body)
	}
	i.want(401, "POST", "/api/2023-12-28/disable", apiKey("apikey-abcdefgh"))

	i.want(200, "POST", "/api/2023-12-28/disable", first)
	if body := i.want(403, "GET", "/v2/", first); !strings.Contains(body, "not enabled for "+i.Contexts[0]) || !strings.Contains(body, `"DENIED"`) {
		t.Errorf("GET /v2/ where it is disabled = %s, want it to say so", body)
	}
	i.want(200, "GET", "/v2/", second)
	i.want(200, "POST", "/api/2023-12-28/enable", first)
	i.want(200, "GET", "/v2/app/tags/list", first)
}

func TestManagementAPIRefusesWithAMessage(t *testing.T) {
	i := start(t, dev.Options{})
	tests := []struct {
		method, path string
		status       int
		header       map[string]string // a part of the answer's
	}{
		{"GET", "/stats", 401, map[string]string{"WWW-Authenticate": `Basic realm="dtz.rocks"`}},
		{"POST", "/stats", 405, map[string]string{"Allow": "GET"}},
		{"GET", "/disable", 405, map[string]string{"Allow": "POST"}},
		{"DELETE", "/enable", 405, map[string]string{"Allow": "POST"}},
		{"GET", "/nothing", 404, nil},
		{"GET", "/stats/", 404, nil},
		{"GET", "/", 404, nil},
	}
	for _, tt := range tests {
		resp, body := i.do(tt.method, "/api/2023-12-28"+tt.path, authn.Anonymous)
		var message struct{ Msg string }
		if err := json.Unmarshal([]byte(body), &message); err != nil || message.Msg == "" || resp.StatusCode != tt.status || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s = %d %s (%v), want %d with a msg", tt.method, tt.path, resp.StatusCode, body, err, tt.status)
		}
		for name, want := range tt.header {
			if got := resp.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s %s has %s: %q, want %q", tt.method, tt.path, name, got, want)
			}
		}
	}
}
