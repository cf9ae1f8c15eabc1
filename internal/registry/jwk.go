package registry

import (
	"cmp"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

const (
	// maxSetKeys is how many keys of a set are for us. It bounds the work that
	// a token without kid makes: each of them may have signed it.
	maxSetKeys = 16
	// maxKeyIDSize is in bytes. Key IDs end up in log lines.
	maxKeyIDSize = 256
)

// privateMembers are the secrets of RSA, elliptic and symmetric keys (RFC 7518
// §6.2.2, §6.3.2, §6.4).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

var (
	knownSetMembers = []string{"keys"}
	knownKeyMembers = append([]string{"kty", "use", "key_ops", "alg", "kid", "n", "e"}, privateMembers...)
)

// parseKeySet is the keys of a JWK set (RFC 7517 §5) that verify RS256. Keys of
// other types, uses and algorithms are none of our business, and are passed
// over. A set that no careful issuer publishes is an error as a whole: one with
// a weak key, with a secret, with two keys of one ID or none that is for us.
// Who has got so much wrong may not be the issuer.
func parseKeySet(data []byte) ([]Key, error) {
	set, err := parseFields(data, knownSetMembers)
	if err != nil {
		return nil, err
	}
	array := set.value("keys")
	if !strings.HasPrefix(array, "[") {
		return nil, errors.New("no array called keys")
	}
	var keys []Key
	n := 0
	for text := range elements(array) {
		n++
		key, isOurs, err := parseJWK(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("no. %d: %w", n, err)
		case !isOurs:
			continue
		case slices.ContainsFunc(keys, func(k Key) bool { return k.ID == key.ID }):
			return nil, fmt.Errorf("two keys with the ID %q", key.ID)
		case len(keys) == maxSetKeys:
			return nil, fmt.Errorf("more than %d signing keys", maxSetKeys)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key for RS256 among them")
	}
	return keys, nil
}

// parseJWK reads a key (RFC 7517 §4). It is ours if it is an RSA key that
// verifies RS256.
func parseJWK(text string) (key Key, isOurs bool, err error) {
	f, err := parseFields([]byte(text), knownKeyMembers)
	if err != nil {
		return Key{}, false, err
	}
	for _, name := range privateMembers {
		if f.has(name) {
			return Key{}, false, errors.New("a secret: " + name)
		}
	}
	texts := make(map[string]string)
	for _, name := range []string{"kty", "use", "alg", "kid"} {
		text, ok := parseString(f.value(name))
		if f.has(name) && (!ok || text == "") {
			return Key{}, false, errors.New(name + " is not a string, or empty")
		}
		texts[name] = text
	}
	operations, ok := parseStrings(cmp.Or(f.value("key_ops"), `["verify"]`))
	switch {
	case !ok:
		return Key{}, false, errors.New("key_ops is not an array of strings")
	case texts["kty"] == "":
		return Key{}, false, errors.New("no kty")
	case texts["kty"] != "RSA",
		cmp.Or(texts["use"], "sig") != "sig",
		cmp.Or(texts["alg"], "RS256") != "RS256",
		!slices.Contains(operations, "verify"):
		return Key{}, false, nil
	case texts["kid"] == "":
		return Key{}, false, errors.New("no kid")
	case len(texts["kid"]) > maxKeyIDSize:
		return Key{}, false, errors.New("kid is too long")
	}
	modulus, errModulus := parseNumber(f.value("n"))
	exponent, errExponent := parseNumber(f.value("e"))
	switch {
	case errModulus != nil:
		return Key{}, false, fmt.Errorf("n: %w", errModulus)
	case errExponent != nil:
		return Key{}, false, fmt.Errorf("e: %w", errExponent)
	case exponent.BitLen() > 31: // crypto/rsa takes no larger ones
		return Key{}, false, errors.New("e is too large")
	}
	key = Key{texts["kid"], &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}}
	return key, true, key.check()
}

// parseNumber reads a number as a JWK has it (RFC 7518 §2, "Base64urlUInt").
// Zeros in front, which it must not have, some libraries put there.
func parseNumber(value string) (*big.Int, error) {
	text, ok := parseString(value)
	if !ok {
		return nil, errors.New("not a string")
	}
	data, err := decodeBase64(strictBase64URL, text)
	if err != nil {
		return nil, errors.New("not strict base64url")
	}
	return new(big.Int).SetBytes(data), nil
}
