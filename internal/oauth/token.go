package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// maxToken is the longest token, in bytes, that is taken or sent. A Docker
// helper's answer is a line of at most 64 KiB, and a registry takes less.
const maxToken = 48 << 10

// Token is a token as the identity service answered it.
type Token struct {
	Access secret.String
	// Claims are decoded, not verified: only a registry needs to be sure.
	Claims Claims
	// Received is when the answer came, by our clock.
	Received time.Time
	// Date is when it was sent, by the service's clock (RFC 9110 §6.6.1); zero if
	// the answer does not say.
	Date time.Time
	// Lifetime is how long the token is valid from Received on, whatever our
	// clock says: the least of exp and the answer's Date, exp and iat, and
	// expires_in (RFC 6749 §5.1).
	Lifetime time.Duration
}

// Expires is the end of the token's life by our clock.
func (t Token) Expires() time.Time { return t.Received.Add(t.Lifetime) }

// ClockAhead is how far our clock is ahead of the service's, negative if it is
// behind, to the second; 0 if the service does not tell the time.
func (t Token) ClockAhead() time.Duration {
	if t.Date.IsZero() {
		return 0
	}
	return t.Received.Sub(t.Date).Truncate(time.Second)
}

// Claims are what the platform says in a token.
type Claims struct {
	Issuer   string    // iss; empty if missing
	Subject  string    // sub: the identity's id
	Context  string    // scope: the current context's id
	Roles    []string  // role URIs
	Contexts []string  // ids of the contexts that the identity belongs to; older tokens have none
	IssuedAt time.Time // iat; zero if missing
	Expires  time.Time // exp; zero if missing
}

