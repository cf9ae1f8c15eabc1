package registry

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"

	"github.com/golang-jwt/jwt/v5"
)

// minKeyBits is what RFC 7518 §3.3 asks of a key for RS256.
const minKeyBits = 2048

// maxKeyBits is what crypto/tls takes at most, too: verification with a larger
// key costs more than it protects.
const maxKeyBits = 8192

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

// find is the signer with that ID, or nil.
func find(signers []*signer, id string) *signer {
	for _, s := range signers {
		if s.ID == id {
			return s
		}
	}
	return nil
}

func ids(signers []*signer) []string {
	ids := make([]string, len(signers))
	for i, s := range signers {
		ids[i] = s.ID
	}
	return ids
}

// verifies reports whether the key has made the signature (RFC 7518 §3.3).
func (k Key) verifies(signed string, signature []byte) bool {
	return jwt.SigningMethodRS256.Verify(signed, signature, k.Public) == nil
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
	case k.Public.N.BitLen() > maxKeyBits:
		return fmt.Errorf("key %q has %d bits, want %d or less", k.ID, k.Public.N.BitLen(), maxKeyBits)
	case k.Public.N.Bit(0) == 0:
		return fmt.Errorf("key %q has an even modulus", k.ID)
	case k.Public.E < minExponent || k.Public.E%2 == 0:
		return fmt.Errorf("key %q has the weak exponent %d", k.ID, k.Public.E)
	case madeByROCA(k.Public.N):
		return fmt.Errorf("key %q can be factored (CVE-2017-15361)", k.ID)
	}
	return nil
}

// smallPrimes are what madeByROCA looks modulo. Their product divides the one
// that the cards compute with, for keys of 2048 bits and more.
var smallPrimes = []uint64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101,
	103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// madeByROCA reports whether the modulus bears the mark of the cards whose keys
// can be factored: modulo each of the small primes it is a power of 65537 (Nemec
// et al., "The Return of Coppersmith's Attack"). Of other keys, one in two
// hundred million does.
func madeByROCA(modulus *big.Int) bool {
	for _, prime := range smallPrimes {
		rest := new(big.Int).Mod(modulus, new(big.Int).SetUint64(prime)).Uint64()
		power := uint64(1)
		for range prime {
			if power == rest {
				break
			}
			power = power * 65537 % prime
		}
		if power != rest {
			return false
		}
	}
	return true
}
