// Package oauth is a client of the DownToZero identity service: it trades
// passwords, tokens and API keys for tokens. It reads no files, no environment
// and no terminal, and keeps nothing.
package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// Client talks to one identity service. Every call ends after 30 seconds, or
// earlier with its context, retries included; every failure is an [*Error].
type Client struct {
	// BaseURL is the API's base, any URL that [CheckBaseURL] accepts.
	BaseURL string
	// HTTP carries the requests; nil means NewHTTPClient(HTTPOptions{}). Its
	// redirect policy and its cookie jar are not used.
	HTTP *http.Client
	// UserAgent is sent as such, e.g. docker-credential-dtz/1.0.0 (linux; amd64).
	UserAgent string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Source is this host's name, which the platform's own services send as
	// X-DTZ-SOURCE when they exchange an API key. Empty: not sent.
	Source string

	// sleep waits for d or until ctx is done; nil means a timer. Tests count
	// pauses instead of waiting for them.
	sleep func(ctx context.Context, d time.Duration) error
}

// Password trades a user name and password for a token in the identity's
// default context (POST /token/auth).
func (c *Client) Password(ctx context.Context, username string, password secret.String) (Token, error) {
	q := request{
		op:      "logging in",
		method:  http.MethodPost,
		path:    "/token/auth",
		secrets: []secret.String{password},
	}
	// encoding/json would replace such bytes without a word.
	if !utf8.ValidString(username) || !utf8.ValidString(password.Reveal()) {
		return Token{}, q.fail("user name or password is not UTF-8")
	}
	q.body = map[string]string{"username": username, "password": password.Reveal()}
	return c.token(ctx, q, "")
}

// Refresh trades a token that is still valid for a new one (POST
// /token/refresh), in the context contextID, or where that is empty in the one
// that the service chooses.
func (c *Client) Refresh(ctx context.Context, token secret.String, contextID string) (Token, error) {
	q := request{
		op:     "refreshing the token",
		method: http.MethodPost,
		path:   "/token/refresh",
		body:   withContext(map[string]string{}, contextID),
		bearer: &token,
	}
	return c.token(ctx, q, contextID)
}

// APIKey trades an API key for a token (POST /auth/apikey), in the context
// contextID, or in the key's own where that is empty.
func (c *Client) APIKey(ctx context.Context, key secret.String, contextID string) (Token, error) {
	q := request{
		op:      "exchanging the API key",
		method:  http.MethodPost,
		path:    "/auth/apikey",
		body:    withContext(map[string]string{"apiKey": key.Reveal()}, contextID),
		source:  c.Source,
		secrets: []secret.String{key},
	}
	if !isHeaderSafe(key.Reveal()) {
		return Token{}, q.fail("the key is empty, too long, or has characters that no key has")
	}
	return c.token(ctx, q, contextID)
}

// CreateKey makes an API key for the identity that token belongs to (POST
// /me/identity/apikey). A second request could make a second key, so it is
// sent again only while no connection has been made.
func (c *Client) CreateKey(ctx context.Context, token secret.String, contextID, alias string) (secret.String, error) {
	q := request{
		op:     "making an API key",
		method: http.MethodPost,
		path:   "/me/identity/apikey",
		body:   withContext(map[string]string{}, contextID),
		bearer: &token,
		once:   true,
	}
	if alias != "" {
		q.body["alias"] = alias
	}
	resp, err := c.do(ctx, q)
	if err != nil {
		return "", err
	}
	// Documented as text/plain; a JSON string says the same.
	key := strings.TrimSpace(string(resp.body))
	if strings.HasPrefix(key, `"`) && json.Unmarshal([]byte(key), &key) != nil {
		key = ""
	}
	if !isAPIKey(key) {
		return "", resp.fail("the answer is not an API key")
	}
	return secret.String(key), nil
}

// DeleteKey deletes the API key (DELETE /me/identity/apikey/{apikey}), with
// the rights of token.
func (c *Client) DeleteKey(ctx context.Context, token, key secret.String) error {
	q := request{
		op:      "deleting the API key",
		method:  http.MethodDelete,
		path:    "/me/identity/apikey/" + url.PathEscape(key.Reveal()),
		bearer:  &token,
		secrets: []secret.String{key},
		missing: true,
	}
	if !isAPIKey(key.Reveal()) {
		return q.fail("that is not an API key")
	}
	_, err := c.do(ctx, q)
	return err
}

func withContext(body map[string]string, contextID string) map[string]string {
	if contextID != "" {
		body["contextId"] = contextID
	}
	return body
}

// isAPIKey reports whether s can be a key that the service made: apikey- and
// 8 or 24 letters and digits, or a UUID; other lengths are let pass.
func isAPIKey(s string) bool {
	id, ok := strings.CutPrefix(s, "apikey-")
	if !ok || id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; !isAlphanumeric(c) && c != '-' {
			return false
		}
	}
	return true
}

// isHeaderSafe reports whether s can stand in a header as one word.
func isHeaderSafe(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxToken
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