// ParseClaims decodes a token's claims. It checks the shape, not the
// signature: claims say what to show and when to renew, not whom to let in.
// Errors never quote the token.
func ParseClaims(token string) (Claims, error) {
	payload, ok := payloadOf(token)
	if !ok {
		return Claims{}, errors.New("not a token: want three base64url parts of at most 48 KiB in all")
	}
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return Claims{}, errors.New("the token's second part is not base64url")
	}
	var raw struct {
		Iss      string   `json:"iss"`
		Sub      string   `json:"sub"`
		Scope    string   `json:"scope"`
		Roles    []string `json:"roles"`
		Contexts []string `json:"contexts"`
		IssuedAt *float64 `json:"iat"`
		Expires  *float64 `json:"exp"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return Claims{}, errors.New("the token's claims are not JSON of the right kinds")
	}
	claims := Claims{Issuer: raw.Iss, Subject: raw.Sub, Context: raw.Scope, Roles: raw.Roles, Contexts: raw.Contexts}
	if claims.Subject == "" || claims.Context == "" {
		return Claims{}, errors.New("the token lacks the claim sub or scope")
	}
	for _, list := range [][]string{{raw.Iss, raw.Sub, raw.Scope}, raw.Roles, raw.Contexts} {
		for _, s := range list {
			if printable(s) != s {
				return Claims{}, errors.New("the token's claims have characters that cannot be shown")
			}
		}
	}
	if claims.IssuedAt, ok = numericDate(raw.IssuedAt); !ok {
		return Claims{}, errors.New("the token's claim iat is not a time")
	}
	if claims.Expires, ok = numericDate(raw.Expires); !ok {
		return Claims{}, errors.New("the token's claim exp is not a time")
	}
	return claims, nil
}

// payloadOf returns the second of a token's three parts. Their characters are
// looked at here because encoding/base64 skips line breaks.
func payloadOf(token string) (payload string, ok bool) {
	if len(token) > maxToken {
		return "", false
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", false
	}
	for _, part := range parts {
		if part == "" {
			return "", false
		}
		for i := range len(part) {
			if c := part[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
				return "", false
			}
		}
	}
	return parts[1], true
}

// numericDate is RFC 7519 §2's NumericDate: seconds since the epoch, a
// fraction allowed. A missing one is the zero time.
func numericDate(seconds *float64) (time.Time, bool) {
	const year10000 = 253402300800
	if seconds == nil {
		return time.Time{}, true
	}
	if *seconds < 0 || *seconds >= year10000 {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(*seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// token sends q and reads the answer as a token, for contextID if not empty.
func (c *Client) token(ctx context.Context, q request, contextID string) (Token, error) {
	resp, err := c.do(ctx, q)
	if err != nil {
		return Token{}, err
	}
	token, err := parseTokenResponse(resp)
	if err != nil {
		return Token{}, resp.fail(err.Error())
	}
	if contextID != "" && !platform.SameContext(token.Claims.Context, contextID) {
		return Token{}, resp.fail(fmt.Sprintf("asked for a token in context %s, got one in %s",
			Clean(contextID), Clean(token.Claims.Context)))
	}
	return token, nil
}

// parseTokenResponse reads RFC 6749 §5.1's token response, as the platform
// sends it. Its scope says nothing that the token does not.
func parseTokenResponse(resp *response) (Token, error) {
	var raw struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if err := json.Unmarshal(resp.body, &raw); err != nil {
		return Token{}, errors.New("the answer is not a token response")
	}
	if raw.AccessToken == "" {
		return Token{}, errors.New("the answer has no token in it")
	}
	if raw.TokenType != "" && !strings.EqualFold(raw.TokenType, "Bearer") {
		return Token{}, errors.New("the answer's token_type is not Bearer")
	}
	claims, err := ParseClaims(raw.AccessToken)
	if err != nil {
		return Token{}, fmt.Errorf("the answer's access_token: %w", err)
	}
	lifetime, err := lifetime(claims, resp.date, expiresIn(raw.ExpiresIn))
	if err != nil {
		return Token{}, err
	}
	return Token{
		Access:   secret.String(raw.AccessToken),
		Claims:   claims,
		Received: resp.received,
		Date:     resp.date,
		Lifetime: lifetime,
	}, nil
}

// lifetime is the least that the answer says of how long a token lives from
// its receipt on. No clock of ours is in it: exp is compared with the clock of
// those who set it. A zero date or expiresIn says nothing. It is at most
// tenYears, whatever exp says: a record of more would be taken for damaged.
// What contradicts itself is an error that names the times: a token that ends
// before it begins, or has ended by the Date of the answer that brings it. To
// believe the better half could put a dead token in the place of a good one.
func lifetime(claims Claims, date time.Time, expiresIn time.Duration) (time.Duration, error) {
	var said []time.Duration
	if expiresIn > 0 {
		said = append(said, expiresIn)
	}
	if exp := claims.Expires; !exp.IsZero() {
		iat := claims.IssuedAt
		switch {
		case !iat.IsZero() && !exp.After(iat):
			return 0, fmt.Errorf("the answer's token ends before it begins: iat is %s, exp %s", inUTC(iat), inUTC(exp))
		case !date.IsZero() && !exp.After(date):
			return 0, fmt.Errorf("the answer's token has expired already: exp is %s, the answer's Date %s", inUTC(exp), inUTC(date))
		}
		if !date.IsZero() {
			said = append(said, exp.Sub(date))
		}
		if !iat.IsZero() {
			said = append(said, exp.Sub(iat))
		}
	}
	if len(said) == 0 {
		return 0, errors.New("the answer does not say how long its token is valid")
	}
	return min(slices.Min(said), tenYears), nil
}

func inUTC(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

const tenYears = 10 * 365 * 24 * time.Hour

// expiresIn reads expires_in: seconds, perhaps with a fraction, perhaps as a
// string. What makes no sense counts as missing: exp says it as well.
func expiresIn(raw json.RawMessage) time.Duration {
	var seconds float64
	if json.Unmarshal(raw, &seconds) != nil {
		var s string
		if json.Unmarshal(raw, &s) != nil || json.Unmarshal([]byte(s), &seconds) != nil {
			return 0
		}
	}
	if seconds <= 0 || seconds > tenYears.Seconds() {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
