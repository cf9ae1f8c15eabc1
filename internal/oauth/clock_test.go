package oauth

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	const date = "Tue, 24 Nov 2026 12:00:00 GMT"
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		status int
		date   string
		want   time.Time
		failed int // status of the error; 0: none
	}{
		{"any answer has a date", 401, date, noon, 0},
		{"not found", 404, date, noon, 0},
		{"a redirect, which is not followed", 302, date, noon, 0},
		{"out of order", 503, date, noon, 503},
		{"too many requests", 429, date, noon, 429},
		{"no date", 401, "", time.Time{}, 0},
		{"no date that is one", 401, "noon", time.Time{}, 0},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" || r.URL.Path != "/api/context" {
				t.Errorf("%s: asked for %s with %v", tt.name, r.URL, r.Header)
			}
			w.Header()["Date"] = []string{tt.date}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(tt.status)
		}))
		c := &Client{BaseURL: server.URL + "/api"}
		got, err := c.Clock(t.Context())
		server.Close()
		if !got.Equal(tt.want) {
			t.Errorf("%s: Clock = %v, want %v", tt.name, got, tt.want)
		}
		if tt.failed == 0 && err != nil || tt.failed != 0 && asError(t, err).Status != tt.failed {
			t.Errorf("%s: error %v, want status %d", tt.name, err, tt.failed)
		}
	}
}

func TestClockOfNobody(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	server.Config.ErrorLog = discardLog
	untrusted := &Client{BaseURL: server.URL, HTTP: NewHTTPClient(HTTPOptions{RootCAs: x509.NewCertPool()})}
	_, err := untrusted.Clock(t.Context())
	if e := asError(t, err); !e.Unreachable() || e.Unconnected {
		t.Errorf("a certificate that is not trusted: %+v", *e)
	}
	server.Close()
	_, err = untrusted.Clock(t.Context())
	if e := asError(t, err); !e.Unreachable() || !e.Unconnected {
		t.Errorf("nobody listens: %+v", *e)
	}
	if _, err := (&Client{BaseURL: "http://identity.example"}).Clock(t.Context()); err == nil {
		t.Error("asked by http beyond loopback")
	}
}
