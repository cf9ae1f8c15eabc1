// Package registry decides who may use a container registry, by the
// credentials that every DownToZero service takes: a JWT of the platform, or
// an API key that is exchanged for one. [Verifier] judges a token,
// [Authenticator] finds a request's credential, and [Handler] stands in front
// of any registry. The package knows nothing of images and makes no network
// calls of its own but those of a [JWKS].
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
	Issuer   string // what iss has to be (RFC 7519 §4.1.1)
	Audience string // what aud has to be, or to hold (§4.1.3)
	// Keys are in force for good. One of them is at least needed, or JWKS.
	Keys []Key
	// JWKS has more keys, which come and go. One with the ID of one of Keys
	// is never used: who configures a key by hand wants that key, and a set
	// that disagrees with it may have been tampered with. Nil means none.
	JWKS   *JWKS
	Leeway time.Duration    // how far the issuer's clock may be off; 0 is not at all
	Now    func() time.Time // nil means time.Now
}

// A Verifier verifies the platform's tokens. It is safe for concurrent use.
type Verifier struct {
	config  Config
	signers []*signer
}

// NewVerifier refuses a configuration that would leave a check out: an empty
// issuer or audience, no key, a weak key, two of one ID, or keys from a URL
// where others could have put them. It makes no call.
func NewVerifier(c Config) (*Verifier, error) {
	switch {
	case c.Issuer == "":
		return nil, errors.New("verifier without an issuer")
	case c.Audience == "":
		return nil, errors.New("verifier without an audience")
	case len(c.Keys) == 0 && c.JWKS == nil:
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
	if c.JWKS != nil {
		if err := c.JWKS.check(); err != nil {
			return nil, err
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
// [*TokenError]; an error of another kind says that the key may be one that is
// out of reach. Verify waits, until ctx ends, only for a token that names a key
// which it does not know. It does not know whether the token has been revoked,
// nor what its roles are good for.
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
	keyID, err := checkHeader(header)
	if err != nil {
		return nil, err
	}
	signed := token[:len(encodedHeader)+1+len(encodedPayload)]
	s, err := v.signer(ctx, keyID, func(s *signer) bool { return s.verifies(signed, signature) })
	if err != nil {
		return nil, err
	}
	return v.profile(payload, s)
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

// checkHeader returns the kid, or "" for a header without one. The header is
// not verified yet: it can do no more than choose among our keys.
func checkHeader(header []byte) (keyID string, err error) {
	f, err := parseFields(header, knownHeaders)
	if err != nil {
		return "", refuse(RuleHeader, err.Error())
	}
	for _, name := range foreignHeaders {
		if f.has(name) {
			return "", refuse(RuleHeader, name+" is not allowed")
		}
	}
	f.require(f.text(RuleAlgorithm) == jwt.SigningMethodRS256.Name, RuleAlgorithm, "not RS256")
	if f.has("typ") {
		typ := f.text(RuleType)
		f.require(typ == "JWT" || typ == "at+jwt", RuleType, "neither JWT nor at+jwt")
	}
	if f.has("kid") {
		keyID = f.text(RuleKeyID)
		f.require(keyID != "", RuleKeyID, unknownKey)
	}
	return keyID, f.err
}

const (
	unknownKey = "not a key of ours"
	notSigned  = "made with another key, or for another text"
)

// signer is who has signed a token that bears keyID, or bears none.
func (v *Verifier) signer(ctx context.Context, keyID string, hasSigned func(*signer) bool) (*signer, error) {
	if keyID == "" {
		return v.anySigner(hasSigned)
	}
	s := find(v.signers, keyID)
	if s == nil && v.config.JWKS != nil {
		var err error
		if s, err = v.config.JWKS.signer(ctx, keyID); err != nil {
			return nil, err
		}
	}
	if s == nil {
		return nil, refuse(RuleKeyID, unknownKey)
	}
	if !hasSigned(s) {
		return nil, refuse(RuleSignature, notSigned)
	}
	return s, nil
}

// anySigner tries the keys that we have, and fetches none: a token that any key
// may have signed says nothing about which are missing.
func (v *Verifier) anySigner(hasSigned func(*signer) bool) (*signer, error) {
	for _, s := range v.signers {
		if hasSigned(s) {
			return s, nil
		}
	}
	if v.config.JWKS == nil {
		return nil, refuse(RuleSignature, notSigned)
	}
	set := v.config.JWKS.signers()
	if set == nil {
		return nil, errNoKeys
	}
	for _, s := range set {
		if find(v.signers, s.ID) == nil && hasSigned(s) {
			return s, nil
		}
	}
	return nil, refuse(RuleSignature, notSigned)
}
