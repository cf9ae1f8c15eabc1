// Package registry decides who may use a container registry, by the
// credentials that every DownToZero service takes: a JWT of the platform, or
// an API key that is exchanged for one. [Verifier] judges a token,
// [Authenticator] finds a request's credential, and [Handler] stands in front
// of any registry. The package knows nothing of images and makes no network
// calls of its own.
package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxTokenSize is in bytes. A platform administrator's token has a role for
// each of hundreds of contexts.
const maxTokenSize = 48 << 10

// Config says which tokens a [Verifier] accepts.
type Config struct {
	Issuer   string           // what iss has to be (RFC 7519 §4.1.1)
	Audience string           // what aud has to be, or to hold (§4.1.3)
	Keys     []Key            // at least one
	Leeway   time.Duration    // how far the issuer's clock may be off; 0 is not at all
	Now      func() time.Time // nil means time.Now
}

// A Verifier verifies the platform's tokens. It is safe for concurrent use.
type Verifier struct {
	config  Config
	signers []*signer
}

// NewVerifier refuses a configuration that would leave a check out: an empty
// issuer or audience, no key, a weak key or two of one ID.
func NewVerifier(c Config) (*Verifier, error) {
	switch {
	case c.Issuer == "":
		return nil, errors.New("verifier without an issuer")
	case c.Audience == "":
		return nil, errors.New("verifier without an audience")
	case len(c.Keys) == 0:
		return nil, errors.New("verifier without a key")
	case c.Leeway < 0:
		return nil, errors.New("verifier with a negative leeway")
	}
	for i, key := range c.Keys {
		if err := key.check(); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(c.Keys[:i], func(k Key) bool { return k.ID == key.ID }) {
			return nil, fmt.Errorf("two keys with the ID %q", key.ID)
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	v := &Verifier{config: c}
	for _, key := range c.Keys {
		v.signers = append(v.signers, &signer{Key: key})
	}
	return v, nil
}

// Verify accepts an RS256 token that one of the keys has signed, for this
// issuer and audience and the present time. Any other is refused with a
// [*TokenError]; any other error says that the token could not be checked.
// Verify does not know whether the token has been revoked, nor what its roles
// are good for.
func (v *Verifier) Verify(ctx context.Context, token string) (*Profile, error) {
	if len(token) > maxTokenSize {
		return nil, refuse(RuleSize, "over 48 KiB")
	}
	encodedHeader, rest, _ := strings.Cut(token, ".")
	encodedPayload, encodedSignature, _ := strings.Cut(rest, ".")
	if encodedHeader == "" || encodedPayload == "" || encodedSignature == "" {
		return nil, refuse(RuleShape, "not three segments")
	}
	header, errHeader := decodeSegment(encodedHeader)
	payload, errPayload := decodeSegment(encodedPayload)
	signature, errSignature := decodeSegment(encodedSignature)
	if err := cmp.Or(errHeader, errPayload, errSignature); err != nil {
		return nil, err
	}
	signers, err := v.signersFor(header)
	if err != nil {
		return nil, err
	}
	signed := token[:len(encodedHeader)+1+len(encodedPayload)]
	for _, s := range signers {
		if jwt.SigningMethodRS256.Verify(signed, signature, s.Public) == nil {
			return v.profile(payload, s)
		}
	}
	return nil, refuse(RuleSignature, "made with another key, or for another text")
}

// decodeSegment decodes one of a token's parts. It finds a fourth part in the
// third: base64url has no dot.
func decodeSegment(segment string) ([]byte, error) {
	decoded, err := decodeBase64(strictBase64URL, segment)
	if err != nil {
		return nil, refuse(RuleShape, "a segment is not strict base64url")
	}
	return decoded, nil
}

// foreignHeaders would have the token bring its own key, or be read in a way
// that we do not know (RFC 7515 §4.1, RFC 7516 §4.1.3).
var foreignHeaders = []string{"crit", "jwk", "jku", "x5c", "x5u", "zip"}

var knownHeaders = append([]string{"alg", "typ", "kid"}, foreignHeaders...)

// signersFor is who a token with this header may be signed by. The header is
// not verified yet: it can do no more than choose among our keys.
func (v *Verifier) signersFor(header []byte) ([]*signer, error) {
	f, err := parseFields(header, knownHeaders)
	if err != nil {
		return nil, refuse(RuleHeader, err.Error())
	}
	for _, name := range foreignHeaders {
		if f.has(name) {
			return nil, refuse(RuleHeader, name+" is not allowed")
		}
	}
	f.require(f.text(RuleAlgorithm) == jwt.SigningMethodRS256.Name, RuleAlgorithm, "not RS256")
	if f.has("typ") {
		typ := f.text(RuleType)
		f.require(typ == "JWT" || typ == "at+jwt", RuleType, "neither JWT nor at+jwt")
	}
	if f.err != nil || !f.has("kid") {
		return v.signers, f.err
	}
	kid := f.text(RuleKeyID)
	for i, s := range v.signers {
		if s.ID == kid {
			return v.signers[i : i+1], nil
		}
	}
	f.require(false, RuleKeyID, "not a key of ours")
	return nil, f.err
}
