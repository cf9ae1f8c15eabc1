package config

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestFilesThatOthersMayChange(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	dir := t.TempDir()
	key := writeKey(t, filepath.Join(dir, "spare.pem"), 2048)
	deny := write(t, filepath.Join(dir, "deny.json"), "{}")
	certificate, tlsKey := writeCertificate(t, dir)
	file := write(t, filepath.Join(dir, "dtz.yaml"), `verification:
  contexts: ["*"]
  keys: [`+key+`]
  deny_list: `+deny+`
tls:
  certificate: `+certificate+`
  key: `+tlsKey+`
registry:
  http: {secret: of uploads}
`)
	if _, warnings, err := Load(file); err != nil || len(warnings) > 0 {
		t.Fatalf("Load = %v, %v, want nothing", warnings, err)
	}
	for name, line := range map[string]string{key: "3", deny: "4", certificate: "6", tlsKey: "7", file: "1"} {
		for _, mode := range []os.FileMode{0o602, 0o620} {
			chmod(t, name, mode)
			_, _, err := Load(file)
			if want := file + ":" + line + ": "; err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "others may write "+name) {
				t.Errorf("%s of mode %o: %v, want an error at %s", filepath.Base(name), mode, err, want)
			}
		}
		chmod(t, name, 0o644)
		_, warnings, err := Load(file)
		isSecret := name == tlsKey || name == file
		if err != nil || (len(warnings) == 1) != isSecret {
			t.Errorf("%s that others may read: %v, %v, want a warning only if it is secret", filepath.Base(name), warnings, err)
		}
		chmod(t, name, 0o600)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	chmod(t, tlsKey, 0o644)
	if _, warnings, err := Load(file); err != nil || len(warnings) > 0 {
		t.Errorf("a key among the service's credentials: %v, %v, want nothing", warnings, err)
	}
	chmod(t, dir, 0o777)
	if _, _, err := Load(file); err == nil || !strings.Contains(err.Error(), "others may replace "+key) {
		t.Errorf("a folder that others may write: %v, want an error", err)
	}
	chmod(t, dir, 0o777|os.ModeSticky)
	if _, _, err := Load(file); err != nil {
		t.Errorf("a folder such as /tmp: %v, want no error", err)
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func mkdir(t *testing.T, dir, name string) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	return write(t, name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// writeKey writes the public half of an RSA key.
func writeKey(t *testing.T, name string, bits int) string {
	t.Helper()
	public := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), bits-1, 1), E: 1<<16 + 1}
	return writePEM(t, name, "RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(public))
}

func writeTLSKey(t *testing.T, name string) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, writePEM(t, name, "PRIVATE KEY", der)
}

func writeCertificate(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	private, key := writeTLSKey(t, filepath.Join(dir, "tls.key"))
	return writeCertificateOf(t, dir, private), key
}

func writeWeakCertificate(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	key = writePEM(t, filepath.Join(dir, "tls.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private))
	return writeCertificateOf(t, dir, private), key
}

func writeCertificateOf(t *testing.T, dir string, private crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, filepath.Join(dir, "tls.crt"), "CERTIFICATE", der)
}
