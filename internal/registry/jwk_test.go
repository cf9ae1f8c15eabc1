package registry

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// keySet is what an issuer publishes.
func keySet(keys ...fmt.Stringer) string {
	var texts []string
	for _, key := range keys {
		texts = append(texts, key.String())
	}
	return `{"keys":[` + strings.Join(texts, ",") + `]}`
}

func jwk(id string, key *rsa.PublicKey) jsonText {
	return jsonText{
		{"kty", `"RSA"`},
		{"use", `"sig"`},
		{"alg", `"RS256"`},
		{"kid", quote(id)},
		{"n", quote(encode(key.N.Bytes()))},
		{"e", quote(encode(big.NewInt(int64(key.E)).Bytes()))},
	}
}

func quote(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(quoted)
}

func firstJWK() jsonText  { return jwk("first", &firstKey().PublicKey) }
func secondJWK() jsonText { return jwk("second", &secondKey().PublicKey) }

// An elliptic key of an issuer that signs with those, too.
var ellipticJWK = jsonText{{"kty", `"EC"`}, {"use", `"sig"`}, {"crv", `"P-256"`}, {"kid", `"elliptic"`}, {"x", `"AQ"`}, {"y", `"AQ"`}}

func manyKeys(n int) (keys []fmt.Stringer) {
	for i := range n {
		keys = append(keys, jwk(fmt.Sprint("key-", i), &firstKey().PublicKey))
	}
	return keys
}

