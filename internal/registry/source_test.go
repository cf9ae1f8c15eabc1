package registry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

// Another site can have a browser send the cookie with what it asks for, by any
// method that a form or a script knows.
func TestWhatTheSettingsIgnore(t *testing.T) {
	const (
		unsafe  = "authentication required; the dtz-auth cookie counts for GET and HEAD only"
		noWay   = "authentication required; the dtz-auth cookie is not accepted here"
		noQuery = "authentication required; an API key in the query is not accepted here"
	)
	good, bad := "dtz-auth="+goodToken(), "dtz-auth="+forgedToken()
	bearer := "Bearer " + goodToken()
	key := "apiKey=" + goodKey
	type h = http.Header
	tests := []struct {
		name     string
		cookie   CookieUse
		query    bool // whether its key counts
		methods  string
		header   http.Header
		rawQuery string
		want     string // "" is let in
	}{
		{"a cookie", CookieSafe, false, "GET HEAD", h{"Cookie": {good}}, "", ""},
		{"a cookie", CookieSafe, false, "PUT POST PATCH DELETE OPTIONS TRACE CONNECT get", h{"Cookie": {good}}, "", unsafe},
		{"a cookie", CookieAll, false, "GET HEAD PUT POST PATCH DELETE", h{"Cookie": {good}}, "", ""},
		{"a cookie", CookieOff, false, "GET HEAD PUT POST PATCH DELETE", h{"Cookie": {good}}, "", noWay},
		{"a cookie", CookieUse(7), false, "GET HEAD PUT", h{"Cookie": {good}}, "", noWay},
		{"a bad cookie", CookieSafe, false, "GET HEAD", h{"Cookie": {bad}}, "", "token refused" + loginHint},
		{"a bad cookie", CookieSafe, false, "PUT DELETE", h{"Cookie": {bad}}, "", unsafe},
		{"two cookies", CookieSafe, false, "GET HEAD", h{"Cookie": {good, good}}, "", "more than one dtz-auth cookie"},
		{"two cookies", CookieSafe, false, "PUT DELETE", h{"Cookie": {good, good}}, "", unsafe},
		{"an empty cookie", CookieSafe, false, "GET PUT", h{"Cookie": {"dtz-auth="}}, "", "authentication required" + loginHint},
		{"other cookies", CookieOff, false, "GET PUT", h{"Cookie": {"theme=dark"}}, "", "authentication required" + loginHint},
		{"a bad cookie beside a token", CookieSafe, false, "PUT DELETE", h{"Cookie": {bad}, "Authorization": {bearer}}, "", ""},
		{"a bad cookie beside a token", CookieOff, false, "GET PUT", h{"Cookie": {bad}, "Authorization": {bearer}}, "", ""},
		{"a cookie beside a bad X-API-KEY", CookieSafe, false, "PUT DELETE", h{"Cookie": {good}, "X-Api-Key": {"apikey-zzz99999"}}, "", "API key refused"},
		{"a key in the query", CookieSafe, true, "GET HEAD PUT POST PATCH DELETE", h{}, key, ""},
		{"a key in the query", CookieSafe, false, "GET HEAD PUT POST PATCH DELETE", h{}, key, noQuery},
		{"a key in the query, encoded", CookieSafe, false, "GET PUT", h{}, "%61piKey=" + goodKey, noQuery},
		{"two keys in the query", CookieSafe, false, "GET PUT", h{}, key + "&" + key, noQuery},
		{"an empty key in the query", CookieSafe, false, "GET PUT", h{}, "apiKey=", "authentication required" + loginHint},
		{"a key in the query beside a token", CookieSafe, false, "GET PUT", h{"Authorization": {bearer}}, key, ""},
		{"a cookie beside a key in the query", CookieSafe, true, "PUT DELETE", h{"Cookie": {bad}}, key, ""},
	}
	for _, tt := range tests {
		for method := range strings.FieldsSeq(tt.methods) {
			for _, order := range []Order{OrderExplicit, OrderPlatform} {
				a := &Authenticator{Verifier: newVerifier(t, testConfig()), Exchange: exchange, Order: order, Cookie: tt.cookie, QueryAPIKey: tt.query}
				r := httptest.NewRequest("GET", "/v2/app/manifests/v1?"+tt.rawQuery, nil)
				r.Method = method
				r.Header = tt.header
				_, err := a.Authenticate(r)
				got := ""
				if e, ok := errors.AsType[*Error](err); ok {
					got = e.Message
				}
				if (got == "") != (tt.want == "") || !strings.HasPrefix(got, tt.want) {
					t.Errorf("%s, %s, order %d, cookie %d: %q, want %q", tt.name, method, order, tt.cookie, got, tt.want)
				}
			}
		}
	}
}

func TestIdentifyNamesTheSource(t *testing.T) {
	for _, w := range ways() {
		want := map[string]string{"Authorization": "Authorization header", "X-API-KEY": "X-API-KEY header", "cookie": "dtz-auth cookie", "query": "apiKey in the query"}[w.source]
		for _, good := range []bool{true, false} {
			row := request{method: http.MethodGet, header: http.Header{}}
			w.put(&row, good)
			h := newTableHandler(t, new(monday), nil)
			if _, source, err := h.Authenticator.identify(row.send(t)); source != want || (err == nil) != good {
				t.Errorf("%s: %q, %v, want %q", w.called(good), source, err, want)
			}
		}
	}
	a := &Authenticator{Verifier: newVerifier(t, testConfig())}
	if _, source, err := a.identify(httptest.NewRequest("GET", "/v2/", nil)); source != "" || !errors.Is(err, errNoCredential) {
		t.Errorf("nothing: %q, %v", source, err)
	}
}

