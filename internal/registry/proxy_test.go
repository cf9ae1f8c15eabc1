package registry

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// headerOf takes lines like "Name: value", and does not bring the names into
// their canonical spelling.
func headerOf(lines ...string) http.Header {
	h := http.Header{}
	for _, l := range lines {
		if name, value, found := strings.Cut(l, ": "); found {
			h[name] = append(h[name], value)
		}
	}
	return h
}

// question is a proxy's request, with whatever header. It is nil if net/http
// refuses it.
func question(method, uri string, header http.Header) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + uri + " HTTP/1.1\r\nHost: example.com\r\n\r\n")))
	if err != nil {
		return nil
	}
	r.RemoteAddr, r.Header = trustedPeer, header
	return r
}

// A proxy makes of a client's request the one that it asks with.
type proxy struct {
	name string
	asks func(method, uri string, client http.Header) *http.Request
}

var proxies = []proxy{
	{"nginx", asksWith("X-Original-Method", "X-Original-Uri")},
	{"Caddy or Traefik", asksWith("X-Forwarded-Method", "X-Forwarded-Uri")},
	{"Envoy", func(method, uri string, client http.Header) *http.Request {
		return question(method, "/verify"+uri, client)
	}},
}

// asksWith passes on everything from the client but for the two headers that
// the proxy sets itself.
func asksWith(methodName, uriName string) func(method, uri string, client http.Header) *http.Request {
	return func(method, uri string, client http.Header) *http.Request {
		header := client.Clone()
		header[methodName], header[uriName] = []string{method}, []string{uri}
		return question("GET", "/verify", header)
	}
}

