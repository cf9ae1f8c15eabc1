package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

// gate is a registry that takes the tokens of an identity service, and can be
// made to behave in another way.
type gate struct {
	world   *world
	address string
	server  *httptest.Server
	trusts  atomic.Pointer[registry.Handler]
	closed  atomic.Bool // the service is not enabled for anybody's context
}

// newGate trusts w's identity service, and serves with start, e.g.
// [httptest.NewServer].
func (w *world) newGate(t testing.TB, start func(http.Handler) *httptest.Server) *gate {
	t.Helper()
	g := &gate{world: w}
	g.trust(t, w.service)
	g.server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.trusts.Load().ServeHTTP(w, r) }))
	t.Cleanup(g.server.Close)
	_, g.address, _ = strings.Cut(g.server.URL, "://")
	return g
}

// trust makes it take the tokens of service and no others.
func (g *gate) trust(t testing.TB, service *identity.Service) {
	t.Helper()
	key, err := registry.ParseKeyPEM("dtz1", []byte(service.PublicKeyPEM()))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := registry.NewVerifier(registry.Config{
		Issuer: platform.Issuer, Audience: platform.Issuer, Keys: []registry.Key{key}, Now: g.world.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.trusts.Store(&registry.Handler{
		Authenticator: &registry.Authenticator{Verifier: verifier},
		Policy:        registry.Policy{Contexts: []string{"*"}},
		Next:          http.HandlerFunc(g.next),
	})
}

// next is the registry behind the gate.
func (g *gate) next(w http.ResponseWriter, r *http.Request) {
	if g.closed.Load() {
		(&registry.Error{Status: http.StatusForbidden, Code: "DENIED", Message: "the container registry is not enabled for this context"}).ServeHTTP(w, r)
		return
	}
	_, _ = io.WriteString(w, "{}")
}

// registry WAY makes the registry at $LIVE_REGISTRY behave in another way.
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: registry works | denies | gone")
	}
	g := worldOf(ts).live
	switch args[0] {
	case "works", "denies":
		g.closed.Store(args[0] == "denies")
	case "gone":
		g.server.Close()
	default:
		ts.Fatalf("registry %q is not understood", args[0])
	}
}
