package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair puts a new key and certificate for 127.0.0.1 in place as renewals
// do, one file after the other, each whole.
func writePair(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: cert}, "tls.key": {Type: "PRIVATE KEY", Bytes: der}} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

func TestCertificatesAreRenewedWithoutRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure("tls: {certificate: " + filepath.Join(w.dir, "tls.crt") + ", key: " + filepath.Join(w.dir, "tls.key") + "}\n")
	first := writePair(t, w.dir)
	d := w.start("serve")
	get := func(roots *x509.CertPool) (*http.Response, error) {
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			ForceAttemptHTTP2: true,
			TLSClientConfig:   &tls.Config{RootCAs: roots},
		}}
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+d.addr+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("bearer", w.token(alice))
		resp, err := client.Do(r)
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	if resp, err := get(first); err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Errorf("with the first certificate: %v, %v, want 200 over HTTP/2", resp, err)
	}
	second := writePair(t, w.dir)
	if resp, err := get(second); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("with its renewal: %v, %v, want 200", resp, err)
	}
	if _, err := get(first); err == nil {
		t.Error("the first certificate is still in use")
	}
	if resp, err := once.Get("http://" + d.addr + "/v2/"); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP is answered %s, want 400", resp.Status)
		}
	}
	d.terminate()
}
