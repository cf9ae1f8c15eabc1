package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A publisher answers with a key set, or with whatever else a test makes it.
type publisher struct {
	calls  atomic.Int32
	answer atomic.Pointer[http.HandlerFunc]
}

func newPublisher(keys ...fmt.Stringer) *publisher {
	p := new(publisher)
	p.publish(keys...)
	return p
}

func (p *publisher) answers(h http.HandlerFunc) { p.answer.Store(&h) }

func (p *publisher) publish(keys ...fmt.Stringer) {
	set := keySet(keys...)
	p.answers(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, set) })
}

func (p *publisher) fails() {
	p.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.calls.Add(1)
	(*p.answer.Load())(w, r)
}

// RoundTrip calls the publisher without a network, for tests in a bubble.
func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// set is what the publisher publishes, for whoever has it fetched.
func (p *publisher) set() *JWKS {
	return &JWKS{URL: "https://keys.example/jwks.json", Client: &http.Client{Transport: p}}
}

func fetch(t testing.TB, s *JWKS) {
	t.Helper()
	if err := s.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// newSetVerifier has no keys but those of the set.
func newSetVerifier(t testing.TB, s *JWKS) *Verifier {
	t.Helper()
	c := testConfig()
	c.Keys, c.JWKS = nil, s
	return newVerifier(t, c)
}

// secondToken is a good token of the second key, whatever kid it bears.
func secondToken(kid string) string {
	return sign(secondKey(), goodHeader.with("kid", quote(kid)).String(), goodClaims.String())
}

func verify(t testing.TB, v *Verifier, token string) *Profile {
	t.Helper()
	p, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestJWKSRefusesURL(t *testing.T) {
	tests := []struct {
		url  string
		want string // the error
	}{
		{"https://keys.example/jwks.json?tenant=1", ""},
		{"https://127.0.0.1:8443", ""},
		{"http://127.0.0.1:8080/jwks.json", ""},
		{"http://[::1]/jwks.json", ""},
		{"http://keys.example/jwks.json", "JWKS URL is neither https:// nor http:// to a literal loopback address"},
		{"http://localhost/jwks.json", "JWKS URL is neither https:// nor http:// to a literal loopback address"},
		{"http://127.0.0.1.keys.example/", "JWKS URL is neither https:// nor http:// to a literal loopback address"},
		{"http://10.0.0.1/", "JWKS URL is neither https:// nor http:// to a literal loopback address"},
		{"http://0.0.0.0/", "JWKS URL is neither https:// nor http:// to a literal loopback address"},
		{"file:///etc/keys.json", "JWKS URL is neither https:// nor http:// to a literal loopback address"},
		{"keys.example/jwks.json", "JWKS URL is neither https:// nor http:// to a literal loopback address"},
		{"", "JWKS URL is neither https:// nor http:// to a literal loopback address"},
		{"https:///jwks.json", "JWKS URL has no host"},
		{"https://canary@keys.example/", "JWKS URL has a user name in it"},
		{"https://keys.example/\x7f", "JWKS URL is not a URL"},
		{"https://[::1/canary", "JWKS URL is not a URL"},
	}
	for _, tt := range tests {
		c := testConfig()
		c.JWKS = &JWKS{URL: tt.url}
		_, err := NewVerifier(c)
		if got := fmt.Sprint(err); got != tt.want && (err != nil || tt.want != "") {
			t.Errorf("NewVerifier() with keys from %q: %v, want %q", tt.url, err, tt.want)
		}
		if tt.want != "" {
			if err := c.JWKS.Fetch(t.Context()); fmt.Sprint(err) != tt.want {
				t.Errorf("Fetch() from %q: %v, want %q", tt.url, err, tt.want)
			}
		}
	}
	c := testConfig()
	c.JWKS = &JWKS{URL: "https://keys.example/", TTL: time.Millisecond}
	if _, err := NewVerifier(c); err == nil {
		t.Error("NewVerifier takes a TTL of a millisecond")
	}
}

// Whatever comes instead of a clean set, the keys stay that are there.
func TestFetchRefuses(t *testing.T) {
	elsewhere := newPublisher(secondJWK())
	redirected := httptest.NewServer(elsewhere)
	defer redirected.Close()

	status := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			if status != http.StatusNoContent {
				io.WriteString(w, keySet(secondJWK()))
			}
		}
	}
	redirect := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, redirected.URL, status) }
	}
	padding := strings.Repeat(" ", maxSetSize)

	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string // how the error ends
	}{
		{"not found", status(404), "the answer is 404 Not Found"},
		{"an error", status(500), "the answer is 500 Internal Server Error"},
		{"no content", status(204), "the answer is 204 No Content"},
		{"a part", status(206), "the answer is 206 Partial Content"},
		{"unchanged, though nobody asked", status(304), "the answer is 304 Not Modified"},
		{"a redirect", redirect(302), "the answer is 302 Found"},
		{"a redirect for good", redirect(308), "the answer is 308 Permanent Redirect"},
		{"more than fits", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, keySet(secondJWK())+padding) }, "the answer is longer than 1 MiB"},
		{"more than fits, compressed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, keySet(secondJWK())+padding)
			z.Close()
		}, "the answer is longer than 1 MiB"},
		{"half an answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10000")
			io.WriteString(w, keySet(secondJWK()))
		}, "unexpected EOF"},
		{"no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{"an unclean set", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, keySet(secondJWK(), secondJWK().with("kid", `"third"`).with("e", `"Aw"`)))
		}, `no. 2: key "third" has the weak exponent 3`},
		{"an empty set", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, keySet()) }, "no key for RS256 among them"},
	}
	p := newPublisher(firstJWK())
	server := httptest.NewServer(p)
	defer server.Close()
	// A client of the caller's own may follow redirects elsewhere, not here.
	for name, client := range map[string]*http.Client{"own client": nil, "caller's client": {Transport: &http.Transport{DisableKeepAlives: true}}} {
		p.publish(firstJWK())
		s := &JWKS{URL: server.URL + "/?token=canary", Client: client}
		v := newSetVerifier(t, s)
		fetch(t, s)
		profile := verify(t, v, goodToken())
		for _, tt := range tests {
			p.answers(tt.answer)
			err := s.Fetch(t.Context())
			if err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("%s, %s: Fetch() = %v, want an error that ends in %q", name, tt.name, err, tt.want)
			}
			if strings.Contains(fmt.Sprint(err), "canary") {
				t.Errorf("%s, %s: the error quotes the URL's query: %v", name, tt.name, err)
			}
			if _, err := v.Verify(t.Context(), goodToken()); err != nil || profile.retired() || s.Ready() != nil {
				t.Errorf("%s, %s: the key that was there is gone: %v", name, tt.name, err)
			}
			if find(s.signers(), "second") != nil {
				t.Errorf("%s, %s: keys of an answer that was refused are in force", name, tt.name)
			}
		}
	}
	if n := elsewhere.calls.Load(); n != 0 {
		t.Errorf("%d redirects followed", n)
	}
}

