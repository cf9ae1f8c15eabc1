package registry

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// monday is what the clock says in these tests.
var monday = time.Date(2026, time.October, 5, 9, 0, 0, 0, time.UTC)

const leeway = time.Minute

// The two keys that the tests' verifier knows, and one that it does not.
var (
	firstKey   = sync.OnceValue(generateKey)
	secondKey  = sync.OnceValue(generateKey)
	foreignKey = sync.OnceValue(generateKey)
)

func generateKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, minKeyBits)
	if err != nil {
		panic(err)
	}
	return key
}

func testConfig() Config {
	return Config{
		Issuer:   platform.Issuer,
		Audience: platform.Issuer,
		Keys:     []Key{{"first", &firstKey().PublicKey}, {"second", &secondKey().PublicKey}},
		Leeway:   leeway,
		Now:      func() time.Time { return monday },
	}
}

func newVerifier(t testing.TB, c Config) *Verifier {
	t.Helper()
	v, err := NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A jsonText is a JSON object, member by member, so that a test can write down
// what no encoder would.
type jsonText []member

var goodHeader = jsonText{{"alg", `"RS256"`}, {"typ", `"JWT"`}, {"kid", `"first"`}}

var goodClaims = jsonText{
	{"iss", `"dtz.rocks"`},
	{"aud", `"dtz.rocks"`},
	{"sub", `"identity-abc12345"`},
	{"scope", `"context-abc12345"`},
	{"roles", `["https://dtz.rocks/containerregistry/admin/context-abc12345"]`},
	{"contexts", `["context-abc12345"]`},
	{"iat", unix(monday)},
	{"exp", unix(monday.Add(24 * time.Hour))},
}

func unix(t time.Time) string { return fmt.Sprint(t.Unix()) }

// with is the text with a member set to a JSON value.
func (t jsonText) with(name, value string) jsonText {
	return append(t.without(name), member{name, value})
}

// and is the text with one more member, whatever is there already. Its name is
// JSON text without the quotes.
func (t jsonText) and(name, value string) jsonText {
	return append(t[:len(t):len(t)], member{name, value})
}

func (t jsonText) without(name string) (rest jsonText) {
	for _, m := range t {
		if m.name != name {
			rest = append(rest, m)
		}
	}
	return rest
}

func (t jsonText) String() string {
	var members []string
	for _, m := range t {
		members = append(members, fmt.Sprintf(`"%s":%s`, m.name, m.value))
	}
	return "{" + strings.Join(members, ",") + "}"
}

var encode = base64.RawURLEncoding.EncodeToString

// sign makes a token of any header and claims, with a good signature.
func sign(key *rsa.PrivateKey, header, claims string) string {
	return signWith(jwt.SigningMethodRS256, key, header, claims)
}

func signWith(method jwt.SigningMethod, key any, header, claims string) string {
	signed := encode([]byte(header)) + "." + encode([]byte(claims))
	signature, err := method.Sign(signed, key)
	if err != nil {
		panic(err)
	}
	return signed + "." + encode(signature)
}

// withHeader and withClaims are tokens that are good but for one thing.
func withHeader(header fmt.Stringer) string {
	return sign(firstKey(), header.String(), goodClaims.String())
}

func withClaims(claims fmt.Stringer) string {
	return sign(firstKey(), goodHeader.String(), claims.String())
}

func goodToken() string { return withClaims(goodClaims) }
