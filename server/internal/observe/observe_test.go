package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/gate"
)

// alice may do everything in her context, mallory nothing in his.
var (
	alice   = identity.User{Subject: "identity-alice001", Name: "alice", Password: "of alice", Contexts: []string{"context-abc12345"}, Roles: []string{platform.RegistryRole}}
	mallory = identity.User{Subject: "identity-mallory1", Name: "mallory", Password: "of mallory", Contexts: []string{"context-xyz98765"}}
)

var service = sync.OnceValue(func() *identity.Service {
	s, err := identity.New(identity.Config{Users: []identity.User{alice, mallory}})
	if err != nil {
		panic(err)
	}
	return s
})

func token(t testing.TB, u identity.User) string {
	t.Helper()
	token, err := service().Issue(u.Subject, "")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A world is a gate, whoever watches it, and what he has logged.
type world struct {
	*Observer
	auth   *registry.Authenticator
	policy registry.Policy
	lines  *buffer
}

func newWorld(t testing.TB) *world {
	t.Helper()
	verifier, err := registry.NewVerifier(registry.Config{
		Issuer:   platform.Issuer,
		Audience: platform.Issuer,
		Keys:     []registry.Key{{ID: "dtz1", Public: service().PublicKey()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		auth:   &registry.Authenticator{Verifier: verifier, QueryAPIKey: true},
		policy: registry.Policy{Contexts: []string{"*"}},
		lines:  new(buffer),
	}
	w.Observer = New(Options{
		Log:     slog.New(slog.NewJSONHandler(w.lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Stats:   w.auth.Stats,
		Apps:    func() (int, int) { return 3, 4 },
		Version: "1.2.3",
	})
	return w
}

// withService lets API keys be exchanged.
func (w *world) withService(t *testing.T) {
	t.Helper()
	server := httptest.NewServer(service())
	t.Cleanup(server.Close)
	w.auth.Exchange = gate.Exchange(&oauth.Client{BaseURL: server.URL + identity.BasePath})
}

// serve is the whole of a registry of which next is behind the gate.
func (w *world) serve(next http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v2/", &registry.Handler{Authenticator: w.auth, Policy: w.policy, Next: next, Observe: w.Decided})
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	return w.Middleware(mux)
}

// verify is the whole of what answers proxies on this machine.
func (w *world) verify() http.Handler {
	f := &registry.ForwardAuth{
		Authenticator:  w.auth,
		Policy:         w.policy,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Observe:        w.Decided,
	}
	mux := http.NewServeMux()
	mux.Handle("/verify", f)
	mux.Handle("/verify/", f)
	return w.Middleware(mux)
}

// A line is one of the log.
type line map[string]any

// logged is what has been logged since it was last asked for.
func (w *world) logged(t testing.TB) []line {
	t.Helper()
	var lines []line
	for text := range strings.Lines(w.lines.take()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		lines = append(lines, l)
	}
	return lines
}

// one is the one line that has been logged.
func (w *world) one(t testing.TB) line {
	t.Helper()
	lines := w.logged(t)
	if len(lines) != 1 {
		t.Fatalf("%d lines in the log, want 1: %v", len(lines), lines)
	}
	return lines[0]
}

// check reports the fields of l that are not as in want; nil is none.
func (l line) check(t testing.TB, name string, want line) {
	t.Helper()
	for field, value := range want {
		if l[field] != value {
			t.Errorf("%s: %s is %v, want %v", name, field, l[field], value)
		}
	}
}

// buffer is a bytes.Buffer for handlers that run at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

func request(method, target, token string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	if token != "" {
		r.SetBasicAuth("bearer", token)
	}
	return r
}

const blob = "/v2/team/app/blobs/sha256:abc"

func TestEachRequestHasItsLine(t *testing.T) {
	w := newWorld(t)
	w.auth.Exchange = func(_ context.Context, key, _ string) (string, error) {
		if key == "unknown" {
			return "", registry.ErrKeyRefused
		}
		return "", errors.New("identity service out of reach")
	}
	ok := func(http.ResponseWriter, *http.Request) {}
	fail := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	apiKey := func(key string) *http.Request {
		r := httptest.NewRequest("GET", blob, nil)
		r.Header.Set("X-Api-Key", key)
		return r
	}
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	twice := request("GET", blob, token(t, alice))
	twice.Header.Add("Authorization", "Basic")
	tests := []struct {
		name string
		next http.HandlerFunc
		r    *http.Request
		want line
	}{
		{"a pull", ok, request("GET", blob, token(t, alice)), line{
			"level": "INFO", "msg": "request", "identity": "identity-alice001", "context": "context-abc12345", "repository": "team/app",
			"action": "pull", "source": "Authorization header", "method": "GET", "path": blob, "status": 200., "outcome": "allowed",
			"reason": nil, "client": "192.0.2.1",
		}},
		{"a push that the registry fails", fail, request("POST", "/v2/app/blobs/uploads/", token(t, alice)), line{
			"level": "ERROR", "action": "push", "status": 500., "outcome": "allowed",
		}},
		{"a registry that is away", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, request("GET", blob, token(t, alice)), line{
			"level": "WARN", "status": 503., "outcome": "allowed",
		}},
		{"somebody without a role", ok, request("DELETE", blob, token(t, mallory)), line{
			"level": "INFO", "identity": "identity-mallory1", "context": "context-xyz98765", "action": "delete", "status": 403., "outcome": "denied",
			"reason": "missing role https://dtz.rocks/containerregistry/admin/context-xyz98765",
		}},
		{"a client's first request", ok, request("GET", "/v2/", ""), line{
			"level": "INFO", "identity": nil, "context": nil, "repository": nil, "action": nil, "source": nil,
			"status": 401., "outcome": "challenged", "reason": "authentication required",
		}},
		{"a token that is none", ok, request("GET", blob, "nonsense"), line{
			"level": "INFO", "identity": nil, "status": 401., "outcome": "refused", "reason": "token refused: shape: not three segments", "source": "Authorization header",
		}},
		{"a key that is unknown", ok, apiKey("unknown"), line{"level": "INFO", "status": 401., "outcome": "refused", "source": "X-API-KEY header"}},
		{"a key that cannot be checked", ok, apiKey("another"), line{
			"level": "WARN", "status": 503., "outcome": "unavailable", "reason": "exchanging an API key: identity service out of reach",
		}},
		{"a client that has gone", ok, apiKey("third").WithContext(gone), line{"level": "INFO", "status": 499., "outcome": "aborted"}},
		{"two credentials", ok, twice, line{"level": "INFO", "status": 400., "outcome": "malformed", "reason": "more than one Authorization header"}},
		{"something else than the registry", ok, request("GET", "/debug/vars", token(t, alice)), line{
			"level": "INFO", "identity": nil, "path": "/debug/vars", "status": 404., "outcome": "undecided", "reason": nil,
		}},
	}
	for _, tt := range tests {
		answer := httptest.NewRecorder()
		w.serve(tt.next).ServeHTTP(answer, tt.r)
		l := w.one(t)
		l.check(t, tt.name, tt.want)
		if id := answer.Header().Get("X-Request-Id"); len(id) < 20 || l["request_id"] != id {
			t.Errorf("%s: the line's request_id is %v, and the answer's X-Request-Id %q", tt.name, l["request_id"], id)
		}
	}
}

// Of a proxy's question that counts which its client has asked.
func TestLineOfForwardAuthIsTheClients(t *testing.T) {
	w := newWorld(t)
	r := request("GET", "/verify", token(t, alice))
	r.RemoteAddr = "127.0.0.1:1234"
	r.Header.Set("X-Forwarded-Method", "PUT")
	r.Header.Set("X-Forwarded-Uri", "/v2/app/manifests/latest?apiKey=")
	w.verify().ServeHTTP(httptest.NewRecorder(), r)
	w.one(t).check(t, "a push through a proxy", line{
		"method": "PUT", "path": "/v2/app/manifests/latest", "action": "push", "repository": "app", "status": 200., "outcome": "allowed",
	})
}

func TestHealthIsNotLogged(t *testing.T) {
	w := newWorld(t)
	h := w.serve(nil)
	for _, path := range []string{"/healthz", "/readyz"} {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
		if answer.Code != http.StatusOK {
			t.Errorf("%s: %d", path, answer.Code)
		}
	}
	if lines := w.logged(t); lines != nil {
		t.Errorf("logged: %v", lines)
	}
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/healthz/..", nil))
	w.one(t) // whoever asks for more is seen
}

func TestBytesAreCounted(t *testing.T) {
	w := newWorld(t)
	h := w.serve(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, " back")
	})
	for method, want := range map[string]float64{"POST": 11, "HEAD": 0} {
		r := httptest.NewRequest(method, "/v2/app/blobs/uploads/", strings.NewReader("a blob"))
		r.SetBasicAuth("bearer", token(t, alice))
		h.ServeHTTP(httptest.NewRecorder(), r)
		w.one(t).check(t, method, line{"bytes_in": 6., "bytes_out": want})
	}
}

// To net/http a handler that has only a plain writer sends each byte of a blob
// through its own memory.
func TestServerKeepsWhatItOffers(t *testing.T) {
	w := newWorld(t)
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.serve(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(io.ReaderFrom); !ok {
			t.Error("no io.ReaderFrom: files are not sent by the system")
		}
		if _, ok := w.(http.Flusher); !ok {
			t.Error("no http.Flusher")
		}
		if _, ok := w.(http.Hijacker); !ok {
			t.Error("no http.Hijacker")
		}
		if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
			t.Error(err)
		}
		http.ServeFile(w, r, name)
	}))
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+blob, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("bearer", token(t, alice))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != 1<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	server.Close() // waits for the handler
	w.one(t).check(t, "a blob", line{"bytes_out": float64(1 << 20), "status": 200., "client": "127.0.0.1"})
}

func TestBrokenAnswers(t *testing.T) {
	w := newWorld(t)
	begin := func(w http.ResponseWriter) { w.(http.Flusher).Flush() }
	tests := []struct {
		name  string
		next  http.HandlerFunc
		panic any
		want  line
	}{
		{
			"before the header", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, http.ErrAbortHandler,
			line{"level": "INFO", "status": 0., "outcome": "aborted", "reason": nil},
		},
		{
			"after the header", func(w http.ResponseWriter, _ *http.Request) { begin(w); panic(http.ErrAbortHandler) }, http.ErrAbortHandler,
			line{"level": "INFO", "status": 200., "outcome": "aborted"},
		},
		{
			"by mistake", func(http.ResponseWriter, *http.Request) { panic("a secret") }, "a secret",
			line{"level": "ERROR", "status": 0., "outcome": "aborted", "reason": "panic"},
		},
		{
			"by nobody: to a status without a body", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent); _, _ = w.Write(nil) }, nil,
			line{"status": 204., "outcome": "allowed"},
		},
		{
			"by the client", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("some")) }, nil,
			line{"level": "INFO", "status": 200., "outcome": "aborted", "bytes_out": 0.},
		},
	}
	for _, tt := range tests {
		func() {
			defer func() {
				if cause := recover(); cause != tt.panic {
					t.Errorf("%s: the panic is %v, want %v", tt.name, cause, tt.panic)
				}
			}()
			w.serve(tt.next).ServeHTTP(gone{httptest.NewRecorder()}, request("GET", blob, token(t, alice)))
		}()
		w.one(t).check(t, tt.name, tt.want)
	}
	server := httptest.NewUnstartedServer(w.serve(tests[0].next))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.Start()
	defer server.Close()
	r := request("GET", blob, token(t, alice))
	r.RequestURI = ""
	r.URL.Scheme, r.URL.Host = "http", server.Listener.Addr().String()
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		t.Errorf("the client got %s, want a broken connection", resp.Status)
	}
}

