package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// overTLS serves h with a certificate that the registry returned trusts.
func overTLS(t *testing.T, h http.Handler) *Registry {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = discardLog
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return &Registry{
		Address: server.Listener.Addr().String(),
		HTTP:    oauth.NewHTTPClient(oauth.HTTPOptions{RootCAs: roots}),
	}
}

// inTheClear serves h over http.
func inTheClear(t *testing.T, h http.Handler) *Registry {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = discardLog
	server.Start()
	t.Cleanup(server.Close)
	return &Registry{Address: server.Listener.Addr().String(), PlainHTTP: true}
}

// inFrontOf is a registry of one context, with the verification that the
// product has, and tokens for it.
func inFrontOf(t *testing.T, next http.Handler) (h http.Handler, owner, stranger secret.String) {
	t.Helper()
	service, err := identity.New(identity.Config{Users: []identity.User{{
		Name: "owner", Password: "p", Subject: "identity-owner123", Contexts: []string{"context-abc12345"},
		Roles: []string{"https://dtz.rocks/containerregistry/admin/{context_id}"},
	}, {
		Name: "stranger", Password: "p", Subject: "identity-stranger", Contexts: []string{"context-abc12345"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := registry.ParseKeyPEM("dtz1", []byte(service.PublicKeyPEM()))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := registry.NewVerifier(registry.Config{Issuer: "dtz.rocks", Audience: "dtz.rocks", Keys: []registry.Key{key}})
	if err != nil {
		t.Fatal(err)
	}
	issue := func(subject string) secret.String {
		token, err := service.Issue(subject, "context-abc12345")
		if err != nil {
			t.Fatal(err)
		}
		return secret.String(token)
	}
	return &registry.Handler{
		Authenticator: &registry.Authenticator{Verifier: verifier},
		Policy:        registry.Policy{Contexts: []string{"context-abc12345"}},
		Next:          next,
	}, issue("identity-owner123"), issue("identity-stranger")
}

func TestCheck(t *testing.T) {
	h, owner, stranger := inFrontOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "{}")
	}))
	r := overTLS(t, h)
	if err := r.Check(t.Context(), "bearer", owner); err != nil {
		t.Errorf("whoever has the role: %v", err)
	}
	e := asError(t, r.Check(t.Context(), "bearer", stranger))
	if !e.Denied() || e.Refused() || e.Unreachable() || e.Code != "DENIED" ||
		!strings.Contains(e.Msg, "https://dtz.rocks/containerregistry/admin/context-abc12345") {
		t.Errorf("whoever lacks the role: %+v", *e)
	}
	e = asError(t, r.Check(t.Context(), "bearer", owner+"x"))
	if !e.Refused() || e.Denied() || e.Unreachable() || e.Code != "UNAUTHORIZED" {
		t.Errorf("a broken token: %+v", *e)
	}
	e = asError(t, r.Check(t.Context(), "bearer", "two\r\nlines"))
	if !e.Refused() {
		t.Errorf("a token that is none: %+v", *e)
	}
}

func TestStats(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   Stats
		msg    string // "": no error
	}{
		{name: "as documented", body: `{"imageCount":3,"serverUrl":"cr.dtz.rocks:3214"}`, want: Stats{3, "cr.dtz.rocks:3214"}},
		{name: "members that are new", body: `{"imageCount":3,"serverUrl":"a","size":9}`, want: Stats{3, "a"}},
		{name: "a count like the identity service's numbers", body: `{"imageCount":3.0,"serverUrl":"a"}`, want: Stats{3, "a"}},
		{name: "a count below nothing", body: `{"imageCount":-1e300,"serverUrl":"a"}`, want: Stats{0, "a"}},
		{name: "a count beyond everything", body: `{"imageCount":1e300,"serverUrl":"a"}`, want: Stats{1<<31 - 1, "a"}},
		{name: "nothing in it", body: `{}`},
		{name: "nulls", body: `{"imageCount":null,"serverUrl":null}`},
		{name: "what a stranger says is passed on as it is", body: `{"serverUrl":"a\u001b[31m\n"}`, want: Stats{0, "a\x1b[31m\n"}},
		{name: "an address that is no text", body: `{"serverUrl":{"host":"a"}}`, msg: "the answer is not a registry's statistics"},
		{name: "not JSON", body: `ok`, msg: "the answer is not a registry's statistics"},
		{name: "an empty answer", body: ``, msg: "the answer is not a registry's statistics"},
		{name: "more behind it", body: `{} {}`, msg: "the answer is not a registry's statistics"},
		{name: "the service is not enabled", status: 409, body: `{"msg":"service not enabled"}`, msg: "service not enabled"},
		{name: "the API is not there", status: 404, body: `404 page not found`, msg: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := overTLS(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if got := req.Method + " " + req.URL.Path + " " + req.Header.Get("Authorization"); got != "GET /api/2023-12-28/stats Bearer abc" {
					t.Errorf("request is %s", got)
				}
				if tt.status != 0 {
					w.WriteHeader(tt.status)
				}
				_, _ = io.WriteString(w, tt.body)
			}))
			got, err := r.Stats(t.Context(), "abc")
			if got != tt.want {
				t.Errorf("Stats = %+v, want %+v", got, tt.want)
			}
			if tt.msg == "" && tt.status == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := asError(t, err); e.Msg != tt.msg || tt.status != 0 && e.Status != tt.status {
				t.Errorf("error = %+v, want message %q", *e, tt.msg)
			}
		})
	}
}

