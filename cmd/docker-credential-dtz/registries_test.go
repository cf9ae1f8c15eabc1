package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
)

// registries are all hosts that the program reaches through the proxy of a
// test, cr.dtz.rocks among them, so that nothing leaves the machine. They know
// the management API once a test has said what it answers.
type registries struct {
	proxy *httptest.Server
	roots string // file of the certificate to trust

	mu     sync.Mutex
	asked  map[string]int    // by host[:port]
	stats  map[string]string // serverUrl by context
	status int               // in place of it
	silent chan struct{}     // not nil: no answer until it is closed
}

func newRegistries(t testing.TB, dir string) *registries {
	t.Helper()
	r := &registries{asked: map[string]int{}, stats: map[string]string{}, status: http.StatusNotFound, roots: filepath.Join(dir, ".registries.pem")}
	cert, authority := certificate(t, "cr.dtz.rocks", "registry.example")
	if err := os.WriteFile(r.roots, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(r)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	r.proxy = httptest.NewServer(tunnelTo(server.Listener.Addr().String()))
	t.Cleanup(r.proxy.Close)
	t.Cleanup(func() { r.answer("works") })
	return r
}

// env leads a process to them.
func (r *registries) env() map[string]string {
	return map[string]string{"HTTPS_PROXY": r.proxy.URL, "SSL_CERT_FILE": r.roots}
}

// certificate is one for names, and the authority that vouches for it: itself.
func certificate(t testing.TB, names ...string) (cert tls.Certificate, authority []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// tunnelTo is a proxy whose every CONNECT (RFC 9110 §9.3.6) ends at one address.
func tunnelTo(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		server, err := net.Dial("tcp", address)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(server, buffered)
			server.Close()
		}()
		_, _ = io.Copy(client, server)
	})
}

func (r *registries) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.asked[req.Host]++
	silent, status := r.silent, r.status
	token, isBearer := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	claims, err := oauth.ParseClaims(token)
	serverURL := r.stats[claims.Context]
	r.mu.Unlock()
	if silent != nil {
		<-silent
	}
	switch {
	case req.URL.Path != "/api/2023-12-28/stats" || status == http.StatusNotFound:
		w.WriteHeader(http.StatusNotFound)
	case !isBearer || err != nil:
		w.WriteHeader(http.StatusUnauthorized)
	case status != 0:
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"msg":"not today"}`)
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"imageCount": 3, "serverUrl": serverURL})
	}
}

// answer takes "works", "silent", a status, or a context and what its
// serverUrl is.
func (r *registries) answer(args ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent != nil {
		close(r.silent)
		r.silent = nil
	}
	r.status = 0
	switch {
	case len(args) == 2:
		r.stats[args[0]] = args[1]
	case args[0] == "silent":
		r.silent = make(chan struct{})
	case args[0] != "works":
		r.status, _ = strconv.Atoi(args[0])
	}
}

// registries WAY makes the registries behave in another way.
func cmdRegistries(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: registries works | silent | STATUS | CONTEXT SERVER-URL")
	}
	worldOf(ts).registries.answer(args...)
}

// asked HOST N checks how many requests have come to a host.
func cmdAsked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: asked HOST N")
	}
	r := worldOf(ts).registries
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strconv.Itoa(r.asked[args[0]]); got != args[1] {
		ts.Fatalf("%s was asked %s times, want %s", args[0], got, args[1])
	}
}