// gone is the answer to a client that does not read it.
type gone struct{ *httptest.ResponseRecorder }

func (g gone) Write([]byte) (int, error) {
	if g.Code == http.StatusNoContent {
		return 0, http.ErrBodyNotAllowed
	}
	return 0, errors.New("broken pipe")
}

func TestDurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.auth.Exchange = func(context.Context, string, string) (string, error) {
			time.Sleep(2 * time.Second)
			return token(t, alice), nil
		}
		r := httptest.NewRequest("GET", blob, nil)
		r.SetBasicAuth("apikey", "a key")
		w.serve(func(http.ResponseWriter, *http.Request) { time.Sleep(3 * time.Second) }).ServeHTTP(httptest.NewRecorder(), r)
		w.one(t).check(t, "a slow pull", line{"duration_seconds": 5.})
		for _, want := range []string{
			`dtz_registry_decision_duration_seconds_sum 2`,
			`dtz_registry_request_duration_seconds_sum{action="pull"} 5`,
		} {
			if page := w.scrape(t); !strings.Contains(page, want+"\n") {
				t.Errorf("the metrics do not have %s", want)
			}
		}
	})
}

// Whoever watches only the handler counts nothing, and does no harm.
func TestDecidedOutsideOfMiddleware(t *testing.T) {
	w := newWorld(t)
	h := &registry.Handler{Authenticator: w.auth, Policy: w.policy, Next: http.NotFoundHandler(), Observe: w.Decided}
	h.ServeHTTP(httptest.NewRecorder(), request("GET", blob, token(t, alice)))
	if lines := w.logged(t); lines != nil {
		t.Errorf("logged: %v", lines)
	}
}

func BenchmarkMiddleware(b *testing.B) {
	for name, log := range map[string]*slog.Logger{
		"with a log":    slog.New(slog.NewJSONHandler(io.Discard, nil)),
		"without a log": nil,
	} {
		b.Run(name, func(b *testing.B) {
			o := New(Options{Log: log})
			h := o.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				o.Decided(r, registry.Decision{Source: "Authorization header", Repository: "team/app", Action: registry.ActionPull})
			}))
			answer, r := httptest.NewRecorder(), request("GET", blob, "")
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(answer, r)
			}
		})
	}
}