func TestParseKeySet(t *testing.T) {
	k := firstJWK()
	var many []string
	for i := range maxSetKeys {
		many = append(many, fmt.Sprint("key-", i))
	}
	tests := []struct {
		name string
		set  string
		want []string // key IDs
	}{
		{"one key", keySet(k), []string{"first"}},
		{"two keys", keySet(k, secondJWK()), []string{"first", "second"}},
		{"a key that says no more than it must", keySet(k.without("use").without("alg")), []string{"first"}},
		{"a key that verifies", keySet(k.without("use").and("key_ops", `["verify"]`)), []string{"first"}},
		{"a key with a certificate and what else there may be", keySet(k.and("x5c", `["MII="]`).and("x5t", `"AQ"`).and("nbf", `1`)), []string{"first"}},
		{"a set with members of its own", strings.Replace(keySet(k), "{", `{"issuer":{"keys":[]},`, 1), []string{"first"}},
		{"white space", strings.ReplaceAll(keySet(k), ",", "\r\n\t, "), []string{"first"}},
		{"zeros in front of the modulus", keySet(k.with("n", quote(encode(append([]byte{0, 0}, firstKey().N.Bytes()...))))), []string{"first"}},
		{"one key under two IDs", keySet(k, k.with("kid", `"again"`)), []string{"first", "again"}},
		{"as many keys as there may be", keySet(manyKeys(maxSetKeys)...), many},

		{"beside an elliptic key", keySet(ellipticJWK, k), []string{"first"}},
		{"beside an elliptic key of the same ID", keySet(ellipticJWK.with("kid", `"first"`), k), []string{"first"}},
		{"beside an elliptic key without ID", keySet(ellipticJWK.without("kid"), k), []string{"first"}},
		{"beside a key of a type to come", keySet(jsonText{{"kty", `"MOON"`}, {"n", `1`}}, k), []string{"first"}},
		{"beside one for encryption", keySet(k, secondJWK().with("use", `"enc"`)), []string{"first"}},
		{"beside a weak one for encryption", keySet(k, secondJWK().with("use", `"enc"`).with("n", `"AQ"`)), []string{"first"}},
		{"beside one for encryption, by its operations", keySet(k, secondJWK().without("use").and("key_ops", `["encrypt","wrapKey"]`)), []string{"first"}},
		{"beside one that may do nothing", keySet(k, secondJWK().and("key_ops", `[]`)), []string{"first"}},
		{"beside one for PS256", keySet(k, secondJWK().with("alg", `"PS256"`)), []string{"first"}},
		{"beside one for RS512", keySet(k, secondJWK().with("alg", `"RS512"`)), []string{"first"}},
	}
	for _, tt := range tests {
		keys, err := parseKeySet([]byte(tt.set))
		var got []string
		for _, key := range keys {
			got = append(got, key.ID)
			if key.ID == "first" && !key.Public.Equal(&firstKey().PublicKey) {
				t.Errorf("%s: another key than the one in the set", tt.name)
			}
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: parseKeySet() = %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestParseKeySetRefuses(t *testing.T) {
	k := firstJWK()
	number := func(bits uint) string {
		odd := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return quote(encode(odd.SetBit(odd, 0, 1).Bytes()))
	}
	powerOf65537 := new(big.Int).Exp(big.NewInt(65537), big.NewInt(128), nil)
	even := new(big.Int).Lsh(big.NewInt(1), 2047)

	tests := []struct {
		name string
		set  string
		want string // the error
	}{
		{"nothing", "", "not JSON"},
		{"a page", "<html>Welcome to the hotel</html>", "not JSON"},
		{"an array", `[` + k.String() + `]`, "not a JSON object"},
		{"null", `null`, "not a JSON object"},
		{"half a set", keySet(k)[:200], "not JSON"},
		{"two sets", keySet(k) + keySet(k), "not JSON"},
		{"not UTF-8", keySet(k.and("x", "\"\xff\"")), "not UTF-8"},
		{"a key without a set", k.String(), "no array called keys"},
		{"an error", `{"msg":"try later"}`, "no array called keys"},
		{"keys that are null", `{"keys":null}`, "no array called keys"},
		{"keys that are an object", `{"keys":{"first":` + k.String() + `}}`, "no array called keys"},
		{"KEYS", strings.Replace(keySet(k), "keys", "KEYS", 1), "member in the wrong case: keys"},
		{"keys twice", `{"keys":[],` + keySet(k)[1:], "duplicate member"},

		{"no keys", keySet(), "no key for RS256 among them"},
		{"no RSA keys", keySet(ellipticJWK), "no key for RS256 among them"},
		{"no keys for signatures", keySet(k.with("use", `"enc"`)), "no key for RS256 among them"},
		{"a key too many", keySet(manyKeys(maxSetKeys + 1)...), "more than 16 signing keys"},
		{"a million empty arrays", `{"keys":[` + strings.Repeat("[],", 1_000_000/3) + `[]]}`, "no. 1: not a JSON object"},
		{"a key that is a string", strings.Replace(keySet(k), "[", `["first",`, 1), "no. 1: not a JSON object"},
		{"a key that is null", strings.Replace(keySet(k), "]", `,null]`, 1), "no. 2: not a JSON object"},

		{"a key without an ID", keySet(k, secondJWK().without("kid")), "no. 2: no kid"},
		{"an empty ID", keySet(k.with("kid", `""`)), "no. 1: kid is not a string, or empty"},
		{"an ID that is a number", keySet(k.with("kid", `1`)), "no. 1: kid is not a string, or empty"},
		{"an ID that is null", keySet(k.with("kid", `null`)), "no. 1: kid is not a string, or empty"},
		{"an ID without end", keySet(k.with("kid", quote(strings.Repeat("x", 257)))), "no. 1: kid is too long"},
		{"two keys of one ID", keySet(k, secondJWK().with("kid", `"first"`)), `two keys with the ID "first"`},
		{"one key twice", keySet(k, k), `two keys with the ID "first"`},

		{"a modulus twice", keySet(k.and("n", secondJWK()[4].value)), "no. 1: duplicate member"},
		{"a modulus in two cases", keySet(k.and("N", secondJWK()[4].value)), "no. 1: duplicate member"},
		{"Use", keySet(k.without("use").and("Use", `"enc"`)), "no. 1: member in the wrong case: use"},
		{"no type", keySet(k.without("kty")), "no. 1: no kty"},
		{"a type that is a number", keySet(k.with("kty", `3`)), "no. 1: kty is not a string, or empty"},
		{"an empty use", keySet(k.with("use", `""`)), "no. 1: use is not a string, or empty"},
		{"a use that is an array", keySet(k.with("use", `["sig"]`)), "no. 1: use is not a string, or empty"},
		{"an alg that is null", keySet(k.with("alg", `null`)), "no. 1: alg is not a string, or empty"},
		{"operations that are a string", keySet(k.and("key_ops", `"verify"`)), "no. 1: key_ops is not an array of strings"},
		{"operations that are numbers", keySet(k.and("key_ops", `["verify",1]`)), "no. 1: key_ops is not an array of strings"},

		{"no modulus", keySet(k.without("n")), "no. 1: n: not a string"},
		{"a modulus that is a number", keySet(k.with("n", firstKey().N.String())), "no. 1: n: not a string"},
		{"an empty modulus", keySet(k.with("n", `""`)), `no. 1: key "first" has 0 bits, want 2048 or more`},
		{"a padded modulus", keySet(k.with("n", quote(base64.URLEncoding.EncodeToString(firstKey().N.Bytes())))), "no. 1: n: not strict base64url"},
		{"a modulus in plain base64", keySet(k.with("n", quote(strings.Repeat("+/", 171)))), "no. 1: n: not strict base64url"},
		{"a modulus with a line break", keySet(k.with("n", quote(encode(firstKey().N.Bytes())[:64]+"\n"+encode(firstKey().N.Bytes())[64:]))), "no. 1: n: not strict base64url"},
		{"a modulus in a second spelling", keySet(k.with("n", quote(respell(encode(firstKey().N.Bytes()))))), "no. 1: n: not strict base64url"},
		{"a modulus of a bit too few", keySet(k.with("n", number(2047))), `no. 1: key "first" has 2047 bits, want 2048 or more`},
		{"a modulus of a bit too many", keySet(k.with("n", number(8193))), `no. 1: key "first" has 8193 bits, want 8192 or less`},
		{"a modulus of a million bits", keySet(k.with("n", number(1_000_000))), `no. 1: key "first" has 1000000 bits, want 8192 or less`},
		{"an even modulus", keySet(k.with("n", quote(encode(even.Bytes())))), `no. 1: key "first" has an even modulus`},
		{"the modulus of a card that makes bad keys", keySet(k.with("n", quote(encode(powerOf65537.Bytes())))), `no. 1: key "first" can be factored (CVE-2017-15361)`},
		{"no exponent", keySet(k.without("e")), "no. 1: e: not a string"},
		{"an empty exponent", keySet(k.with("e", `""`)), `no. 1: key "first" has the weak exponent 0`},
		{"the exponent 1", keySet(k.with("e", `"AQ"`)), `no. 1: key "first" has the weak exponent 1`},
		{"the exponent 3", keySet(k.with("e", `"Aw"`)), `no. 1: key "first" has the weak exponent 3`},
		{"an even exponent", keySet(k.with("e", `"AQAC"`)), `no. 1: key "first" has the weak exponent 65538`},
		{"an exponent of 32 bits", keySet(k.with("e", number(32))), "no. 1: e is too large"},
		{"an exponent of 65 bits, 65537 if cut", keySet(k.with("e", quote(encode([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1})))), "no. 1: e is too large"},
		{"a weak key behind a good one", keySet(k, secondJWK().with("e", `"Aw"`)), `no. 2: key "second" has the weak exponent 3`},
		{"an elliptic key that calls itself RSA", keySet(ellipticJWK.with("kty", `"RSA"`)), "no. 1: n: not a string"},

		{"a symmetric key", keySet(k, jsonText{{"kty", `"oct"`}, {"kid", `"shared"`}, {"k", `"AQ"`}}), "no. 2: a secret: k"},
		{"an elliptic key's private half", keySet(k, ellipticJWK.and("d", `"AQ"`)), "no. 2: a secret: d"},
		{"a private key for encryption", keySet(k, secondJWK().with("use", `"enc"`).and("d", `"AQ"`)), "no. 2: a secret: d"},
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth"} {
		tests = append(tests, struct{ name, set, want string }{"a key with " + name, keySet(k.and(name, `"AQ"`)), "no. 1: a secret: " + name})
	}
	for _, tt := range tests {
		if keys, err := parseKeySet([]byte(tt.set)); keys != nil || err == nil || err.Error() != tt.want {
			t.Errorf("%s: parseKeySet() = %v, %v, want the error %q", tt.name, keys, err, tt.want)
		}
	}
}

// Whatever a set holds, what we take from it is what encoding/json reads there.
func FuzzParseKeySet(f *testing.F) {
	k := firstJWK()
	for _, set := range []string{
		keySet(k), keySet(k, secondJWK(), ellipticJWK), keySet(k.and("key_ops", `["verify"]`)), keySet(k, k),
		keySet(k.with("e", `"AAEAAQ"`)), keySet(), `{"keys":[null,"]",{}]}`, `{"keys":[{"kty":"RSA"}]}`,
	} {
		f.Add([]byte(set))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeySet(data)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxSetKeys {
			t.Fatalf("parseKeySet() = %v, %v", keys, err)
		}
		if err != nil {
			return
		}
		var theirs struct {
			Keys []struct{ Kty, Use, Kid, N, E string }
		}
		if err := json.Unmarshal(data, &theirs); err != nil && len(theirs.Keys) == 0 {
			t.Fatalf("encoding/json refuses what we accept: %v", err)
		}
		for _, key := range keys {
			if err := key.check(); err != nil {
				t.Error(err)
			}
			modulus := new(big.Int)
			for _, their := range theirs.Keys {
				if their.Kty != "RSA" || their.Kid != key.ID || their.Use == "enc" {
					continue
				}
				if n, err := base64.RawURLEncoding.DecodeString(their.N); err == nil && key.Public.N.Cmp(new(big.Int).SetBytes(n)) == 0 {
					modulus = key.Public.N
				}
			}
			if modulus.Sign() == 0 {
				t.Errorf("key %q is not in the set", key.ID)
			}
		}
	})
}
