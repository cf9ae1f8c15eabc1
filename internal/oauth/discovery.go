package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// endpoints are where a login in a browser begins and ends.
type endpoints struct {
	issuer    string // as iss of a redirect has to name it (RFC 9207)
	authorize string
	token     string
	// namesIssuer: every redirect has an iss, so that one without is forged.
	namesIssuer bool
}

// endpoints reads the discovery document (OpenID Connect Discovery 1.0 §4).
// Where there is none to be had, or it makes no sense, they are the platform's
// known ones. One that leads elsewhere is an error, and so is a service that
// does not answer at all: it would not answer after the login either.
func (c *Client) endpoints(ctx context.Context) (endpoints, error) {
	q := request{op: "asking where to log in", method: http.MethodGet}
	base, err := CheckBaseURL(c.BaseURL)
	if err != nil {
		return endpoints{}, q.fail("identity service: " + err.Error())
	}
	origin := originOf(base)
	known := endpoints{issuer: origin, authorize: base + "/oauth/authorize", token: base + "/oauth/token"}

	q.url = origin + "/.well-known/openid-configuration"
	resp, err := c.do(ctx, q)
	if e, ok := err.(*Error); ok && e.Err == nil {
		return known, nil // it answered, but has no such document to give
	}
	if err != nil {
		return endpoints{}, err
	}
	var document struct {
		Issuer      string `json:"issuer"`
		Authorize   string `json:"authorization_endpoint"`
		Token       string `json:"token_endpoint"`
		NamesIssuer bool   `json:"authorization_response_iss_parameter_supported"`
	}
	if json.Unmarshal(resp.body, &document) != nil || document.Issuer == "" {
		return known, nil
	}
	if strings.TrimSuffix(document.Issuer, "/") != origin {
		return endpoints{}, resp.fail("its discovery document is of another issuer, " + Clean(document.Issuer))
	}
	found := endpoints{document.Issuer, known.authorize, known.token, document.NamesIssuer}
	for _, e := range []struct {
		name string
		said string
		to   *string
	}{
		{"authorization_endpoint", document.Authorize, &found.authorize},
		{"token_endpoint", document.Token, &found.token},
	} {
		if e.said == "" {
			continue
		}
		// The page asks for a password, and the code is worth a login: both
		// stay with the service that the user has chosen.
		checked, err := CheckBaseURL(e.said)
		if err != nil {
			return endpoints{}, resp.fail("its discovery document's " + e.name + ": " + err.Error())
		}
		if originOf(checked) != origin {
			return endpoints{}, resp.fail("its discovery document names a " + e.name + " that is not on " + origin)
		}
		*e.to = e.said
	}
	return found, nil
}

// originOf is the scheme, host and port of a URL that [CheckBaseURL] returned.
func originOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
