package gate

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/config"
)

func TestClientAddr(t *testing.T) {
	g := &Gate{proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
	tests := []struct {
		name      string
		peer      string
		forwarded []string // one header each
		want      string
	}{
		{"no proxy", "192.0.2.1:1234", nil, "192.0.2.1"},
		{"no proxy, and a client that claims one", "192.0.2.1:1234", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a proxy", "10.0.0.1:1234", []string{"192.0.2.1"}, "192.0.2.1"},
		{"a proxy over IPv4 in IPv6", "[::ffff:10.0.0.1]:1234", []string{"192.0.2.1"}, "192.0.2.1"},
		{"a proxy of IPv6", "[fd00::1]:1234", []string{"2001:db8::1"}, "2001:db8::1"},
		{"two proxies", "10.0.0.1:1234", []string{"192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		{"two proxies in two headers", "10.0.0.1:1234", []string{"192.0.2.1", "10.0.0.2"}, "192.0.2.1"},
		{"a proxy that adds the port", "10.0.0.1:1234", []string{"192.0.2.1:40000, 10.0.0.2:443"}, "192.0.2.1"},
		{"a proxy of IPv6 that adds the port", "[fd00::1]:1234", []string{"[2001:db8::1]:40000"}, "2001:db8::1"},
		{"a client that claims another", "10.0.0.1:1234", []string{"198.51.100.7, 192.0.2.1"}, "192.0.2.1"},
		{"a client that claims to be a proxy", "10.0.0.1:1234", []string{"198.51.100.7, 10.9.9.9, 192.0.2.1"}, "192.0.2.1"},
		{"a client that claims nonsense", "10.0.0.1:1234", []string{"unknown, 192.0.2.1"}, "192.0.2.1"},
		{"a proxy that says nothing", "10.0.0.1:1234", nil, "10.0.0.1"},
		{"a proxy that says nonsense", "10.0.0.1:1234", []string{"192.0.2.1, unknown"}, "10.0.0.1"},
		{"only proxies", "10.0.0.1:1234", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"a zone", "[fe80::1%eth0]:1234", nil, "fe80::1%eth0"},
		{"no address", "", []string{"192.0.2.1"}, "invalid IP"},
	}
	for _, tt := range tests {
		r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{"X-Forwarded-For": tt.forwarded}}
		if got := g.ClientAddr(r).String(); got != tt.want {
			t.Errorf("%s: ClientAddr = %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestOnlyTrustedProxiesSayWhoAsks(t *testing.T) {
	g := &Gate{proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	names := []string{"Forwarded", "X-Real-Ip", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}
	for peer, want := range map[string]int{"10.0.0.1:1234": len(names), "192.0.2.1:1234": 0, "": 0} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.RemoteAddr = peer
		for _, name := range names {
			r.Header.Set(name, "elsewhere")
		}
		r.Header.Set("Accept", "*/*")
		g.DropForwarded(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := len(r.Header) - 1; got != want || r.Header.Get("Accept") == "" {
				t.Errorf("from %q: %v, want %d of those that a proxy sets", peer, r.Header, want)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	}
}

var alice = identity.User{Subject: "identity-alice001", Name: "alice", Password: "of alice", Contexts: []string{"context-abc12345"}, Roles: []string{platform.RegistryRole}}

// newService is a real identity service, and its address.
func newService(t *testing.T) (*identity.Service, string) {
	t.Helper()
	service, err := identity.New(identity.Config{Users: []identity.User{alice}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	return service, server.URL
}

func load(t *testing.T, text string) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dtz.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGateIsWhatTheConfigurationSays(t *testing.T) {
	service, url := newService(t)
	deny := filepath.Join(t.TempDir(), "deny.json")
	if err := os.WriteFile(deny, []byte(`{"identities": ["identity-mallory1"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := New(t.Context(), load(t, `verification:
  jwks_url: `+url+`/.well-known/jwks.json
  contexts: [abc12345]
  identity_url: `+url+identity.BasePath+`
  deny_list: `+deny+`
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	token, err := service.Issue(alice.Subject, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := service.CreateKey(alice.Subject, alice.Contexts[0], "")
	if err != nil {
		t.Fatal(err)
	}
	for user, password := range map[string]string{"bearer": token, "apikey": key} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.SetBasicAuth(user, password)
		p, err := g.Authenticator.Authenticate(r)
		if err != nil || p.Subject != alice.Subject || g.Policy.Authorize(p, registry.ActionPush) != nil {
			t.Errorf("%s: %+v, %v, want alice, who may push", user, p, err)
		}
	}
	if err := os.WriteFile(deny, []byte(`{"identities": ["`+alice.Subject+`"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { g.Run(t.Context()); close(done) }()
	for denied := false; !denied; {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.SetBasicAuth("bearer", token)
		_, err := g.Authenticator.Authenticate(r)
		denied = err != nil
	}
	t.Cleanup(func() { <-done }) // the context ends before
}

func TestStartWithoutKeys(t *testing.T) {
	away := httptest.NewServer(nil)
	away.Close()
	dir := t.TempDir()
	service, _ := newService(t)
	key := filepath.Join(dir, "spare.pem")
	if err := os.WriteFile(key, []byte(service.PublicKeyPEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	const contexts = "verification:\n  contexts: [\"*\"]\n"
	url := "  jwks_url: " + away.URL + "/secret-path\n"
	if _, err := New(t.Context(), load(t, contexts+url), Options{}); err == nil || strings.Contains(err.Error(), "secret-path") {
		t.Errorf("no key at all: %v, want an error that does not quote the path", err)
	}
	var out bytes.Buffer
	g, err := New(t.Context(), load(t, contexts+url+"  keys: ["+key+"]\n"), Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil || g == nil {
		t.Fatalf("a key in a file: %v, want a start", err)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "signing keys cannot be fetched") {
		t.Errorf("logged: %s, want one warning", got)
	}
	if _, err := New(t.Context(), load(t, contexts), Options{}); err != nil {
		t.Errorf("the platform's key: %v, want a start", err)
	}
}

// Without an identity service a key is refused, not unchecked.
func TestAPIKeysAreRefusedWithoutIdentityService(t *testing.T) {
	g, err := New(t.Context(), load(t, "verification: {contexts: [\"*\"], identity_url: \"\"}\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.SetBasicAuth("apikey", "apikey-abc12345")
	w := httptest.NewRecorder()
	(&registry.Handler{Authenticator: g.Authenticator, Policy: g.Policy}).ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "API keys are not accepted here") {
		t.Errorf("%d %s, want 401", w.Code, w.Body)
	}
}
