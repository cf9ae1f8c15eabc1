package identity

import (
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

const maxRedirectURIs = 16

// authorization is a request to /oauth/authorize whose redirect URI may be
// trusted.
type authorization struct {
	client      string // as the client spells its context
	redirectURI *url.URL
	state       string
	challenge   string
	err         string // an error code of RFC 6749 §4.1.2.1 to redirect back with
}

// parseAuthorization reads the query of an authorization request. An error
// means that the browser must not be sent back: the client or its redirect URI
// is not known (RFC 6749 §4.1.2.1).
func (s *Service) parseAuthorization(q url.Values) (authorization, error) {
	for name, values := range q {
		if len(values) > 1 {
			return authorization{}, refuse(http.StatusBadRequest, "%q is there twice", name)
		}
	}
	a := authorization{client: q.Get("client_id"), state: q.Get("state"), challenge: q.Get("code_challenge")}
	if !s.isClient(a.client) {
		return a, refuse(http.StatusBadRequest, "client_id is not a context of this service")
	}
	var err error
	if a.redirectURI, err = parseRedirectURI(q.Get("redirect_uri")); err != nil {
		return a, err
	}
	if !isLoopback(a.redirectURI) && !s.isRegistered(a.client, q.Get("redirect_uri")) {
		return a, refuse(http.StatusBadRequest, "redirect_uri is neither registered nor on loopback")
	}
	switch {
	case q.Get("response_type") != "code":
		a.err = "unsupported_response_type"
	case (a.challenge != "" || q.Has("code_challenge_method")) && (q.Get("code_challenge_method") != "S256" || !sha256Text.MatchString(a.challenge)):
		a.err = "invalid_request" // RFC 7636 §4.4.1
	}
	return a, nil
}

// sha256Text is 32 bytes in base64url without padding.
var sha256Text = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// plainHost is a host that can stand in a Content-Security-Policy: RFC 3986
// would allow commas and semicolons.
var plainHost = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]+)?$`)

// parseRedirectURI takes https, and http to loopback, without a fragment (RFC
// 6749 §3.1.2).
func parseRedirectURI(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || strings.Contains(raw, "#") || !plainHost.MatchString(u.Host) || u.Scheme != "https" && !isLoopback(u) {
		return nil, refuse(http.StatusBadRequest, "redirect_uri has to be https, or http to a loopback address")
	}
	return u, nil
}

// isLoopback tells whether u stays on this machine, on whatever port (RFC 8252
// §7.3). A name does not count, localhost neither: it may resolve to anywhere.
func isLoopback(u *url.URL) bool {
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && err == nil && addr.IsLoopback()
}

// isClient tells whether id is a context of any user.
func (s *Service) isClient(id string) bool {
	return slices.ContainsFunc(s.users, func(u User) bool {
		return slices.ContainsFunc(u.Contexts, func(context string) bool { return platform.SameContext(context, id) })
	})
}

func (s *Service) isRegistered(client, redirectURI string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for context, uris := range s.clients {
		if platform.SameContext(context, client) && slices.Contains(uris, redirectURI) {
			return true
		}
	}
	return false
}
