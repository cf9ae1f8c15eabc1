package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

var (
	alice = identity.User{Subject: "identity-alice001", Name: "alice", Password: "of alice", Contexts: []string{"context-alice001"}, Roles: []string{platform.RegistryRole}}
	benno = identity.User{Subject: "identity-benno001", Name: "benno", Password: "of benno", Contexts: []string{"context-benno001"}, Roles: []string{platform.RegistryRole}}
	// carol is of a context that may not use the registry.
	carol = identity.User{Subject: "identity-carol001", Name: "carol", Password: "of carol", Contexts: []string{"context-carol001"}, Roles: []string{platform.RegistryRole}}
)

// world is an identity service, and a configuration that believes it.
type world struct {
	t *testing.T
	*identity.Service
	url    string
	dir    string
	config string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows knows no SIGTERM")
	}
	service, err := identity.New(identity.Config{Users: []identity.User{alice, benno, carol}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	w := &world{t: t, Service: service, url: server.URL, dir: t.TempDir()}
	w.configure("")
	return w
}

// configure writes the configuration, with more at its end.
func (w *world) configure(more string) {
	w.t.Helper()
	w.config = filepath.Join(w.dir, "dtz.yaml")
	text := `
listen: 127.0.0.1:0
verification:
  jwks_url: ` + w.url + `/.well-known/jwks.json
  identity_url: ` + w.url + identity.BasePath + `
  contexts: [context-alice001, context-benno001]
  query_api_key: true
registry:
  storage:
    filesystem:
      rootdirectory: ` + filepath.Join(w.dir, "store", "images") + "\n" + more
	if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) token(u identity.User) string {
	w.t.Helper()
	token, err := w.Issue(u.Subject, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func (w *world) apiKey(u identity.User) string {
	w.t.Helper()
	key, err := w.CreateKey(u.Subject, u.Contexts[0], "")
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// daemon is serve or verify, once it is ready.
type daemon struct {
	*program
	addr    string
	metrics string
}

func (w *world) start(command string) *daemon {
	w.t.Helper()
	d := &daemon{program: start(w.t, command, "--config", w.config)}
	line := d.await("ready")
	d.addr, _ = line["addr"].(string)
	d.metrics, _ = line["metrics"].(string)
	return d
}

// await is the first line of the log with a message that begins so.
func (p *program) await(message string) map[string]any {
	p.t.Helper()
	for {
		for line := range strings.Lines(p.stderr.String()) {
			var members map[string]any
			if json.Unmarshal([]byte(line), &members) != nil {
				continue
			}
			if msg, _ := members["msg"].(string); strings.HasPrefix(msg, message) {
				return members
			}
		}
		if _, open := <-p.stderr.news; !open {
			p.t.Fatalf("the log never says %q: %s", message, p.stderr)
		}
	}
}

// do makes a request and returns the answer with its body read.
func (d *daemon) do(method, path string, change func(*http.Request)) (*http.Response, string) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, "http://"+d.addr+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := once.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp, string(body)
}

// once follows no redirect, and opens a connection for each request.
var once = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (d *daemon) terminate() {
	d.t.Helper()
	if rest, err := d.end(syscall.SIGTERM); err != nil || rest != "" {
		d.t.Errorf("SIGTERM ends it with %v and %q on standard output, want exit 0 and nothing; log: %s", err, rest, d.stderr)
	}
}
