package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

func TestHostileAnswers(t *testing.T) {
	elsewhere := inTheClear(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	answer := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		status int
		code   string
		msg    string
	}{
		{"redirects", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "http://"+elsewhere.Address+"/v2/", http.StatusTemporaryRedirect)
		}, 307, "", "redirects are not followed"},
		{"redirects to itself", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "/v2/", http.StatusFound)
		}, 302, "", "redirects are not followed"},
		{"is huge", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte(" "), 3<<20))
		}, 200, "", "the answer is longer than 1 MiB"},
		{"refuses at length", answer(401, "application/json", `{"errors":[{"code":"UNAUTHORIZED","message":"`+strings.Repeat("a", 3<<20)+`"}]}`), 401, "", ""},
		{"is a page that wants a login", answer(200, "text/html; charset=utf-8", "<h1>Welcome"), 200, "", "the answer is a web page, not a registry's"},
		{"refuses with a page", answer(403, "text/html", "<h1>Blocked"), 403, "", ""},
		{
			"sends control characters", answer(403, "application/json", `{"errors":[{"code":"DE\u001bNIED","message":"a\u001b[31mb\nc\u202ed"}]}`),
			403, "DENIED", "ab cd",
		},
		{"sends a long message", answer(500, "application/json", `{"errors":[{"message":"`+strings.Repeat("é", 500)+`"}]}`), 500, "", strings.Repeat("é", 200) + "…"},
		{"sends an error without a message", answer(429, "application/json", `{"errors":[{"code":"TOOMANYREQUESTS"}]}`), 429, "TOOMANYREQUESTS", ""},
		{"sends no errors", answer(401, "application/json", `{"errors":[]}`), 401, "", ""},
		{"speaks as the management API does", answer(403, "application/json", `{"msg":"role missing"}`), 403, "", "role missing"},
		{"sends an error of another shape", answer(403, "application/json", `{"errors":"no","msg":5}`), 403, "", ""},
		{"echoes the token", func(w http.ResponseWriter, req *http.Request) {
			_, password, _ := req.BasicAuth()
			answer(401, "application/json", fmt.Sprintf(`{"errors":[{"code":%q,"message":"no: %s"}]}`, password, password))(w, req)
		}, 401, "[redacted]", "no: [redacted]"},
		{"echoes the header", func(w http.ResponseWriter, req *http.Request) {
			answer(401, "application/json", fmt.Sprintf(`{"msg":%q}`, req.Header.Get("Authorization")))(w, req)
		}, 401, "", "Basic [redacted]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := overTLS(t, tt.answer)
			e := asError(t, r.Check(t.Context(), "bearer", canary))
			if e.Status != tt.status || e.Code != tt.code || e.Msg != tt.msg {
				t.Errorf("error = %+v, want status %d, code %q, message %q", *e, tt.status, tt.code, tt.msg)
			}
			want := r.Address
			if tt.status != 200 {
				want = fmt.Sprintf("%s answered %d %s", r.Address, tt.status, http.StatusText(tt.status))
			}
			if got := e.Error(); !strings.HasPrefix(got, want) || strings.ContainsAny(got, "\n\x1b") || strings.HasSuffix(got, ": ") {
				t.Errorf("it says %q", got)
			}
		})
	}
}

const canary secret.String = "canary-token-0123456789"

// raw answers a request on each connection with text that need not be HTTP.
func raw(t *testing.T, answer func(request string) string) *Registry {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				if first, err := in.Peek(1); err != nil || first[0] == 0x16 { // a TLS handshake
					_, _ = io.WriteString(conn, "HTTP/1.0 400 Bad Request\r\n\r\n")
					return
				}
				req, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, answer(req.Header.Get("Authorization")))
			}()
		}
	}()
	return &Registry{Address: l.Addr().String(), PlainHTTP: true}
}

// What is no HTTP, net/http quotes in its error.
func TestBrokenAnswersAreNotQuotedWithTheToken(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte("bearer:" + canary.Reveal()))
	for name, answer := range map[string]func(string) string{
		"not HTTP":           func(authorization string) string { return authorization + "\r\n\r\n" },
		"a broken header":    func(authorization string) string { return "HTTP/1.1 200 OK\r\n" + authorization + "\r\n\r\n" },
		"less than promised": func(string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}" },
		"nothing":            func(string) string { return "" },
	} {
		e := asError(t, raw(t, answer).Check(t.Context(), "bearer", canary))
		if !e.Unreachable() || e.Err == nil || e.Msg == "" {
			t.Errorf("%s: %+v, want out of reach", name, *e)
		}
		if text := e.Error(); strings.Contains(text, canary.Reveal()) || strings.Contains(text, encoded) {
			t.Errorf("%s: %q shows the token", name, text)
		}
	}
}

func TestOutOfReach(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := &Registry{Address: l.Addr().String(), PlainHTTP: true}
	e := asError(t, r.Check(t.Context(), "bearer", canary))
	if !e.Unreachable() || e.Status != 0 || !strings.Contains(e.Msg, "connection refused") {
		t.Errorf("nobody listens: %+v", *e)
	}

	r = overTLS(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked after the end") }))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if e := asError(t, r.Check(ctx, "bearer", canary)); e.Unreachable() || e.Msg != "interrupted" {
		t.Errorf("interrupted: %+v", *e)
	}
	for _, status := range []int{429, 500, 502, 503} {
		r := overTLS(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		if e := asError(t, r.Check(t.Context(), "bearer", canary)); !e.Unreachable() || e.Refused() || e.Denied() {
			t.Errorf("%d: %+v, want that it may be asked later", status, *e)
		}
	}
}

// A registry that takes the question and says nothing.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			return ours, nil
		}}
		r := &Registry{Address: "cr.example", HTTP: &http.Client{Transport: transport}}
		e := asError(t, r.Check(t.Context(), "bearer", canary))
		if !e.Unreachable() || e.Msg != "no answer in time" {
			t.Errorf("error = %+v, want no answer in time", *e)
		}
		transport.CloseIdleConnections()
	})
}
