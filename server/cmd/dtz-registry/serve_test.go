package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
)

func TestServeKeepsEachContextsImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	image, err := random.Image(1<<16, 3)
	if err != nil {
		t.Fatal(err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	as := func(user, password string) []remote.Option {
		return []remote.Option{remote.WithAuth(&authn.Basic{Username: user, Password: password}), remote.WithContext(t.Context())}
	}
	at := func(d *daemon) name.Reference {
		t.Helper()
		ref, err := name.ParseReference(d.addr + "/team/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}

	d := w.start("serve")
	if err := remote.Write(at(d), image, as("bearer", w.token(alice))...); err != nil {
		t.Fatal(err)
	}
	d.terminate()

	d = w.start("serve")
	pulled, err := remote.Image(at(d), as("apikey", w.apiKey(alice))...)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pulled.Digest(); err != nil || got != want {
		t.Errorf("pulled after a restart: %v, %v, want %v", got, err, want)
	}
	layers, err := pulled.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		if _, err := layer.Uncompressed(); err != nil {
			t.Errorf("a layer: %v", err)
		}
	}
	for who, u := range map[string]identity.User{"another context": benno, "a context that may not use the registry": carol} {
		if _, err := remote.Image(at(d), as("bearer", w.token(u))...); err == nil {
			t.Errorf("%s pulls the image", who)
		}
	}
	if _, err := remote.Image(at(d), remote.WithContext(t.Context())); err == nil {
		t.Error("somebody without a credential pulls the image")
	}
	d.terminate()
}

// upload is one that is under way.
type upload struct {
	rest *io.PipeWriter // of its content
	done chan error     // gets the error of the request
	resp *http.Response // set before
}

// upload sends a MiB, more than all buffers hold, so that d has the request.
func (d *daemon) upload(token string) *upload {
	d.t.Helper()
	auth := func(r *http.Request) { r.SetBasicAuth("bearer", token) }
	resp, body := d.do("POST", "/v2/app/blobs/uploads/", auth)
	if resp.StatusCode != http.StatusAccepted {
		d.t.Fatalf("an upload begins with %s %s, want 202", resp.Status, body)
	}
	location, err := resp.Location()
	if err != nil {
		d.t.Fatal(err)
	}
	content, rest := io.Pipe()
	r, err := http.NewRequestWithContext(d.t.Context(), "PATCH", location.String(), content)
	if err != nil {
		d.t.Fatal(err)
	}
	auth(r)
	u := &upload{rest: rest, done: make(chan error, 1)}
	go func() {
		var err error
		u.resp, err = once.Do(r)
		content.CloseWithError(err)
		u.done <- err
	}()
	u.write(d.t)
	return u
}

func (u *upload) write(t *testing.T) {
	t.Helper()
	if _, err := u.rest.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
		t.Fatal(err)
	}
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func TestServeFinishesUploads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.start("serve")
	if resp, body := d.do("GET", "/readyz", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("/readyz answers %s %s, want 200", resp.Status, body)
	}
	u := d.upload(w.token(alice))
	// On a connection of before it is seen even when no new one is taken any
	// more.
	kept, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	d.signal(syscall.SIGTERM)
	d.await("ending")
	io.WriteString(kept, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(kept), nil); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz while it ends: %v, %v, want 503", resp, err)
	}
	for { // until no connection is taken
		conn, err := net.Dial("tcp", d.addr)
		if err != nil {
			break
		}
		conn.Close()
		time.Sleep(50 * time.Millisecond)
	}
	u.write(t)
	u.rest.Close()
	if err := <-u.done; err != nil {
		t.Fatalf("the upload under way: %v", err)
	}
	defer u.resp.Body.Close()
	if got := u.resp; got.StatusCode != http.StatusAccepted || got.Header.Get("Range") != "0-2097151" {
		t.Errorf("the upload under way ends with %s, range %s; want 202 and all 2 MiB", got.Status, got.Header.Get("Range"))
	}
	if err := d.wait(); err != nil {
		t.Errorf("it ends with %v, want exit 0", err)
	}
}

func TestAnotherSignalEndsItAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.start("serve")
	u := d.upload(w.token(alice))
	defer u.rest.Close()
	d.signal(syscall.SIGTERM)
	d.await("ending")
	again := time.NewTicker(100 * time.Millisecond) // the second may come too early to count
	defer again.Stop()
	for {
		select {
		case <-again.C:
			d.signal(syscall.SIGTERM)
		case _, open := <-d.stderr.news:
			if open {
				continue
			}
			if err := d.wait(); err == nil {
				t.Error("it ends with exit 0, want it killed")
			}
			return
		}
	}
}

