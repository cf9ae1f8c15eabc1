package registry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// An attack is a token that has to be refused.
type attack struct {
	name  string
	token string
	rule  Rule   // that refuses it
	why   string // what the rule says
}

func attacks() []attack {
	var all []attack
	all = append(all, attacksOnShape()...)
	all = append(all, attacksOnHeader()...)
	all = append(all, attacksOnSignature()...)
	all = append(all, attacksOnClaims()...)
	all = append(all, attacksOnDates()...)
	return append(all, attacksOnTypes()...)
}

func TestVerifyRefuses(t *testing.T) {
	v := newVerifier(t, testConfig())
	for _, tt := range attacks() {
		t.Run(tt.name, func(t *testing.T) {
			p, err := v.Verify(t.Context(), tt.token)
			refusal, ok := errors.AsType[*TokenError](err)
			if p != nil || !ok {
				t.Fatalf("Verify(%.200q) = %v, %v, want a *TokenError", tt.token, p, err)
			}
			if refusal.Rule != tt.rule || refusal.Why != tt.why {
				t.Errorf("refused by %s (%s), want %s (%s)", refusal.Rule, refusal.Why, tt.rule, tt.why)
			}
		})
	}
}

func attacksOnShape() []attack {
	good := goodToken()
	segments := strings.Split(good, ".")
	header, claims, signature := segments[0], segments[1], segments[2]
	// With two bytes in its last group, a segment can be padded, and its last
	// character has two bits that decode to nothing. A signature has four.
	c := goodClaims
	for len(c.String())%3 != 2 {
		c = c.and(fmt.Sprint("x", len(c)), "1")
	}
	loose := strings.Split(withClaims(c), ".")

	return []attack{
		{"nothing", "", RuleShape, "not three segments"},
		{"a byte over the limit", good + strings.Repeat("A", maxTokenSize+1-len(good)), RuleSize, "over 48 KiB"},
		{"a megabyte", strings.Repeat("A", 1<<20), RuleSize, "over 48 KiB"},
		{"ten thousand dots", strings.Repeat(".", 10000), RuleShape, "not three segments"},
		{"ten thousand short segments", strings.Repeat("AA.", 10000), RuleShape, "a segment is not strict base64url"},
		{"an API key", "apikey-abc12345", RuleShape, "not three segments"},
		{"one segment", header, RuleShape, "not three segments"},
		{"two segments", header + "." + claims, RuleShape, "not three segments"},
		{"an empty signature", header + "." + claims + ".", RuleShape, "not three segments"},
		{"an empty header", "." + claims + "." + signature, RuleShape, "not three segments"},
		{"empty claims", header + ".." + signature, RuleShape, "not three segments"},
		{"a fourth segment", good + "." + signature, RuleShape, "a segment is not strict base64url"},
		{"a fourth, empty segment", good + ".", RuleShape, "a segment is not strict base64url"},
		{"five segments, as if encrypted", header + "." + claims + "." + claims + "." + claims + "." + signature, RuleShape, "a segment is not strict base64url"},
		{"a signature in a second spelling", respell(good), RuleShape, "a segment is not strict base64url"},
		{"claims in a second spelling", loose[0] + "." + respell(loose[1]) + "." + loose[2], RuleShape, "a segment is not strict base64url"},
		{"a padded signature", good + "==", RuleShape, "a segment is not strict base64url"},
		{"padded claims", loose[0] + "." + loose[1] + "=." + loose[2], RuleShape, "a segment is not strict base64url"},
		{"the alphabet of plain base64", header + "." + claims + "." + strings.Repeat("+/", 171), RuleShape, "a segment is not strict base64url"},
		{"a line feed in the header", header[:4] + "\n" + header[4:] + "." + claims + "." + signature, RuleShape, "a segment is not strict base64url"},
		{"a carriage return in the claims", header + "." + claims[:4] + "\r" + claims[4:] + "." + signature, RuleShape, "a segment is not strict base64url"},
		{"a line feed in the signature", header + "." + claims + "." + signature[:8] + "\n" + signature[8:], RuleShape, "a segment is not strict base64url"},
		{"a line break at the end", good + "\r\n", RuleShape, "a segment is not strict base64url"},
		{"a space in front", " " + good, RuleShape, "a segment is not strict base64url"},
		{"a space behind", good + " ", RuleShape, "a segment is not strict base64url"},
		{"a NUL behind", good + "\x00", RuleShape, "a segment is not strict base64url"},
		{"the scheme in front", "Bearer " + good, RuleShape, "a segment is not strict base64url"},
		{"letters that only look Latin", strings.Replace(good, "J", "\u0408", 1), RuleShape, "a segment is not strict base64url"},
		{"the JSON serialization", `{"protected":"` + header + `","payload":"` + claims + `","signature":"` + signature + `"}`, RuleShape, "not three segments"},
	}
}

