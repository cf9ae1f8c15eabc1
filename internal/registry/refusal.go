package registry

// A Rule is one of the checks that a token has to pass. They are made in the
// order in which they stand here, and the first that fails refuses the token.
type Rule string

const (
	RuleSize      Rule = "size"      // at most 48 KiB
	RuleShape     Rule = "shape"     // three segments of base64url, in their one spelling (RFC 7515 §3.1)
	RuleHeader    Rule = "header"    // a JSON object with unique members, none of which brings its own key or meaning
	RuleAlgorithm Rule = "alg"       // RS256
	RuleType      Rule = "typ"       // missing, JWT or at+jwt
	RuleKeyID     Rule = "kid"       // missing, or the ID of a key we have
	RuleSignature Rule = "signature" // made with that key
	RuleClaims    Rule = "claims"    // a JSON object with unique members
	RuleIssuer    Rule = "iss"       // ours
	RuleAudience  Rule = "aud"       // ours is among them
	RuleSubject   Rule = "sub"       // an identifier
	RuleContext   Rule = "scope"     // an identifier
	RuleRoles     Rule = "roles"     // missing, or strings
	RuleContexts  Rule = "contexts"  // missing, or strings
	RuleIssuedAt  Rule = "iat"       // a date, not in the future
	RuleExpiry    Rule = "exp"       // a date
	RuleExpired   Rule = "expired"   // that date is in the future
	RuleNotBefore Rule = "nbf"       // missing, or a date, not in the future
)

// A TokenError says which rule refused a token. Its text never quotes the
// token, so it can be logged.
type TokenError struct {
	Rule Rule
	Why  string
}

func (e *TokenError) Error() string { return "token refused: " + string(e.Rule) + ": " + e.Why }

func refuse(rule Rule, why string) error { return &TokenError{rule, why} }
