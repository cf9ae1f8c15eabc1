package registry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const trustedPeer = "192.0.2.10:40000"

func newForwardAuth(t testing.TB) *ForwardAuth {
	h := newHandler(t, nil)
	h.Policy.Roles = rolesByAction
	return &ForwardAuth{
		Authenticator:  h.Authenticator,
		Policy:         h.Policy,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("2001:db8::/64")},
	}
}

func TestForwardAuth(t *testing.T) {
	const (
		ambiguous  = "it cannot be told what has been asked for: headers of the proxy and the client do not agree"
		noPath     = "no method, or a URI that does not begin with a slash"
		incomplete = "it cannot be told what has been asked for: want "
		forwarded  = incomplete + "x-forwarded-method and x-forwarded-uri once each"
		original   = incomplete + "x-original-method and x-original-uri once each"
		elsewhere  = "a proxy asks at /verify, or below it"
		unsaid     = "the proxy does not say what has been asked for"
		outside    = "nothing but the registry's API is served here"
		noPusher   = "missing role https://example.com/pusher/context-abc12345"
	)
	tests := []struct {
		name    string
		method  string // of the proxy's own request
		uri     string
		header  []string
		status  int
		message string
		seen    string // the client's method and URI, as Observe has them
	}{
		{"Caddy asks for a pull", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/app/manifests/v1"}, 200, "", "GET /v2/app/manifests/v1"},
		{"Caddy asks for a push", "GET", "/verify", []string{"X-Forwarded-Method: PUT", "X-Forwarded-Uri: /v2/app/manifests/v1"}, 403, noPusher, "PUT /v2/app/manifests/v1"},
		{"nginx asks for a pull", "GET", "/verify", []string{"X-Original-Method: HEAD", "X-Original-Uri: /v2/app/manifests/v1?x=1"}, 200, "", "HEAD /v2/app/manifests/v1?x=1"},
		{"nginx asks for a push", "GET", "/verify", []string{"X-Original-Method: PATCH", "X-Original-Uri: /v2/app/blobs/uploads/1"}, 403, noPusher, "PATCH /v2/app/blobs/uploads/1"},
		{"Envoy asks for a pull", "GET", "/verify/v2/app/manifests/v1?x=1", nil, 200, "", "GET /v2/app/manifests/v1?x=1"},
		{"Envoy asks for a push", "PUT", "/verify/v2/app/manifests/v1", nil, 403, noPusher, "PUT /v2/app/manifests/v1"},
		{"Envoy asks for the base", "GET", "/verify/v2/", nil, 200, "", "GET /v2/"},
		{"Envoy asks for something else", "GET", "/verify/metrics", nil, 403, outside, "GET /metrics"},
		{"Envoy asks for the root", "GET", "/verify/", nil, 403, outside, "GET /"},
		{"the proxy's own query says nothing", "GET", "/verify?mount=x", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/"}, 200, "", "GET /v2/"},

		{"nobody says anything", "GET", "/verify", nil, 400, unsaid, "GET /verify"},
		{"another path than ours", "GET", "/auth", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/"}, 400, elsewhere, "GET /auth"},
		{"a path that only begins like ours", "GET", "/verifyx/v2/", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/"}, 400, elsewhere, "GET /verifyx/v2/"},
		{"our path with an escaped slash", "GET", "/verify%2fv2/", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/"}, 400, elsewhere, "GET /verify%2fv2/"},
		{"our path in other letters", "GET", "/%76erify/v2/", nil, 400, elsewhere, "GET /%76erify/v2/"},
		{"Envoy asks for an asterisk, and the client contradicts", "OPTIONS", "/verify*", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/"}, 400, elsewhere, "OPTIONS /verify*"},
		{"both families agree", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/", "X-Original-Method: GET", "X-Original-Uri: /v2/"}, 200, "", "GET /v2/"},
		{"the families differ in the method", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/", "X-Original-Method: PUT", "X-Original-Uri: /v2/"}, 400, ambiguous, "GET /verify"},
		{"the families differ in the URI", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/", "X-Original-Method: GET", "X-Original-Uri: /v2/x"}, 400, ambiguous, "GET /verify"},
		{"the families differ in how the URI is spelled", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/", "X-Original-Method: GET", "X-Original-Uri: /v2/?"}, 400, ambiguous, "GET /verify"},
		{"Envoy and a header agree", "GET", "/verify/v2/", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/"}, 200, "", "GET /v2/"},
		{"Envoy and a header differ in the method", "DELETE", "/verify/v2/app/manifests/v1", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/app/manifests/v1"}, 400, ambiguous, "DELETE /verify/v2/app/manifests/v1"},
		{"Envoy and a header differ in the URI", "GET", "/verify/metrics", []string{"X-Original-Method: GET", "X-Original-Uri: /v2/"}, 400, ambiguous, "GET /verify/metrics"},
		{"half of a family", "GET", "/verify", []string{"X-Forwarded-Method: GET"}, 400, forwarded, "GET /verify"},
		{"the other half", "GET", "/verify", []string{"X-Original-Uri: /v2/"}, 400, original, "GET /verify"},
		{"half of each", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Original-Uri: /v2/"}, 400, original, "GET /verify"},
		{"a family and half of the other", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/", "X-Original-Method: GET"}, 400, original, "GET /verify"},
		{"the method twice", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/"}, 400, forwarded, "GET /verify"},
		{"the URI twice", "GET", "/verify", []string{"X-Original-Method: GET", "X-Original-Uri: /v2/", "X-Original-Uri: /v2/"}, 400, original, "GET /verify"},
		{"the method twice, once with underscores", "GET", "/verify", []string{"X-Forwarded-Method: PUT", "X_Forwarded_Method: GET", "X-Forwarded-Uri: /v2/"}, 400, forwarded, "GET /verify"},
		{"the URI twice, once in lower case", "GET", "/verify", []string{"X-Original-Method: GET", "X-Original-Uri: /v2/", "x-original-uri: /v2/"}, 400, original, "GET /verify"},
		{"the URI twice, once as nginx spells it", "GET", "/verify", []string{"X-Original-Method: GET", "X-Original-URI: /v2/", "X-Original-Uri: /v2/"}, 400, original, "GET /verify"},
		{"two methods in one header", "GET", "/verify", []string{"X-Original-Method: GET, DELETE", "X-Original-Uri: /v2/app/manifests/v1"}, 403, "missing role https://dtz.rocks/containerregistry/admin/context-abc12345", "GET, DELETE /v2/app/manifests/v1"},
		{"an empty method", "GET", "/verify", []string{"X-Forwarded-Method: ", "X-Forwarded-Uri: /v2/"}, 400, noPath, "GET /verify"},
		{"an empty URI", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: "}, 400, noPath, "GET /verify"},
		{"a whole URL", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: http://example.com/v2/"}, 400, noPath, "GET /verify"},
		{"an authority", "GET", "/verify", []string{"X-Forwarded-Method: CONNECT", "X-Forwarded-Uri: example.com:443"}, 400, noPath, "GET /verify"},
		{"an asterisk", "GET", "/verify", []string{"X-Forwarded-Method: OPTIONS", "X-Forwarded-Uri: *"}, 400, noPath, "GET /verify"},
		{"a relative path", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: v2/"}, 400, noPath, "GET /verify"},
		{"a broken escape", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/%zz?apiKey=apikey-abc12345"}, 400, "the URI is malformed", "GET /verify"},
		{"a control character", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/\x7f"}, 400, "the URI is malformed", "GET /verify"},
		{"a method in lower case", "GET", "/verify", []string{"X-Forwarded-Method: get", "X-Forwarded-Uri: /v2/app/manifests/v1"}, 403, "missing role https://dtz.rocks/containerregistry/admin/context-abc12345", "get /v2/app/manifests/v1"},

		{"two slashes, which are no host", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: //v2/"}, 403, outside, "GET //v2/"},
		{"a path that leads out", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/../metrics"}, 403, outside, "GET /v2/../metrics"},
		{"an escaped path that leads out", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/%2e%2e/metrics"}, 403, outside, "GET /v2/%2e%2e/metrics"},
		{"a path that is escaped twice", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/%252e%252e/metrics"}, 403, outside, "GET /v2/%252e%252e/metrics"},
		{"a fragment", "GET", "/verify", []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/#/../metrics"}, 403, outside, "GET /v2/%23/../metrics"},
	}
	token := somebody{ActionPull}.token("context-")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newForwardAuth(t)
			calls := 0
			f.Observe = func(r *http.Request, _ Decision) {
				calls++
				if got := r.Method + " " + r.URL.RequestURI(); got != tt.seen {
					t.Errorf("Observe sees %q, want %q", got, tt.seen)
				}
				for name := range r.Header {
					if name == "Authorization" || strings.Contains(canonicalName(name), "-uri") {
						t.Errorf("Observe sees %s: %q", name, r.Header[name])
					}
				}
			}
			r := question(tt.method, tt.uri, headerOf(tt.header...))
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			f.ServeHTTP(w, r)
			if w.Code != tt.status || calls != 1 {
				t.Fatalf("%d %s, observed %d times, want %d and once", w.Code, w.Body, calls, tt.status)
			}
			if got := w.Header().Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control: %q", got)
			}
			if tt.status != 200 {
				checkRefusal(t, w, map[int]string{400: "UNSUPPORTED", 403: "DENIED"}[tt.status], tt.message)
			}
			checkIdentity(t, w, tt.status == 200)
		})
	}
}

// checkIdentity looks for what the proxy is to pass on, or its absence.
func checkIdentity(t *testing.T, w *httptest.ResponseRecorder, letIn bool) {
	t.Helper()
	for name, want := range map[string]string{"X-Dtz-Identity": "identity-abc12345", "X-Dtz-Context": "context-abc12345"} {
		if !letIn {
			want = ""
		}
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if letIn && w.Body.Len() > 0 {
		t.Errorf("body %q, want none", w.Body)
	}
}

func TestForwardAuthTrustsProxiesOnly(t *testing.T) {
	for peer, want := range map[string]int{
		"192.0.2.1:1":            200,
		"192.0.2.15:65535":       200,
		"[::ffff:192.0.2.1]:1":   200,
		"[2001:db8::1]:1":        200,
		"[2001:db8::1%eth0]:1":   200,
		"192.0.2.16:1":           403,
		"127.0.0.1:1":            403,
		"[2001:db8:0:1::1]:1":    403,
		"[::ffff:192.0.2.16]:1":  403,
		"192.0.2.1":              403, // no port: not from a listener of ours
		"@":                      403, // a Unix socket
		"":                       403,
		"192.0.2.1, 192.0.2.2:1": 403,
	} {
		for _, p := range proxies {
			f := newForwardAuth(t)
			var reason string
			f.Observe = func(_ *http.Request, d Decision) {
				if d.Err != nil {
					reason = d.Err.Error()
				}
			}
			r := p.asks("GET", "/v2/", headerOf("Authorization: Bearer "+goodToken(), "X-Forwarded-For: 192.0.2.1", "X-Real-Ip: 192.0.2.1"))
			r.RemoteAddr = peer
			w := httptest.NewRecorder()
			f.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s at %q = %d %s, want %d", p.name, peer, w.Code, w.Body, want)
			}
			if want == 403 && reason != "not a trusted proxy: "+peer {
				t.Errorf("%s at %q: the log says %q", p.name, peer, reason)
			}
		}
	}
	f := newForwardAuth(t)
	f.TrustedProxies = nil
	w := httptest.NewRecorder()
	f.ServeHTTP(w, proxies[0].asks("GET", "/v2/", headerOf("Authorization: Bearer "+goodToken())))
	if w.Code != 403 {
		t.Errorf("without trusted proxies = %d, want 403", w.Code)
	}
}

// Envoy passes on no Content-Type unless it is told to, and without it nobody
// knows whether there is a form that asks for a mount.
func TestEnvoyMayKeepAFormBack(t *testing.T) {
	for _, tt := range []struct {
		who    somebody
		header []string
		want   int
	}{
		{somebody{ActionPush}, nil, 403},
		{somebody{ActionPush}, []string{"Content-Type: "}, 200},
		{somebody{ActionPush}, []string{"Content-Type: application/octet-stream"}, 200},
		{somebody{ActionPush, ActionPull}, nil, 200},
	} {
		r := question("POST", "/verify/v2/app/blobs/uploads/", headerOf(append(tt.header, "Authorization: Bearer "+tt.who.token(""))...))
		w := httptest.NewRecorder()
		newForwardAuth(t).ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("who may %v begins an upload with %q: %d, want %d", tt.who, tt.header, w.Code, tt.want)
		}
	}
}

func TestForwardAuthForNginx(t *testing.T) {
	const (
		hint  = `; run "docker-credential-dtz login"`
		again = "the credential cannot be checked at the moment; try again"
	)
	tests := []struct {
		name          string
		authorization string
		header        []string
		want          int // for nginx
		plain         int // for the others
		code          string
		reason        string
	}{
		{"a good token", "Bearer " + goodToken(), nil, 200, 200, "", ""},
		{"no credential", "", nil, 401, 401, "UNAUTHORIZED", "authentication required" + hint},
		{"an unknown key", basic("apikey", "apikey-zzz99999"), nil, 401, 401, "UNAUTHORIZED", "API key refused; check it, or replace it by a new one"},
		{"a token without a role", "Bearer " + somebody{}.token(""), nil, 403, 403, "DENIED", "missing role https://example.com/puller/abc12345 or https://example.com/pusher/abc12345 or https://example.com/deleter/abc12345 or another"},
		{"a key that cannot be checked", basic("apikey", awayKey), nil, 403, 503, "UNAVAILABLE", again},
		{"a client that contradicts", "Bearer " + goodToken(), []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /"}, 403, 400, "UNSUPPORTED", "it cannot be told what has been asked for: headers of the proxy and the client do not agree"},
	}
	for _, tt := range tests {
		for _, nginx := range []bool{true, false} {
			f := newForwardAuth(t)
			f.Nginx = nginx
			f.Observe = func(_ *http.Request, d Decision) {
				if status := d.status(); status != tt.plain {
					t.Errorf("%s: Observe sees %d, want %d", tt.name, status, tt.plain)
				}
			}
			header := headerOf(tt.header...)
			if tt.authorization != "" {
				header.Set("Authorization", tt.authorization)
			}
			w := httptest.NewRecorder()
			f.ServeHTTP(w, proxies[0].asks("GET", "/v2/", header))
			want, reason := tt.plain, ""
			if nginx {
				want, reason = tt.want, tt.reason
			}
			if got := w.Header().Get("X-Dtz-Reason"); w.Code != want || got != reason {
				t.Errorf("%s, nginx %v: %d with X-Dtz-Reason: %q, want %d with %q", tt.name, nginx, w.Code, got, want, reason)
			}
			if challenges := len(w.Header()["Www-Authenticate"]); (want == 401) != (challenges == 1) {
				t.Errorf("%s, nginx %v: %d challenges", tt.name, nginx, challenges)
			}
			if (w.Header().Get("Retry-After") != "") != (tt.plain == 503) {
				t.Errorf("%s, nginx %v: Retry-After: %q", tt.name, nginx, w.Header().Get("Retry-After"))
			}
			if !strings.Contains(w.Body.String(), tt.code) {
				t.Errorf("%s, nginx %v: body %s, want %s", tt.name, nginx, w.Body, tt.code)
			}
		}
	}
}

// Who has waited too long behind others is told so in nginx's way, too.
func TestForwardAuthForNginxLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForwardAuth(t)
		f.Nginx = true
		f.Authenticator = newAuthenticator(t, &identity{delay: maxWait - time.Second, answer: onlyGood})
		var all sync.WaitGroup
		var limited, refused atomic.Int32
		for n := range 3 * maxShare {
			all.Go(func() {
				w := httptest.NewRecorder()
				f.ServeHTTP(w, proxies[0].asks("GET", "/v2/", headerOf("Authorization: "+basic("apikey", fmt.Sprint("apikey-", n)))))
				switch {
				case w.Code == http.StatusForbidden && w.Header().Get("X-Dtz-Reason") == errLimited.Message && w.Header().Get("Retry-After") != "":
					limited.Add(1)
				case w.Code == http.StatusUnauthorized:
					refused.Add(1)
				default:
					t.Errorf("%d %q", w.Code, w.Header())
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if limited.Load() != maxShare || refused.Load() != 2*maxShare {
			t.Errorf("%d are limited and %d refused, want %d and %d", limited.Load(), refused.Load(), maxShare, 2*maxShare)
		}
	})
}

func (d Decision) status() int {
	if d.Err != nil {
		return d.Err.Status
	}
	return http.StatusOK
}

// The body is the registry's to read.
func TestForwardAuthReadsNoBody(t *testing.T) {
	for _, p := range proxies {
		r := p.asks("POST", "/v2/app/blobs/uploads/", headerOf("Authorization: Bearer "+somebody{ActionPush}.token(""), "Content-Type: application/x-www-form-urlencoded"))
		r.Body = unreadable{t}
		w := httptest.NewRecorder()
		newForwardAuth(t).ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s asks for what may be a mount: %d, want 403", p.name, w.Code)
		}
	}
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, http.ErrBodyReadAfterClose
}
func (u unreadable) Close() error { return nil }
