package registry_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

// Five lines make any http.Handler the registry of one context's people.
func ExampleHandler() {
	verifier := newVerifier()
	images := http.NotFoundHandler()

	var server http.Server
	server.Handler = &registry.Handler{
		Authenticator: &registry.Authenticator{Verifier: verifier},
		Policy:        registry.Policy{Contexts: []string{"context-abc12345"}},
		Next:          images,
	}

	w := httptest.NewRecorder()
	server.Handler.ServeHTTP(w, httptest.NewRequest("GET", "/v2/", nil))
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
	// Output:
	// 401 Basic realm="dtz.rocks"
}

// Caddy asks at /verify whether it may pass a push on.
func ExampleForwardAuth() {
	http.Handle("/verify", &registry.ForwardAuth{
		Authenticator:  &registry.Authenticator{Verifier: newVerifier()},
		Policy:         registry.Policy{Contexts: []string{"context-abc12345"}},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})

	question := httptest.NewRequest("GET", "/verify", nil)
	question.RemoteAddr = "192.0.2.1:40000"
	question.Header.Set("X-Forwarded-Method", "PUT")
	question.Header.Set("X-Forwarded-Uri", "/v2/app/manifests/v1")
	answer := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(answer, question)
	fmt.Println(answer.Code, answer.Header().Get("WWW-Authenticate"))
	// Output: 401 Basic realm="dtz.rocks"
}

func newVerifier() *registry.Verifier {
	verifier, err := registry.NewVerifier(registry.Config{
		Issuer: platform.Issuer, Audience: platform.Issuer, Keys: []registry.Key{registry.PlatformKey()},
	})
	if err != nil {
		log.Fatal(err)
	}
	return verifier
}
