package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A platform is a running dtz-registry dev, its identity service behind a
// proxy that counts.
type platform struct {
	Registry  string // host:port
	Identity  string // what DTZ_IDENTITY_URL takes
	Username  string
	Password  string
	APIKey    string
	Contexts  []string
	PublicKey string // PEM

	mu     sync.Mutex
	calls  map[string]int // by the end of the path, such as /token/refresh
	broken string         // the path that answers 500; "" means none
}

// startPlatform starts a platform that ends with t.
func startPlatform(t *testing.T, flags ...string) *platform {
	t.Helper()
	ready, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	var log bytes.Buffer
	dev := exec.Command(program("dtz-registry"), append([]string{
		"dev", "--addr", "127.0.0.1:0", "--identity-addr", "127.0.0.1:0", "--output", "json",
	}, flags...)...)
	dev.Env = []string{"PATH=" + os.Getenv("PATH")}
	dev.Stdout, dev.Stderr = stdout, &log
	stop, err := testenv.Start(dev)
	stdout.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if code := dev.ProcessState.ExitCode(); code != 0 {
			t.Errorf("dtz-registry dev ended with status %d", code)
		}
		if t.Failed() {
			t.Logf("dtz-registry dev said:\n%s", log.Bytes())
		}
	})

	_ = ready.SetReadDeadline(time.Now().Add(time.Minute))
	line, err := bufio.NewReader(ready).ReadBytes('\n')
	if err != nil {
		t.Fatalf("dtz-registry dev is not ready: %v", err)
	}
	p := &platform{calls: map[string]int{}}
	if err := json.Unmarshal(line, p); err != nil {
		t.Fatalf("dtz-registry dev printed %q: %v", line, err)
	}
	p.count(t)
	return p
}

// count puts the proxy before the identity service.
func (p *platform) count(t *testing.T) {
	t.Helper()
	identity, err := url.Parse(p.Identity)
	if err != nil {
		t.Fatal(err)
	}
	behind := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: identity.Scheme, Host: identity.Host})
		r.Out.Host = r.In.Host // which its own addresses are made of
	}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		path := strings.TrimPrefix(r.URL.Path, identity.Path)
		p.calls[path]++
		broken := path == p.broken
		p.mu.Unlock()
		if broken {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	p.Identity = proxy.URL + identity.Path
}

// breaks has the identity service answer 500 at path.
func (p *platform) breaks(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = path
}

// called is how often the identity service was asked for path.
func (p *platform) called(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[path]
}

// deletedKeys are the API keys that the identity service was asked to delete.
func (p *platform) deletedKeys() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var keys []string
	for path, n := range p.calls {
		if key, ok := strings.CutPrefix(path, "/me/identity/apikey/"); ok {
			keys = append(keys, slices.Repeat([]string{key}, n)...)
		}
	}
	return keys
}

// status is what the registry answers to a token, without any client between.
func (p *platform) status(t *testing.T, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Registry+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("bearer", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
