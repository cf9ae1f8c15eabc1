package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/sirupsen/logrus"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// examples are the files that docs/forward-auth.md explains. The tests run them
// with other addresses.
const examples = "../../docs/proxies"

const (
	served = "context-abc12345" // the one in verify.yaml
	other  = "context-other001"

	adminRole = "https://dtz.rocks/containerregistry/admin/{context_id}"
	pullRole  = "https://dtz.example/pull/{context_id}"
)

var (
	alice  = identity.User{Name: "alice", Password: "of alice", Subject: "identity-alice001", Contexts: []string{served, other}, Roles: []string{adminRole}}
	reader = identity.User{Name: "reader", Password: "of reader", Subject: "identity-reader01", Contexts: []string{served}, Roles: []string{pullRole}}
)

// A guarded is a plain registry, and a dtz-registry verify for the proxies in
// front of it.
type guarded struct {
	*identity.Service
	identityURL  string
	stopIdentity func()

	verify     string // host:port
	verifyLog  string // a file
	stopVerify func()

	registry string // host:port
	recorder
}

// A recorder notes what reaches the registry.
type recorder struct {
	next http.Handler

	mu       sync.Mutex
	requests []*http.Request
}

func (rec *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec.mu.Lock()
	rec.requests = append(rec.requests, r.Clone(r.Context()))
	rec.mu.Unlock()
	rec.next.ServeHTTP(w, r)
}

// arrived is what has reached the registry since the last call.
func (rec *recorder) arrived() []*http.Request {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	requests := rec.requests
	rec.requests = nil
	return requests
}

// newGuarded starts all of it. users are there besides alice and reader.
func newGuarded(t *testing.T, nginx bool, users ...identity.User) *guarded {
	t.Helper()
	service, err := identity.New(identity.Config{Users: append(users, alice, reader)})
	if err != nil {
		t.Fatal(err)
	}
	identityServer := httptest.NewServer(service)
	t.Cleanup(identityServer.Close)
	g := &guarded{Service: service, identityURL: identityServer.URL + identity.BasePath, stopIdentity: identityServer.Close}

	images := &configuration.Configuration{Storage: configuration.Storage{
		"inmemory":    nil,
		"delete":      {"enabled": true},
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}}
	images.HTTP.Secret = "of uploads"
	logrus.SetOutput(io.Discard) // the registry's log
	g.next = handlers.NewApp(t.Context(), images)
	registryServer := httptest.NewServer(&g.recorder)
	t.Cleanup(registryServer.Close)
	g.registry = registryServer.Listener.Addr().String()

	config := example(t, "verify.yaml",
		"127.0.0.1:8080", "127.0.0.1:0",
		"identity_url: https://identity.dtz.rocks/api/2021-02-21", "identity_url: "+g.identityURL+
			"\n  jwks_url: "+identityServer.URL+"/.well-known/jwks.json"+
			"\n  roles: {pull: ['"+pullRole+"']}",
		"nginx: false", fmt.Sprint("nginx: ", nginx),
	)
	g.startVerify(t, config)
	return g
}

func (g *guarded) startVerify(t *testing.T, config string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	verify := exec.Command(program("dtz-registry"), "verify", "--config", config)
	verify.Env = []string{}
	verify.Stderr = log
	if g.stopVerify, err = testenv.Start(verify); err != nil {
		t.Fatal(err)
	}
	g.verifyLog = log.Name()
	t.Cleanup(g.stopVerify)
	ready := regexp.MustCompile(`"msg":"ready","addr":"([^"]+)"`)
	eventually(t, "dtz-registry verify", g.verifyLog, func() bool {
		match := ready.FindStringSubmatch(read(t, g.verifyLog))
		if match != nil {
			g.verify = match[1]
		}
		return match != nil
	})
}

// A front is a proxy that asks, before it passes a request on.
type front struct {
	*guarded
	nginx       bool
	address     string // host:port
	certificate string // a PEM file
	transport   *http.Transport
	logs        []string // files
}

