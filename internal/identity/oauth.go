package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

const (
	// sessionCookie is what the platform's services call it. It holds a token.
	sessionCookie = "dtz-auth"
	// codeLifetime is how long an authorization code may be redeemed, well
	// below the ten minutes of RFC 6749 §4.1.2.
	codeLifetime = 60 * time.Second
	jwksPath     = "/.well-known/jwks.json"
)

// code is what an authorization code stands for.
type code struct {
	user        *User
	context     string // which is also the client
	redirectURI string // to the letter
	challenge   string // of PKCE with S256; "" means that none was sent
	expires     time.Time
}

// authorize is RFC 6749 §4.1.1 with PKCE (RFC 7636).
func (s *Service) authorize(w http.ResponseWriter, r *http.Request) error {
	a, err := s.parseAuthorization(r.URL.Query())
	if err != nil {
		return err
	}
	if a.err != "" {
		s.redirectBack(w, r, a, url.Values{"error": {a.err}})
		return nil
	}
	c, loggedIn := s.session(r)
	if !loggedIn {
		// 307, as the platform answers.
		http.Redirect(w, r, "/login?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
		return nil
	}
	context, found := c.user.context(a.client)
	if !found {
		s.redirectBack(w, r, a, url.Values{"error": {"access_denied"}})
		return nil
	}
	id := rand.Text()
	now := s.now()
	s.mu.Lock()
	for id, old := range s.codes {
		if !now.Before(old.expires) {
			delete(s.codes, id)
		}
	}
	s.codes[id] = code{c.user, context, r.URL.Query().Get("redirect_uri"), a.challenge, now.Add(codeLifetime)}
	s.mu.Unlock()
	s.redirectBack(w, r, a, url.Values{"code": {id}})
	return nil
}

// redirectBack sends the browser to the client with result, the client's state
// and who answers (RFC 9207).
func (s *Service) redirectBack(w http.ResponseWriter, r *http.Request, a authorization, result url.Values) {
	u := *a.redirectURI
	q := u.Query()
	for name, values := range result {
		q[name] = values
	}
	if a.state != "" {
		q.Set("state", a.state)
	}
	q.Set("iss", origin(r))
	u.RawQuery = q.Encode()
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, u.String(), http.StatusFound)
}

// session returns the caller named by the session cookie. A browser sends the
// cookies of every port of a host, so there may be several.
func (s *Service) session(r *http.Request) (caller, bool) {
	for _, cookie := range r.CookiesNamed(sessionCookie) {
		if c, err := s.verify(cookie.Value); err == nil {
			return c, true
		}
	}
	return caller{}, false
}

// oauthToken is RFC 6749 §4.1.3. On this platform a context is the client, and
// its id both client_id and client_secret.
func (s *Service) oauthToken(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return unreadable(err)
	}
	form := r.PostForm // never the query: URLs are logged
	if form.Get("grant_type") != "authorization_code" {
		return refuse(http.StatusBadRequest, "grant_type has to be authorization_code")
	}
	client := form.Get("client_id")
	if !s.isClient(client) || !platform.SameContext(client, form.Get("client_secret")) {
		return refuse(http.StatusUnauthorized, "unknown client")
	}
	id := form.Get("code")
	s.mu.Lock()
	c, found := s.codes[id]
	delete(s.codes, id) // it may be tried once, whatever comes of it
	s.mu.Unlock()
	if !found || !s.now().Before(c.expires) || !platform.SameContext(c.context, client) {
		return refuse(http.StatusBadRequest, "unknown, used or expired code")
	}
	if form.Get("redirect_uri") != c.redirectURI {
		return refuse(http.StatusBadRequest, "redirect_uri is not the one of the authorization")
	}
	if !provesChallenge(c.challenge, form.Get("code_verifier")) {
		return refuse(http.StatusBadRequest, "code_verifier does not match code_challenge")
	}
	return s.grant(w, c.user, c.context)
}

// provesChallenge checks PKCE with S256 (RFC 7636 §4.6). A verifier without a
// challenge is refused too: somebody took the challenge out of the
// authorization request (RFC 9700 §4.8.2).
func provesChallenge(challenge, verifier string) bool {
	if challenge == "" || verifier == "" {
		return challenge == verifier
	}
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(got), []byte(challenge)) == 1
}

// userinfo answers the decoded claims of the caller's token.
func (s *Service) userinfo(w http.ResponseWriter, r *http.Request) error {
	c, err := s.bearer(r)
	if err != nil {
		return err
	}
	return reply(w, c.claims)
}

// register sets the redirect URIs of the caller's context, which is the client
// (RFC 7591 §3).
func (s *Service) register(w http.ResponseWriter, r *http.Request) error {
	c, err := s.authenticate(r)
	if err != nil {
		return err
	}
	var in struct {
		RedirectURIs []string `json:"redirect_uris"`
		ClientName   string   `json:"client_name"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if len(in.RedirectURIs) == 0 || len(in.RedirectURIs) > maxRedirectURIs {
		return refuse(http.StatusBadRequest, "redirect_uris has to hold 1 to %d addresses", maxRedirectURIs)
	}
	for _, uri := range in.RedirectURIs {
		if _, err := parseRedirectURI(uri); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.clients[c.context] = slices.Clone(in.RedirectURIs)
	s.mu.Unlock()
	return reply(w, struct {
		ClientID     string   `json:"client_id"`
		ClientSecret string   `json:"client_secret"`
		ClientName   string   `json:"client_name,omitempty"`
		RedirectURIs []string `json:"redirect_uris"`
	}{c.context, c.context, in.ClientName, in.RedirectURIs})
}

// discovery is the document of OpenID Connect Discovery 1.0 §3.
func (s *Service) discovery(w http.ResponseWriter, r *http.Request) error {
	at := origin(r)
	return reply(w, map[string]any{
		"issuer":                                         at,
		"authorization_endpoint":                         at + BasePath + "/oauth/authorize",
		"token_endpoint":                                 at + BasePath + "/oauth/token",
		"userinfo_endpoint":                              at + BasePath + "/oauth/userinfo",
		"registration_endpoint":                          at + BasePath + "/oauth/register",
		"jwks_uri":                                       at + jwksPath,
		"scopes_supported":                               []string{"openid"},
		"response_types_supported":                       []string{"code"},
		"grant_types_supported":                          []string{"authorization_code"},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"RS256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_post"},
		"code_challenge_methods_supported":               []string{"S256"},
		"authorization_response_iss_parameter_supported": true,
	})
}

// jwks is the public key as a JWK set (RFC 7517 §5).
func (s *Service) jwks(w http.ResponseWriter, _ *http.Request) error {
	key := s.PublicKey()
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	return reply(w, map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": s.keyID,
		"n": number(key.N), "e": number(big.NewInt(int64(key.E))),
	}}})
}

// origin returns the service's address as its caller sees it.
func origin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
