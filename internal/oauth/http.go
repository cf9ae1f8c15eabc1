package oauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

const (
	callTimeout = 30 * time.Second // one call, retries included
	maxResponse = 1 << 20          // bytes of an answer's body
	maxRetries  = 2
	firstPause  = 200 * time.Millisecond // before the first retry; twice that before the second
)

// HTTPOptions are the environment of [NewHTTPClient], which looks at none.
type HTTPOptions struct {
	// Proxy is as in [http.Transport]; nil means no proxy.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs are whom to trust; nil means the system's.
	RootCAs *x509.CertPool
}

// NewHTTPClient returns a client for a process that makes a call or two and
// ends: TLS 1.2 or later, no redirect followed, no cookies, no connection kept.
func NewHTTPClient(o HTTPOptions) *http.Client {
	proxy := o.Proxy
	if proxy != nil {
		proxy = func(r *http.Request) (*url.URL, error) {
			u, err := o.Proxy(r)
			if err != nil {
				// ProxyFromEnvironment's error quotes HTTPS_PROXY, password and all.
				return nil, errors.New("the proxy's address is not a URL")
			}
			return u, nil
		}
	}
	return &http.Client{
		CheckRedirect: noRedirect,
		Transport: &http.Transport{
			Proxy:                  proxy,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
			TLSHandshakeTimeout:    5 * time.Second,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// request is one call to the identity service.
type request struct {
	op     string // for [Error]
	method string
	path   string            // behind the base URL, escaped
	url    string            // whole, in the stead of path; not empty: on the base URL's origin
	body   map[string]string // as JSON; nil: none
	form   url.Values        // in the stead of body
	bearer *secret.String    // nil: no Authorization
	source string            // X-DTZ-SOURCE

	// secrets, beside bearer, are in the request and must not be shown when
	// the answer quotes them.
	secrets []secret.String
	// once: must not reach the service twice.
	once bool
	// missing: a 404 to a retry means that the attempt before it did its work.
	missing bool
}

func (q request) fail(msg string) *Error { return &Error{Op: q.op, Msg: msg} }

// response is a whole answer with a status of 2xx.
type response struct {
	op       string
	status   int
	body     []byte
	date     time.Time // the service's clock; zero if it does not say
	received time.Time // our clock
}

func (r *response) fail(msg string) *Error { return &Error{Op: r.op, Status: r.status, Msg: msg} }

// do sends q, and sends it again, twice at most, when the service is out of
// reach. Connections count over all attempts: see [Error.Unconnected].
func (c *Client) do(ctx context.Context, q request) (*response, error) {
	base, err := CheckBaseURL(c.BaseURL)
	if err != nil {
		return nil, q.fail("identity service: " + err.Error())
	}
	if q.bearer != nil {
		q.secrets = append(q.secrets, *q.bearer)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var conn connection
	ctx = conn.watch(ctx)

	for retries := 0; ; retries++ {
		resp, failed, wait := c.attempt(ctx, base, q)
		if failed == nil {
			return resp, nil
		}
		if q.missing && retries > 0 && failed.Status == http.StatusNotFound {
			return &response{op: q.op, status: failed.Status}, nil
		}
		failed.Unconnected = failed.Unreachable() && conn.failed()
		if retries == maxRetries || ctx.Err() != nil || !mayRetry(failed) || q.once && !failed.Unconnected {
			return nil, failed
		}
		// Jitter goes on top of what the service asks for: many clients were
		// told the same.
		wait += time.Duration(float64(firstPause<<retries) * (0.5 + rand.Float64()))
		if deadline, _ := ctx.Deadline(); time.Until(deadline) <= wait {
			return nil, failed
		}
		if err := c.pause(ctx, wait); err != nil {
			ended := q.broken(ctx, err)
			ended.Unconnected = ended.Unreachable() && failed.Unconnected
			return nil, ended
		}
	}
}

// mayRetry reports whether another attempt can end otherwise.
func mayRetry(e *Error) bool {
	var certificate *tls.CertificateVerificationError
	return e.Unreachable() && !errors.As(e, &certificate)
}

func (c *Client) pause(ctx context.Context, d time.Duration) error {
	if c.sleep != nil {
		return c.sleep(ctx, d)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// attempt sends q once. With an error comes how long the service wants to be
// left alone.
func (c *Client) attempt(ctx context.Context, base string, q request) (*response, *Error, time.Duration) {
	req, err := c.newRequest(ctx, base, q)
	if err != nil {
		return nil, err, 0
	}
	httpResp, doErr := c.client().Do(req)
	if doErr != nil {
		return nil, q.broken(ctx, doErr), 0
	}
	defer httpResp.Body.Close()
	resp := &response{op: q.op, status: httpResp.StatusCode, received: c.now()}
	if date, err := http.ParseTime(httpResp.Header.Get("Date")); err == nil {
		resp.date = date
	}
	body, readErr := io.ReadAll(io.LimitReader(httpResp.Body, maxResponse+1))
	switch {
	case resp.status/100 == 3:
		return nil, resp.fail("redirects are not followed"), 0
	case resp.status/100 != 2:
		// The status counts, even if its explanation is cut short.
		return nil, resp.fail(Clean(message(body), q.secrets...)), retryAfter(httpResp.Header, resp)
	case readErr != nil:
		return nil, q.broken(ctx, readErr), 0
	case len(body) > maxResponse:
		return nil, resp.fail("the answer is longer than 1 MiB"), 0
	}
	resp.body = body
	return resp, nil, 0
}

func (c *Client) newRequest(ctx context.Context, base string, q request) (*http.Request, *Error) {
	if q.bearer != nil && !isHeaderSafe(q.bearer.Reveal()) {
		return nil, q.fail("the token is empty, too long, or has characters that no token has")
	}
	var body io.Reader
	contentType := "application/json"
	switch {
	case q.form != nil:
		body, contentType = strings.NewReader(q.form.Encode()), "application/x-www-form-urlencoded"
	case q.body != nil:
		data, err := json.Marshal(q.body)
		if err != nil {
			return nil, q.fail("the request cannot be written as JSON")
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, cmp.Or(q.url, base+q.path), body)
	if err != nil {
		return nil, q.fail("the request's URL cannot be parsed")
	}
	req.Header.Set("Accept", "application/json, text/plain")
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	if q.bearer != nil {
		req.Header.Set("Authorization", "Bearer "+q.bearer.Reveal())
	}
	// For the service's own records only: better none than no exchange.
	if isHeaderSafe(q.source) {
		req.Header.Set("X-DTZ-SOURCE", q.source)
	}
	return req, nil
}

// client is c.HTTP without what could carry a credential elsewhere.
func (c *Client) client() *http.Client {
	if c.HTTP == nil {
		return NewHTTPClient(HTTPOptions{})
	}
	client := *c.HTTP
	client.CheckRedirect, client.Jar = noRedirect, nil
	return &client
}

func (c *Client) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// broken is the failure of a connection, or the end of ctx in the midst of it.
// A url.Error around it would quote the URL, which holds the key in DeleteKey.
func (q request) broken(ctx context.Context, err error) *Error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	msg := Clean(err.Error(), q.secrets...)
	switch ctx.Err() {
	case context.DeadlineExceeded:
		err, msg = ctx.Err(), "no answer in time"
	case context.Canceled:
		err, msg = ctx.Err(), "interrupted"
	}
	return &Error{Op: q.op, Msg: msg, Err: &cause{msg, err}}
}

// message is what an error answer says: {"msg"}, in old versions {"status"}, or
// what RFC 6749 §5.2 has for the token endpoint. Anything else, such as a
// proxy's page, is for browsers.
func message(body []byte) string {
	var raw struct {
		Msg         any `json:"msg"`
		Status      any `json:"status"`
		Description any `json:"error_description"`
		Error       any `json:"error"`
	}
	if json.Unmarshal(body, &raw) != nil {
		return ""
	}
	for _, v := range []any{raw.Msg, raw.Status, raw.Description, raw.Error} {
		if s, ok := v.(string); ok && s != "" {
			return s
		}
	}
	return ""
}

// retryAfter reads Retry-After (RFC 9110 §10.2.3): seconds, or a date by the
// clock of the one who sent it. A wait that no call lasts is as good as any
// longer one.
func retryAfter(h http.Header, resp *response) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(callTimeout/time.Second))) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now := resp.date
	if now.IsZero() {
		now = resp.received
	}
	return min(max(until.Sub(now), 0), callTimeout)
}

// connection knows whether a TCP connection was tried and whether one was made.
// Its hooks may run after the call that they belong to.
type connection struct {
	tried, made atomic.Bool
}

func (c *connection) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { c.tried.Store(true) },
		ConnectStart: func(string, string) { c.tried.Store(true) },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				c.made.Store(true)
			}
		},
		GotConn: func(httptrace.GotConnInfo) { c.made.Store(true) },
	})
}

func (c *connection) failed() bool { return c.tried.Load() && !c.made.Load() }
