package registry

import (
	"slices"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// A Profile is who a verified token speaks for. All requests with that token
// share it, so it must not be changed.
type Profile struct {
	Subject  string    // the identity's id, from sub
	Context  string    // the current context's id, from scope, in the token's spelling of it
	Roles    []string  // role URIs, of any context and service
	Contexts []string  // the contexts that the identity belongs to; older tokens do not say
	IssuedAt time.Time // in whole seconds
	Expires  time.Time // in whole seconds, without the verifier's leeway

	identity    string // Subject in the spelling of the deny-list; "" if it is no identity's
	payloadSize int    // in bytes
	signer      *signer
}

// retired reports whether the key that has signed the token has been withdrawn:
// then the token is good no longer, whatever its dates say.
func (p *Profile) retired() bool { return p.signer.retired.Load() }

// Allows reports whether the token holds role, a URI with {context_id} at its
// end, for the token's own context.
func (p *Profile) Allows(role string) bool { return platform.HasRole(p.Roles, role, p.Context) }

var knownClaims = []string{"iss", "aud", "sub", "scope", "roles", "contexts", "iat", "nbf", "exp"}

// profile checks the claims of a token whose signature is good.
func (v *Verifier) profile(payload []byte, s *signer) (*Profile, error) {
	f, err := parseFields(payload, knownClaims)
	if err != nil {
		return nil, refuse(RuleClaims, err.Error())
	}
	f.require(f.text(RuleIssuer) == v.config.Issuer, RuleIssuer, "another issuer")
	f.require(slices.Contains(f.audience(), v.config.Audience), RuleAudience, "another audience")
	now, leeway := v.config.Now(), v.config.Leeway
	p := &Profile{
		Subject:  f.id(RuleSubject),
		Context:  f.id(RuleContext),
		Roles:    f.texts(RuleRoles),
		Contexts: f.texts(RuleContexts),
		IssuedAt: f.date(RuleIssuedAt),

		payloadSize: len(payload),
		signer:      s,
	}
	f.require(!now.Add(leeway).Before(p.IssuedAt), RuleIssuedAt, "in the future")
	p.Expires = f.date(RuleExpiry)
	f.require(now.Add(-leeway).Before(p.Expires), RuleExpired, "in the past")
	if f.has("nbf") {
		f.require(!now.Add(leeway).Before(f.date(RuleNotBefore)), RuleNotBefore, "in the future")
	}
	if f.err != nil {
		return nil, f.err
	}
	p.identity, _ = platform.IdentityID(p.Subject)
	return p, nil
}
