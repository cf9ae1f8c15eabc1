package main

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
)

// Nothing that the program writes or answers may hold what only its clients
// know, the log of the registry behind the verification included.
func TestSecretsStayWithTheClients(t *testing.T) {
	t.Parallel()
	const more = "metrics: {listen: \"127.0.0.1:0\"}\ntrusted_proxies: [127.0.0.1]\n"
	const bad = "canary-0123456789" // in place of a token or a key
	w := newWorld(t)
	w.configure(more)
	token, key := w.token(alice), w.apiKey(alice)
	denied := w.token(carol)
	var basics []string
	for _, password := range []string{token, key, denied, bad} {
		for _, user := range []string{"bearer", "apikey"} {
			basics = append(basics, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
		}
	}
	secrets := append([]string{bad, key}, basics...)
	for _, t := range []string{token, denied} {
		secrets = append(secrets, t, t[strings.LastIndexByte(t, '.')+1:])
	}

	var changes []func(*http.Request)
	header := func(name, value string) {
		changes = append(changes, func(r *http.Request) { r.Header.Set(name, value) })
	}
	for _, basic := range basics {
		header("Authorization", "Basic "+basic)
	}
	for _, secret := range []string{token, key, denied, bad} {
		header("Authorization", "Bearer "+secret)
		header("Authorization", secret)
		header("X-API-KEY", secret)
		header("Cookie", "dtz-auth="+secret)
		header("Referer", "https://example.com/?apiKey="+secret)
		for _, name := range []string{"apiKey", "%61piKey", "contextId"} {
			changes = append(changes, func(r *http.Request) { r.URL.RawQuery = name + "=" + secret })
		}
	}
	uris := []string{
		"/v2/",
		"/v2/app/manifests/v1",          // which the registry does not know
		"/v2/app/blobs/uploads/nowhere", // which it takes for an error of its own
		"/v2/_catalog",
		"//v2/",
		"/elsewhere",
	}

	for _, command := range []string{"serve", "verify"} {
		d := w.start(command)
		see := func(what, text string) {
			t.Helper()
			for _, secret := range secrets {
				if i := strings.Index(text, secret); i >= 0 {
					t.Errorf("%s: %s has a secret in it: …%s…", command, what, text[max(0, i-100):i+len(secret)])
				}
			}
		}
		for _, uri := range uris {
			for _, change := range changes {
				path := uri
				if command == "verify" {
					path = "/verify"
				}
				resp, body := d.do("GET", path, func(r *http.Request) {
					change(r)
					if command == "verify" {
						r.Header.Set("X-Forwarded-Method", "GET")
						r.Header.Set("X-Forwarded-Uri", uri+"?"+r.URL.RawQuery)
						r.URL = &url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.Path}
					}
				})
				see("the answer's body", body)
				for name, values := range resp.Header {
					see("the answer's header "+name, strings.Join(values, " "))
				}
			}
		}
		d.terminate()
		see("the log", d.stderr.String())
		if n := strings.Count(d.stderr.String(), `"msg":"request"`); n != len(uris)*len(changes) {
			t.Errorf("%s: %d lines for %d requests", command, n, len(uris)*len(changes))
		}
	}
}

func TestMetricsAreOnTheirOwnListener(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure("metrics: {listen: \"127.0.0.1:0\"}\n")
	d := w.start("serve")
	for _, u := range []identity.User{alice, alice, carol} {
		d.do("GET", "/v2/", func(r *http.Request) { r.SetBasicAuth("bearer", w.token(u)) })
	}
	d.do("GET", "/v2/", nil)
	if resp, _ := d.do("GET", "/metrics", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("/metrics where the registry listens: %s, want 404", resp.Status)
	}
	scraped := &daemon{program: d.program, addr: d.metrics}
	resp, text := scraped.do("GET", "/metrics", nil)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s, want 200", resp.Status, text)
	}
	for _, want := range []string{
		`(?m)^dtz_registry_requests_total\{action="none",code="2xx",outcome="allowed"\} 2$`,
		`(?m)^dtz_registry_requests_total\{action="none",code="4xx",outcome="denied"\} 1$`,
		`(?m)^dtz_registry_requests_total\{action="none",code="4xx",outcome="challenged"\} 1$`,
		`(?m)^dtz_registry_apps 1$`,
		`(?m)^dtz_registry_build_info\{`,
		`(?m)^go_goroutines `,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
	for _, secret := range []string{alice.Subject, alice.Contexts[0]} {
		if strings.Contains(text, secret) {
			t.Errorf("a metric names %s, which a label must not", secret)
		}
	}
	if resp, _ := scraped.do("GET", "/v2/", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("/v2/ where the metrics are: %s, want 404", resp.Status)
	}
	d.terminate()
}
