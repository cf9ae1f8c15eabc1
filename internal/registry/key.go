package registry

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
)

// minKeyBits is what RFC 7518 §3.3 asks of a key for RS256.
const minKeyBits = 2048

// minExponent is the least public exponent of FIPS 186-5 §A.1.1. Smaller ones
// have made careless verifiers forgeable.
const minExponent = 1<<16 + 1

// A Key verifies the tokens whose header names it.
type Key struct {
	ID     string // the header's kid (RFC 7515 §4.1.4)
	Public *rsa.PublicKey
}

// A signer is a key in force. The profiles of what it has signed keep it, so
// that whoever remembers them learns when the key is not ours any more.
type signer struct {
	Key
	retired atomic.Bool
}

//go:embed dtz1.pub.pem
var platformPEM []byte

// PlatformKey is the key that DownToZero signs its tokens with.
func PlatformKey() Key {
	key, err := ParseKeyPEM("dtz1", platformPEM)
	if err != nil {
		panic(err) // the key is compiled in, and a test parses it
	}
	return key
}

// ParseKeyPEM reads data, a PEM file of exactly one RSA public key, either
// PUBLIC KEY (RFC 5280) or RSA PUBLIC KEY (PKCS #1). The key verifies tokens
// whose kid is id.
func ParseKeyPEM(id string, data []byte) (Key, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return Key{}, errors.New("not a PEM file")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return Key{}, errors.New("more than one key")
	}
	public, err := parsePublicKey(block)
	if err != nil {
		return Key{}, err
	}
	key := Key{ID: id, Public: public}
	if err := key.check(); err != nil {
		return Key{}, err
	}
	return key, nil
}

func parsePublicKey(block *pem.Block) (*rsa.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		public, ok := parsed.(*rsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("%T, want an RSA key", parsed)
		}
		return public, nil
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	}
	return nil, fmt.Errorf("PEM block of type %q, want PUBLIC KEY", block.Type)
}

// check refuses a key that is too weak to prove anything.
func (k Key) check() error {
	switch {
	case k.ID == "":
		return errors.New("key without an ID")
	case k.Public == nil || k.Public.N == nil:
		return fmt.Errorf("key %q is empty", k.ID)
	case k.Public.N.BitLen() < minKeyBits:
		return fmt.Errorf("key %q has %d bits, want %d or more", k.ID, k.Public.N.BitLen(), minKeyBits)
	case k.Public.E < minExponent || k.Public.E%2 == 0:
		return fmt.Errorf("key %q has the weak exponent %d", k.ID, k.Public.E)
	}
	return nil
}
