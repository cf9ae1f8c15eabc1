package gate

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

// ask is the registry's answer to an API key that the identity service at
// baseURL is to exchange.
func ask(t *testing.T, baseURL string) *httptest.ResponseRecorder {
	t.Helper()
	verifier, err := registry.NewVerifier(registry.Config{
		Issuer:   platform.Issuer,
		Audience: platform.Issuer,
		Keys:     []registry.Key{registry.PlatformKey()},
	})
	if err != nil {
		t.Fatal(err)
	}
	handler := registry.Handler{
		Authenticator: &registry.Authenticator{Verifier: verifier, Exchange: Exchange(&oauth.Client{BaseURL: baseURL})},
		Policy:        registry.Policy{Contexts: []string{"*"}},
	}
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.SetBasicAuth("apikey", "apikey-canary01")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if strings.Contains(w.Body.String(), "canary") {
		t.Errorf("the answer quotes the key: %s", w.Body)
	}
	return w
}

// 503 has to come with the time after which to try again.
func checkUnavailable(t *testing.T, name string, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("%s makes a %d with the header %v, want 503 with Retry-After and no challenge", name, w.Code, w.Header())
	}
}

func TestWhatTheIdentityServiceSaysOfAKey(t *testing.T) {
	for status, want := range map[int]int{
		http.StatusBadRequest:          http.StatusUnauthorized,
		http.StatusUnauthorized:        http.StatusUnauthorized,
		http.StatusForbidden:           http.StatusUnauthorized,
		http.StatusUnprocessableEntity: http.StatusUnauthorized,

		http.StatusOK:                  http.StatusServiceUnavailable, // and no token in it
		http.StatusFound:               http.StatusServiceUnavailable,
		http.StatusNotFound:            http.StatusServiceUnavailable,
		http.StatusMethodNotAllowed:    http.StatusServiceUnavailable,
		http.StatusRequestTimeout:      http.StatusServiceUnavailable,
		http.StatusTooEarly:            http.StatusServiceUnavailable,
		http.StatusTooManyRequests:     http.StatusServiceUnavailable,
		http.StatusInternalServerError: http.StatusServiceUnavailable,
		http.StatusBadGateway:          http.StatusServiceUnavailable,
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel() // some are tried again after a pause
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
			defer service.Close()
			w := ask(t, service.URL+identity.BasePath)
			if want == http.StatusServiceUnavailable {
				checkUnavailable(t, http.StatusText(status), w)
			} else if w.Code != want {
				t.Errorf("%d from the identity service makes a %d, want %d", status, w.Code, want)
			}
		})
	}
}

func TestIdentityServiceOutOfReach(t *testing.T) {
	service := httptest.NewServer(nil)
	service.Close()
	checkUnavailable(t, "a closed port", ask(t, service.URL+identity.BasePath))
}