func TestPathsOfServe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.start("serve")
	key := w.apiKey(alice)
	for _, tt := range []struct {
		path   string
		status int
		body   string
	}{
		{"/healthz", 200, ""},
		{"/readyz", 200, ""},
		{"/v2", 401, "UNAUTHORIZED"},
		{"/v2/", 401, "UNAUTHORIZED"},
		{"/v2/?apiKey=" + key, 200, "{}"},
		{"/", 404, `"errors":[{"code":`},
		{"/v2x", 404, `"errors":[{"code":`},
		{"/verify", 404, `"errors":[{"code":`},
		{"/metrics", 404, `"errors":[{"code":`},
		{"/debug/vars", 404, `"errors":[{"code":`},
		// Whatever becomes of an odd path, nobody is sent on to an address with
		// the key in it.
		{"//v2/?apiKey=" + key, 404, `"errors":[{"code":`},
		{"/x/../v2/?apiKey=" + key, 404, `"errors":[{"code":`},
		{"/v2//?apiKey=" + key, 403, "DENIED"},
		{"/v2/x/../?apiKey=" + key, 403, "DENIED"},
		{"/%76%32/?apiKey=" + key, 403, "DENIED"},
	} {
		resp, body := d.do("GET", tt.path, nil)
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("GET %s = %s %s, want %d and %q", tt.path, resp.Status, body, tt.status, tt.body)
		}
		if strings.Contains(body, key) || strings.Contains(resp.Header.Get("Location"), key) {
			t.Errorf("GET %s is answered with the key: %v %s", tt.path, resp.Header, body)
		}
	}
}

func TestReadinessGoesByTheStorage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.start("serve")
	store, away := filepath.Join(w.dir, "store"), filepath.Join(w.dir, "away")
	awaitReady := func(status int) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; { // an outcome is good for a few seconds
			resp, body := d.do("GET", "/readyz", nil)
			if strings.Contains(body, w.dir) {
				t.Fatalf("/readyz tells where the images are: %s", body)
			}
			if resp.StatusCode == status {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("/readyz stays at %s %s, want %d", resp.Status, body, status)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	awaitReady(http.StatusOK)
	if err := os.Rename(store, away); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store, nil, 0o600); err != nil { // where a folder has to be
		t.Fatal(err)
	}
	awaitReady(http.StatusServiceUnavailable)
	if resp, body := d.do("GET", "/healthz", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz answers %s %s, want 200: a restart would not help", resp.Status, body)
	}
	if err := os.Remove(store); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, store); err != nil {
		t.Fatal(err)
	}
	awaitReady(http.StatusOK)
}

func TestWhatServeDoesNotStartWith(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "dtz.yaml")
	taken := httptest.NewServer(nil)
	defer taken.Close()
	images := "registry: {storage: {filesystem: {rootdirectory: " + filepath.Join(dir, "images") + "}}}\n"
	const contexts = "verification: {contexts: [\"*\"]}\n"
	for _, tt := range []struct {
		name    string
		command string
		config  string
		stderr  string
	}{
		{"no contexts", "serve", images, "verification.contexts"},
		{"no contexts", "verify", "trusted_proxies: [127.0.0.1]\n", "verification.contexts"},
		{"an empty list of contexts", "serve", images + "verification: {contexts: []}\n", "dtz.yaml:2: verification.contexts"},
		{"an unknown key", "serve", contexts + images + "verfication: {}\n", "dtz.yaml:3: "},
		{"no trusted proxy", "verify", contexts, "trusted_proxies"},
		{"a certificate that is not there", "serve", contexts + images + "tls: {certificate: nowhere.crt, key: nowhere.key}\n", "nowhere.crt"},
		{"an address that is taken", "serve", contexts + images + "listen: " + taken.Listener.Addr().String() + "\n", "address already in use"},
		{"keys that cannot be had", "serve", images + "verification: {contexts: [\"*\"], jwks_url: " + taken.URL + "/jwks.json}\n", "404"},
		{"a storage that cannot be made", "serve", contexts + "registry: {storage: {filesystem: {rootdirectory: " + filepath.Join(file, "below") + "}}}\n", "not a directory"},
	} {
		if err := os.WriteFile(file, []byte(tt.config), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		code := run(ctx, []string{tt.command, "--config", file}, nil, &stdout, &stderr)
		cancel()
		if code != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%s with %s: exit %d, standard output %q, standard error %q; want 1, nothing, %q", tt.command, tt.name, code, &stdout, &stderr, tt.stderr)
		}
	}
}
