package registry

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestVerifyAccepts(t *testing.T) {
	// What the good claims say; each row below changes only what it names.
	profile := func(change func(*Profile)) *Profile {
		p := &Profile{
			Subject:  "identity-abc12345",
			Context:  "context-abc12345",
			Roles:    []string{"https://dtz.rocks/containerregistry/admin/context-abc12345"},
			Contexts: []string{"context-abc12345"},
			IssuedAt: monday,
			Expires:  monday.Add(24 * time.Hour),
		}
		change(p)
		return p
	}
	same := func(*Profile) {}
	h, c := goodHeader, goodClaims
	const uuid = "3FA85F64-5717-4562-b3fc-2c963f66afa6"

	tests := []struct {
		name   string
		token  string
		change func(*Profile)
	}{
		{"the platform's token", goodToken(), same},
		{"of the second key", sign(secondKey(), h.with("kid", `"second"`).String(), c.String()), same},
		{"without kid, of the first key", withHeader(h.without("kid")), same},
		{"without kid, of the second key", sign(secondKey(), h.without("kid").String(), c.String()), same},
		{"without typ", withHeader(h.without("typ")), same},
		{"an access token (RFC 9068)", withHeader(h.with("typ", `"at+jwt"`)), same},
		{"typ with an escape", withHeader(h.with("typ", `"at\u002bjwt"`)), same},
		{"an unknown header member", withHeader(h.and("x5t", `"thumbprint"`)), same},
		{"white space around everything", sign(firstKey(), " {\n\t\"alg\" : \"RS256\"\r\n} ", strings.ReplaceAll(c.String(), ",", " ,\n ")), same},
		{"audience in an array", withClaims(c.with("aud", `["dtz.rocks"]`)), same},
		{"ours among several audiences", withClaims(c.with("aud", `["other","dtz.rocks"]`)), same},
		{"unknown claims of every type", withClaims(c.and("a", `null`).and("b", `[{"c":[1e9,true,"]}"]},{}]`).and("d", `"\"\\"`)), same},
		{"a claim's name with an escape", withClaims(c.without("sub").and(`s\u0075b`, `"identity-abc12345"`)), same},
		{"without roles", withClaims(c.without("roles")), func(p *Profile) { p.Roles = nil }},
		{"no roles", withClaims(c.with("roles", `[]`)), func(p *Profile) { p.Roles = []string{} }},
		{"roles with escapes", withClaims(c.with("roles", `["https:\/\/dtz.rocks\/a","\u00e4\ud83d\ude00\"]"]`)), func(p *Profile) { p.Roles = []string{"https://dtz.rocks/a", `ä😀"]`} }},
		{"without contexts, as older tokens are", withClaims(c.without("contexts")), func(p *Profile) { p.Contexts = nil }},
		{"bare identifiers, as in older tokens", withClaims(c.with("scope", `"`+uuid+`"`)), func(p *Profile) { p.Context = uuid }},
		{"issued as far in the future as the leeway", withClaims(c.with("iat", unix(monday.Add(leeway)))), func(p *Profile) { p.IssuedAt = monday.Add(leeway) }},
		{"good from as far in the future as the leeway", withClaims(c.with("nbf", unix(monday.Add(leeway)))), same},
		{"expired, a second before the leeway", withClaims(c.with("exp", unix(monday.Add(time.Second-leeway)))), func(p *Profile) { p.Expires = monday.Add(time.Second - leeway) }},
		{"exp with a fraction", withClaims(c.with("exp", unix(monday.Add(time.Hour))+".75")), func(p *Profile) { p.Expires = monday.Add(time.Hour) }},
		{"exp with an exponent", withClaims(c.with("exp", `4.1e9`)), func(p *Profile) { p.Expires = time.Unix(4100000000, 0) }},
		{"exp in the last year there is", withClaims(c.with("exp", `253402300799`)), func(p *Profile) { p.Expires = time.Unix(253402300799, 0) }},
	}
	v := newVerifier(t, testConfig())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), tt.token)
			if err != nil {
				t.Fatal(err)
			}
			want := profile(tt.change)
			if !got.IssuedAt.Equal(want.IssuedAt) || !got.Expires.Equal(want.Expires) {
				t.Errorf("from %v to %v, want from %v to %v", got.IssuedAt, got.Expires, want.IssuedAt, want.Expires)
			}
			got.IssuedAt, got.Expires, got.identity, got.payloadSize, got.signer = want.IssuedAt, want.Expires, "", 0, nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Verify() = %+v, want %+v", got, want)
			}
		})
	}
}

// A platform administrator's token is many kilobytes long.
func TestVerifyAcceptsTokensUpToTheLimit(t *testing.T) {
	var token string
	for roles := 700; ; roles-- {
		token = withClaims(goodClaims.with("roles", `["`+strings.Repeat(`https://dtz.rocks/containers/admin/context-abc12345","`, roles)+`"]`))
		if len(token) <= maxTokenSize {
			break
		}
	}
	if len(token) < maxTokenSize-100 {
		t.Fatalf("the token has %d bytes, which is not near the limit", len(token))
	}
	if _, err := newVerifier(t, testConfig()).Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestVerifyWithoutLeeway(t *testing.T) {
	c := testConfig()
	c.Leeway = 0
	now := monday
	c.Now = func() time.Time { return now }
	v := newVerifier(t, c)
	token := withClaims(goodClaims.with("exp", unix(monday.Add(20*time.Second))))

	now = monday.Add(20*time.Second - time.Nanosecond)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("just before exp: %v", err)
	}
	now = monday.Add(20 * time.Second)
	if _, err := v.Verify(t.Context(), token); !hasRule(err, RuleExpired) {
		t.Errorf("at exp: %v, want it expired", err)
	}
	now = monday.Add(-time.Nanosecond)
	if _, err := v.Verify(t.Context(), token); !hasRule(err, RuleIssuedAt) {
		t.Errorf("just before iat: %v, want it refused", err)
	}
}

