package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// caller is who makes a request, and in which context.
type caller struct {
	user    *User
	context string
	claims  jwt.MapClaims // of the token, if the caller came with one
}

// Issue returns a new token for the identity subject in context, its default
// one for "", as any of the service's ways to log in would.
func (s *Service) Issue(subject, context string) (string, error) {
	u, context, err := s.find(subject, context)
	if err != nil {
		return "", err
	}
	token, _, err := s.sign(u, context)
	return token, err
}

// RevokeSessions makes the service refuse every token that it has issued to
// subject so far. Who verifies tokens by the public key alone goes on to
// accept them until they expire.
func (s *Service) RevokeSessions(subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.userWith(subject); u != nil {
		s.revoked[u.Subject] = s.issued
	}
}

func (s *Service) sign(u *User, context string) (token string, expires time.Time, err error) {
	s.mu.Lock()
	s.issued++
	number := s.issued
	s.mu.Unlock()

	issued := s.now().Truncate(time.Second)
	expires = issued.Add(s.lifetime)
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss":      platform.Issuer,
		"aud":      platform.Issuer,
		"sub":      u.Subject,
		"scope":    context,
		"roles":    u.Roles,
		"contexts": u.Contexts,
		"iat":      issued.Unix(),
		"exp":      expires.Unix(),
		// The number is for RevokeSessions, the rest for tokens of the same
		// second in two lives of the service.
		"jti": fmt.Sprintf("%d.%s", number, rand.Text()),
	})
	t.Header["kid"] = s.keyID
	token, err = t.SignedString(s.key)
	return token, expires, err
}

// verify returns the caller whom a token names. Errors are failures with status 401.
func (s *Service) verify(token string) (caller, error) {
	claims := jwt.MapClaims{}
	_, err := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithIssuer(platform.Issuer),
		jwt.WithAudience(platform.Issuer),
		jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(s.now),
		jwt.WithStrictDecoding(),
	).ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return s.PublicKey(), nil })
	if errors.Is(err, jwt.ErrTokenExpired) {
		return caller{}, refuse(http.StatusUnauthorized, "token expired")
	}
	invalid := refuse(http.StatusUnauthorized, "token not valid")
	if err != nil {
		return caller{}, invalid
	}
	subject, _ := claims["sub"].(string)
	scope, _ := claims["scope"].(string)
	id, _ := claims["jti"].(string)
	u := s.userWith(subject)
	if u == nil || scope == "" {
		return caller{}, invalid
	}
	context, found := u.context(scope)
	if !found {
		return caller{}, invalid
	}
	number, _, _ := strings.Cut(id, ".")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return caller{}, invalid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n <= s.revoked[u.Subject] {
		return caller{}, refuse(http.StatusUnauthorized, "token revoked")
	}
	return caller{u, context, claims}, nil
}

// bearer returns the caller named by a token in r's Authorization header.
func (s *Service) bearer(r *http.Request) (caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return caller{}, refuse(http.StatusUnauthorized, "a token is needed, as Authorization: Bearer")
	}
	return s.verify(token)
}

// authenticate returns the caller of r by any of the headers that the platform's
// services take.
func (s *Service) authenticate(r *http.Request) (caller, error) {
	if r.Header.Get("Authorization") == "" {
		if key := r.Header.Get("X-API-KEY"); key != "" {
			return s.exchange(secret.String(key), r.Header.Get("X-DTZ-CONTEXT"))
		}
	}
	username, password, isBasic := r.BasicAuth()
	switch {
	case !isBasic:
		return s.bearer(r)
	case username == "bearer":
		return s.verify(password)
	case username == "apikey":
		return s.exchange(secret.String(password), "")
	}
	return caller{}, refuse(http.StatusUnauthorized, "the user of Basic authentication is bearer or apikey")
}

// grant answers with a new token for u in context.
func (s *Service) grant(w http.ResponseWriter, u *User, context string) error {
	token, expires, err := s.sign(u, context)
	if err != nil {
		return err
	}
	return reply(w, struct {
		AccessToken string  `json:"access_token"`
		TokenType   string  `json:"token_type"`
		ExpiresIn   seconds `json:"expires_in"`
		Scope       string  `json:"scope"`
	}{token, "Bearer", seconds(expires.Sub(s.now())), context})
}

// seconds is a duration that JSON shows as a float even where it is a whole
// number, as the platform may: who expects an integer should find out here.
type seconds time.Duration

// MarshalJSON implements [encoding/json.Marshaler].
func (d seconds) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(time.Duration(d).Seconds(), 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return []byte(text), nil
}

func (s *Service) tokenAuth(w http.ResponseWriter, r *http.Request) error {
	// What the platform makes of "scopes" is not documented; it is ignored.
	var in struct {
		Username string        `json:"username"`
		Password secret.String `json:"password"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	u, err := s.checkPassword(in.Username, in.Password)
	if err != nil {
		return err
	}
	return s.grant(w, u, u.Contexts[0])
}

func (s *Service) tokenRefresh(w http.ResponseWriter, r *http.Request) error {
	c, err := s.bearer(r)
	if err != nil {
		return err
	}
	var in struct {
		ContextID string `json:"contextId"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.ContextID != "" {
		context, found := c.user.context(in.ContextID)
		if !found {
			return refuse(http.StatusForbidden, "this identity may not use that context")
		}
		c.context = context
	}
	return s.grant(w, c.user, c.context)
}