func TestFetchWantsTLS(t *testing.T) {
	start := func(maxVersion uint16) *httptest.Server {
		server := httptest.NewUnstartedServer(newPublisher(firstJWK()))
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: maxVersion}
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	modern, old := start(tls.VersionTLS13), start(tls.VersionTLS11)

	fetch(t, &JWKS{URL: modern.URL, Client: modern.Client()})
	if err := (&JWKS{URL: modern.URL}).Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Fetch() from somebody without a good certificate = %v", err)
	}
	if err := (&JWKS{URL: old.URL}).Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("Fetch() over TLS 1.1 = %v", err)
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	if err := (&JWKS{URL: "http://" + nobody.Addr().String() + "/canary"}).Fetch(t.Context()); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("Fetch() from nobody = %v, want an error that does not quote the path", err)
	}
}

// A logged text grows while a test reads it.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take is what has been logged since it was called last.
func (l *logged) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logged)
		p := newPublisher(firstJWK())
		s := p.set()
		s.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		}))
		v := newSetVerifier(t, s)
		fetch(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.Run(ctx)
			close(done)
		}()
		// after expects what has happened a nanosecond after d.
		after := func(d time.Duration, calls int32, lines ...string) {
			t.Helper()
			before := p.calls.Load()
			time.Sleep(d + time.Nanosecond)
			synctest.Wait()
			if n := p.calls.Load() - before; n != calls {
				t.Errorf("%d calls in %v, want %d", n, d, calls)
			}
			want := ""
			for _, line := range lines {
				want += line + "\n"
			}
			if got := log.take(); got != want {
				t.Errorf("the log says %q, want %q", got, want)
			}
		}
		const (
			away = `level=WARN msg="signing keys cannot be fetched; those at hand stay in force" keys=[first] error="fetching keys from keys.example: the answer is 502 Bad Gateway"`
			back = `level=INFO msg="signing keys fetched" keys=[first] added=[] gone=[]`
			both = `level=INFO msg="signing keys fetched" keys="[first second]" added=[second] gone=[]`
			swap = `level=INFO msg="signing keys fetched" keys="[second first]" added=[second] gone=[second]`
			less = `level=INFO msg="signing keys fetched" keys=[first] added=[] gone=[second]`
		)
		if got, want := log.take(), "level=INFO msg=\"signing keys fetched\" keys=[first] added=[first] gone=[]\n"; got != want {
			t.Errorf("at the start the log says %q, want %q", got, want)
		}
		after(defaultTTL-time.Second, 0)
		after(time.Second, 1)
		p.fails()
		after(defaultTTL, 1, away)
		after(time.Hour, 360)
		verify(t, v, goodToken())
		p.publish(firstJWK())
		after(retryInterval, 1, back)
		p.publish(firstJWK(), secondJWK())
		after(defaultTTL, 1, both)
		p.publish(secondJWK(), firstJWK())
		after(defaultTTL, 1)
		p.publish(jwk("second", &foreignKey().PublicKey), firstJWK())
		after(defaultTTL, 1, swap)
		p.publish(firstJWK())
		after(defaultTTL, 1, less)
		after(24*time.Hour, 96)

		p.hang()
		time.Sleep(defaultTTL)
		cancel()
		<-done
		if got := log.take(); got != "" {
			t.Errorf("at the end the log says %q, want nothing", got)
		}
	})
}

// A set that was not there at the start is asked for soon.
func TestRunWithoutASet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(firstJWK())
		p.fails()
		s := p.set()
		if err := s.Fetch(t.Context()); err == nil || s.Ready() == nil {
			t.Fatalf("Fetch() = %v, Ready() = %v", err, s.Ready())
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		p.publish(firstJWK())
		time.Sleep(retryInterval + time.Nanosecond)
		synctest.Wait()
		if err := s.Ready(); err != nil {
			t.Errorf("after %v: %v", retryInterval, err)
		}
	})
}
