package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answerToken(t, w, tokenFor(t, ctxOne)) }))
	server.Config.ErrorLog = discardLog
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())

	c := &Client{BaseURL: server.URL, HTTP: NewHTTPClient(HTTPOptions{RootCAs: roots}), Now: func() time.Time { return monday }}
	if _, err := c.APIKey(t.Context(), anyKey, ""); err != nil {
		t.Errorf("with a trusted certificate: %v", err)
	}

	c.sleep = func(context.Context, time.Duration) error { t.Error("tried again"); return nil }
	c.HTTP = NewHTTPClient(HTTPOptions{RootCAs: x509.NewCertPool()})
	_, err := c.APIKey(t.Context(), anyKey, "")
	e := asError(t, err)
	var unknown x509.UnknownAuthorityError
	if !e.Unreachable() || e.Unconnected || !errors.As(err, &unknown) {
		t.Errorf("with a stranger's certificate: %+v, want unreachable, connected and an unknown authority", *e)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request over TLS 1.1") }))
	server.Config.ErrorLog = discardLog
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := &Client{BaseURL: server.URL, HTTP: NewHTTPClient(HTTPOptions{RootCAs: roots}), sleep: noSleep}
	_, err := c.APIKey(t.Context(), anyKey, "")
	if e := asError(t, err); e.Unconnected || !e.Unreachable() {
		t.Errorf("error = %+v, want unreachable but connected", *e)
	}
}

func TestUnconnected(t *testing.T) {
	hangUp := listen(t, func(conn net.Conn) { conn.Close() })
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			t.Errorf("proxy was asked to %s, want CONNECT", r.Method)
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer proxy.Close()
	through := func(address string) *http.Client {
		return NewHTTPClient(HTTPOptions{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: address})})
	}
	tests := []struct {
		name    string
		baseURL string
		http    *http.Client
		want    bool
	}{
		{"a closed port", "http://" + closedPort(t), nil, true},
		{"a closed port, https", "https://" + closedPort(t), nil, true},
		{"a name that cannot be", "https://" + strings.Repeat("a", 64) + ".invalid", nil, true},
		{"a proxy whose port is closed", "https://identity.invalid", through(closedPort(t)), true},
		{"a proxy that answers 502", "https://identity.invalid", through(proxy.Listener.Addr().String()), false},
		{"a proxy that hangs up", "https://identity.invalid", through(hangUp), false},
		{"a service that hangs up", "http://" + hangUp, nil, false},
		{"a service that hangs up before TLS", "https://" + hangUp, nil, false},
		{"a service that speaks no TLS", "https://" + proxy.Listener.Addr().String(), nil, false},
		{"a transport that we know nothing of", "https://identity.invalid", &http.Client{Transport: broken{}}, false},
		{"a proxy setting that is no URL", "https://identity.invalid", NewHTTPClient(HTTPOptions{Proxy: func(*http.Request) (*url.URL, error) {
			return nil, errors.New(`invalid proxy address "http://alice:c4nary@proxy"`)
		}}), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &Client{BaseURL: tt.baseURL, HTTP: tt.http, sleep: noSleep}
			_, err := c.APIKey(t.Context(), anyKey, "")
			e := asError(t, err)
			if e.Unconnected != tt.want || !e.Unreachable() || e.Status != 0 {
				t.Errorf("error = %+v, want Unconnected %v", *e, tt.want)
			}
			if strings.Contains(err.Error(), "c4nary") || strings.Contains(err.Error(), anyKey) {
				t.Errorf("error %q holds a secret", err)
			}
		})
	}
}

// Once anybody has answered, a closed port in a later attempt proves nothing.
func TestUnconnectedCountsAllAttempts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer server.Close()
	c := &Client{BaseURL: server.URL, sleep: func(context.Context, time.Duration) error { server.Close(); return nil }}
	_, err := c.APIKey(t.Context(), anyKey, "")
	if e := asError(t, err); e.Status != 0 || !e.Unreachable() || e.Unconnected {
		t.Errorf("error = %+v, want the last attempt's, but not Unconnected", *e)
	}
}

func TestTheDeadlineEnds(t *testing.T) {
	// reached is closed when the call is where the test wants it to be.
	tests := []struct {
		name  string
		start func(t *testing.T, reached chan<- struct{}) *Client
		want  bool // Unconnected
	}{
		{
			name: "a call to a server that says nothing",
			start: func(t *testing.T, reached chan<- struct{}) *Client {
				return &Client{BaseURL: "http://" + listen(t, func(conn net.Conn) {
					conn.Read(make([]byte, 1))
					close(reached)
					io.Copy(io.Discard, conn)
					conn.Close()
				})}
			},
		},
		{
			name: "a call to a server that answers byte by byte",
			start: func(t *testing.T, reached chan<- struct{}) *Client {
				return &Client{BaseURL: "http://" + listen(t, func(conn net.Conn) {
					conn.Read(make([]byte, 1))
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
					close(reached)
					for {
						if _, err := conn.Write([]byte(" ")); err != nil {
							conn.Close()
							return
						}
						time.Sleep(10 * time.Millisecond)
					}
				})}
			},
		},
		{
			name: "a connection that is never made",
			start: func(t *testing.T, reached chan<- struct{}) *Client {
				dialer := &net.Dialer{ControlContext: func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
					close(reached)
					<-ctx.Done()
					return ctx.Err()
				}}
				return &Client{BaseURL: "http://127.0.0.1:9", HTTP: &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}}
			},
			want: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reached := make(chan struct{})
			c := tt.start(t, reached)
			c.sleep = noSleep
			_, err := c.APIKey(expiring{t.Context(), reached}, anyKey, "")
			e := asError(t, err)
			if !errors.Is(err, context.DeadlineExceeded) || !e.Unreachable() || e.Unconnected != tt.want || e.Status != 0 || e.Msg != "no answer in time" {
				t.Errorf("error = %+v, want the deadline's, Unconnected %v", *e, tt.want)
			}
		})
	}
}

// An echo server answers with our own request line, which net/http quotes.
func TestErrorsDoNotQuoteTheURL(t *testing.T) {
	echo := listen(t, func(conn net.Conn) {
		buf := make([]byte, 4096)
		n, _ := conn.Read(buf)
		conn.Write(buf[:n])
		conn.Close()
	})
	for name, address := range map[string]string{"closed port": closedPort(t), "echo": echo} {
		c := &Client{BaseURL: "http://" + address, sleep: noSleep}
		err := c.DeleteKey(t.Context(), "a.b.c", anyKey)
		for e := error(asError(t, err)); e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), anyKey) {
				t.Errorf("%s: %T %q quotes the key", name, e, e)
			}
		}
	}
}