// respell sets a bit of the last character that a lax decoder ignores.
func respell(segment string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(segment) - 1
	return segment[:last] + string(alphabet[strings.IndexByte(alphabet, segment[last])+1])
}

func attacksOnHeader() []attack {
	raw := func(header string) string { return sign(firstKey(), header, goodClaims.String()) }
	h := goodHeader
	public := &firstKey().PublicKey
	jwk := fmt.Sprintf(`{"kty":"RSA","e":"AQAB","n":%q}`, encode(foreignKey().N.Bytes()))
	certificate := base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(&foreignKey().PublicKey))
	withForeignKey := func(header jsonText) string { return sign(foreignKey(), header.String(), goodClaims.String()) }

	return []attack{
		{"a header that is not JSON", raw("alg=RS256"), RuleHeader, "not JSON"},
		{"a header that is an array", raw("[" + h.String() + "]"), RuleHeader, "not a JSON object"},
		{"a header that is a string", raw(`"RS256"`), RuleHeader, "not a JSON object"},
		{"a header that is null", raw("null"), RuleHeader, "not a JSON object"},
		{"a second object behind the header", raw(h.String() + "{}"), RuleHeader, "not JSON"},
		{"a comma behind the last member", raw(strings.Replace(h.String(), "}", ",}", 1)), RuleHeader, "not JSON"},
		{"a byte order mark", raw("\ufeff" + h.String()), RuleHeader, "not JSON"},
		{"a header that is not UTF-8", withHeader(h.and("x", "\"\xff\"")), RuleHeader, "not UTF-8"},
		{"a header nested without end", raw(strings.Repeat("[", 20000) + strings.Repeat("]", 20000)), RuleSize, "over 48 KiB"},
		{"a header nested deep", raw(strings.Repeat("[", 12000) + strings.Repeat("]", 12000)), RuleHeader, "not JSON"},
		{"a hundred members", raw(manyMembers(100)), RuleHeader, "too many members"},
		{"alg twice", withHeader(h.and("alg", `"none"`)), RuleHeader, "duplicate member"},
		{"kid twice", withHeader(h.and("kid", `"second"`)), RuleHeader, "duplicate member"},
		{"alg twice, once escaped", withHeader(h.and(`\u0061lg`, `"none"`)), RuleHeader, "duplicate member"},
		{"alg beside ALG", withHeader(h.and("ALG", `"none"`)), RuleHeader, "duplicate member"},
		{"two unknown members that differ in case", withHeader(h.and("x", "1").and("X", "2")), RuleHeader, "duplicate member"},
		{"kid with a Kelvin sign for its k", withHeader(h.without("kid").and("\u212aid", `"first"`)), RuleHeader, "member in the wrong case: kid"},
		{"Alg alone", withHeader(h.without("alg").and("Alg", `"RS256"`)), RuleHeader, "member in the wrong case: alg"},
		{"half a surrogate pair for a name", withHeader(h.and(`\ud800`, "1")), RuleHeader, "member name is not Unicode"},

		{"crit", withHeader(h.and("crit", `["exp"]`)), RuleHeader, "crit is not allowed"},
		{"an empty crit", withHeader(h.and("crit", `[]`)), RuleHeader, "crit is not allowed"},
		{"crit that is null", withHeader(h.and("crit", `null`)), RuleHeader, "crit is not allowed"},
		{"CRIT", withHeader(h.and("CRIT", `["exp"]`)), RuleHeader, "member in the wrong case: crit"},
		{"its own key, in jwk", withForeignKey(h.and("jwk", jwk)), RuleHeader, "jwk is not allowed"},
		{"its own key, in jwk and without kid", withForeignKey(h.without("kid").and("jwk", jwk)), RuleHeader, "jwk is not allowed"},
		{"its own keys, at jku", withForeignKey(h.and("jku", `"https://evil.example/jwks.json"`)), RuleHeader, "jku is not allowed"},
		{"its own certificate, in x5c", withForeignKey(h.and("x5c", `["`+certificate+`"]`)), RuleHeader, "x5c is not allowed"},
		{"its own certificate, at x5u", withForeignKey(h.and("x5u", `"https://evil.example/chain.pem"`)), RuleHeader, "x5u is not allowed"},
		{"zip", withHeader(h.and("zip", `"DEF"`)), RuleHeader, "zip is not allowed"},

		{"alg none, with a signature", withHeader(h.with("alg", `"none"`)), RuleAlgorithm, "not RS256"},
		{"alg NONE", withHeader(h.with("alg", `"NONE"`)), RuleAlgorithm, "not RS256"},
		{"alg in lower case", withHeader(h.with("alg", `"rs256"`)), RuleAlgorithm, "not RS256"},
		{"alg with a space", withHeader(h.with("alg", `"RS256 "`)), RuleAlgorithm, "not RS256"},
		{"alg empty", withHeader(h.with("alg", `""`)), RuleAlgorithm, "not RS256"},
		{"alg missing", withHeader(h.without("alg")), RuleAlgorithm, "missing"},
		{"alg in an array", withHeader(h.with("alg", `["RS256"]`)), RuleAlgorithm, "not a string"},
		{"HS256 with the public key's PEM for a secret", signWith(jwt.SigningMethodHS256, publicPEM(public), h.with("alg", `"HS256"`).String(), goodClaims.String()), RuleAlgorithm, "not RS256"},
		{"HS256 with the public key's modulus for a secret", signWith(jwt.SigningMethodHS256, public.N.Bytes(), h.with("alg", `"HS256"`).String(), goodClaims.String()), RuleAlgorithm, "not RS256"},
		{"RS512, and signed so", signWith(jwt.SigningMethodRS512, firstKey(), h.with("alg", `"RS512"`).String(), goodClaims.String()), RuleAlgorithm, "not RS256"},
		{"PS256, and signed so", signWith(jwt.SigningMethodPS256, firstKey(), h.with("alg", `"PS256"`).String(), goodClaims.String()), RuleAlgorithm, "not RS256"},
		{"ES256, with a key of its own", signWith(jwt.SigningMethodES256, ellipticKey(), h.with("alg", `"ES256"`).String(), goodClaims.String()), RuleAlgorithm, "not RS256"},

		{"typ of another kind of JWT", withHeader(h.with("typ", `"logout+jwt"`)), RuleType, "neither JWT nor at+jwt"},
		{"typ in lower case", withHeader(h.with("typ", `"jwt"`)), RuleType, "neither JWT nor at+jwt"},
		{"an unknown kid", withHeader(h.with("kid", `"third"`)), RuleKeyID, "not a key of ours"},
		{"an empty kid", withHeader(h.with("kid", `""`)), RuleKeyID, "not a key of ours"},
		{"kid in another case", withHeader(h.with("kid", `"First"`)), RuleKeyID, "not a key of ours"},
		{"a path for a kid", withHeader(h.with("kid", `"../../../../dev/null"`)), RuleKeyID, "not a key of ours"},
		{"a query for a kid", withHeader(h.with("kid", `"x' UNION SELECT 'first"`)), RuleKeyID, "not a key of ours"},
		{"kid an object", withHeader(h.with("kid", `{"first":"first"}`)), RuleKeyID, "not a string"},
	}
}

