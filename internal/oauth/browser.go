package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// BrowserPatience is how long [BrowserLogin.Wait] waits for the browser.
const BrowserPatience = 5 * time.Minute

// maxRedirect is more than any redirect is long, in bytes.
const maxRedirect = 32 << 10

// ErrNobodyCame is returned by [BrowserLogin.Wait] when the browser did not
// come back in time.
var ErrNobodyCame = fmt.Errorf("the browser did not come back within %.0f minutes", BrowserPatience.Minutes())

// ErrNotListening is wrapped by the error of [Client.Browser] when the port
// cannot be had.
var ErrNotListening = errors.New("cannot listen for the browser on 127.0.0.1")

// AuthorizationError is what the identity service answers in the stead of a
// code (RFC 6749 §4.1.2.1).
type AuthorizationError struct {
	Code        string // e.g. access_denied; cleaned
	Description string // the service's own words, cleaned; may be empty
}

func (e *AuthorizationError) Error() string {
	if e.Description == "" {
		return "identity service answered " + e.Code
	}
	return "identity service answered " + e.Code + ": " + e.Description
}

// BrowserOptions of a login in a browser.
type BrowserOptions struct {
	// ClientID is the OAuth client: on this platform the id of a context that
	// the user may use, which is its own client secret too.
	ClientID string
	// Port of 127.0.0.1 that the browser comes back to; 0 means a free one.
	Port int
}

// BrowserLogin is a login under way in the user's browser: an authorization
// code (RFC 6749 §4.1) with PKCE S256 (RFC 7636), which comes back to a
// listener on 127.0.0.1 (RFC 8252 §7.3). [BrowserLogin.Finish] has to be
// called in the end.
//
// What is checked of the redirect: that it is for the listener's own host and
// path (nothing else that arrives there counts), state, and iss (RFC 9207)
// where the service sends it or its discovery document promises it. If the
// token response has an id_token, which the platform does not describe, a nonce
// in it has to be the one that was sent; its signature and its other claims are
// not looked at, and it is not used. Whether the service holds the code against
// PKCE is up to the service: a client cannot tell.
type BrowserLogin struct {
	// URL is the page to visit. It holds no secret beyond state, which is of
	// use until the login is over.
	URL string
	// RedirectURI is where the browser comes back to, without the query.
	RedirectURI string

	client    *Client
	endpoints endpoints
	clientID  string
	state     string
	nonce     string
	verifier  secret.String
	arrived   chan redirect // the first one
	loopback  *loopback
	close     func()
}

// Browser begins a login: it asks the service where, and listens. Its error is
// an [*Error] or wraps [ErrNotListening]. To go on without listening, for a
// redirect that is pasted, would send the code to whoever has the port.
func (c *Client) Browser(ctx context.Context, o BrowserOptions) (*BrowserLogin, error) {
	endpoints, err := c.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	b := &BrowserLogin{
		client:    c,
		endpoints: endpoints,
		clientID:  o.ClientID,
		state:     rand.Text(),
		nonce:     rand.Text(),
		verifier:  secret.String(rand.Text() + rand.Text()), // RFC 7636 §4.1: 43 characters or more
		arrived:   make(chan redirect, 1),
	}
	if err := b.listen(ctx, o.Port); err != nil {
		return nil, err
	}
	challenge := sha256.Sum256([]byte(b.verifier.Reveal()))
	b.URL = endpoints.authorize + "?" + url.Values{
		"response_type":         {"code"},
		"client_id":             {b.clientID},
		"redirect_uri":          {b.RedirectURI},
		"scope":                 {"openid"},
		"state":                 {b.state},
		"nonce":                 {b.nonce},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(challenge[:])},
		"code_challenge_method": {"S256"},
	}.Encode()
	return b, nil
}

// Wait returns the token, of whatever context the service chose, once the
// browser has come back or [BrowserLogin.Paste] was handed what it brings. Its
// errors are [ErrNobodyCame], an [*AuthorizationError], an [*Error], or ctx's.
func (b *BrowserLogin) Wait(ctx context.Context) (Token, error) {
	patience := time.NewTimer(BrowserPatience)
	defer patience.Stop()
	select {
	case r := <-b.arrived:
		if r.err != nil {
			return Token{}, r.err
		}
		return b.redeem(ctx, r.code)
	case <-patience.C:
		return Token{}, ErrNobodyCame
	case <-ctx.Done():
		return Token{}, ctx.Err()
	}
}

