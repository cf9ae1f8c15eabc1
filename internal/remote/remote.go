// Package remote asks a container registry what it makes of a credential. It
// keeps nothing, tries nothing twice and follows no redirect.
package remote

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

const (
	callTimeout = 10 * time.Second
	maxResponse = 1 << 20 // bytes of an answer's body
)

// Registry is a container registry at an address. Every call ends after ten
// seconds, or earlier with its context; every failure is an [*Error].
type Registry struct {
	// Address is host[:port], in the spelling of config.ParseAddress.
	Address string
	// HTTP carries the requests; nil means oauth.NewHTTPClient(oauth.HTTPOptions{}).
	// Its redirect policy and its cookie jar are not used.
	HTTP *http.Client
	// UserAgent is sent as such, e.g. docker-credential-dtz/1.0.0 (linux; amd64).
	UserAgent string
	// PlainHTTP allows http to a registry that does not speak TLS, as Docker
	// does. It counts only where the host is a literal loopback address,
	// 127.0.0.0/8 or ::1: a name, localhost too, can be made to point elsewhere.
	PlainHTTP bool
}

// Check asks the registry whether it takes the credential: GET /v2/, the
// version check of the OCI distribution specification, with Basic
// authentication. A Bearer challenge is a refusal; the platform's registries
// make none.
func (r *Registry) Check(ctx context.Context, username string, password secret.String) error {
	basic := base64.StdEncoding.EncodeToString([]byte(username + ":" + password.Reveal()))
	_, err := r.get(ctx, "/v2/", "Basic "+basic, password, secret.String(basic))
	return err
}

// Stats is what the registry's management API says of one context.
type Stats struct {
	ImageCount int
	// ServerURL is the address that the context's images use, such as
	// cr.dtz.rocks:3214/image-name:v1, as the registry wrote it: text from a
	// stranger, neither checked nor fit for a terminal.
	ServerURL string
}

// Stats asks for the context that token is for (GET /api/2023-12-28/stats).
func (r *Registry) Stats(ctx context.Context, token secret.String) (Stats, error) {
	body, err := r.get(ctx, "/api/2023-12-28/stats", "Bearer "+token.Reveal(), token)
	if err != nil {
		return Stats{}, err
	}
	var raw struct {
		ImageCount float64 `json:"imageCount"`
		ServerURL  string  `json:"serverUrl"`
	}
	if json.Unmarshal(body, &raw) != nil {
		return Stats{}, r.fail(http.StatusOK, "the answer is not a registry's statistics")
	}
	return Stats{int(min(max(raw.ImageCount, 0), 1<<31-1)), raw.ServerURL}, nil
}

// get returns the body of a 2xx answer. The secrets are what authorization
// holds, in the forms in which an answer could quote it.
func (r *Registry) get(ctx context.Context, path, authorization string, secrets ...secret.String) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// TLS first, also on loopback: a registry that speaks it gets its credential
	// over it, and one that does not answers before anything is sent.
	scheme := "https"
	body, err := r.attempt(ctx, scheme, path, authorization, secrets)
	if err != nil && r.PlainHTTP && r.isLoopback() && noTLS(err) {
		scheme = "http"
		body, err = r.attempt(ctx, scheme, path, authorization, secrets)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		e.Scheme = scheme
	}
	return body, err
}

func (r *Registry) isLoopback() bool {
	u := url.URL{Host: r.Address}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.IsLoopback() && !ip.Is4In6()
}

// noTLS reports whether whoever answered speaks another protocol. A certificate
// that is not trusted is none of that.
func noTLS(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record)
}

func (r *Registry) attempt(ctx context.Context, scheme, path, authorization string, secrets []secret.String) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+r.Address+path, nil)
	if err != nil || r.Address == "" || req.URL.Host != r.Address || req.URL.User != nil {
		return nil, r.fail(0, "that is not a registry's address")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", authorization)
	if r.UserAgent != "" {
		req.Header.Set("User-Agent", r.UserAgent)
	}
	resp, err := r.client().Do(req)
	if err != nil {
		return nil, r.broken(ctx, err, secrets)
	}
	defer resp.Body.Close()
	body, readErr := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode/100 == 3:
		return nil, r.fail(resp.StatusCode, "redirects are not followed")
	case resp.StatusCode/100 != 2:
		// The status counts, even if its explanation is cut short.
		code, msg := explanation(body)
		e := r.fail(resp.StatusCode, oauth.Clean(msg, secrets...))
		e.Code = oauth.Clean(code, secrets...)
		return nil, e
	case readErr != nil:
		return nil, r.broken(ctx, readErr, secrets)
	case len(body) > maxResponse:
		return nil, r.fail(resp.StatusCode, "the answer is longer than 1 MiB")
	case kind == "text/html": // of a proxy, or of a network that wants a login
		return nil, r.fail(resp.StatusCode, "the answer is a web page, not a registry's")
	}
	return body, nil
}

// client is r.HTTP without what could carry a credential elsewhere.
func (r *Registry) client() *http.Client {
	client := http.Client{}
	if r.HTTP != nil {
		client = *r.HTTP
	} else {
		client = *oauth.NewHTTPClient(oauth.HTTPOptions{})
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar = nil
	return &client
}