// A client may send the headers of the other proxies, and of its own in other
// spellings. It never gets more than it would for what it asks for.
func TestClientsCannotSpeakForTheProxy(t *testing.T) {
	var spoofs [][]string
	for _, family := range []string{"X-Forwarded-", "X-Original-", "X_Forwarded_", "X_Original_", "x-forwarded-", "x-original-", "X-Forwarded_", "X.Original."} {
		method, uri := family+"Method: GET", family+"Uri: /v2/app/manifests/v1"
		spoofs = append(spoofs, []string{method}, []string{uri}, []string{method, uri}, []string{method, family + "Uri: /v2/"}, []string{family + "Method: DELETE", family + "Uri: /v2/"})
	}
	spoofs = append(spoofs, []string{"X-Http-Method-Override: GET"}, []string{"X-Original-Url: /v2/"}, []string{"X-Rewrite-Url: /v2/"}, []string{"X-Forwarded-Prefix: /v2"})
	for _, more := range spoofs[:len(spoofs):len(spoofs)] {
		spoofs = append(spoofs, append([]string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /v2/"}, more...))
	}
	puller := "Authorization: Bearer " + somebody{ActionPull}.token("context-")
	for _, p := range proxies {
		for _, spoof := range spoofs {
			for _, asked := range []line{{"DELETE", "/v2/app/manifests/v1"}, {"PUT", "/v2/app/manifests/v1"}, {"GET", "/metrics"}} {
				w := httptest.NewRecorder()
				newForwardAuth(t).ServeHTTP(w, p.asks(asked.method, asked.uri, headerOf(append(spoof, puller)...)))
				if w.Code != 403 && w.Code != 400 {
					t.Errorf("%s asks for %v, the client says %q: %d, want a refusal", p.name, asked, spoof, w.Code)
				}
			}
		}
	}
}

// Whoever may do what, a proxy is told as a registry behind us would be.
func TestForwardAuthDecidesAsHandler(t *testing.T) {
	f := newForwardAuth(t)
	for _, p := range proxies {
		for _, who := range everybody {
			token := who.token("context-")
			for _, row := range actionRows() {
				for method := range strings.FieldsSeq(row.methods) {
					client := headerOf("Authorization: Bearer "+token, "Content-Type: application/json")
					if name, value, found := strings.Cut(row.header, ": "); found {
						client.Set(name, value)
					}
					r := p.asks(method, row.target, client)
					if r == nil {
						continue // not HTTP
					}
					w := httptest.NewRecorder()
					f.ServeHTTP(w, r)
					want := http.StatusForbidden
					if who.may(row.need) {
						want = http.StatusOK
					}
					if w.Code != want {
						t.Errorf("%s: %s %s %s by who may %v: %d %s, want %d", p.name, method, row.target, row.header, who, w.Code, w.Body, want)
					}
				}
			}
		}
	}
}

// However a client dresses its request, a proxy that says what it asks for
// hears 200 for nothing that a [Handler] would not have let through, and for
// nobody without a credential that is good by itself.
func FuzzForwardAuth(f *testing.F) {
	var authorizations []string
	for _, who := range everybody {
		authorizations = append(authorizations, "Bearer "+who.token("context-"))
	}
	authorizations = append(authorizations, "", basic("apikey", goodKey), basic("apikey", "apikey-zzz99999"), "Bearer "+sign(foreignKey(), goodHeader.String(), goodClaims.String()))
	for i, row := range actionRows() {
		for method := range strings.FieldsSeq(row.methods) {
			f.Add(uint8(i), uint8(i), method, row.target, row.header)
			f.Add(uint8(i), uint8(1), method, row.target, "X-Forwarded-Method: GET\nX-Forwarded-Uri: /v2/")
			f.Add(uint8(i), uint8(1), method, row.target, "X_Original_Method: GET\nX_Original_URI: "+row.target)
		}
	}
	f.Add(uint8(2), uint8(1), "OPTIONS", "*", "X-Original-Method: GET\nX-Original-Uri: /v2/")
	f.Add(uint8(2), uint8(1), "GET", "http://example.com/", "X-Original-Method: GET\nX-Original-Uri: /v2/")
	forward := newForwardAuth(f)
	direct := &Handler{Authenticator: forward.Authenticator, Policy: forward.Policy, Next: http.NotFoundHandler()}
	f.Fuzz(func(t *testing.T, proxy, who uint8, method, uri, lines string) {
		client := headerOf(strings.Split(lines, "\n")...)
		if authorization := authorizations[int(who)%len(authorizations)]; authorization != "" {
			client.Set("Authorization", authorization)
		}
		p := proxies[int(proxy)%len(proxies)]
		// What reaches the proxy is HTTP.
		want := question(method, uri, client.Clone())
		asked := p.asks(method, uri, client)
		if want == nil || asked == nil || want.Method != method || want.RequestURI != uri {
			return
		}
		var told, wanted Decision
		forward.Observe = func(r *http.Request, d Decision) {
			told = d
			stripped := want.Clone(t.Context())
			StripCredentials(stripped)
			if d.Err == nil && (r.Method != method || r.RequestURI != stripped.RequestURI || r.URL.String() != stripped.URL.String()) {
				t.Errorf("%s asks for %s %s, and is let in for %s %s", p.name, method, uri, r.Method, r.URL)
			}
		}
		direct.Observe = func(_ *http.Request, d Decision) { wanted = d }
		w := httptest.NewRecorder()
		forward.ServeHTTP(w, asked)
		checkIdentity(t, w, w.Code == http.StatusOK)
		if (w.Code == http.StatusOK) != (told.Err == nil) {
			t.Errorf("%d, and Observe sees %v", w.Code, told.Err)
		}
		if w.Code != http.StatusOK {
			return
		}
		direct.ServeHTTP(httptest.NewRecorder(), want)
		if wanted.Err != nil || wanted.Action != told.Action || wanted.Repository != told.Repository || wanted.Source != told.Source {
			t.Errorf("%s is let in for %s %s with %q to %s %q, a client to %s %q: %v", p.name, method, uri, lines, told.Action, told.Repository, wanted.Action, wanted.Repository, wanted.Err)
		}
		if !isGood(t, forward.Authenticator, want, told.Profile) {
			t.Errorf("%s is let in for %s %s with %q, and there is no good credential", p.name, method, uri, lines)
		}
	})
}
