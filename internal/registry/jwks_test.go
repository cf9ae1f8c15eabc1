package registry

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// A publisher answers with a key set, or with whatever else a test makes it.
type publisher struct {
	*httptest.Server
	calls  atomic.Int32
	answer atomic.Pointer[http.HandlerFunc]
}

func newPublisher(t testing.TB, keys ...fmt.Stringer) *publisher {
	p := new(publisher)
	p.publish(keys...)
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.calls.Add(1)
	(*p.answer.Load())(w, r)
}

func (p *publisher) answers(h http.HandlerFunc) { p.answer.Store(&h) }

func (p *publisher) publish(keys ...fmt.Stringer) {
	set := keySet(keys...)
	p.answers(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, set) })
}

func (p *publisher) fails(status int) {
	p.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
}

func keySet(keys ...fmt.Stringer) string {
	var texts []string
	for _, key := range keys {
		texts = append(texts, key.String())
	}
	return `{"keys":[` + strings.Join(texts, ",") + `]}`
}

// jwk is a key as an issuer publishes it.
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

func first() jsonText  { return jwk("first", &firstKey().PublicKey) }
// jwksConfig is the tests' verifier with no keys but those of the set.
func jwksConfig(s *JWKS) Config {
	c := testConfig()
	c.Keys, c.JWKS = nil, s
	return c
}

func TestJWKS(t *testing.T) {
	p := newPublisher(t, first())
	s := &JWKS{URL: p.URL}
	v := newVerifier(t, jwksConfig(s))
	if err := s.Ready(); err == nil {
		t.Error("ready without a key")
	}
	if err := s.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), goodToken()); err != nil {
		t.Error(err)
	}
}
