package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair makes a certificate with that serial number.
func writePair(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writePair(t, certFile, keyFile, 1)
	var logged strings.Builder
	config, err := TLS(certFile, keyFile, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		cert, err := config.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Fatalf("serial number %d, want 1", got)
	}

	next := t.TempDir()
	newCert, newKey := filepath.Join(next, "crt"), filepath.Join(next, "key")
	writePair(t, newCert, newKey, 2)
	for _, step := range []struct {
		what string
		do   func() error
		want int64
		says string
	}{
		{"the certificate is replaced, and the key not yet", func() error { return os.Rename(newCert, certFile) }, 1, "cannot be used"},
		{"the key has followed", func() error { return os.Rename(newKey, keyFile) }, 2, "read again"},
		{"nothing has changed", func() error { return nil }, 2, ""},
		{"the key is gone", func() error { return os.Remove(keyFile) }, 2, "cannot be used"},
		{"and still is", func() error { return nil }, 2, ""},
	} {
		logged.Reset()
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		got := serial()
		if says := logged.String(); got != step.want || !strings.Contains(says, step.says) || (says == "") != (step.says == "") {
			t.Errorf("%s: serial number %d and log %q, want %d and %q", step.what, got, says, step.want, step.says)
		}
	}
}

func TestNoCertificateAtTheStart(t *testing.T) {
	dir := t.TempDir()
	if _, err := TLS(filepath.Join(dir, "crt"), filepath.Join(dir, "key"), nil); err == nil {
		t.Error("TLS takes files that are not there")
	}
}

func TestTLSVersions(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writePair(t, certFile, keyFile, 1)
	config, err := TLS(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	listener := server.Listener
	done := make(chan error, 1)
	go func() {
		done <- Serve(t.Context(), Options{}, Service{Listener: listener, TLS: config, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Proto)
		})})
	}()
	t.Cleanup(func() { <-done })

	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Get("https://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	proto, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(proto) != "HTTP/2.0" {
		t.Errorf("the client speaks %s, %v, want HTTP/2.0", proto, err)
	}
	old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", listener.Addr().String(), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
}
