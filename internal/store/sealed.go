package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
)

// A sealed file holds what is too large for a keychain item, or what must not
// lie in the open: AES-256-GCM (NIST SP 800-38D) with a random nonce in front.
// Its name is part of the additional data, so that one file cannot be put in
// another's place.

// maxFile is more than any file of ours has, in bytes.
const maxFile = 1 << 20

const sealedKeySize = 32 // bytes; AES-256

var errUnseal = errors.New("it was changed, or sealed with another key")

func seal(key, plaintext []byte, name string) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plaintext, []byte(name)), nil
}

func unseal(key, sealed []byte, name string) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, sealed, []byte(name))
	if err != nil {
		return nil, errUnseal
	}
	return plaintext, nil
}

// newAEAD puts the nonce into the sealed text by itself.
func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != sealedKeySize {
		return nil, errUnseal
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand, since Go 1.24)
	return b
}
