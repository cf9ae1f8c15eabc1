package oauth

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const discoveryPath = "/.well-known/openid-configuration"

// onDiscovery changes the service's discovery document; nil means that there is
// none.
func onDiscovery(change func(origin string, document map[string]any) map[string]any) around {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != discoveryPath {
				h.ServeHTTP(w, r)
				return
			}
			recorded := httptest.NewRecorder()
			h.ServeHTTP(recorded, r)
			var document map[string]any
			_ = json.Unmarshal(recorded.Body.Bytes(), &document)
			if document = change("http://"+r.Host, document); document == nil {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			_ = json.NewEncoder(w).Encode(document)
		})
	}
}

func TestDiscovery(t *testing.T) {
	tests := []struct {
		name    string
		changes map[string]any // ORIGIN stands for the service's
		want    string         // authorize and token behind the origin, or the error
	}{
		{"as it is", nil, "/api/2021-02-21/oauth/authorize /api/2021-02-21/oauth/token"},
		{"other paths", map[string]any{"authorization_endpoint": "ORIGIN/a", "token_endpoint": "ORIGIN/t"}, "/a /t"},
		{"an issuer with a slash", map[string]any{"issuer": "ORIGIN/", "token_endpoint": "ORIGIN/t"}, "/api/2021-02-21/oauth/authorize /t"},
		{"no token endpoint", map[string]any{"token_endpoint": nil, "authorization_endpoint": "ORIGIN/a"}, "/a /api/2021-02-21/oauth/token"},
		{"no issuer, so that it is no such document", map[string]any{"issuer": nil, "token_endpoint": "https://evil.example/t"}, "/api/2021-02-21/oauth/authorize /api/2021-02-21/oauth/token"},
		{"an issuer that is no string", map[string]any{"issuer": 7}, "/api/2021-02-21/oauth/authorize /api/2021-02-21/oauth/token"},
		{"another issuer", map[string]any{"issuer": "https://evil.example"}, "is of another issuer, https://evil.example"},
		{"an issuer that begins like ours", map[string]any{"issuer": "ORIGIN.evil.example"}, "is of another issuer"},
		{"an issuer with a path", map[string]any{"issuer": "ORIGIN/tenant"}, "is of another issuer"},
		{"codes sent elsewhere", map[string]any{"token_endpoint": "https://evil.example/t"}, "names a token_endpoint that is not on http://127"},
		{"codes sent to another port", map[string]any{"token_endpoint": "http://127.0.0.1:1/t"}, "names a token_endpoint that is not on"},
		{"codes sent through a user name", map[string]any{"token_endpoint": "ORIGIN@evil.example/t"}, "document's token_endpoint: URL has a user name in it"},
		{"a password typed elsewhere", map[string]any{"authorization_endpoint": "https://evil.example/a"}, "names a authorization_endpoint that is not on"},
		{"a script", map[string]any{"authorization_endpoint": "javascript:alert(1)"}, "document's authorization_endpoint: URL does not begin with https://"},
		{"a command for the shell that opens the browser", map[string]any{"authorization_endpoint": "ORIGIN/a$(calc)"}, "document's authorization_endpoint: URL's path has other characters than letters, digits and -._~/"},
		{"the same behind a query", map[string]any{"authorization_endpoint": "ORIGIN/a?b=$(calc)"}, "document's authorization_endpoint: URL has a query or a fragment"},
		{"the same as a user name", map[string]any{"authorization_endpoint": "http://$(calc)@127.0.0.1/a"}, "document's authorization_endpoint: "},
		{"http to a name", map[string]any{"token_endpoint": "http://localhost/t"}, "document's token_endpoint: http:// is for a literal loopback address only"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var at string
			_, c := serveIdentity(t, onDiscovery(func(origin string, document map[string]any) map[string]any {
				at = origin
				for name, value := range tt.changes {
					if text, ok := value.(string); ok {
						value = strings.Replace(text, "ORIGIN", origin, 1)
					}
					document[name] = value
				}
				return document
			}))
			e, err := c.endpoints(t.Context())
			got := strings.ReplaceAll(e.authorize+" "+e.token, at, "")
			if err != nil {
				got = asError(t, err).Error()
			}
			if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
				t.Errorf("endpoints are %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDiscoveryIsNotToBeHad(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"404":  func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"away": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"a login first": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusFound)
		},
		"a page": func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"2 MiB":  func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) },
	} {
		c := serve(t, answer)
		e, err := c.endpoints(t.Context())
		if err != nil || e.authorize != c.BaseURL+"/oauth/authorize" || e.token != c.BaseURL+"/oauth/token" || e.namesIssuer || e.issuer != originOf(c.BaseURL) {
			t.Errorf("%s: endpoints are %+v, %v, want the platform's own", name, e, err)
		}
	}
	// Nobody there: the user would log in for nothing.
	c := &Client{BaseURL: "http://" + closedPort(t), sleep: noSleep}
	if _, err := c.Browser(t.Context(), BrowserOptions{ClientID: ctxOne}); err == nil || !asError(t, err).Unreachable() {
		t.Errorf("nobody there: error = %v, want unreachable", err)
	}
}
