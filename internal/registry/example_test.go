package registry_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

// Any http.Handler becomes a registry for one context's people.
func Example() {
	images := http.NotFoundHandler()

	verifier, err := registry.NewVerifier(registry.Config{
		Issuer: platform.Issuer, Audience: platform.Issuer, Keys: []registry.Key{registry.PlatformKey()},
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(&registry.Handler{
		Authenticator: &registry.Authenticator{Verifier: verifier},
		Policy:        registry.Policy{Contexts: []string{"context-abc12345"}},
		Next:          images,
	})
	defer server.Close()

	response, err := http.Get(server.URL + "/v2/")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
	fmt.Println(response.Header.Get("WWW-Authenticate"))
	// Output:
	// 401 Unauthorized
	// Basic realm="dtz.rocks"
}