func manyMembers(n int) string {
	var many jsonText
	for i := range n {
		many = many.and(fmt.Sprint("m", i), "1")
	}
	return many.String()
}

func publicPEM(key *rsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func ellipticKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func attacksOnSignature() []attack {
	const why = "made with another key, or for another text"
	good := goodToken()
	end := strings.LastIndexByte(good, '.')
	signed := good[:end]
	signature, err := base64.RawURLEncoding.DecodeString(good[end+1:])
	if err != nil {
		panic(err)
	}
	with := func(signature []byte) string { return signed + "." + encode(signature) }
	flipped := append([]byte{}, signature...)
	flipped[len(flipped)-1] ^= 1
	other := withClaims(goodClaims.with("sub", `"identity-zzz99999"`))
	sum := sha1.Sum([]byte(signed))
	withSHA1, err := rsa.SignPKCS1v15(nil, firstKey(), crypto.SHA1, sum[:])
	if err != nil {
		panic(err)
	}
	withoutDigestInfo, err := rsa.SignPKCS1v15(nil, firstKey(), 0, []byte(signed)[:32])
	if err != nil {
		panic(err)
	}
	withoutKeyID := goodHeader.without("kid").String()

	return []attack{
		{"a foreign key", sign(foreignKey(), goodHeader.String(), goodClaims.String()), RuleSignature, why},
		{"a foreign key, and no kid", sign(foreignKey(), withoutKeyID, goodClaims.String()), RuleSignature, why},
		{"another of our keys than kid says", sign(secondKey(), goodHeader.String(), goodClaims.String()), RuleSignature, why},
		{"the signature of other claims", signed + other[strings.LastIndexByte(other, '.'):], RuleSignature, why},
		{"the claims of another token", strings.Split(good, ".")[0] + "." + strings.Split(other, ".")[1] + good[end:], RuleSignature, why},
		{"a header changed afterwards", encode([]byte(goodHeader.without("typ").String())) + good[strings.IndexByte(good, '.'):], RuleSignature, why},
		{"a flipped bit", with(flipped), RuleSignature, why},
		{"a signature cut short", with(signature[:len(signature)-1]), RuleSignature, why},
		{"a zero in front of the signature", with(append([]byte{0}, signature...)), RuleSignature, why},
		{"a zero behind the signature", with(append(signature[:len(signature):len(signature)], 0)), RuleSignature, why},
		{"a signature of zeros", with(make([]byte, len(signature))), RuleSignature, why},
		{"a signature of one byte", with([]byte{1}), RuleSignature, why},
		{"the modulus for a signature", with(firstKey().N.Bytes()), RuleSignature, why},
		{"a signature over SHA-1", with(withSHA1), RuleSignature, why},
		{"a signature without the name of its hash", with(withoutDigestInfo), RuleSignature, why},
		{"the padding of PS256", signWith(jwt.SigningMethodPS256, firstKey(), goodHeader.String(), goodClaims.String()), RuleSignature, why},
		{"the hash of RS512", signWith(jwt.SigningMethodRS512, firstKey(), goodHeader.String(), goodClaims.String()), RuleSignature, why},
		{"bad claims under a bad signature", sign(foreignKey(), goodHeader.String(), "{}"), RuleSignature, why},
	}
}

func attacksOnClaims() []attack {
	raw := func(claims string) string { return sign(firstKey(), goodHeader.String(), claims) }
	c := goodClaims
	nested, err := json.Marshal(goodToken())
	if err != nil {
		panic(err)
	}
	return []attack{
		{"claims that are not JSON", raw("sub=identity-abc12345"), RuleClaims, "not JSON"},
		{"claims that are an array", raw("[" + c.String() + "]"), RuleClaims, "not a JSON object"},
		{"claims that are null", raw("null"), RuleClaims, "not a JSON object"},
		{"claims that are a number", raw("1"), RuleClaims, "not a JSON object"},
		{"claims that are a token", raw(string(nested)), RuleClaims, "not a JSON object"},
		{"a second object behind the claims", raw(c.String() + c.String()), RuleClaims, "not JSON"},
		{"claims that are not UTF-8", withClaims(c.with("sub", "\"identity-\xc3\x28\"")), RuleClaims, "not UTF-8"},
		{"a hundred claims", raw(manyMembers(100)), RuleClaims, "too many members"},
		{"exp twice", withClaims(c.and("exp", unix(monday.AddDate(10, 0, 0)))), RuleClaims, "duplicate member"},
		{"scope twice, once escaped", withClaims(c.and(`s\u0063ope`, `"context-zzz99999"`)), RuleClaims, "duplicate member"},
		{"roles beside ROLES", withClaims(c.and("ROLES", `[]`)), RuleClaims, "duplicate member"},
		{"EXP alone", withClaims(c.without("exp").and("EXP", unix(monday.Add(time.Hour)))), RuleClaims, "member in the wrong case: exp"},
		{"NBF, which would be overlooked", withClaims(c.and("NBF", unix(monday.Add(time.Hour)))), RuleClaims, "member in the wrong case: nbf"},
		{"a long s in scope", withClaims(c.without("scope").and("\u017fcope", `"context-abc12345"`)), RuleClaims, "member in the wrong case: scope"},

		{"no issuer", withClaims(c.without("iss")), RuleIssuer, "missing"},
		{"an empty issuer", withClaims(c.with("iss", `""`)), RuleIssuer, "another issuer"},
		{"another issuer", withClaims(c.with("iss", `"dtz.rocks.evil.example"`)), RuleIssuer, "another issuer"},
		{"the issuer in upper case", withClaims(c.with("iss", `"DTZ.rocks"`)), RuleIssuer, "another issuer"},
		{"the issuer with a slash", withClaims(c.with("iss", `"dtz.rocks/"`)), RuleIssuer, "another issuer"},
		{"the issuer in an array", withClaims(c.with("iss", `["dtz.rocks"]`)), RuleIssuer, "not a string"},

		{"no audience", withClaims(c.without("aud")), RuleAudience, "missing"},
		{"another audience", withClaims(c.with("aud", `"dtz"`)), RuleAudience, "another audience"},
		{"other audiences", withClaims(c.with("aud", `["dtz","rocks",""]`)), RuleAudience, "another audience"},
		{"an empty array of audiences", withClaims(c.with("aud", `[]`)), RuleAudience, "another audience"},
		{"ours among audiences that are no strings", withClaims(c.with("aud", `["dtz.rocks",1]`)), RuleAudience, "not an array of strings"},
		{"ours one array too deep", withClaims(c.with("aud", `[["dtz.rocks"]]`)), RuleAudience, "not an array of strings"},
		{"the audience an object", withClaims(c.with("aud", `{"dtz.rocks":true}`)), RuleAudience, "not a string"},

		{"no subject", withClaims(c.without("sub")), RuleSubject, "missing"},
		{"an empty subject", withClaims(c.with("sub", `""`)), RuleSubject, "not an identifier"},
		{"a line break in the subject", withClaims(c.with("sub", `"identity-a\nlevel=ERROR"`)), RuleSubject, "not an identifier"},
		{"half a surrogate pair in the subject", withClaims(c.with("sub", `"identity-\udc00"`)), RuleSubject, "not a string"},
		{"a subject without end", withClaims(c.with("sub", `"`+strings.Repeat("a", 65)+`"`)), RuleSubject, "not an identifier"},

		{"no scope", withClaims(c.without("scope")), RuleContext, "missing"},
		{"an empty scope", withClaims(c.with("scope", `""`)), RuleContext, "not an identifier"},
		{"a path for a scope", withClaims(c.with("scope", `"../context-zzz99999"`)), RuleContext, "not an identifier"},
		{"two contexts in scope", withClaims(c.with("scope", `"context-abc12345 context-zzz99999"`)), RuleContext, "not an identifier"},
		{"scope an array", withClaims(c.with("scope", `["context-abc12345"]`)), RuleContext, "not a string"},

		{"roles a string", withClaims(c.with("roles", `"https://dtz.rocks/containerregistry/admin/context-abc12345"`)), RuleRoles, "not an array of strings"},
		{"roles an object", withClaims(c.with("roles", `{"0":"https://dtz.rocks/containerregistry/admin/context-abc12345"}`)), RuleRoles, "not an array of strings"},
		{"a role that is a number", withClaims(c.with("roles", `["https://dtz.rocks/containerregistry/admin/context-abc12345",7]`)), RuleRoles, "not an array of strings"},
		{"a role that is null", withClaims(c.with("roles", `[null]`)), RuleRoles, "not an array of strings"},
		{"a role in an array of its own", withClaims(c.with("roles", `[["https://dtz.rocks/containerregistry/admin/context-abc12345"]]`)), RuleRoles, "not an array of strings"},
		{"contexts a string", withClaims(c.with("contexts", `"context-abc12345"`)), RuleContexts, "not an array of strings"},
	}
}

func attacksOnDates() []attack {
	c := goodClaims
	return []attack{
		{"no iat", withClaims(c.without("iat")), RuleIssuedAt, "missing"},
		{"iat a string", withClaims(c.with("iat", `"`+unix(monday)+`"`)), RuleIssuedAt, "not a date"},
		{"iat in milliseconds", withClaims(c.with("iat", fmt.Sprint(monday.UnixMilli()))), RuleIssuedAt, "not a date"},
		{"issued a second past the leeway from now", withClaims(c.with("iat", unix(monday.Add(leeway+time.Second)))), RuleIssuedAt, "in the future"},

		{"no exp", withClaims(c.without("exp")), RuleExpiry, "missing"},
		{"exp a string", withClaims(c.with("exp", `"`+unix(monday.Add(time.Hour))+`"`)), RuleExpiry, "not a date"},
		{"exp in an array", withClaims(c.with("exp", `[`+unix(monday.Add(time.Hour))+`]`)), RuleExpiry, "not a date"},
		{"exp past all numbers", withClaims(c.with("exp", `1e400`)), RuleExpiry, "not a date"},
		{"exp past all years", withClaims(c.with("exp", `1e18`)), RuleExpiry, "not a date"},
		{"exp of ten thousand digits", withClaims(c.with("exp", strings.Repeat("9", 10000))), RuleExpiry, "not a date"},
		{"exp before the epoch", withClaims(c.with("exp", `-1`)), RuleExpiry, "not a date"},
		{"exp zero", withClaims(c.with("exp", `0`)), RuleExpired, "in the past"},
		{"expired yesterday", withClaims(c.with("exp", unix(monday.AddDate(0, 0, -1)))), RuleExpired, "in the past"},
		{"expired, to the second of the leeway", withClaims(c.with("exp", unix(monday.Add(-leeway)))), RuleExpired, "in the past"},
		{"expired but for a fraction of a second", withClaims(c.with("exp", unix(monday.Add(-leeway))+".9")), RuleExpired, "in the past"},

		{"nbf a string", withClaims(c.with("nbf", `"0"`)), RuleNotBefore, "not a date"},
		{"good from tomorrow", withClaims(c.with("nbf", unix(monday.AddDate(0, 0, 1)))), RuleNotBefore, "in the future"},
		{"good a second past the leeway from now", withClaims(c.with("nbf", unix(monday.Add(leeway+time.Second)))), RuleNotBefore, "in the future"},
	}
}

// attacksOnTypes give each member that we read a value of each JSON type that
// it must not have.
func attacksOnTypes() (all []attack) {
	const (
		isString = "not a string"
		isArray  = "not an array of strings"
		isDate   = "not a date"
	)
	header := map[Rule]string{RuleAlgorithm: isString, RuleType: isString, RuleKeyID: isString}
	claims := map[Rule]string{
		RuleIssuer: isString, RuleAudience: isString, RuleSubject: isString, RuleContext: isString,
		RuleRoles: isArray, RuleContexts: isArray,
		RuleIssuedAt: isDate, RuleExpiry: isDate, RuleNotBefore: isDate,
	}
	for typ, value := range map[string]string{
		"null": `null`, "true": `true`, "false": `false`, "a number": `7`, "an empty string": `""`,
		"an empty array": `[]`, "an array of numbers": `[7]`, "an array of nulls": `[null]`, "an object": `{}`,
	} {
		isText, isList, isNumber := value[0] == '"', value[0] == '[', value == "7"
		for _, part := range []struct {
			rules map[Rule]string
			token func(Rule) string
		}{
			{header, func(r Rule) string { return withHeader(goodHeader.with(string(r), value)) }},
			{claims, func(r Rule) string { return withClaims(goodClaims.with(string(r), value)) }},
		} {
			for rule, why := range part.rules {
				switch {
				case isText && why == isString, isNumber && why == isDate, value == "[]" && why == isArray:
					continue // of the right type; other attacks are wrong in what they say
				case rule == RuleAudience && value == "[]":
					why = "another audience"
				case rule == RuleAudience && isList:
					why = isArray
				}
				all = append(all, attack{fmt.Sprint(rule, " is ", typ), part.token(rule), rule, why})
			}
		}
	}
	return all
}

// Tokens whose signature and claims are good, but not the role that they hold.
func TestHandlerRefusesRoles(t *testing.T) {
	const role = "https://dtz.rocks/containerregistry/admin/"
	h := newHandler(t, func(http.ResponseWriter, *http.Request) { t.Error("let in") })
	h.Policy.Contexts = []string{"*"}
	for name, roles := range map[string][]string{
		"none":                     {},
		"of another context":       {role + "context-zzz99999"},
		"of another context, bare": {role + "zzz99999"},
		"of another context, beside other services": {role + "context-zzz99999", "https://dtz.rocks/containers/admin/context-abc12345"},
		"of another service":                        {"https://dtz.rocks/containers/admin/context-abc12345"},
		"of another service whose name begins so":   {"https://dtz.rocks/containerregistry2/admin/context-abc12345"},
		"less than admin":                           {"https://dtz.rocks/containerregistry/reader/context-abc12345"},
		"of another host":                           {"https://dtz.rocks.evil.example/containerregistry/admin/context-abc12345"},
		"of a host in front":                        {"https://evil.example/?" + role + "context-abc12345"},
		"over http":                                 {"http://dtz.rocks/containerregistry/admin/context-abc12345"},
		"without a scheme":                          {"dtz.rocks/containerregistry/admin/context-abc12345"},
		"in upper case":                             {strings.ToUpper(role) + "context-abc12345"},
		"the id in upper case":                      {role + "context-ABC12345"},
		"the kind in upper case":                    {role + "CONTEXT-abc12345"},
		"the kind twice":                            {role + "context-context-abc12345"},
		"of an identity of that name":               {role + "identity-abc12345"},
		"a letter in front":                         {"x" + role + "context-abc12345"},
		"a space in front":                          {" " + role + "context-abc12345"},
		"a letter behind":                           {role + "context-abc123456"},
		"a letter short":                            {role + "context-abc1234"},
		"a path behind":                             {role + "context-abc12345/reader"},
		"a slash behind":                            {role + "context-abc12345/"},
		"a query behind":                            {role + "context-abc12345?"},
		"a fragment behind":                         {role + "context-abc12345#"},
		"a line feed behind":                        {role + "context-abc12345\n"},
		"a NUL behind":                              {role + "context-abc12345\x00"},
		"a path that comes back":                    {"https://dtz.rocks/containers/../containerregistry/admin/context-abc12345"},
		"with an escape of URLs":                    {role + "context%2Dabc12345"},
		"without a context":                         {role},
		"every context":                             {role + "*"},
		"the placeholder":                           {role + "{context_id}"},
		"two in one":                                {role + "context-zzz99999," + role + "context-abc12345"},
		"the id alone":                              {"context-abc12345"},
		"a hyphen that only looks like one":         {role + "context\u2010abc12345"},
	} {
		texts := make([]string, len(roles))
		for i, r := range roles {
			texts[i] = quote(r)
		}
		token := withClaims(goodClaims.with("roles", "["+strings.Join(texts, ",")+"]"))
		r := httptest.NewRequest("GET", "/v2/app/manifests/v1", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "missing role "+role+"context-abc12345") {
			t.Errorf("a role, %s: %d %s, want 403 that names the one missing", name, w.Code, w.Body)
		}
	}
}
