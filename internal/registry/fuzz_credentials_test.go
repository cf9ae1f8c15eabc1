package registry

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Whoever is let in by FuzzAuthorization has shown, as net/http reads the
// header, a good token or the one good API key.
func FuzzAuthorization(f *testing.F) {
	v := newVerifier(f, testConfig())
	a := &Authenticator{Verifier: v, Exchange: exchange}
	for _, r := range authorizationRequests() {
		for _, value := range r.header["Authorization"] {
			f.Add(value)
		}
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header["Authorization"] = []string{value}
		p, err := a.Authenticate(r)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); ok && e.Status != http.StatusUnauthorized || p != nil {
				t.Fatalf("Authenticate() = %v, %v, want a 401 or 503 alone", p, err)
			}
			return
		}
		user, password, isBasic := r.BasicAuth()
		if isBasic && user == "apikey" && password == goodKey {
			return
		}
		if scheme, token, _ := strings.Cut(value, " "); strings.EqualFold(scheme, "Bearer") {
			user, password = "bearer", token
		}
		if _, err := v.Verify(t.Context(), password); user != "bearer" || err != nil {
			t.Errorf("let in by %q", value)
		}
	})
}

// fuzzHeaders are the headers of FuzzCredentials, each by a letter.
var fuzzHeaders = map[byte]string{'A': "Authorization", 'K': "X-Api-Key", 'X': "X-Dtz-Context", 'C': "Cookie", 'R': "Referer"}

// fuzzRequest has a header for each line, by the letter that it begins with.
func fuzzRequest(method, lines, query string) *http.Request {
	r := httptest.NewRequest("GET", "/v2/app/manifests/v1", nil)
	r.Method = method
	r.URL.RawQuery = query
	r.RequestURI += "?" + query
	for line := range strings.SplitSeq(lines, "\n") {
		if line != "" && fuzzHeaders[line[0]] != "" {
			name := fuzzHeaders[line[0]]
			r.Header[name] = append(r.Header[name], line[1:])
		}
	}
	return r
}

