package oauth

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// send writes a request, to the letter, to the listener of b.
func send(t *testing.T, b *BrowserLogin, text string) (*http.Response, error) {
	t.Helper()
	conn, err := net.Dial("tcp", b.loopback.host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil { // who is shown the page would wait for it
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), nil)
}

// Whoever finds the listener, and does not know the state, can neither end the
// login nor keep it from ending.
func TestStrangersAreIgnored(t *testing.T) {
	_, c := serveIdentity(t)
	b := begin(t, c, ctxOne)
	good := redirectOf(t, b)
	const anyCode = "/callback?code=stolen&state="
	tests := []struct {
		name    string
		request string // HOST, STATE and GOOD stand for the real ones
		want    int
	}{
		{"the icon that browsers ask for", "GET /favicon.ico HTTP/1.1\r\nHost: HOST\r\n\r\n", 404},
		{"the root", "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n", 404},
		{"a guessed page", "GET /" + strings.Repeat("A", len(b.loopback.pagePath)-1) + " HTTP/1.1\r\nHost: HOST\r\n\r\n", 404},
		{"the redirect without anything", "GET /callback HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"a guessed state", "GET " + anyCode + "guessed HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"an empty state", "GET " + anyCode + " HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"the state in lower case", "GET " + anyCode + "LOWER HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"an error with a guessed state", "GET /callback?error=access_denied&state=guessed HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"an error without a state", "GET /callback?error=access_denied HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"a code twice", "GET /callback?code=stolen&GOOD HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"two states, one of them right", "GET /callback?state=guessed&GOOD HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"parameters parted by semicolons", "GET /callback?code=stolen;state=STATE HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"a query that cannot be decoded", "GET /callback?GOOD&%zz HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"a query of 40 KB", "GET /callback?GOOD&x=" + strings.Repeat("x", 40_000) + " HTTP/1.1\r\nHost: HOST\r\n\r\n", 400},
		{"a query of 1 MB", "GET /callback?GOOD&x=" + strings.Repeat("x", 1_000_000) + " HTTP/1.1\r\nHost: HOST\r\n\r\n", 431},
		{"the right query at another path", "GET /callback/?GOOD HTTP/1.1\r\nHost: HOST\r\n\r\n", 404},
		{"the right query at a path to be cleaned", "GET //callback?GOOD HTTP/1.1\r\nHost: HOST\r\n\r\n", 404},
		{"the right query at an escaped path", "GET /%63allback?GOOD HTTP/1.1\r\nHost: HOST\r\n\r\n", 404},
		{"the right query at a path in upper case", "GET /CALLBACK?GOOD HTTP/1.1\r\nHost: HOST\r\n\r\n", 404},
		{"a POST", "POST /callback?GOOD HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n", 405},
		{"a POST of a form", "POST /callback HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 4\r\n\r\nGOOD", 405},
		{"a HEAD, as link checkers send it", "HEAD /callback?GOOD HTTP/1.1\r\nHost: HOST\r\n\r\n", 405},
		{"a preflight of another site", "OPTIONS /callback?GOOD HTTP/1.1\r\nHost: HOST\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Private-Network: true\r\n\r\n", 405},
		{"a question about the server", "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n", 405},
		{"a name that was made to point here", "GET /callback?GOOD HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421},
		{"the same with the right port", "GET /callback?GOOD HTTP/1.1\r\nHost: evil.example:PORT\r\n\r\n", 421},
		{"localhost", "GET /callback?GOOD HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 421},
		{"no port", "GET /callback?GOOD HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 421},
		{"another host in the request line", "GET http://evil.example/callback?GOOD HTTP/1.1\r\nHost: HOST\r\n\r\n", 421},
		{"two hosts", "GET /callback?GOOD HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n", 400},
		{"HTTP/1.0 without a host", "GET /callback?GOOD HTTP/1.0\r\n\r\n", 421},
		{"HTTP/1.1 without a host", "GET /callback?GOOD HTTP/1.1\r\n\r\n", 400},
		{"no HTTP", "\x16\x03\x01\x02\x00\r\n\r\n", 400},
	}
	host, port, _ := net.SplitHostPort(b.loopback.host)
	if host != "127.0.0.1" {
		t.Errorf("listens on %s, want 127.0.0.1", host)
	}
	fill := strings.NewReplacer("HOST", b.loopback.host, "PORT", port, "LOWER", strings.ToLower(b.state), "STATE", b.state, "GOOD", good.RawQuery)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := send(t, b, fill.Replace(tt.request))
			if err != nil && tt.want == http.StatusRequestHeaderFieldsTooLarge {
				return // hung up on while it was still talking: as good an answer
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.want || resp.Header.Get("Location") != "" {
				t.Errorf("= %d to %q, want %d", resp.StatusCode, resp.Header.Get("Location"), tt.want)
			}
			if strings.Contains(string(body), "stolen") || strings.Contains(string(body), b.state) {
				t.Errorf("the answer quotes the request: %s", body)
			}
		})
	}
	// Those who open connections and say nothing, or say it slowly.
	for i := range 100 {
		conn, err := net.Dial("tcp", b.loopback.host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: ", good.RequestURI())
		}
	}
	select {
	case r := <-b.arrived:
		t.Fatalf("one of them has ended the login: %v", r.err)
	default:
	}
	ended := make(chan page, 1)
	go func() {
		p, err := visit(good.String())
		if err != nil {
			t.Error(err)
		}
		ended <- p
	}()
	if token, err := b.Wait(t.Context()); err != nil || token.Claims.Subject != alice {
		t.Fatalf("after all of them: token of %q, %v, want alice's", token.Claims.Subject, err)
	}
	b.Finish(t.Context(), Page{Identity: alice})
	if p := <-ended; p.status != 200 {
		t.Errorf("the page is a %d, want 200", p.status)
	}
}

// A browser that comes twice, as after a reload, is shown the same page; what it
// brings the second time is of no account.
func TestRedirectTwice(t *testing.T) {
	_, c := serveIdentity(t)
	b := begin(t, c, ctxOne)
	good := redirectOf(t, b)
	q := good.Query()
	q.Set("code", "another")
	again := *good
	again.RawQuery = q.Encode()
	for _, u := range []*url.URL{good, &again} {
		resp, err := send(t, b, "GET "+u.RequestURI()+" HTTP/1.1\r\nHost: "+u.Host+"\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != b.loopback.pagePath {
			t.Fatalf("%d to %s, want 303 to the page", resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	ended := make(chan page, 1)
	go func() {
		p, err := visit("http://" + b.loopback.host + b.loopback.pagePath)
		if err != nil {
			t.Error(err)
		}
		ended <- p
	}()
	if token, err := b.Wait(t.Context()); err != nil || token.Claims.Subject != alice {
		t.Fatalf("token of %q, %v, want alice's", token.Claims.Subject, err)
	}
	b.Finish(t.Context(), Page{Identity: alice})
	if p := <-ended; p.status != 200 || !strings.Contains(p.body, alice) {
		t.Errorf("%d %s, want the page", p.status, p.body)
	}
}

// The page may do nothing but be looked at.
func TestPageHeaders(t *testing.T) {
	_, c := serveIdentity(t)
	b := begin(t, c, ctxOne)
	ended := start(t, b)
	if _, err := b.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Finish(t.Context(), Page{Identity: alice, Context: ctxOne})
	p := <-ended
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := p.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(p.body)
	if style == nil {
		t.Fatalf("the page has no style: %s", p.body)
	}
	sum := sha256.Sum256([]byte(style[1]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if got := p.header.Get("Content-Security-Policy"); got != want {
		t.Errorf("the policy is %q, want %q", got, want)
	}
	for _, evil := range []string{"<script", " style=", "://", "<img", "<link", "<form"} {
		if strings.Contains(p.body, evil) {
			t.Errorf("the page has %q in it", evil)
		}
	}
}

// A browser that never asks for its page keeps nobody waiting for long, least of
// all him who has pressed Ctrl-C.
func TestBrowserDoesNotAskForItsPage(t *testing.T) {
	tests := []struct {
		name                  string
		isComing, interrupted bool
		want                  time.Duration
	}{
		{"none has come back", false, false, 0},
		{"it has gone", true, false, 3 * time.Second},
		{"the user has had enough", true, true, 300 * time.Millisecond},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			b := &BrowserLogin{
				loopback: &loopback{ended: make(chan struct{}), shown: make(chan struct{})},
				close:    func() {},
			}
			b.loopback.isComing.Store(tt.isComing)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.interrupted {
				cancel()
			}
			start := time.Now()
			b.Finish(ctx, Page{})
			if took := time.Since(start); took != tt.want {
				t.Errorf("%s: Finish took %v, want %v", tt.name, took, tt.want)
			}
		})
	}
}