// newNginx starts nginx. edits are made to the example besides addresses.
func (g *guarded) newNginx(t *testing.T, edits ...string) *front {
	t.Helper()
	f, key := g.newFront(t)
	f.nginx = true
	dir := t.TempDir()
	access, errors := filepath.Join(dir, "access.log"), filepath.Join(dir, "error.log")
	site := example(t, "nginx.conf", append(edits,
		"127.0.0.1:5000", g.registry,
		"127.0.0.1:8080", g.verify,
		"listen 443 ", "listen "+f.address+" ",
		"/etc/ssl/registry.crt", f.certificate,
		"/etc/ssl/registry.key", key,
		"/var/log/nginx/registry.log", access,
	)...)
	// What the distribution's nginx.conf does around it, in a folder of its own.
	around := `user root; # which is for those who are
daemon off;
worker_processes 1;
pid DIR/pid;
error_log DIR/error.log;
events {}
http {
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	include ` + site + `;
}
`
	config := filepath.Join(dir, "nginx.conf")
	write(t, config, strings.ReplaceAll(around, "DIR", dir))
	f.start(t, errors, exec.Command("nginx", "-p", dir, "-c", config, "-e", errors))
	f.logs = append(f.logs, access, errors)
	return f
}

// newCaddy starts Caddy.
func (g *guarded) newCaddy(t *testing.T) *front {
	t.Helper()
	f, key := g.newFront(t)
	config := example(t, "Caddyfile",
		"127.0.0.1:5000", g.registry,
		"127.0.0.1:8080", g.verify,
		"log {\n", "admin off\n\tauto_https off\n\tlog {\n", // no other port is listened at
		"registry.example.com {", "https://"+f.address+" {\n\ttls "+f.certificate+" "+key,
	)
	log := filepath.Join(t.TempDir(), "log")
	caddy := exec.Command("caddy", "run", "--adapter", "caddyfile", "--config", config)
	caddy.Env = []string{"HOME=" + t.TempDir()}
	f.start(t, log, caddy)
	f.logs = append(f.logs, log)
	return f
}

// newFront has everything but the proxy. key is the file of the certificate's.
func (g *guarded) newFront(t *testing.T) (f *front, key string) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // whose certificate is for 127.0.0.1
	server.Close()
	c := server.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	f = &front{guarded: g, address: freeAddress(t), certificate: filepath.Join(t.TempDir(), "crt"), logs: []string{g.verifyLog}}
	key = filepath.Join(t.TempDir(), "key")
	write(t, f.certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	f.transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(f.transport.CloseIdleConnections)
	return f, key
}

// start returns when the proxy answers. It writes to log.
func (f *front) start(t *testing.T, log string, proxy *exec.Cmd) {
	t.Helper()
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	proxy.Stdout, proxy.Stderr = out, out
	stop, err := testenv.Start(proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			for _, log := range f.logs {
				t.Logf("%s:\n%s", log, read(t, log))
			}
		}
	})
	eventually(t, proxy.Path, log, func() bool {
		conn, err := tls.Dial("tcp", f.address, f.transport.TLSClientConfig)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// example writes an example with other addresses, given as pairs of old and
// new, and returns its path.
func example(t *testing.T, file string, pairs ...string) string {
	t.Helper()
	text := read(t, filepath.Join(examples, file))
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s does not contain %q", file, pairs[i])
		}
	}
	path := filepath.Join(t.TempDir(), file)
	write(t, path, strings.NewReplacer(pairs...).Replace(text))
	return path
}

// freeAddress is one that nobody listens at now, for programs that cannot say
// which they have taken.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually returns when the program is ready.
func eventually(t *testing.T, program, log string, ready func() bool) {
	t.Helper()
	for start := time.Now(); !ready(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("%s is not ready; it said:\n%s", program, read(t, log))
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