// Paste takes a redirect from elsewhere: the whole address or its query, white
// space around it. An error says why it does not belong to this login, which
// goes on, and never quotes it.
func (b *BrowserLogin) Paste(text string) error {
	text = strings.TrimSpace(text)
	page, query, isURL := strings.Cut(text, "?")
	switch {
	case text == "":
		return errors.New("nothing was pasted")
	case !isURL && !strings.Contains(text, "="):
		return errors.New("it is no address with a query")
	case !isURL:
		query = text
	case page != "" && page != b.RedirectURI && "http://"+page != b.RedirectURI:
		return errors.New("it is the address of another page")
	}
	r, err := b.parse(query)
	if err != nil {
		return err
	}
	b.arrive(r)
	return nil
}

// redirect is what the browser brings back to a login.
type redirect struct {
	code secret.String
	err  error // in the stead of a code
}

// arrive ends the wait, if nothing has before.
func (b *BrowserLogin) arrive(r redirect) {
	select {
	case b.arrived <- r:
	default:
	}
}

// parse reads a redirect's query (RFC 6749 §4.1.2). An error says why it is
// none of this login's, whoever sent it.
func (b *BrowserLogin) parse(query string) (redirect, error) {
	if len(query) > maxRedirect {
		return redirect{}, errors.New("it is too long")
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return redirect{}, errors.New("it is damaged")
	}
	for _, values := range q {
		if len(values) > 1 {
			return redirect{}, errors.New("it has a parameter twice")
		}
	}
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(b.state)) != 1 {
		return redirect{}, errors.New("it belongs to another login")
	}
	code, failure := q.Get("code"), q.Get("error")
	if code == "" && failure == "" {
		return redirect{}, errors.New("it has no code in it")
	}
	// Another service's redirect would have our code sent to the wrong one
	// (RFC 9207 §2.4).
	if !q.Has("iss") && b.endpoints.namesIssuer || q.Has("iss") && !sameIssuer(q.Get("iss"), b.endpoints.issuer) {
		return redirect{err: &Error{Op: "checking the redirect", Msg: "it does not come from " + Clean(b.endpoints.issuer)}}, nil
	}
	if failure != "" {
		return redirect{err: &AuthorizationError{Clean(failure), Clean(q.Get("error_description"))}}, nil
	}
	return redirect{code: secret.String(code)}, nil
}

func sameIssuer(a, b string) bool {
	return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/")
}

// redeem trades the code for a token (RFC 6749 §4.1.3, RFC 7636 §4.5). A code
// is good for one try.
func (b *BrowserLogin) redeem(ctx context.Context, code secret.String) (Token, error) {
	resp, err := b.client.do(ctx, request{
		op:     "trading the code for a token",
		method: http.MethodPost,
		url:    b.endpoints.token,
		form: url.Values{
			"grant_type":    {"authorization_code"},
			"client_id":     {b.clientID},
			"client_secret": {b.clientID},
			"redirect_uri":  {b.RedirectURI},
			"code":          {code.Reveal()},
			"code_verifier": {b.verifier.Reveal()},
		},
		secrets: []secret.String{code, b.verifier},
		once:    true,
	})
	if err != nil {
		return Token{}, err
	}
	token, err := parseTokenResponse(resp)
	if err == nil {
		err = b.checkNonce(resp.body)
	}
	if err != nil {
		return Token{}, resp.fail(err.Error())
	}
	return token, nil
}

// checkNonce refuses a response whose id_token was made for another login
// (OpenID Connect Core §3.1.3.7). The platform's own description of its ID
// tokens does not name the claim, so it may be missing.
func (b *BrowserLogin) checkNonce(body []byte) error {
	var response struct {
		IDToken string `json:"id_token"`
	}
	if err := json.Unmarshal(body, &response); err != nil {
		return errors.New("the answer's id_token is not a string")
	}
	if response.IDToken == "" {
		return nil
	}
	var claims struct {
		Nonce *string `json:"nonce"`
	}
	payload, ok := payloadOf(response.IDToken)
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if !ok || err != nil || json.Unmarshal(data, &claims) != nil {
		return errors.New("the answer's id_token is damaged")
	}
	if claims.Nonce != nil && subtle.ConstantTimeCompare([]byte(*claims.Nonce), []byte(b.nonce)) != 1 {
		return errors.New("the answer's id_token is of another login")
	}
	return nil
}