// Docker takes http on loopback too. TLS comes first, since what speaks no TLS
// says so before it has been sent anything.
func TestPlainHTTPOnLoopback(t *testing.T) {
	var requests atomic.Int32
	r := inTheClear(t, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		if user, password, ok := req.BasicAuth(); !ok || user != "bearer" || password != "a:b" {
			t.Errorf("authorization is %q", req.Header.Get("Authorization"))
		}
	}))
	if err := r.Check(t.Context(), "bearer", "a:b"); err != nil {
		t.Error(err)
	}
	r.PlainHTTP = false
	if e := asError(t, r.Check(t.Context(), "bearer", "a:b")); !e.Unreachable() {
		t.Errorf("without PlainHTTP: %+v, want out of reach", *e)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests in the clear, want 1", n)
	}
}

// Whoever asks again, as a command to paste does, asks in the same way.
func TestSchemeOfARefusal(t *testing.T) {
	deny := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	withTLS := overTLS(t, deny)
	withTLS.PlainHTTP = true
	for want, r := range map[string]*Registry{"https": withTLS, "http": inTheClear(t, deny)} {
		if e := asError(t, r.Check(t.Context(), "bearer", "token")); !e.Denied() || e.Scheme != want {
			t.Errorf("error = %+v, want that it was denied over %s", *e, want)
		}
	}
}

// What is no literal loopback address never gets a credential in the clear,
// wherever its name leads today.
func TestPlainHTTPNowhereElse(t *testing.T) {
	var asked atomic.Int32
	server := inTheClear(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", server.Address)
	}}
	for _, address := range []string{
		"localhost:5000", "cr.dtz.rocks", "192.0.2.1:5000", "127.0.0.1.example.com", "127.evil.example:5000", "[::ffff:127.0.0.1]:5000", "[2001:db8::1]:5000", "0.0.0.0:5000",
	} {
		r := &Registry{Address: address, HTTP: &http.Client{Transport: transport}, PlainHTTP: true}
		if e := asError(t, r.Check(t.Context(), "bearer", "token")); !errors.Is(e, http.ErrSchemeMismatch) || e.Scheme != "https" {
			t.Errorf("%s: %+v, want that it speaks http and was asked over https", address, *e)
		}
	}
	for _, address := range []string{"127.0.0.1:5000", "127.9.9.9:5000", "[::1]:5000", "127.0.0.1"} {
		r := &Registry{Address: address, HTTP: &http.Client{Transport: transport}, PlainHTTP: true}
		if err := r.Check(t.Context(), "bearer", "token"); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if n := asked.Load(); n != 4 {
		t.Errorf("%d requests in the clear, want those to loopback, 4", n)
	}
}

// Not even on loopback does a certificate that is not trusted lead to http.
func TestUntrustedCertificate(t *testing.T) {
	r := overTLS(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request in spite of the certificate") }))
	r.HTTP, r.PlainHTTP = oauth.NewHTTPClient(oauth.HTTPOptions{RootCAs: x509.NewCertPool()}), true
	err := r.Check(t.Context(), "bearer", "token")
	var certificate *tls.CertificateVerificationError
	if e := asError(t, err); !e.Unreachable() || !errors.As(err, &certificate) {
		t.Errorf("error = %+v, want a certificate that is not trusted", *e)
	}
}

func TestOnlyAnAddressIsAsked(t *testing.T) {
	transport := roundTrip(func(req *http.Request) (*http.Response, error) {
		t.Errorf("request to %s", req.URL)
		return nil, errors.New("no")
	})
	for _, address := range []string{"", "a@b", "a/b", "a?b", "a#b", "a b", "a\r\nb", "a:b", "[::1", "a%2fb"} {
		r := &Registry{Address: address, HTTP: &http.Client{Transport: transport}, PlainHTTP: true}
		if e := asError(t, r.Check(t.Context(), "bearer", "token")); e.Msg != "that is not a registry's address" {
			t.Errorf("%q: %+v", address, *e)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

var discardLog = log.New(io.Discard, "", 0)

func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v, want an *Error", err)
	}
	return e
}