func TestStripCredentials(t *testing.T) {
	type h = http.Header
	tests := []struct {
		name         string
		header, want http.Header
		uri, wantURI string
	}{
		{"nothing to strip", h{"Accept": {"*/*"}, "Cookie": {"a=b;c; d"}}, h{"Accept": {"*/*"}, "Cookie": {"a=b;c; d"}}, "/v2/?n=1&&last=%zz;x", "/v2/?n=1&&last=%zz;x"},
		{"the headers", h{"Authorization": {"a", "b"}, "X-Api-Key": {"a", ""}, "X-Dtz-Context": {"a"}, "X-Other": {"a"}}, h{"X-Other": {"a"}}, "/v2/", "/v2/"},
		{"the cookie alone", h{"Cookie": {"dtz-auth=a"}}, h{}, "/v2/", "/v2/"},
		{"the cookie among others", h{"Cookie": {`a="b"; dtz-auth=x;c; dtz-auth ; d`}}, h{"Cookie": {`a="b";c; d`}}, "/v2/", "/v2/"},
		{"the cookie in the first place", h{"Cookie": {"dtz-auth=a; b=c"}}, h{"Cookie": {"b=c"}}, "/v2/", "/v2/"},
		{"the cookie in two headers", h{"Cookie": {"a=b; dtz-auth=x", "dtz-auth=y", "c=d"}}, h{"Cookie": {"a=b", "c=d"}}, "/v2/", "/v2/"},
		{"cookies of almost that name", h{"Cookie": {"DTZ-AUTH=a; dtz-auth2=b; xdtz-auth=c"}}, h{"Cookie": {"DTZ-AUTH=a; dtz-auth2=b; xdtz-auth=c"}}, "/v2/", "/v2/"},
		{"the query alone", h{}, h{}, "/v2/?apiKey=a", "/v2/"},
		{"the query with its context", h{}, h{}, "/v2/?contextId=a&apiKey=b&apiKey=c", "/v2/"},
		{"the query among others", h{}, h{}, "/v2/?n=1&apiKey=a&last=b?c", "/v2/?n=1&last=b?c"},
		{"the query, encoded", h{}, h{}, "/v2/?%61piKey=a&n=1&context%49d=b&apiKey", "/v2/?n=1"},
		{"names that are almost the same", h{}, h{}, "/v2/?apikey=a&api+Key=b&x=1;apikey=c&%2561piKey=d", "/v2/?apikey=a&api+Key=b&x=1;apikey=c&%2561piKey=d"},
		{"behind a semicolon", h{}, h{}, "/v2/?x=1;apiKey=c&n=1&y;%63ontextId=d", "/v2/?n=1"},
		{"a query that ends in a semicolon", h{}, h{}, "/v2/?apiKey=a;n=1", "/v2/"},
		{"an empty query", h{}, h{}, "/v2/?", "/v2/?"},
		{"the absolute form", h{}, h{}, "http://example.com/v2/?apiKey=a&n=1", "http://example.com/v2/?n=1"},
		{"the page that one came from", h{"Referer": {"https://example.com/v2/?apiKey=a&n=1"}}, h{"Referer": {"https://example.com/v2/?n=1"}}, "/v2/", "/v2/"},
		{
			"what a proxy has been asked for",
			h{"X-Forwarded-Uri": {"/a?apiKey=a&n=1"}, "X_original_uri": {"/b?apiKey=b"}, "X-Original-Url": {"https://example.com/?contextId=c"}, "X-Rewrite-Url": {"/d?x", "/d?apiKey=d"}},
			h{"X-Forwarded-Uri": {"/a?n=1"}, "X_original_uri": {"/b"}, "X-Original-Url": {"https://example.com/"}, "X-Rewrite-Url": {"/d?x", "/d"}},
			"/v2/", "/v2/",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", tt.uri, nil)
			r.Header = tt.header.Clone()
			before := r.Clone(t.Context())
			if err := r.ParseForm(); err != nil && !strings.Contains(err.Error(), "invalid") {
				t.Fatal(err)
			}
			StripCredentials(r)
			if !reflect.DeepEqual(r.Header, tt.want) {
				t.Errorf("header %q, want %q", r.Header, tt.want)
			}
			if r.RequestURI != tt.wantURI {
				t.Errorf("request URI %q, want %q", r.RequestURI, tt.wantURI)
			}
			if _, query, _ := strings.Cut(tt.wantURI, "?"); r.URL.RawQuery != query || r.URL.Path != "/v2/" {
				t.Errorf("URL %s, want the query %q", r.URL, query)
			}
			for name := range r.Form {
				if name == "apiKey" || name == "contextId" {
					t.Errorf("the form still has %s", name)
				}
			}
			if r.FormValue("apiKey") != "" || r.FormValue("n") != before.FormValue("n") {
				t.Errorf("the form is %v, and was %v", r.Form, before.Form)
			}
		})
	}
}

// The caller's request is his.
func TestStripCredentialsOfAClone(t *testing.T) {
	r := httptest.NewRequest("GET", "/v2/?apiKey=a", nil)
	r.Header = http.Header{"Authorization": {"a"}, "Cookie": {"dtz-auth=b; c=d"}, "Referer": {"https://example.com/?apiKey=e"}}
	header, url := r.Header.Clone(), *r.URL
	StripCredentials(r.Clone(t.Context()))
	if !reflect.DeepEqual(r.Header, header) || *r.URL != url {
		t.Errorf("%q %s, want %q %s", r.Header, r.URL, header, &url)
	}
}