func hasRule(err error, rule Rule) bool {
	refusal, ok := errors.AsType[*TokenError](err)
	return ok && refusal.Rule == rule
}

func TestTokenErrorDoesNotQuoteTheToken(t *testing.T) {
	v := newVerifier(t, testConfig())
	const canary = "canary-3c1f"
	for _, token := range []string{
		canary,
		goodToken() + "." + canary,
		withHeader(goodHeader.with("alg", `"`+canary+`"`)),
		withHeader(goodHeader.with("kid", `"`+canary+`"`)),
		withHeader(goodHeader.and(canary, "1").and(canary, "2")),
		withClaims(goodClaims.with("iss", `"`+canary+`"`)),
		withClaims(goodClaims.with("sub", `"`+canary+`!"`)),
		withClaims(goodClaims.with("exp", `"`+canary+`"`)),
	} {
		_, err := v.Verify(t.Context(), token)
		if err == nil {
			t.Fatalf("accepted %q", token)
		}
		if shown := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(shown, canary) || strings.Contains(shown, encode([]byte(canary))) {
			t.Errorf("the error quotes the token: %s", shown)
		}
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	n := func(bits uint) *big.Int {
		odd := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return odd.SetBit(odd, 0, 1)
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no issuer", func(c *Config) { c.Issuer = "" }, "verifier without an issuer"},
		{"no audience", func(c *Config) { c.Audience = "" }, "verifier without an audience"},
		{"no keys", func(c *Config) { c.Keys = nil }, "verifier without a key"},
		{"a negative leeway", func(c *Config) { c.Leeway = -1 }, "verifier with a negative leeway"},
		{"a key without an ID", func(c *Config) { c.Keys[0].ID = "" }, "key without an ID"},
		{"two keys of one ID", func(c *Config) { c.Keys[1].ID = "first" }, `two keys with the ID "first"`},
		{"an empty key", func(c *Config) { c.Keys[1].Public = nil }, `key "second" is empty`},
		{"an RSA key without a modulus", func(c *Config) { c.Keys[1].Public = new(rsa.PublicKey) }, `key "second" is empty`},
		{"a key of a bit too few", func(c *Config) { c.Keys[1].Public = &rsa.PublicKey{N: n(2047), E: 65537} }, `key "second" has 2047 bits, want 2048 or more`},
		{"the exponent 1", func(c *Config) { c.Keys[1].Public = &rsa.PublicKey{N: n(2048), E: 1} }, `key "second" has the weak exponent 1`},
		{"the exponent 3", func(c *Config) { c.Keys[1].Public = &rsa.PublicKey{N: n(2048), E: 3} }, `key "second" has the weak exponent 3`},
		{"an even exponent", func(c *Config) { c.Keys[1].Public = &rsa.PublicKey{N: n(2048), E: 65538} }, `key "second" has the weak exponent 65538`},
	}
	for _, tt := range tests {
		c := testConfig()
		tt.change(&c)
		if v, err := NewVerifier(c); v != nil || err == nil || err.Error() != tt.want {
			t.Errorf("%s: NewVerifier() = %v, %v, want the error %q", tt.name, v, err, tt.want)
		}
	}
}

func TestVerifierKeepsItsKeys(t *testing.T) {
	c := testConfig()
	v := newVerifier(t, c)
	c.Keys[0].Public = &foreignKey().PublicKey
	if _, err := v.Verify(t.Context(), goodToken()); err != nil {
		t.Errorf("a change of the caller's keys reached the verifier: %v", err)
	}
}

func TestProfileAllows(t *testing.T) {
	const role = "https://dtz.rocks/containerregistry/admin/"
	tests := []struct {
		name  string
		scope string
		roles string
		want  bool
	}{
		{"the role for its own context", "context-abc12345", `["` + role + `context-abc12345"]`, true},
		{"in the other spelling", "context-abc12345", `["` + role + `abc12345"]`, true},
		{"in the other spelling, the other way round", "abc12345", `["` + role + `context-abc12345"]`, true},
		{"for another context", "context-abc12345", `["` + role + `context-zzz99999"]`, false},
		{"with something in front", "context-abc12345", `["x` + role + `context-abc12345"]`, false},
		{"with something behind", "context-abc12345", `["` + role + `context-abc12345/x"]`, false},
		{"spelled with the placeholder", "context-abc12345", `["` + role + `{context_id}"]`, false},
		{"no roles", "context-abc12345", `[]`, false},
	}
	v := newVerifier(t, testConfig())
	for _, tt := range tests {
		p, err := v.Verify(t.Context(), withClaims(goodClaims.with("scope", `"`+tt.scope+`"`).with("roles", tt.roles)))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := p.Allows(role + "{context_id}"); got != tt.want {
			t.Errorf("%s: Allows() = %v, want %v", tt.name, got, tt.want)
		}
	}
}
