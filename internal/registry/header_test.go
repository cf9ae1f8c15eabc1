package registry

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"testing"
)

// To some servers behind us X_Dtz_Identity is X-Dtz-Identity.
func TestImitationsOfOurHeadersGoNoFurther(t *testing.T) {
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.Header.Set("Authorization", "Bearer "+goodToken())
	for _, name := range []string{
		"X-Dtz-Identity", "X-Dtz-Context", "X_Dtz_Identity", "x-dtz_context", "x-dtz-identity", "X_DTZ_IDENTITY",
		"X-Dtz_Roles", "X.Dtz.Identity", "X~Dtz-Context", "X-Dtz-", "X-DTZ-SOURCE",
	} {
		r.Header[name] = []string{"identity-zzz99999", "again"}
	}
	kept := http.Header{
		"X-Dtz":         {"1"},
		"X-Dtzx":        {"2"},
		"Dtz-Identity":  {"3"},
		"Accept":        {"*/*"},
		"X-Forwarded":   {"4"},
		"X-X-Dtz-Other": {"5"},
	}
	for name, values := range kept {
		r.Header[name] = values
	}
	r.Header["Connection"] = []string{"keep-alive", "close, x-DTZ-identity"}
	sent := r.Header.Clone()
	want := kept.Clone()
	want["X-Dtz-Identity"] = []string{"identity-abc12345"}
	want["X-Dtz-Context"] = []string{"context-abc12345"}
	called := false
	h := newHandler(t, func(_ http.ResponseWriter, next *http.Request) {
		called = true
		if !reflect.DeepEqual(next.Header, want) {
			t.Errorf("Next sees %q, want %q", next.Header, want)
		}
	})
	h.ServeHTTP(httptest.NewRecorder(), r)
	if !called {
		t.Error("not let in")
	}
	if !reflect.DeepEqual(r.Header, sent) {
		t.Error("the caller's request has been changed")
	}
}

// A proxy would take away what Connection names, and what is behind it would
// think that nobody in particular asks.
func TestNoClientTakesOurHeadersAway(t *testing.T) {
	var got http.Header
	behind := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer behind.Close()
	target, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	h := newHandler(t, httputil.NewSingleHostReverseProxy(target).ServeHTTP)
	for _, connection := range []string{"", "close", "X-Dtz-Identity", "close, x-dtz-identity , X-Dtz-Context"} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+goodToken())
		r.Header.Set("Connection", connection)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 || got.Get("X-Dtz-Identity") != "identity-abc12345" || got.Get("X-Dtz-Context") != "context-abc12345" || got.Get("Authorization") != "" {
			t.Errorf("with Connection: %q: %d, and behind the proxy %q", connection, w.Code, got)
		}
	}
}