func fuzzLines(h http.Header) string {
	var lines []string
	for letter, name := range fuzzHeaders {
		for _, value := range h[name] {
			lines = append(lines, string(letter)+value)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Whatever a client sends, nobody is let in but by a credential that is good by
// itself and of a kind that counts, as net/http and net/url read it; twice the
// same request is answered twice the same; and nothing of it remains for others
// to see.
func FuzzCredentials(f *testing.F) {
	v := newVerifier(f, testConfig())
	for i, r := range requests() {
		f.Add(r.method, fuzzLines(r.header), r.query, uint8(i))
	}
	f.Add("GET", "Rhttps://example.com/?a=b&apiKey="+goodKey, "%61pikey=a;contextId=b&contextId=c", uint8(0))

	f.Fuzz(func(t *testing.T, method, lines, query string, settings uint8) {
		a := &Authenticator{
			Verifier: v, Exchange: exchangeAt(v.config.Now),
			Order:       Order(settings & 1),
			Cookie:      CookieUse(settings >> 1 & 3),
			QueryAPIKey: settings>>3&1 == 1,
		}
		r := fuzzRequest(method, lines, query)
		p, source, err := a.identify(r)
		again, sourceAgain, errAgain := a.identify(r)
		if source != sourceAgain || errorText(err) != errorText(errAgain) || (p == nil) != (again == nil) || p != nil && p.Subject != again.Subject {
			t.Errorf("%v, %q, %v the first time, %v, %q, %v the second", p, source, err, again, sourceAgain, errAgain)
		}
		switch e, ok := errors.AsType[*Error](err); {
		case err == nil:
			if !isGood(t, a, r, p) {
				t.Errorf("let in as %s by %s", p.Subject, source)
			}
		case p != nil:
			t.Error("refused, and let in")
		case ok && e.Status != 400 && e.Status != 401:
			t.Errorf("status %d", e.Status)
		}
		checkStrippedOf(t, r)
	})
}

// isGood looks for a credential of p's own in r.
func isGood(t *testing.T, a *Authenticator, r *http.Request, p *Profile) bool {
	var tokens, keys []string
	if user, password, ok := r.BasicAuth(); ok && user == "bearer" {
		tokens = append(tokens, password)
	} else if ok && user == "apikey" {
		keys = append(keys, password)
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		tokens = append(tokens, token)
	}
	keys = append(keys, r.Header.Get("X-Api-Key"))
	if a.Cookie == CookieAll || a.Cookie == CookieSafe && (r.Method == "GET" || r.Method == "HEAD") {
		for _, cookie := range r.CookiesNamed("dtz-auth") {
			tokens = append(tokens, cookie.Value)
		}
	}
	form, _ := url.ParseQuery(r.URL.RawQuery)
	if a.QueryAPIKey {
		keys = append(keys, form.Get("apiKey"))
	}
	for _, token := range tokens {
		if mine, err := a.Verifier.Verify(t.Context(), token); err == nil && mine.Subject == p.Subject && mine.Context == p.Context {
			return true
		}
	}
	for _, key := range keys {
		if apiKeys[key] == p.Subject {
			return true
		}
	}
	return false
}

// checkStrippedOf strips r, and finds that no credential is left, and that all
// else is.
func checkStrippedOf(t *testing.T, r *http.Request) {
	stripped := r.Clone(t.Context())
	StripCredentials(stripped)
	for _, s := range OrderExplicit.sources() {
		for _, p := range []*place{&s.place, s.context} {
			if p == nil {
				continue
			}
			if _, count := p.find(stripped); count > 0 {
				t.Errorf("%s is still there", p.name)
			}
		}
	}
	if path, query, _ := strings.Cut(stripped.RequestURI, "?"); query != stripped.URL.RawQuery || path != r.URL.Path {
		t.Errorf("the URI is %q, the query %q", stripped.RequestURI, stripped.URL.RawQuery)
	}
	others := func(r *http.Request) (cookies []http.Cookie) {
		for _, cookie := range r.Cookies() {
			if cookie.Name != "dtz-auth" {
				cookies = append(cookies, *cookie)
			}
		}
		return cookies
	}
	if before, after := others(r), others(stripped); !reflect.DeepEqual(before, after) {
		t.Errorf("the other cookies are %v, and were %v", after, before)
	}
	before, _ := url.ParseQuery(r.URL.RawQuery)
	delete(before, "apiKey")
	delete(before, "contextId")
	if after, _ := url.ParseQuery(stripped.URL.RawQuery); !reflect.DeepEqual(before, after) {
		t.Errorf("the other parameters are %v, and were %v", after, before)
	}
}

// What is taken for a deny-list is one to encoding/json too, of as many
// entries; written down it is read as the same; and no error repeats a secret.
func FuzzDenyList(f *testing.F) {
	sum := sumOf(goodKey)
	f.Add([]byte(`{}`))
	f.Add([]byte(denying(`"identity-abc12345", "3FA85F64-5717-4562-b3fc-2c963f66afa6"`, `"`+sum+`"`)))
	f.Add([]byte(denying(`"abc12345", "identity-abc12345"`, `"`+goodKey+`"`)))
	f.Add([]byte(`{"identities": null, "apiKeys": [1], "more": {}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseDenials(data)
		if err != nil {
			if strings.Contains(err.Error(), goodKey) || list != nil {
				t.Errorf("parseDenials() = %v, %v", list, err)
			}
			return
		}
		var theirs struct {
			Identities []string `json:"identities"`
			APIKeys    []string `json:"apiKeys"`
		}
		if err := json.Unmarshal(data, &theirs); err != nil || len(theirs.Identities) != len(list.identities) || len(theirs.APIKeys) != len(list.apiKeys) {
			t.Fatalf("encoding/json reads %v, %v, want %d identities and %d keys", theirs, err, len(list.identities), len(list.apiKeys))
		}
		theirs.Identities = slices.Collect(maps.Keys(list.identities))
		theirs.APIKeys = nil
		for sum := range list.apiKeys {
			theirs.APIKeys = append(theirs.APIKeys, hex.EncodeToString(sum[:]))
		}
		if theirs.Identities == nil {
			theirs.Identities = []string{}
		}
		if theirs.APIKeys == nil {
			theirs.APIKeys = []string{}
		}
		written, err := json.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseDenials(written)
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Errorf("%s is read as %v, %v, want %v", written, again, err, list)
		}
	})
}
