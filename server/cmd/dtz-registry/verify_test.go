package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestVerifyAnswersItsProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure("trusted_proxies: [127.0.0.1]\n")
	d := w.start("verify")
	for _, tt := range []struct {
		name   string
		path   string
		change func(*http.Request)
		status int
	}{
		{"a pull", "/verify", func(r *http.Request) {
			r.Header.Set("X-Forwarded-Method", "GET")
			r.Header.Set("X-Forwarded-Uri", "/v2/app/manifests/v1")
			r.SetBasicAuth("bearer", w.token(alice))
		}, 200},
		{"a stranger's", "/verify", func(r *http.Request) {
			r.Header.Set("X-Forwarded-Method", "GET")
			r.Header.Set("X-Forwarded-Uri", "/v2/app/manifests/v1")
		}, 401},
		{"as Envoy asks", "/verify/v2/app/manifests/v1", func(r *http.Request) { r.SetBasicAuth("bearer", w.token(alice)) }, 200},
		{"nothing in particular", "/verify", func(r *http.Request) { r.SetBasicAuth("bearer", w.token(alice)) }, 400},
		{"health", "/healthz", nil, 200},
		{"readiness", "/readyz", nil, 200},
		{"the registry's API, which is elsewhere", "/v2/", func(r *http.Request) { r.SetBasicAuth("bearer", w.token(alice)) }, 404},
	} {
		resp, body := d.do("GET", tt.path, tt.change)
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %s %s, want %d", tt.name, resp.Status, body, tt.status)
		}
		who := []string{resp.Header.Get("X-Dtz-Identity"), resp.Header.Get("X-Dtz-Context")}
		if want := []string{alice.Subject, alice.Contexts[0]}; strings.HasPrefix(tt.path, "/verify") && tt.status == 200 && !slices.Equal(who, want) {
			t.Errorf("%s: it says %v, want %v", tt.name, who, want)
		}
	}
	d.terminate()
}
