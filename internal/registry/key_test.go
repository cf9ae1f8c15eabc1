package registry

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
)

func TestPlatformKey(t *testing.T) {
	key := PlatformKey()
	if key.ID != "dtz1" || key.Public.N.BitLen() != 2048 || key.Public.E != 65537 {
		t.Errorf("PlatformKey() = %q, %d bits, exponent %d", key.ID, key.Public.N.BitLen(), key.Public.E)
	}
	c := testConfig()
	c.Keys = []Key{key}
	v := newVerifier(t, c)
	if _, err := v.Verify(t.Context(), withHeader(goodHeader.with("kid", `"dtz1"`))); !hasRule(err, RuleSignature) {
		t.Errorf("a token that bears the platform's kid, but not its signature: %v", err)
	}
}

func TestParseKeyPEM(t *testing.T) {
	key := &firstKey().PublicKey
	pkix := publicPEM(key)
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(key)})
	for name, data := range map[string][]byte{
		"PUBLIC KEY":                          pkix,
		"RSA PUBLIC KEY":                      pkcs1,
		"with text in front and space behind": append([]byte("the key of 2026\n"), append(pkix, "\n \n"...)...),
	} {
		if got, err := ParseKeyPEM("id", data); err != nil || got.ID != "id" || !got.Public.Equal(key) {
			t.Errorf("%s: ParseKeyPEM() = %v, %v", name, got, err)
		}
	}

	private, err := x509.MarshalPKCS8PrivateKey(firstKey())
	if err != nil {
		t.Fatal(err)
	}
	elliptic, err := x509.MarshalPKIXPublicKey(ellipticKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	short := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	tests := []struct {
		name string
		data []byte
		want string // a part of the error
	}{
		{"nothing", nil, "not a PEM file"},
		{"no PEM", []byte("ssh-rsa AAAA"), "not a PEM file"},
		{"a private key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), `PEM block of type "PRIVATE KEY", want PUBLIC KEY`},
		{"a certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: private}), `PEM block of type "CERTIFICATE", want PUBLIC KEY`},
		{"two keys", bytes.Repeat(pkix, 2), "more than one key"},
		{"an elliptic key", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: elliptic}), "*ecdsa.PublicKey, want an RSA key"},
		{"no DER", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("key")}), "asn1"},
		{"no DER, in PKCS #1", pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: []byte("key")}), "asn1"},
		{"1024 bits", publicPEM(short), `key "id" has 1024 bits, want 2048 or more`},
	}
	for _, tt := range tests {
		if got, err := ParseKeyPEM("id", tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: ParseKeyPEM() = %v, %v, want an error with %q", tt.name, got, err, tt.want)
		}
	}
	if _, err := ParseKeyPEM("", pkix); err == nil {
		t.Error("ParseKeyPEM takes a key without an ID")
	}
}
