package registry

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// tokenOfSize is a good token of at least size bytes, by its roles.
func tokenOfSize(size int) string {
	roles := []string{`"https://dtz.rocks/containerregistry/admin/context-abc12345"`}
	for {
		token := withClaims(goodClaims.with("roles", "["+strings.Join(roles, ",")+"]"))
		if len(token) >= size {
			return token
		}
		roles = append(roles, fmt.Sprintf(`"https://dtz.rocks/containers/admin/context-abc%05d"`, len(roles)))
	}
}

func BenchmarkVerify(b *testing.B) {
	v := newVerifier(b, testConfig())
	strict := strictParser(v.config)
	keyOf := func(*jwt.Token) (any, error) { return v.config.Keys[0].Public, nil }

	for _, kilobytes := range []int{1, 2, 8} {
		token := tokenOfSize(kilobytes << 10)
		size := fmt.Sprintf("%dKB", kilobytes)

		b.Run("seen/"+size, func(b *testing.B) {
			a := &Authenticator{Verifier: v}
			r := httptest.NewRequest("GET", "/v2/", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Authenticate(r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("unseen/"+size, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("golang-jwt/"+size, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := strict.Parse(token, keyOf); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("raw/"+size, func(b *testing.B) { // what no verification can do without
			end := strings.LastIndexByte(token, '.')
			signed := []byte(token[:end])
			signature, err := base64.RawURLEncoding.DecodeString(token[end+1:])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				sum := sha256.Sum256(signed)
				if err := rsa.VerifyPKCS1v15(v.config.Keys[0].Public, crypto.SHA256, sum[:], signature); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
