package dev_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/dev"
)

func TestOnlyLoopback(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0", "127.0.0.1", "127.0.0.1:http-nonsense", "5999", "[::ffff:192.0.2.1]:0"} {
		for name, o := range map[string]dev.Options{"registry": {Addr: addr}, "identity service": {IdentityAddr: addr}} {
			if _, err := dev.Start(t.Context(), o); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
				t.Errorf("%s at %s: %v, want an error that says whose address it is", name, addr, err)
			}
		}
	}
}

func TestAddressInUseIsAnError(t *testing.T) {
	i := start(t, dev.Options{})
	identityAddr := strings.TrimSuffix(strings.TrimPrefix(i.Identity, "http://"), identity.BasePath)
	for name, o := range map[string]dev.Options{"registry": {Addr: i.Registry}, "identity service": {IdentityAddr: identityAddr}} {
		if _, err := dev.Start(t.Context(), o); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s at an address in use: %v, want an error that says whose it is", name, err)
		}
	}
}

func TestStopLetsRequestsEnd(t *testing.T) {
	i := start(t, dev.Options{})
	token := i.login("")
	started, _ := i.do("POST", "/v2/app/blobs/uploads/", token)
	blob := []byte("a layer")
	body, upload := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", fmt.Sprintf("%s&digest=sha256:%x", started.Header.Get("Location"), sha256.Sum256(blob)), body)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(token.Username, token.Password)
	req.Header.Set("Expect", "100-continue")
	transport := &http.Transport{ExpectContinueTimeout: time.Hour}
	defer transport.CloseIdleConnections()
	status := make(chan int)
	go func() {
		defer close(status)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	// The registry has to ask for the body before anybody reads it.
	if _, err := upload.Write(blob); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { i.stop(); close(stopped) }()
	waitUntilRefused(t, i.Registry)
	upload.Close()
	if got := <-status; got != http.StatusCreated {
		t.Errorf("an upload that is under way at the end = %d, want 201", got)
	}
	<-stopped
}

// waitUntilRefused returns when nobody listens at addr any more.
func waitUntilRefused(t *testing.T, addr string) {
	t.Helper()
	for {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return
		}
		conn.Close()
		time.Sleep(time.Millisecond)
	}
}

// syncBuffer is a [bytes.Buffer] for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestRefusalsAreLoggedWithoutSecrets(t *testing.T) {
	var out syncBuffer
	i := start(t, dev.Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
	i.want(401, "GET", "/v2/app/manifests/v1?apiKey=canary", bearer("canary.canary.canary"))
	i.want(401, "GET", "/v2/app/manifests/v1", apiKey("apikey-canary01"))
	if got := out.String(); strings.Contains(got, "canary") || strings.Count(got, "request refused") != 2 {
		t.Errorf("logged: %s, want two refusals and no secret", got)
	}
}
